# Two commands matter: `make demo` and `make test`. Everything lives in .venv; nothing outside this folder is touched
# except pip's and the workbench's own cache.
PYTHON ?= python3.11
SERVE  ?= 1
BIN    := .venv/bin
DATA   := $(wildcard ../shared/data)
export WORKBENCH_DATA ?= $(if $(DATA),$(abspath $(DATA)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test dash lab lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## create .venv with the pinned environment

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "setup needs Python 3.11: '$(PYTHON)' is not here (make setup PYTHON=/path/to/python3.11)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: setup ## measure the machine, train a DLRM on two ranks, show the three breakdowns, serve the app (SERVE=0: stop before)
	$(BIN)/workbench demo $(if $(filter 0,$(SERVE)),--no-serve)

test: setup ## lint, unit tests, layer tests, notebooks, pages in a real browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

dash: setup ## serve the app on 127.0.0.1:8050
	$(BIN)/workbench dash

lab: setup ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --ServerApp.root_dir=notebooks

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## ruff: apply the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## the measured claims of tests/benchmarks/README.md, on this machine
	$(BIN)/python tests/benchmarks/run_all.py

clean: ## remove .venv and every build product; runs in traces/ stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
