"""Downloads a model from the hub: each file that is needed, once.

Repositories often hold the same weights several times, as `consolidated.safetensors` or in folders such as `original/`.
Only what Transformers would load is downloaded.
"""

import glob
from pathlib import Path

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.checkpoints.files import SAFE_FILES, weight_names
from persona_assets.files.reading import shown
from persona_assets.files.redaction import redact, redact_hub_logs

TEXT_FILES = [pattern for pattern in SAFE_FILES if pattern != "*.safetensors"]
FOLDERS = ["*/*"]  # patterns match whole paths, and `*` also matches a slash


def download(repo: str, revision: str, what: str) -> Path:
    """Return the local directory of a model at a commit, with its weights.

    Args:
        what: the checkpoint's name, for error messages.

    Raises:
        CheckpointError: the download failed.
    """
    directory = download_texts(repo, revision, what)
    names = [glob.escape(name) for name in weight_names(directory, "model")]
    return _snapshot(repo, revision, what, names)


def download_texts(repo: str, revision: str, what: str) -> Path:
    """Return the local directory of a model at a commit, with its configuration, tokenizer and index of weights only.

    Raises:
        CheckpointError: the download failed.
    """
    return _snapshot(repo, revision, what, TEXT_FILES)


def download_adapter(repo: str, revision: str, subfolder: str | None, what: str) -> Path:
    """Return the local directory of a LoRA adapter at a commit.

    Args:
        subfolder: folder of the repository that holds it; None for the repository itself.

    Raises:
        CheckpointError: the download failed, or the repository has no such folder.
    """
    if subfolder is None:
        return _snapshot(repo, revision, what, list(SAFE_FILES))
    folder = glob.escape(subfolder)
    patterns = [f"{folder}/{pattern}" for pattern in SAFE_FILES]
    directory = _snapshot(repo, revision, what, patterns, [f"{folder}/{each}" for each in FOLDERS]) / subfolder
    if not directory.is_dir():
        raise CheckpointError(
            f"{what}: adapter_subfolder: found {shown(subfolder)}, which {repo} at {revision} does not have; expected "
            "the folder that contains adapter_config.json"
        )
    return directory


def _snapshot(repo: str, revision: str, what: str, patterns: list[str], ignored: list[str] = FOLDERS) -> Path:
    import httpx2  # the HTTP client of huggingface_hub, which raises its errors when a download breaks off
    from huggingface_hub import snapshot_download  # imported here because local checkpoints do not need it
    from huggingface_hub.errors import HFValidationError

    redact_hub_logs()
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=ignored))
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        problem = redact(f"{what}: {repo} at {revision} could not be downloaded: {error}")
        raise CheckpointError(problem) from None  # the original error contains the unredacted URL
