"""Figures of one checkpoint."""
