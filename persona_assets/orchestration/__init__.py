"""What stands between the graph and the world: partitions, resources, the store, runs, what Dagster is told."""

import warnings

import dagster as dg

# Single-run backfills, data versions and partitioned checks are marked beta or preview; the tests hold what we need.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
