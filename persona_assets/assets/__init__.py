"""The stations of the graph, a file each."""

import warnings

import dagster as dg

# Single-run backfills and partitioned checks are marked beta and preview; the tests hold what we need of them.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
