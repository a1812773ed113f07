"""Citation of a report."""

from collections.abc import Sequence
from typing import NamedTuple


class Citation(NamedTuple):
    """Citation as a sentence and as BibTeX, and further works to cite."""

    text: str
    bibtex: str
    besides: tuple[str, ...]


def citation(
    *, version: str, year: int, study: str, checkpoint: str, digests: Sequence[str], imported: bool = False
) -> Citation:
    """Return the citation of the software version and of the report, identified by its inputs' digests.

    Args:
        digests: of the report's inputs, such as `weights 0f1e2d3c4b5a`.
        imported: whether the results come from a published run, whose authors are cited first.
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
    theirs = "The responses, matrices and counts come from a published run: cite its authors first."
    js = (
        "Jensen–Shannon divergence: J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on "
        "Information Theory 37 (1991), 145–151. The report's list of methods names the papers behind each statement."
    )
    return Citation(f"persona_assets {version} ({year}). {note}.", bibtex, (theirs, js) if imported else (js,))


def _tex(text: str) -> str:
    return "".join(f"\\{character}" if character in "_&%$#{}" else character for character in text)
