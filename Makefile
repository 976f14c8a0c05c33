# labctl from a checkout: `make setup demo` on a machine with Python 3.11 or newer and make.

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
SOURCES := labctl drivers sequences simulated_hw tests benchmarks

export MPLBACKEND := Agg
# numpy reads this when it is imported; its threads would take the processors from tests and hosts beside it.
export OPENBLAS_NUM_THREADS := 1

.NOTPARALLEL:
.PHONY: help setup setup-dev demo pictures test search check lint format types imports bench soak clean

help:
	@echo "make setup      labctl in $(VENV)"
	@echo "make demo       a simulated lab with two nodes, from nothing to heralded pairs"
	@echo "make test       all tests"
	@echo "make search     the tests that draw their own examples, with a thousand random ones each"
	@echo "make pictures   draw the pictures of docs/sequences.md again"
	@echo "make check      formatting, lint, types, who imports whom"
	@echo "make bench      benchmarks against other libraries"
	@echo "make soak       all instruments at 10 Hz for 5 minutes with random faults: what leaks, what stays hidden"
	@echo "make clean      remove $(VENV) and all caches; runs are kept"

setup: $(VENV)/.setup ; @:
setup-dev: $(VENV)/.setup-dev ; @:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labctl needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(PYTHON) -c 'import sys; print("$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: sudo apt install python%d.%d-venv" % sys.version_info[:2], file=sys.stderr)'; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The first run of all compiles the inner loops; every process would do it for itself.
COMPILE = $(BIN)/labctl run link --virtual --rounds 3 --runs $(VENV)/first > $(VENV)/first.log && rm -rf $(VENV)/first*

# The stamps are older than pyproject.toml when what is installed has to be looked at again.
$(VENV)/.setup: pyproject.toml | $(BIN)/python
	@echo "installing labctl and what it needs (a few minutes the first time)"
	@$(PIP) install -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.setup-dev: pyproject.toml | $(BIN)/python
	@echo "installing labctl, what it needs, and the tools for its tests (a few minutes the first time)"
	@$(PIP) install -e '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.setup

$(VENV)/.setup-bench: pyproject.toml | $(BIN)/python
	@echo "installing what the benchmarks compare with"
	@$(PIP) install -e '.[dev,bench]'
	@touch $@ $(VENV)/.setup-dev $(VENV)/.setup

demo: setup
	@$(BIN)/labctl demo

pictures: setup
	@grep '^labctl draw .* -o docs/pictures/' docs/sequences.md | while read -r command; do $(BIN)/$$command || exit 1; done

test: setup-dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -r R

search: setup-dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m hypothesis --hypothesis-profile=search

# `make -k check` goes on after the first of these that fails.
check: lint format types imports
lint: setup-dev
	$(BIN)/ruff check --quiet $(SOURCES)
format: setup-dev
	$(BIN)/ruff format --check --quiet $(SOURCES)
types: setup-dev
	$(BIN)/pyright
imports: setup-dev
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.setup-bench
	@for file in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

soak: setup-dev
	@$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
