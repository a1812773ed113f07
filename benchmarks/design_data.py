"""JS of all pairs along every generator's responses on the embedded model: the data that the designs are tested on.

    python -m benchmarks.design_data            # about half an hour on two cores

Writes `results/design_data.parquet`: one row per generator, question and number of tokens, one column per pair. Values
are in nats, averaged over the response's first tokens. The prompts are the project's own.
"""

import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xarray as xr

from benchmarks.embedded_study import embedded_study
from benchmarks.roles import study_of
from persona_assets.inference import Scored
from persona_assets.inference.generation import TransformersGenerator
from persona_assets.inference.scoring.choice import choose_scorer
from persona_assets.metrics.divergence import pairwise_js

PERSONAS, QUESTIONS, LENGTHS = 33, 8, (4, 8, 16, 24)
RESULTS = Path(__file__).parent / "results" / "design_data.parquet"


def measure() -> pd.DataFrame:
    """Compute the table on the embedded model in float32."""
    study = study_of(PERSONAS, QUESTIONS, max(LENGTHS))
    _, loaded = embedded_study("cpu")
    assert study.decoding is not None
    pairs = list(itertools.combinations(study.personas, 2))
    upper = np.triu_indices(PERSONAS, 1)
    scorer, writer = choose_scorer(loaded), TransformersGenerator(loaded)
    rows, began = [], time.perf_counter()
    for generator, prompt in study.prompts.items():
        responses = writer.generate([loaded.chat.prompt_ids(prompt, q) for q in study.questions], study.decoding)
        work = [
            Scored([loaded.chat.prompt_ids(p, question) for p in study.prompts.values()], response.token_ids)
            for question, response in zip(study.questions, responses, strict=True)
        ]
        for question, pieces in zip(study.questions, scorer.logits(work), strict=True):
            js = torch.cat([pairwise_js(piece) for piece in pieces]).numpy()[:, upper[0], upper[1]]
            for length in LENGTHS:  # shorter responses are used in full
                values = dict(zip(map("__".join, pairs), js[:length].mean(axis=0), strict=True))
                rows.append({"generator": generator, "question": question, "tokens": length, **values})
        print(f"{generator}: {time.perf_counter() - began:.0f} s", flush=True)
    return pd.DataFrame(rows)


def write(table: pd.DataFrame) -> None:
    """Write the file with nine bits per number, a relative precision of 0.1 %."""
    numbers = table[table.columns[3:]].to_numpy(dtype=np.float32)
    mantissa, exponent = np.frexp(numbers)
    kept = pd.DataFrame(np.ldexp(np.round(mantissa * 512) / 512, exponent), columns=table.columns[3:])
    whole = pd.concat([table[["generator", "question", "tokens"]], kept], axis=1)
    split = {"use_dictionary": list(whole.columns[:3]), "use_byte_stream_split": list(whole.columns[3:])}
    pq.write_table(pa.Table.from_pandas(whole, preserve_index=False), RESULTS, compression="zstd", **split)


def read() -> xr.DataArray:
    """Return JS in nats: (tokens, generator, question, persona, other)."""
    table = pd.read_parquet(RESULTS)
    personas = list(dict.fromkeys(table.generator))
    questions, lengths = list(dict.fromkeys(table.question)), sorted(set(table.tokens))
    pairs = table.set_index(["tokens", "generator", "question"])
    values = np.zeros((len(lengths), len(personas), len(questions), len(personas), len(personas)))
    for (tokens, generator, question), row in zip(pairs.index, pairs.to_numpy(), strict=True):
        at = values[lengths.index(tokens), personas.index(generator), questions.index(question)]
        at[np.triu_indices(len(personas), 1)] = row
        at += at.T
    return xr.DataArray(
        values,
        dims=("tokens", "generator", "question", "persona", "other"),
        coords={
            "tokens": lengths,
            "generator": personas,
            "question": questions,
            "persona": personas,
            "other": personas,
        },
    )


if __name__ == "__main__":
    write(measure())
    print(f"{RESULTS.stat().st_size / 1e6:.2f} MB")
