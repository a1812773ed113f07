"""What every asset is built from: partitions, resources, IO managers, jobs, provenance, schemas, history."""

import warnings

import dagster as dg

# Single-run backfills, data versions and partitioned checks are marked beta or preview; the tests hold what we need.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
