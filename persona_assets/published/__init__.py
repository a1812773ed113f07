"""Runs that others published: read, checked and imported as a checkpoint."""
