# demo: measure eleven personas of the embedded model.   ui: look at them.   test: what CI runs.
# demo-training: train the embedded model while every checkpoint is measured by itself.
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
BIN := .venv/bin

.PHONY: demo demo-training ui test lint types tests clean

demo: .venv/installed
	@$(BIN)/persona-assets run --study embedded --checkpoint smollm2-135m-instruct
	@echo "look at it with \`make ui\`, then open http://127.0.0.1:3000"

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

tests: .venv/installed-dev
	$(BIN)/python -m pytest

.venv/installed: pyproject.toml constraints.txt scripts/install.sh
	@scripts/install.sh
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt scripts/install.sh
	@scripts/install.sh dev
	@touch $@ .venv/installed

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
