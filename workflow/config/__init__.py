"""What the user writes, read strictly: every error names file, entry, value and remedy."""
