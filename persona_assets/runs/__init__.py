"""One run of a checkpoint: which personas are computed, what is stale and why, and the job that does it all."""
