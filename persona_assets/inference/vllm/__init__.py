"""Generation with vLLM in a separate process."""
