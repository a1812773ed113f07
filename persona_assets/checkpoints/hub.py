"""Finds new commits in a branch of a hub repository, without downloading anything.

Sends one request per page of commits and one per commit, with a timeout of ten seconds and no retry: the sensor tries
again a minute later. A caller can limit the time of all requests together.
"""

import re
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote

from persona_assets.checkpoints.checkpoint import CheckpointError
from persona_assets.checkpoints.files import VOCABULARY_FILES
from persona_assets.files.redaction import redact, redact_hub_logs

SECONDS = 10.0
MODEL_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")
TRAINER_TITLE = re.compile(r"Training in progress, step (\d+)")


class Commit(NamedTuple):
    """A commit of a hub repository.

    Attributes:
        revision: 40 hex digits.
        step: the training step, if the commit's title is one that the Hugging Face trainer writes.
    """

    revision: str
    step: int | None


def new_commits(repo: str, branch: str, known: Set[str], until: float | None = None) -> list[Commit]:
    """Return the commits of a branch that are newer than the newest known one, oldest first.

    If no known commit is in the branch (a new watch or a rewritten history), only the newest commit is returned, so
    that older history is not measured automatically.

    Args:
        until: time (`time.monotonic`) at which the requests end.

    Raises:
        CheckpointError: no valid response; names repository, branch and endpoint.
    """
    from huggingface_hub import HfApi  # imported here because local checkpoints do not need it
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, but hidden from mypy
        build_hf_headers,
        get_session,
        hf_raise_for_status,
        validate_repo_id,
    )

    url: str | None = f"{HfApi().endpoint}/api/models/{repo}/commits/{quote(branch, safe='')}"
    new: list[Commit] = []
    with _one_line_errors(f"{repo}: branch {branch}"):
        validate_repo_id(repo)
        # Not HfApi.list_repo_commits, which reads the whole history and retries for a long time.
        while url:
            response = get_session().get(url, headers=build_hf_headers(), timeout=_timeout(until))
            hf_raise_for_status(response)
            for commit in response.json():
                if commit["id"] in known:
                    return new[::-1]
                titled = TRAINER_TITLE.match(commit["title"])
                new.append(Commit(commit["id"], int(titled[1]) if titled else None))
            url = response.links.get("next", {}).get("url") if known else None
    return new[:1]


def commit_problem(repo: str, revision: str, until: float | None = None) -> str | None:
    """Return why a commit cannot be measured, judging by its file names, or None if it can.

    Raises:
        CheckpointError: no valid response; names repository, commit and endpoint.
    """
    from huggingface_hub import HfApi

    with _one_line_errors(f"{repo}: commit {revision}"):
        info = HfApi().model_info(repo, revision=revision, timeout=_timeout(until))
        files = {file.rfilename for file in info.siblings or ()}
    place = f"{repo} at {revision}"
    shards = [int(match[1]) for match in map(SHARD.fullmatch, files) if match]
    if "adapter_config.json" in files and "config.json" not in files:
        return (
            f"{place}: found adapter_config.json but no config.json, so this is an adapter; expected a model; register "
            "the adapter with its base model by `persona-assets checkpoint add --adapter-hub`"
        )
    if "adapter_config.json" in files and any(MODEL_WEIGHTS.fullmatch(file) for file in files):
        return f"{place}: found adapter_config.json beside a model's weights; expected the adapter elsewhere"
    if "config.json" not in files:
        return f"{place}: config.json does not exist; expected a model"
    if shards and len(shards) < max(shards):
        return f"{place}: found {len(shards)} of {max(shards)} files model-*.safetensors; expected all of them"
    if "model.safetensors" not in files and "model.safetensors.index.json" not in files:
        return f"{place}: neither model.safetensors nor a shard index exists; expected weights as safetensors"
    if not files & set(VOCABULARY_FILES):
        return f"{place}: no tokenizer found; expected tokenizer.json"
    return None


def _timeout(until: float | None) -> float:
    """Return the seconds that a request may take.

    Raises:
        TimeoutError: no time is left.
    """
    left = SECONDS if until is None else min(SECONDS, until - time.monotonic())
    if left <= 0:
        raise TimeoutError("no time is left in this tick; the next one tries again")
    return left


@contextmanager
def _one_line_errors(subject: str) -> Iterator[None]:
    """Convert every error of a hub request to a CheckpointError of one line."""
    import httpx2  # the HTTP client of huggingface_hub, which does not wrap its errors
    from huggingface_hub import HfApi

    redact_hub_logs()
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, LookupError, TypeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())  # hub messages have several lines
        # `from None` because the original error contains the unredacted URL.
        raise CheckpointError(redact(f"{subject} could not be looked up at {HfApi().endpoint}: {what}")) from None
