"""Origin of a result (date, hardware, versions), and Markdown tables."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import torch

from persona_assets.inference.loading import cpu_name


def heading() -> str:
    """Return date, device, clock rates as found, and versions."""
    where = cpu_name() + f", {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
        if shutil.which("nvidia-smi"):
            query = "clocks.sm,clocks.mem,power.limit,temperature.gpu"
            command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
            found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            where += f" (as found: {found})"
    versions = [f"{name} {have}" for name in ("torch", "triton", "transformers") if (have := version_of(name))]
    return f"{date.today()}, {where}, {', '.join(versions)}."


def version_of(package: str) -> str | None:
    if package == "torch":
        return torch.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a Markdown table; the first row's keys are the columns."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)
