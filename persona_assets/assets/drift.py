"""Asset `checkpoint_drift`: comparison of the measured checkpoints."""

from typing import Any

import dagster as dg

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.graph.groups import ANALYSIS_TEAM, DRIFT
from persona_assets.graph.home import Home
from persona_assets.graph.parquet import from_parquet, to_parquet
from persona_assets.graph.partitions import STUDY
from persona_assets.graph.provenance import code_version
from persona_assets.graph.schemas import actual_schema, record
from persona_assets.runs.drift_inputs import COSINE, LEAKAGE, MATRIX, Compared, compare
from persona_assets.store.artefacts import Artefact, ArtefactError, Files
from persona_assets.study import Study

TABLES = ("levels", "changes", "distances")
every_checkpoint = dg.AllPartitionMapping()


@dg.asset(
    deps=[
        dg.AssetDep(asset, partition_mapping=every_checkpoint)
        for asset in (MATRIX, COSINE, *([LEAKAGE] if STUDY.has_leakage else []))
    ],
    group_name=DRIFT,
    owners=ANALYSIS_TEAM,
    kinds={"pandas", "matplotlib"},
    code_version=code_version(STUDY, "checkpoint_drift"),
)
def checkpoint_drift(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.MaterializeResult[None]:
    """Changes of JS, cosine and leakage from checkpoint to checkpoint, with question-bootstrap intervals.

    Checkpoints are ordered by training step within their series. Each is compared with the previous one, or with its
    base model if steps are unknown. Tables (Parquet) and a figure (PNG, PDF, SVG).
    """
    compared = compare(context.instance, home, study)
    if compared.checkpoints.empty:
        reasons = "; ".join(f"{name}: {why}" for name, why in compared.left_out.items())
        raise ArtefactError(
            f"no checkpoint to compare: none is measured with study {study.name} as it is now"
            f"{f' ({reasons})' if reasons else ''}; measure one with measure_checkpoint first"
        )
    made_from = compared.made_from(study)
    artefact = home.store.find("checkpoint_drift", made_from)
    if artefact is None:
        artefact = home.store.put("checkpoint_drift", made_from, drift_files(home, study, compared), {})
    return dg.MaterializeResult(metadata=shown(artefact, compared))


def drift_files(home: Home, study: Study, compared: Compared) -> Files:
    """Compare checkpoints; return the tables as Parquet and the figure as PNG, PDF and SVG."""
    bootstrap = study.bootstrap
    found = metrics.measure_drift(
        compared.checkpoints,
        js={name: matrix.js_by_question for name, matrix in compared.read(home, MATRIX).items()},
        cosine=compared.read(home, COSINE),
        leakage=compared.read(home, LEAKAGE),
        **bootstrap.model_dump(),
    )
    figure = draw.checkpoint_drift_figure(*found)
    pictures = {"png": draw.to_png(figure), "pdf": draw.to_pdf(figure), "svg": draw.to_svg(figure)}
    return {
        **{f"{name}.parquet": to_parquet(table) for name, table in zip(TABLES, found, strict=True)},
        **{f"checkpoint_drift.{kind}": content for kind, content in pictures.items()},
    }


def shown(artefact: Artefact, compared: Compared) -> dict[str, Any]:
    """Return the asset's metadata: figure, numbers, compared checkpoints, and why others are left out."""
    files = artefact.read()
    changes, distances = (from_parquet(files[f"{name}.parquet"]) for name in ("changes", "distances"))
    order = compared.checkpoints.drop(columns="previous")
    left_out = "\n".join(f"- {name}: {why}" for name, why in compared.left_out.items())
    return {
        "drift": dg.MetadataValue.md(draw.inline_markdown(files["checkpoint_drift.png"], "JS, cosine and leakage")),
        "checkpoints": dg.MetadataValue.md(order.to_markdown(index=False)),
        **draw.drift_headline(changes, distances),
        **({"left_out": dg.MetadataValue.md(left_out)} if left_out else {}),
        **actual_schema("checkpoint_drift", files),
        **record(artefact),
    }
