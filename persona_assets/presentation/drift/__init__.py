"""Figure and headline numbers of changes between checkpoints."""
