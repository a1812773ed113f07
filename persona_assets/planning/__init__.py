"""What a study will cost on a checkpoint: tokens, memory and time, before anything runs."""
