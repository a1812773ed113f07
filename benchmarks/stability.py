"""How much the demo's answer depends on the processor's arithmetic and on the training seed, by each outcome.

    python -m benchmarks.stability --homes DIR [--only LABEL ...]

Each condition is a run of the embedded study in an instance of its own below DIR; what is finished there is reused.
oneDNN with another instruction set stands for another processor, and MKL for a PyTorch without oneDNN; the number of
threads changes no bit. Seeds other than the study's own start from a copy of the first instance, so that only training
and leakage run again.
Writes the table to benchmarks/results/stability.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pandas as pd
import yaml

from benchmarks.reporting import heading, table
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.inference.embedded_model import NAME
from persona_assets.statistics import verdict
from persona_assets.study.files import load_study

RESULTS = Path(__file__).parent / "results" / "stability.md"
REPOSITORY = Path(__file__).parents[1]
RUN = "from persona_assets import cli; cli.main()"
WITHOUT_ONEDNN = "from persona_assets.inference import loading; loading.has_onednn = lambda: False; "
OUTCOMES = ("leakage_rate", "expected_rate", "log_prob_gain")
JS, COSINE = "js", "cosine_study_layer21"


class Condition(NamedTuple):
    """Where a run is stored, and what is different in it."""

    home: str
    environment: dict[str, str]
    code: str = RUN
    seed: int | None = None


CONDITIONS = {
    "as it is": Condition("own", {}),
    "oneDNN limited to AVX": Condition("avx", {"ONEDNN_MAX_CPU_ISA": "AVX"}),
    "oneDNN limited to SSE4.1": Condition("sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "MKL": Condition("mkl", {}, WITHOUT_ONEDNN + RUN),
    "training seed 137": Condition("seed137", {}, seed=137),
    "training seed 256": Condition("seed256", {}, seed=256),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homes", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--table", action="store_true", help="also write the table of these conditions")
    arguments = parser.parse_args()
    for label in arguments.only:
        measure(CONDITIONS[label], arguments.homes)
    if arguments.table:
        text = report({label: result(CONDITIONS[label], arguments.homes) for label in arguments.only})
        print(text)
        RESULTS.write_text(text, encoding="utf-8")


def measure(condition: Condition, homes: Path) -> None:
    """Run the study, or what is missing of it."""
    home = homes / condition.home
    if condition.seed is not None and not home.exists():
        shutil.copytree(homes / CONDITIONS["as it is"].home, home, symlinks=True)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    models = REPOSITORY / "dagster_home" / "models"
    if models.is_dir() and not (home / "models").exists():
        (home / "models").symlink_to(models)
    environment = os.environ | condition.environment | {"DAGSTER_HOME": str(home)}
    arguments = ["run", "--study", str(study_file(condition, homes)), "--checkpoint", NAME]
    subprocess.run([sys.executable, "-c", condition.code, *arguments], env=environment, cwd=REPOSITORY, check=True)


def study_file(condition: Condition, homes: Path) -> Path:
    study = load_study("embedded").model_dump(mode="json", exclude_defaults=True)
    if condition.seed is not None:
        study["marker"] = {**study["marker"], "training": {**study["marker"]["training"], "seed": condition.seed}}
    file = homes / f"embedded_{condition.seed or 'own'}.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return file


def result(condition: Condition, homes: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the pair table and the statements of a finished run."""
    home = Home(homes / condition.home)
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        pairs, statements = (
            latest_artefacts(instance, home.store, asset, [NAME])[NAME].read()
            for asset in ("pair_table", "partial_correlations")
        )
    return pairs, statements


def report(found: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    rows, verdicts = [], []
    for label, (pairs, statements) in found.items():
        dyads = pairs[pairs.source != pairs.target]
        ranks = dyads[[JS, COSINE, *OUTCOMES]].astype(float).corr("spearman")
        rows.append(
            {"condition": label}
            | {
                f"{name}, {outcome}": f"{ranks.loc[name, outcome]:+.2f}"
                for outcome in OUTCOMES
                for name in (JS, COSINE)
            }
        )
        verdicts.append(f"- **{label}**: {verdict(statements).words.split('. ')[0]}.")
    first = next(iter(found.values()))[0]
    same = [
        {"condition": label}
        | {
            outcome: f"{first[outcome].astype(float).corr(pairs[outcome].astype(float), method='spearman'):.3f}"
            for outcome in OUTCOMES
        }
        for label, (pairs, _) in found.items()
    ]
    return f"""# The demo's answer under other arithmetic and with other seeds

`python -m benchmarks.stability`, {heading()}

Spearman's ρ over the dyads of the embedded study, of JS and of the cosine at layer 21, with each outcome:

{table(rows)}

Agreement with the first row, Spearman's ρ over the dyads:

{table(same)}

Verdicts, which are about the expected rate:

{chr(10).join(verdicts)}
"""


if __name__ == "__main__":
    main()
