"""Measure how similar a language model's personas are, and whether that predicts leakage between them."""

import os

# Disable telemetry of dependencies unless the user has enabled it. Dagster itself is configured in dagster.yaml.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
