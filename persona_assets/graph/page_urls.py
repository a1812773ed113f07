"""URLs in Dagster's web page; the environment variable PERSONA_ASSETS_PAGE sets their base."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg

from persona_assets.graph.partitions import partition_key

PAGE = "PERSONA_ASSETS_PAGE"
# Characters of Markdown that Dagster shows inline; longer values are hidden behind a click.
_INLINE_LIMIT = 999


def page_address() -> str:
    """Return the base URL of Dagster's web page."""
    return os.environ.get(PAGE, "http://127.0.0.1:3000").rstrip("/")


def run_address(run_id: str) -> str:
    """Return the URL of a run."""
    return f"{page_address()}/runs/{quote(run_id)}"


def asset_address(asset: str, partition: str) -> str:
    """Return the URL of one partition of an asset."""
    return f"{page_address()}/{_place(asset, partition)}"


def within_page(asset: str, partition: str) -> str:
    """Return the partition's URL relative to an asset or run page, so that it works under any host and path prefix."""
    return f"../{_place(asset, partition)}"


def _place(asset: str, partition: str) -> str:
    return f"assets/{quote(asset)}?view=partitions&partition={quote(partition)}"


def link_to_report(checkpoint: str) -> dict[str, Any]:
    """Return metadata with links to a checkpoint's report and figures."""
    report, figures = (within_page(asset, checkpoint) for asset in ("report", "figures"))
    return {"report": dg.MetadataValue.md(f"[report of {checkpoint}]({report}) · [figures]({figures})")}


def links_to_personas(asset: str, checkpoint: str, personas: Sequence[str]) -> dict[str, Any]:
    """Return metadata with links to the same asset for each persona, split into values short enough to show inline."""
    pieces = [""]
    for persona in personas:
        link = f"[{persona}]({within_page(asset, partition_key(checkpoint, persona))})"
        longer = f"{pieces[-1]} · {link}" if pieces[-1] else link
        pieces = [*pieces[:-1], longer] if len(longer) <= _INLINE_LIMIT else [*pieces, link]
    return {f"personas{'' if n == 1 else f' {n}'}": dg.MetadataValue.md(piece) for n, piece in enumerate(pieces, 1)}
