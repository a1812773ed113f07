"""How a language model's personas differ, and whether that predicts what leaks between them."""
