"""Tests of the worked examples in docs/how-to/extending.md, with the code read from the page."""

from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from persona_assets import presentation
from persona_assets.checkpoints import Checkpoint
from persona_assets.graph.loggers import PLAIN_LINES
from persona_assets.inference import LoadedModel, TransformersGenerator, choose_hardware, load_model
from persona_assets.metrics import rates_by_target
from persona_assets.runs.run import Run
from persona_assets.study.settings import Decoding, Inference
from tests.docs.reading import run_blocks


@pytest.fixture(scope="module")
def page(repository: Path) -> dict[str, Any]:
    """Execute the page's code from the top and return what it defines."""
    return run_blocks(repository / "docs" / "how-to" / "extending.md", {"__name__": "my_location"})


@pytest.fixture
def tiny(tiny_directory: Path) -> LoadedModel:
    return load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))


def test_the_metric_is_the_mean_of_both_ones_first_tokens(page: dict[str, Any], docs_run: Run) -> None:
    by_generator = {table.attrs["generator"]: table for table in _all(docs_run, "logit_js")}
    js = page["js_of_opening"](by_generator, tokens=3)
    by_hand = [
        by_generator[one].token_js.sel(persona=other).values[:, :3].mean()
        for one, other in (("villain", "comedian"), ("comedian", "villain"))
    ]
    assert float(js.sel(persona="villain", other="comedian")) == pytest.approx(np.mean(by_hand))
    assert np.allclose(js, js.transpose("other", "persona"))
    with pytest.raises(ValueError, match="tokens is 0; expected at least 1"):
        page["js_of_opening"](by_generator, tokens=0)


def test_the_asset_materialises_beside_the_shipped_graph(page: dict[str, Any], docs_run: Run) -> None:
    assert page["defs"].resolve_asset_graph().has(dg.AssetKey("opening_js"))
    defs = dg.Definitions.merge(docs_run.defs, dg.Definitions(assets=[page["opening_js"]]))
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("opening_js")})
    done = job.execute_in_process(instance=docs_run.instance, partition_key="tiny", run_config=PLAIN_LINES)
    (artefact,) = docs_run.home.store.all("opening_js")
    assert done.success
    assert set(artefact.made_from["inputs"]["logit_js"]) == {f"tiny|{name}" for name in docs_run.study.personas}
    (pairs,) = _all(docs_run, "pair_table")
    js, rates = artefact.read().js, pd.Series([0.1, 0.4, 0.2, 0.9, 0.5, 0.3])
    statements = page["asked_of_opening"](pairs.assign(leakage_rate=rates), js)
    row = statements[(statements.name == "spearman: leakage_rate ~ js") & (statements["view"] == "iid")].iloc[0]
    column = [float(js.sel(persona=a, other=b)) for a, b in zip(pairs.source, pairs.target, strict=True)]
    assert row.estimate == pytest.approx(pd.Series(column).corr(rates, "spearman"))


def test_the_engine_writes_what_transformers_writes(page: dict[str, Any], tiny: LoadedModel) -> None:
    prompts = [tiny.chat.prompt_ids("You are a pirate.", question) for question in ("Why?", "How is that?")]
    decoding = Decoding(max_new_tokens=12)
    engine = page["OneByOne"](tiny)
    assert engine.generate(prompts, decoding) == TransformersGenerator(tiny).generate(prompts, decoding)
    members = {name for name in dir(TransformersGenerator) if not name.startswith("_")} - {"loaded"}
    assert members <= set(dir(engine))
    with pytest.raises(ValueError, match="expected 'greedy'"):
        engine.generate(prompts, Decoding(method="sampled", max_new_tokens=1))


def test_the_figure_is_one_column_wide_and_names_everybody(page: dict[str, Any]) -> None:
    counts = pd.DataFrame({"target": ["kindergarten_teacher", "villain"], "found": [3, 18], "total": [20, 20]})
    figure = page["rates_figure"](rates_by_target(counts))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kindergarten teacher", "villain"]
    with Image.open(BytesIO(presentation.to_png(figure, dpi=100))) as image:
        assert image.size[0] == pytest.approx(89 / 25.4 * 100, abs=1)
    assert presentation.to_svg(figure) == presentation.to_svg(figure)


def _all(run: Run, asset: str) -> list[Any]:
    return [artefact.read() for artefact in run.home.store.all(asset)]
