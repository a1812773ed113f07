"""How a language model's personas differ, and whether that predicts what leaks between them."""

import os

# Nothing that comes along reports on its user, unless that user says so. Dagster's own switch is in dagster.yaml.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
