"""Teacher-forcing of responses under the prompts of K scorers."""
