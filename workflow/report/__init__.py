"""From the journal's state to what people read."""
