"""Computations of the heavy assets, for one persona at a time."""
