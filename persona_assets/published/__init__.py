"""Runs published by others: read, validated and imported as a checkpoint."""
