"""The pictures of a checkpoint, as files for a paper and inline for the page."""

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.orchestration.partitions import STUDY, inference_input, leakage_input, per_checkpoint
from persona_assets.orchestration.provenance import code_version
from persona_assets.study import Study

PRESENTATION = "presentation"


@dg.asset(
    partitions_def=per_checkpoint,
    ins=leakage_input(STUDY) | inference_input(STUDY),
    group_name=PRESENTATION,
    kinds={"matplotlib"},
    code_version=code_version(STUDY, "figures"),
)
def figures(
    study: dg.ResourceParam[Study],
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    pair_table: pd.DataFrame,
    **leakage: pd.DataFrame,
) -> dg.Output[dict[str, bytes]]:
    """JS, a map of the personas, cosine per layer, leakage and what carries it: PNG, PDF and SVG."""
    drawn = draw.standard_figures(logit_js_matrix, centroid_cosine, pair_table, study.baseline, **leakage)
    writers = {"png": draw.to_png, "pdf": draw.to_pdf, "svg": draw.to_svg}
    files = {f"{name}.{kind}": write(figure) for name, figure in drawn.items() for kind, write in writers.items()}
    inline = {name: dg.MetadataValue.md(draw.inline_markdown(files[f"{name}.png"], name)) for name in drawn}
    return dg.Output(files, metadata=inline)
