"""The figures of a checkpoint."""
