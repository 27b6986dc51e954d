# The verbs of the house, for people, hooks and CI alike.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := $(addprefix --extra ,features training serving gateway monitoring cluster usecases bench dev)
export PYTHONSAFEPATH := 1

.PHONY: install demo test test-long check format bench compile lock clean

install: $(VENV)/.installed  ## Install everything into .venv

$(VENV)/.installed: requirements/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"Ninefold needs Python 3.11, 3.12 or 3.13; this is {v[0]}.{v[1]}. Run: make PYTHON=python3.13 ...")'
	@echo "Installing into $(VENV): about 1.7 GB, one to four minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/installer.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/all.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## The whole loop on real flights
	@$(BIN)/ninefold demo

test: install  ## All tests
	@$(BIN)/python -m pytest

test-long: install  ## Tests that take minutes: whole loops of pipelines
	@$(BIN)/python -m pytest -m long

check: install  ## Lint, format, types, import rules, compiled files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/ninefold compile --check

format: install  ## Format and sort imports
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

bench: install  ## Every benchmark, as ratios in one run; BENCH="cli arrivals" for some
	@PYTHONPATH=. $(BIN)/python -m bench $(BENCH)

compile: install  ## Compile the pipelines
	@$(BIN)/ninefold compile

lock: install  ## Renew requirements/ from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(EXTRAS) --output-file requirements/all.txt pyproject.toml
	@echo uv setuptools | tr ' ' '\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --output-file requirements/installer.txt -

clean:  ## Remove what was installed and what was written
	@rm -rf $(VENV) .ninefold
