"""What runs on workers, beside the containers: the standard library alone, so nothing has to be installed there."""
