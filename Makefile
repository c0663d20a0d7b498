# Everything runs in .venv, which is made on first use and again whenever pyproject.toml or constraints.txt change.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input -c constraints.txt
USED := $(VENV)/.installed-all
DEVELOPED := $(VENV)/.installed-dev
BENCHED := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: $(USED) ## train a small network on real digits, compress it for every runtime, show where the report is
	$(BIN)/tersenet demo --out $(OUT)

test: $(DEVELOPED) ## all tests, and a small compress from the built wheel
	PATH="$(abspath $(BIN)):$$PATH" scripts/test

check: $(DEVELOPED) ## formatting, lint, types, and the direction of imports
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

bench: $(BENCHED) ## every figure that the README states
	PATH="$(abspath $(BIN)):$$PATH" scripts/bench

docs: $(DEVELOPED) ## regenerate the generated pages
	PATH="$(abspath $(BIN)):$$PATH" scripts/docs

clean: ## remove the environment and what tests and builds left
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(USED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing tersenet and its runtimes into $(VENV) (some minutes, about 2 GB) ..."
	@$(PIP) -e '.[all]'
	@touch $@

$(DEVELOPED): $(USED)
	@echo "Installing what tests and checks need ..."
	@$(PIP) -e '.[all,dev]'
	@touch $@

$(BENCHED): $(DEVELOPED)
	@echo "Installing what benchmarks compare with ..."
	@$(PIP) -e '.[all,dev,bench]'
	@touch $@
