"""Families of statements: one module per family, each with functions from the analysis inputs to statements."""
