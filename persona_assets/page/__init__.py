"""What Dagster's page shows: asset metadata, lineage, token texts, and the server with its cross-site protection."""
