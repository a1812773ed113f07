"""What is new in a branch of a hub repository; nothing is downloaded here.

One request a page of commits and one a commit, each of them given ten seconds and no second try: whoever asks will ask
again a minute later.
"""

import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote

from persona_assets.checkpoints.checkpoint import CheckpointError
from persona_assets.checkpoints.files import VOCABULARY_FILES
from persona_assets.files.redaction import redact, redact_hub_logs

SECONDS = 10.0
SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")
TRAINER_TITLE = re.compile(r"Training in progress, step (\d+)")


class Commit(NamedTuple):
    """A commit of a hub repository.

    Attributes:
        revision: 40 hex digits.
        step: the training step, where the commit's title is the one that the Hugging Face trainer writes.
    """

    revision: str
    step: int | None


def commits_of(repo: str, branch: str, known: Set[str]) -> list[Commit]:
    """The commits of a branch that are newer than the newest known one, oldest first.

    Where none is known, or none that is still in the branch (its history was rewritten), only the newest: what came
    before the watch began is not measured by itself.

    Raises:
        CheckpointError: no answer, or not that of a hub; names repository, branch and endpoint.
    """
    from huggingface_hub import HfApi  # imported late: local checkpoints never need it
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, but exported behind mypy's back
        build_hf_headers,
        get_session,
        hf_raise_for_status,
        validate_repo_id,
    )

    url: str | None = f"{HfApi().endpoint}/api/models/{repo}/commits/{quote(branch, safe='')}"
    new: list[Commit] = []
    with _named(f"{repo}: branch {branch}"):
        validate_repo_id(repo)
        # Page by page, and not through HfApi.list_repo_commits: that one reads the whole history and retries for long.
        while url:
            response = get_session().get(url, headers=build_hf_headers(), timeout=SECONDS)
            hf_raise_for_status(response)
            for commit in response.json():
                if commit["id"] in known:
                    return new[::-1]
                titled = TRAINER_TITLE.match(commit["title"])
                new.append(Commit(commit["id"], int(titled[1]) if titled else None))
            url = response.links.get("next", {}).get("url") if known else None
    return new[:1]


def lacking(repo: str, revision: str) -> str | None:
    """Why a commit cannot be measured, judged by the names of its files; None if it can.

    Raises:
        CheckpointError: no answer, or not that of a hub; names repository, commit and endpoint.
    """
    from huggingface_hub import HfApi

    with _named(f"{repo}: commit {revision}"):
        files = {file.rfilename for file in HfApi().model_info(repo, revision=revision, timeout=SECONDS).siblings or ()}
    place = f"{repo} at {revision}"
    shards = [int(match[1]) for match in map(SHARD.fullmatch, files) if match]
    if "adapter_config.json" in files and "config.json" not in files:
        return f"{place}: found adapter_config.json and no config.json; adapters are taken from directories"
    if "config.json" not in files:
        return f"{place}: config.json is not there; expected a model"
    if shards and len(shards) < max(shards):
        return f"{place}: found {len(shards)} of {max(shards)} files model-*.safetensors; expected all of them"
    if "model.safetensors" not in files and "model.safetensors.index.json" not in files:
        return f"{place}: model.safetensors is not there, nor an index of its shards; expected weights as safetensors"
    if not files & set(VOCABULARY_FILES):
        return f"{place}: no tokenizer; expected tokenizer.json"
    return None


@contextmanager
def _named(asked: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub is said in one sentence."""
    import httpx2  # what huggingface_hub speaks through; its errors come through unchanged
    from huggingface_hub import HfApi

    redact_hub_logs()
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, LookupError, TypeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())  # the hub's own messages run over several lines
        # Without its cause, whose text holds the whole address.
        raise CheckpointError(redact(f"{asked} cannot be looked up at {HfApi().endpoint}: {what}")) from None
