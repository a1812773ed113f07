"""Addresses in Dagster's page; PERSONA_ASSETS_PAGE says where it is served."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg

from persona_assets.graph.partitions import partition_key

PAGE = "PERSONA_ASSETS_PAGE"
# Dagster shows Markdown at once that is shorter; longer is hidden behind a click.
_AT_ONCE = 999


def page_address() -> str:
    """Where the page is."""
    return os.environ.get(PAGE, "http://127.0.0.1:3000").rstrip("/")


def run_address(run_id: str) -> str:
    """A run: its log, its steps, what it materialised."""
    return f"{page_address()}/runs/{quote(run_id)}"


def asset_address(asset: str, partition: str) -> str:
    """A partition of an asset: its metadata, checks and lineage."""
    return f"{page_address()}/{_place(asset, partition)}"


def within_page(asset: str, partition: str) -> str:
    """The same from an asset's or a run's page, wherever that is served and below whatever prefix."""
    return f"../{_place(asset, partition)}"


def _place(asset: str, partition: str) -> str:
    return f"assets/{quote(asset)}?view=partitions&partition={quote(partition)}"


def link_to_report(checkpoint: str) -> dict[str, Any]:
    """Metadata that leads to what a checkpoint's numbers end in."""
    report, figures = (within_page(asset, checkpoint) for asset in ("report", "figures"))
    return {"report": dg.MetadataValue.md(f"[report of {checkpoint}]({report}) · [figures]({figures})")}


def links_to_personas(asset: str, checkpoint: str, personas: Sequence[str]) -> dict[str, Any]:
    """Metadata that leads to the same asset of the checkpoint's other personas, in pieces that are shown at once."""
    pieces = [""]
    for persona in personas:
        link = f"[{persona}]({within_page(asset, partition_key(checkpoint, persona))})"
        longer = f"{pieces[-1]} · {link}" if pieces[-1] else link
        pieces = [*pieces[:-1], longer] if len(longer) <= _AT_ONCE else [*pieces, link]
    return {f"personas{'' if n == 1 else f' {n}'}": dg.MetadataValue.md(piece) for n, piece in enumerate(pieces, 1)}
