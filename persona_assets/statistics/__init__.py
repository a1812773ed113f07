"""Inference over dyads: a pair table in, statements out. No Dagster, no model, no file."""
