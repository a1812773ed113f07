"""How to cite what a report says."""

from collections.abc import Sequence
from typing import NamedTuple


class Citation(NamedTuple):
    """A sentence for the text, an entry for BibTeX, and works to cite beside it."""

    text: str
    bibtex: str
    besides: tuple[str, ...]


def citation(
    *, version: str, year: int, study: str, checkpoint: str, digests: Sequence[str], imported: bool = False
) -> Citation:
    """The program at its version, and the report by what it was made from.

    Args:
        digests: of what the report was made from, such as `weights 0f1e2d3c4b5a`.
        imported: somebody else measured; then they are to be cited first.
    """
    made_from = "; ".join(digests)
    note = f"Report on {checkpoint} by the study {study} ({made_from})"
    bibtex = "\n".join(
        [
            f"@software{{persona_assets_{year},",
            "  title   = {persona\\_assets: how a language model's personas differ, and what leaks between them},",
            "  author  = {{The persona\\_assets authors}},",
            f"  version = {{{version}}},",
            f"  year    = {{{year}}},",
            f"  note    = {{{_tex(note)}}},",
            "}",
        ]
    )
    theirs = "The responses, matrices and counts are somebody else's: cite whoever published that run first."
    js = (
        "Jensen–Shannon divergence: J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on "
        "Information Theory 37 (1991), 145–151. Papers behind each statement stand in its table of methods."
    )
    return Citation(f"persona_assets {version} ({year}). {note}.", bibtex, (theirs, js) if imported else (js,))


def _tex(text: str) -> str:
    return "".join(f"\\{character}" if character in "_&%$#{}" else character for character in text)
