#!/usr/bin/env bash
# Creates .venv and installs the project into it. Usage: scripts/install.sh [EXTRA,…]
# PYTHON: the interpreter to use (3.11 or 3.12). TORCH_INDEX: a package index with CPU builds of PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
TORCH="torch==2.13.0"
TORCH_INDEX="${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
extras="${1:-}"

find_python() {
  for candidate in ${PYTHON:-} python3 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.11 or 3.12 found; install one, or name it: make demo PYTHON=/path/to/python3.12" >&2
  exit 1
}

if [ ! -x .venv/bin/python ]; then
  python="$(find_python)"
  echo "creating .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# Install PyTorch first: its default build for Linux includes several GB of CUDA libraries. On a machine without a GPU,
# install the CPU build from PyTorch's own index instead.
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  echo "installing $TORCH"
  if command -v nvidia-smi >/dev/null || ! pip install --dry-run --quiet --report - "$TORCH" 2>/dev/null | grep -q '"name": "nvidia-'; then
    pip install --quiet --no-compile "$TORCH"
  else
    pip install --quiet --no-compile "$TORCH" --index-url "$TORCH_INDEX"
  fi
fi
echo "installing persona-assets${extras:+ with $extras}"
pip install --quiet --no-compile --constraint constraints.txt --editable ".${extras:+[$extras]}"
