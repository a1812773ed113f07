"""Addresses in Dagster's page; PERSONA_ASSETS_PAGE says where it is served."""

import os
from urllib.parse import quote

PAGE = "PERSONA_ASSETS_PAGE"


def page_address() -> str:
    """Where the page is."""
    return os.environ.get(PAGE, "http://127.0.0.1:3000").rstrip("/")


def run_address(run_id: str) -> str:
    """A run: its log, its steps, what it materialised."""
    return f"{page_address()}/runs/{quote(run_id)}"


def asset_address(asset: str, partition: str) -> str:
    """A partition of an asset: its metadata, checks and lineage."""
    return f"{page_address()}/assets/{quote(asset)}?view=partitions&partition={quote(partition)}"
