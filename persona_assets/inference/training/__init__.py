"""Training of a marker into a persona: the training set and the LoRA training loop."""
