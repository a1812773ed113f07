"""The marker's expected rate in every target while a source's adapter is trained."""

import math

import numpy as np
import pandas as pd

from persona_assets import inference
from persona_assets.graph.provenance import recipe_of
from persona_assets.stages.log_probs import cut_replies
from persona_assets.stages.session import ModelSession
from persona_assets.store.artefacts import ArtefactStore
from persona_assets.study import Study


class Following:
    """Measures all targets at some steps of a training; `table` has one row per step and target."""

    def __init__(self, store: ArtefactStore, study: Study, session: ModelSession) -> None:
        replies, answers = cut_replies(store, study, session)
        kept = [answer is not None and counts for answer, counts in zip(answers, replies.counted, strict=True)]
        self.study, self.targets = study, replies.target[kept].to_list()
        self.answers = [answer for answer, keep in zip(answers, kept, strict=True) if answer is not None and keep]
        self._rows: list[pd.DataFrame] = []

    def __call__(self, loaded: inference.LoadedModel, step: int) -> None:
        """Measure the model as it is after a step."""
        marker = recipe_of(self.study).marker.text
        found = inference.marker_log_probs(loaded, self.answers, marker, self.study.deterministic)
        rates = pd.DataFrame({"target": self.targets, "expected_rate": [math.exp(each.marker) for each in found]})
        by_target = rates.groupby("target", sort=False, as_index=False).expected_rate.mean()
        self._rows.append(by_target.assign(step=np.int64(step))[["step", "target", "expected_rate"]])

    @property
    def table(self) -> pd.DataFrame:
        return pd.concat(self._rows, ignore_index=True)
