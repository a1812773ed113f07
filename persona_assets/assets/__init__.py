"""Dagster assets and asset checks, one module per part of the graph."""
