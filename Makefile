# The verbs of the house, for people, hooks and CI alike.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := $(addprefix --extra ,features training serving formats gateway monitoring cluster usecases bench dev)
# What each image installs beside the core. An image's versions are those of all.txt, which the tests run with.
IN_PIPELINE := features training formats monitoring cluster usecases
IN_SERVING := serving cluster
IN_FORMATS := serving cluster formats
IN_LABELLING := labelling
# Of images: their base and where their names begin; the engine, found when not named; flags of its build and run.
BASE ?= python:3.11-slim
IMAGES ?= localhost/ninefold
ENGINE ?=
IMAGE_FLAGS ?=
RUN_FLAGS ?=
TARGETS ?= pipeline serving labelling
ENGINE_OPTIONS = --engine='$(ENGINE)' --prefix='$(IMAGES)' --base='$(BASE)'
LOCK = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header
IMAGE_LOCK := --python-platform linux --constraint requirements/all.txt
export PYTHONSAFEPATH := 1

.PHONY: install demo test test-long check format bench bench-search compile lock images images-test manifests cluster e2e clean

install: $(VENV)/.installed  ## Install everything into .venv

$(VENV)/.installed: requirements/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"Ninefold needs Python 3.11, 3.12 or 3.13; this is {v[0]}.{v[1]}. Run: make PYTHON=python3.13 ...")'
	@echo "Installing into $(VENV): about 1.7 GB, one to four minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/installer.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/all.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## The whole loop on real flights; USE_CASE=reviews for reviews that an expert labels
	@$(BIN)/ninefold demo $(USE_CASE)

test: install  ## All tests, a file at a time on each core
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-long: install  ## Tests that take minutes: whole loops of pipelines
	@$(BIN)/python -m pytest -m long

check: install  ## Lint, format, types, import rules, compiled files, manifests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/ninefold compile --check
	@PYTHONPATH=. $(BIN)/python -m manifests.check --where-possible

format: install  ## Format and sort imports
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

bench: install  ## Every benchmark, as ratios in one run; BENCH="cli arrivals" for some
	@PYTHONPATH=. $(BIN)/python -m bench $(BENCH)

bench-search: install .venv-search/.installed  ## The search for models against other libraries', hours; SEARCH="--problems churn --seeds 0" for some
	@PYTHONPATH=. $(BIN)/python -m bench.search --peers .venv-search/bin/python --write docs/search.md $(SEARCH)

.venv-search/.installed: bench/search/requirements.txt
	@$(PYTHON) -m venv .venv-search
	@$(BIN)/uv pip install --quiet --python .venv-search/bin/python --requirement bench/search/requirements.txt
	@touch $@

compile: install  ## Compile the pipelines
	@$(BIN)/ninefold compile

lock: install  ## Renew requirements/ from pyproject.toml
	@$(LOCK) --universal $(EXTRAS) --output-file requirements/all.txt pyproject.toml
	@echo uv setuptools | tr ' ' '\n' | $(LOCK) --universal --output-file requirements/installer.txt -
	@$(LOCK) $(IMAGE_LOCK) $(addprefix --extra ,$(IN_PIPELINE)) --overrides requirements/left-out-of-pipeline.txt --output-file requirements/pipeline.txt pyproject.toml
	@$(LOCK) $(IMAGE_LOCK) $(addprefix --extra ,$(IN_SERVING)) --overrides requirements/left-out-of-serving.txt --output-file requirements/serving.txt pyproject.toml
	@$(LOCK) $(IMAGE_LOCK) $(addprefix --extra ,$(IN_FORMATS)) --overrides requirements/left-out-of-serving.txt --output-file requirements/formats.txt pyproject.toml
	@$(LOCK) $(IMAGE_LOCK) $(addprefix --extra ,$(IN_LABELLING)) --output-file requirements/labelling.txt pyproject.toml
	@echo scikit-learn skops | tr ' ' '\n' | $(LOCK) --universal --no-annotate --constraint requirements/all.txt --output-file components/model_builder/formats/environment.txt -
	@echo 'label-studio>=1.23,<2' | $(LOCK) --universal --output-file requirements/label-studio.txt -

images:  ## Build the images, with docker, podman or buildah
	@PYTHONPATH=. $(PYTHON) -m images build $(TARGETS) $(ENGINE_OPTIONS) --flags='$(IMAGE_FLAGS)'

images-test: images  ## Run what was built, in read-only containers
	@PYTHONPATH=. $(PYTHON) -m images test $(ENGINE_OPTIONS) --flags='$(RUN_FLAGS)'

manifests: install  ## Build every overlay; schemas and policies; CRDS=DIR for the schemas of custom resources
	@PYTHONPATH=. $(BIN)/python -m manifests.check

cluster: install  ## kind with all that Ninefold stands on, and overlay kind; again for what is missing
	@PYTHON=$(BIN)/python manifests/cluster/up.sh

e2e: install  ## The whole loop on the cluster that KUBECONFIG names, with images made by `make images`
	@$(BIN)/python -m pytest -m e2e -s tests/e2e

clean:  ## Remove what was installed and what was written
	@rm -rf $(VENV) .venv-search .ninefold
