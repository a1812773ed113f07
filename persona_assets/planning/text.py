"""A plan as text tables for a terminal, under 100 columns."""

from collections.abc import Sequence

from persona_assets.planning.plan import Plan
from persona_assets.planning.rates import CARDS, MACHINES, MEASURED
from persona_assets.planning.stage import Stage
from persona_assets.study import Study

GIB = 2**30
SMALL = 1_000_000_000  # parameters below which kernel launches dominate and the rates are invalid


def text(plan: Plan, given: bool) -> str:
    """Return the complete text; `given` says whether the user specified the mean response length."""
    return "\n\n".join((_heading(plan, given), _work(plan), _memory(plan), _time(plan), _storage(plan), _sources(plan)))


def _heading(plan: Plan, given: bool) -> str:
    study, shape = plan.study, plan.shape
    assert study.decoding is not None
    scorers, limit = len(study.personas), study.decoding.max_new_tokens
    share = MEASURED["share"].value
    assumed = (
        "equal to the limit, because it is short"
        if plan.response == limit
        else f"{share:.2f} of the limit, as in the published run"
    )
    origin = "as given" if given else f"assumed,\n           {assumed}; set it with --response-tokens N"
    return "\n".join(
        (
            f"study      {study.name}: {scorers} personas, {len(study.questions)} questions, "
            f"{scorers * (scorers - 1) // 2} pairs, {len(study.sources)} sources",
            *([_design(study)] * (study.design != "full")),
            f"model      {shape.name}: {shape.parameters / 1e9:.2f} G parameters{_active(plan)}, {shape.layers} "
            f"blocks of {shape.hidden}, vocabulary {shape.vocabulary:,}",
            *(f"unsure     {line}" for line in shape.unsure),
            f"responses  {plan.response:.0f} tokens on average, at most {limit}: {origin}",
            f"prompts    {plan.prompt:.0f} tokens on average, estimated from their length in characters",
            *([_cards(plan)] * (plan.cards > 1)),
            "No model was loaded or run.",
        )
    )


def _active(plan: Plan) -> str:
    shape = plan.shape
    if not shape.experts:
        return ""
    used = f"{shape.experts_used} of {shape.experts} experts"
    return f" ({shape.active_parameters / 1e9:.2f} G active, {used})"


def _cards(plan: Plan) -> str:
    over = plan.study.inference.tensor_parallel
    copies = plan.cards // over
    each = "each with a full copy" if over == 1 else f"{over} per copy of the model (inference.tensor_parallel)"
    return f"GPUs       {plan.cards}, {each}" + ("; personas are distributed over the copies" if copies > 1 else "")


def _design(study: Study) -> str:
    writers = (
        f"{len(study.generating)} of {len(study.personas)} personas generate responses, {len(study.scoring)} score them"
    )
    pairs = "" if study.paired_with is None else "; only pairs that include a generator"
    return f"design     {study.design}: {writers}{pairs}"


def _work(plan: Plan) -> str:
    stages = [stage for stage in plan.stages if stage.passes]
    counts = [(stage.name, *(f"{round(n):,}" for n in _counts(stage)), f"{stage.flops / 1e15:.3g}") for stage in stages]
    summed = [f"{round(sum(column)):,}" for column in zip(*map(_counts, stages), strict=True)]
    total = ("total", *summed, f"{sum(stage.flops for stage in stages) / 1e15:.3g}")
    heading = ("work", "passes", "prompt tokens", "generated", "teacher-forced", "PFLOP")
    return _table([heading, *counts, total])


def _counts(stage: Stage) -> tuple[float, ...]:
    return stage.passes, stage.prompt, stage.generated, stage.forced


def _memory(plan: Plan) -> str:
    heading = ("memory (GiB)", "weights", "working", *(card.name for card in CARDS))
    rows = [
        (
            need.name,
            f"{need.weights / GIB:.1f}",
            f"{need.working / GIB:.1f}"
            if need.words[0] == "fits"
            else f"{need.least / GIB:.1f}–{need.working / GIB:.1f}",
            *(need.on(plan.usable(card)) for card in CARDS),
        )
        for need in plan.memory
    ]
    share = (
        f"Limit: {plan.study.inference.memory_share:.0%} of a GPU. tight: fits with smaller batches or chunks, slower"
    )
    if (over := plan.study.inference.tensor_parallel) > 1:
        share += f".\nPer GPU, with the weights split over {over}; working memory is an upper bound"
    note = f"{share}." + ("\nkept, recomputed: activations in training." if len(rows) > 2 else "")
    cpu = plan.cpu_scoring
    return (
        f"{_table([heading, *rows])}\n{note}\nOn a CPU in float32: {_bytes(cpu.weights)} for weights, "
        f"{_bytes(cpu.working)} for scoring.\nHost memory for the matrices: {_bytes(plan.matrices)}."
    )


def _time(plan: Plan) -> str:
    fits = {card.name: not any(need.on(plan.usable(card)) == "no" for need in plan.memory) for card in CARDS}
    names = [machine.name for machine in MACHINES]
    rows = [(stage.name, *(duration(stage.seconds[name]) for name in names)) for stage in plan.stages]
    totals = {name: duration(sum(stage.seconds[name] for stage in plan.stages)) for name in names}
    rows.append(("total", *(totals[name] if fits.get(name, True) else "does not fit" for name in names)))
    notes = ["Measured: H200 with 7B parameters, two CPU cores with 135M. All others are scaled, not measured."]
    first = MEASURED["first"].value
    notes.append(f"The first run on a GPU takes {first:.0f} s longer to compile. Loading weights is not included.")
    if plan.study.marker:
        blocks = MEASURED["blocks"].value
        notes.append(f"The first long training on a GPU takes {blocks:.0f} s longer to compile the model's blocks.")
    if plan.shape.parameters < SMALL:
        notes.append("Below 1 G parameters kernel launches dominate, so GPU times are underestimated.")
    return "\n".join((_table([("time", *names), *rows]), *notes))


def _storage(plan: Plan) -> str:
    parts = [f"{asset} {_bytes(size)}" for asset, size in plan.storage.items()]
    lines = "\n           ".join(", ".join(parts[start : start + 3]) for start in range(0, len(parts), 3))
    weights = plan.shape.parameters * plan.shape.bytes_a_parameter
    return (
        f"storage    {_bytes(sum(plan.storage.values()))} before compression\n           {lines}\n"
        f"           in addition to the checkpoint's {_bytes(weights)}"
    )


def _sources(plan: Plan) -> str:
    rows = [(_number(fact.value), fact.what, fact.source) for fact in MEASURED.values()]
    where = "           in benchmarks/results"
    scaled = [f"{card.name}: {card.scaled}" for card in CARDS if card.scaled]
    return "\n".join(
        (_table([("measured", "", "source"), *rows], left=(1, 2)), where, "scaled     " + "\n           ".join(scaled))
    )


def duration(seconds: float) -> str:
    """Format seconds as `0.4 s`, `25 s`, `11.6 min`, `3.2 h` or `5.1 d`, in the largest unit of which there are two."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _number(value: float) -> str:
    if value >= 1e9:
        return f"{value / 1e12:.3g}e12"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _bytes(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Align rows in columns; columns in `left` are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, range(len(row)), strict=True)
        return "  ".join(f"{cell:<{width}}" if place in left else f"{cell:>{width}}" for cell, width, place in cells)

    return "\n".join(line(row).rstrip() for row in rows)
