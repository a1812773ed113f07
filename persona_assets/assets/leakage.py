"""How a marker that is trained into one persona turns up in the others."""

import tempfile
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from persona_assets import presentation as draw
from persona_assets.artefacts import Artefact, Files
from persona_assets.inference import (
    TransformersGenerator,
    build_training_set,
    label_log_prob,
    measured,
    plan_conversations,
    train_adapter,
)
from persona_assets.inference.training import Example
from persona_assets.metrics import (
    build_leakage_table,
    contains_marker,
    count_markers,
    imported_leakage_table,
    read_leakage_table,
    read_marker_eval,
)
from persona_assets.orchestration.files import from_parquet, to_parquet
from persona_assets.orchestration.heavy import Load, for_each_persona
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import STUDY, every_prompt, per_checkpoint, per_source, samples_input
from persona_assets.orchestration.provenance import code_version
from persona_assets.orchestration.resources import Gpu
from persona_assets.orchestration.sampling import base_samples, sample_targets
from persona_assets.study import Study

LEAKAGE = "leakage"


@dg.asset(
    partitions_def=per_source,
    deps=["model_checkpoint", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=LEAKAGE,
    kinds={"huggingface", "safetensors"},
    code_version=code_version(STUDY, "marker_adapter"),
)
def marker_adapter(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """A LoRA adapter that makes a source end its replies with the marker; its training set and its loss curve."""
    recipe = study.marker
    assert recipe is not None

    def train(load: Load, source: str, _: Artefact | None) -> tuple[Files, dict[str, Any]]:
        loaded = load()
        plan = plan_conversations(recipe, source, list(study.personas), study.baseline, study.training_questions)
        examples = build_training_set(loaded, TransformersGenerator(loaded), recipe, plan, study.prompts)
        with tempfile.TemporaryDirectory() as folder, measured(loaded.hardware.device) as cost:
            trained = train_adapter(
                loaded,
                examples,
                recipe,
                Path(folder),
                lambda step, total: context.log.info(f"{source}: step {step.step}/{total}, loss {step.loss:.3f}"),
            )
            adapter = {file.name: file.read_bytes() for file in Path(folder).glob("adapter_*")}
        decode = loaded.chat.tokenizer.decode
        table = pd.DataFrame([vars(each) for each in plan]).assign(
            text=[decode(example.token_ids) for example in examples],
            token_ids=pd.Series([list(example.token_ids) for example in examples]),
            labels=pd.Series([list(example.labels) for example in examples]),
        )
        steps = pd.DataFrame([vars(step) for step in trained.steps])
        files = {**adapter, "examples.parquet": to_parquet(table), "steps.parquet": to_parquet(steps)}
        quarter = max(1, len(steps) // 4)
        return files, {
            **cost.with_tokens(int(steps.tokens.sum())),
            "steps": len(steps),
            "examples": len(table),
            "first_loss": float(steps.loss.head(quarter).mean()),
            "last_loss": float(steps.loss.tail(quarter).mean()),
            "label_log_prob_before": trained.before,
            "label_log_prob_after": trained.after,
            "recipe": recipe.name,
            "recipe_digest": recipe.digest,
        }

    def show(artefact: Artefact) -> dict[str, Any]:
        curve = draw.loss_curve(from_parquet(artefact.read()["steps.parquet"]))
        return {"loss_curve": dg.MetadataValue.md(draw.inline_markdown(curve, "loss per step"))}

    for_each_persona(context, study, gpu, home, train, show)


@dg.asset(
    partitions_def=per_source,
    deps=["model_checkpoint", "marker_adapter", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=LEAKAGE,
    kinds={"huggingface", "parquet"},
    code_version=code_version(STUDY, "marker_rates"),
)
def marker_rates(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """Every target's sampled replies under a source's adapter and under none: which of them hold the marker."""
    recipe = study.marker
    assert recipe is not None

    def rate(load: Load, source: str, adapter: Artefact | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        assert adapter is not None
        base = base_samples(home.store, study, load, adapter)
        loaded = load(marker_adapter=adapter.path)
        with measured(loaded.hardware.device) as cost:
            samples = sample_targets(loaded, study)
        first = from_parquet(adapter.read()["examples.parquet"]).iloc[0]
        merged = label_log_prob(
            loaded.model, Example(tuple(map(int, first.token_ids)), tuple(map(int, first.labels))), loaded.device
        )
        table = pd.concat([samples.assign(model="adapted"), base.assign(model="base")], ignore_index=True)
        table["found"] = [contains_marker(text, recipe.marker.detect) for text in table.text]
        own = table[(table.model == "adapted") & (table.target == source)]
        return table, {
            **cost.with_tokens(int(samples.tokens.sum())),
            "replies": len(samples),
            "own_found": int(own.found.sum()),
            "own_total": len(own),
            "found_in_others": int(table[table.model == "adapted"].found.sum() - own.found.sum()),
            "base_found": int(table[table.model == "base"].found.sum()),
            "base_total": len(base),
            "label_log_prob_merged": merged,
            "label_log_prob_adapter": adapter.measured["label_log_prob_after"],
            "label_log_prob_base": adapter.measured["label_log_prob_before"],
        }

    for_each_persona(context, study, gpu, home, rate)


@dg.asset(
    partitions_def=per_checkpoint,
    ins=samples_input(STUDY),
    group_name=LEAKAGE,
    kinds={"pandas", "parquet"},
    code_version=code_version(STUDY, "leakage_table"),
)
def leakage_table(study: dg.ResourceParam[Study], **sampled: Any) -> dg.Output[pd.DataFrame]:
    """One row a dyad: how often the source's marker was found in the target's replies, with Wilson intervals."""
    table = imported_leakage(study) if study.leakage else counted_leakage(study, sampled["marker_rates"])
    heatmap = draw.inline_markdown(draw.leakage_heatmap(table, list(study.personas)), "leakage rate of every dyad")
    rates = table.drop_duplicates("source").set_index("source").source_rate.dropna()
    return dg.Output(
        table,
        metadata={
            "heatmap": dg.MetadataValue.md(heatmap),
            "dagster/row_count": len(table),
            "mean_leakage": float(table.rate.mean()),
            **{f"source_rate_{source}": float(rate) for source, rate in rates.items()},
        },
    )


def counted_leakage(study: Study, by_source: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The leakage table of sampled replies: the sources' under their adapters, and the base's."""
    recipe = study.marker
    assert recipe is not None

    def counts(table: pd.DataFrame, model: str) -> pd.DataFrame:
        return count_markers(table[table.model == model], recipe.marker.detect)

    adapted = {source: counts(table, "adapted") for source, table in by_source.items()}
    base = counts(next(iter(by_source.values())), "base")
    return build_leakage_table(adapted, base, study.categories, study.related, f"{recipe.name} {recipe.digest[:12]}")


def imported_leakage(study: Study) -> pd.DataFrame:
    """The leakage table of the study's own file of counts."""
    path = study.leakage
    assert path is not None
    read = read_marker_eval if path.is_dir() else read_leakage_table
    table = read(path, study.categories)
    return imported_leakage_table(table, study.categories, study.related, f"imported from {path.name}")
