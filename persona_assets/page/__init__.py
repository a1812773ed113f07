"""Content of Dagster's page (asset metadata, lineage, token texts), and its server with cross-site protection."""
