# Everything a contributor or a newcomer runs; `make help` lists it.
#
#   make test PYTHON=python3.12      another interpreter, in its own environment (.venv-3.12)
#   make test ARGS="-k trace"        more arguments for pytest
#   make test UV=                    install with pip, though uv is there
#   make bench ARGS="--quick"        … or for the benchmarks

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two targets at once would let pip rewrite the environment under running tests; the work inside a target is parallel.
.NOTPARALLEL:

# The environment must hold what pyproject.toml says and nothing that happens to lie around.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
export PYTHONNOUSERSITE := 1
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(origin PYTHON),undefined)
  PYTHON := python3
  VENV ?= .venv
else ifndef VENV
  VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN     := $(VENV)/bin
# uv, where somebody has it, fills an environment in seconds; pip, which every Python has, takes a minute or two.
UV      := $(shell command -v uv)
PIP     := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet)
DIST    ?= dist
WORKERS ?= auto
ARGS    ?=
PYTEST  := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

# What `make demo` plans; all its flags are here.
DEMO_PIPELINE := profiles/pipelines/video-monitoring.yaml
DEMO_TRACE    := profiles/traces/bursty.csv.gz
DEMO_OUT      := demo-out
DEMO_FLAGS    := --trace $(DEMO_TRACE) --out $(DEMO_OUT)/plan.json

.PHONY: help demo test servers lint format style types imports deep mutants bench motivation docs wheel clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- the environment: one stamp per set of dependencies, renewed when pyproject.toml changes -------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("mipplan needs Python 3.11 or newer; try: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-base: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-bench $(VENV)/.installed-dev $(VENV)/.installed-docs: $(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@

# --- using it --------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed-base  ## install, then plan, verify and replay a shipped pipeline
	@mkdir -p $(DEMO_OUT)
	$(BIN)/mipplan plan $(DEMO_PIPELINE) $(DEMO_FLAGS)
	$(BIN)/mipplan verify $(DEMO_OUT)/plan.json --trace $(DEMO_TRACE)
	$(BIN)/mipplan replay $(DEMO_OUT)/plan.json --trace $(DEMO_TRACE)

# --- judging it ------------------------------------------------------------------------------------------------------

test: $(VENV)/.installed-test  ## run the tests, code blocks of the documentation included
	$(PYTEST) $(ARGS)

servers: $(VENV)/.installed-test  ## drive real servers with models that sleep, side by side, and hold predictions to limits (2 minutes)
	$(BIN)/python -m benchmarks.truth.trial

lint: style types imports  ## ruff, mypy --strict and the import layers

style: $(VENV)/.installed-dev  ## only ruff (rules and format)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## only mypy --strict
	$(BIN)/mypy

imports: $(VENV)/.installed-dev  ## only the import layers (.importlinter)
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## let ruff format the code and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A run that was stopped goes on where it was, and files whose tests have passed on this code do not run again.
deep: $(VENV)/.installed-test  ## run all tests with long campaigns, for hours; goes on where it was stopped
	MIPPLAN_DEEP=1 $(PYTEST) -p benchmarks.deep --quiet --no-header --tb=short $(ARGS)

mutants: $(VENV)/.installed-test  ## change the proofs' code in small ways and see whether tests notice (ARGS="cuts --mutants 20")
	$(BIN)/python -m benchmarks.mutants $(ARGS)

bench: $(VENV)/.installed-bench  ## run the benchmarks (benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

motivation: $(VENV)/.installed-base  ## why plan at all: the experiment behind docs/motivation.md (some minutes)
	$(BIN)/python -m benchmarks motivation $(ARGS)

# --- shipping it -----------------------------------------------------------------------------------------------------

docs: $(VENV)/.installed-docs  ## build the documentation into site/
	@# Not --quiet: what is not logged, --strict does not count.
	$(BIN)/mkdocs build --strict $(ARGS)

wheel: $(VENV)/.installed-dev  ## build the source distribution, and the wheel from it, into dist/
	$(BIN)/python -m build --outdir $(DIST) .

clean:  ## remove what was built
	rm -rf dist build site $(DEMO_OUT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find mipplan formulations tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## … and the environments
	rm -rf .venv .venv-*
