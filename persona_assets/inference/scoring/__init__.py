"""Teacher-forcing: the log-probabilities of responses under the prompts of K scorers."""
