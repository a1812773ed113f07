"""Figures and numbers of how personas change from checkpoint to checkpoint."""
