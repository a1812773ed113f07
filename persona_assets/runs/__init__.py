"""Runs of a checkpoint: staleness and its reasons, iteration over personas, and the job that measures a checkpoint."""
