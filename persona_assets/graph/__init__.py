"""Building blocks of the asset graph: partitions, resources, IO managers, jobs, provenance, schemas, event history."""

import warnings

import dagster as dg

# Dagster marks features that we use as beta or preview (single-run backfills, data versions, partitioned checks); the
# tests cover what we rely on.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
