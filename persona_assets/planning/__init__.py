"""Cost estimates of a study on a checkpoint: tokens, memory, storage and time."""
