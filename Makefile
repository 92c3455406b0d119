# Two commands to begin with: `make quickstart`, `make test`. Any Python from 3.11: make PYTHON=python3.13 ...
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# One stamp a Python version: another interpreter gets a fresh environment.
INSTALLED := $(VENV)/.installed-$(VERSION)
INSTALLED_TEST := $(VENV)/.installed-test-$(VERSION)
INSTALLED_SOAK := $(VENV)/.installed-soak-$(VERSION)
RUN ?= runs/digits
SEED ?= 0
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal --durations=10
DEFAULT_TESTS := not breadth and not slow and not soak and not torch

.PHONY: quickstart install test test-breadth test-all other-edge soak lint format

quickstart: $(INSTALLED)  ## train a small GoogLeNet on handwritten digits, evaluate it, classify some
	$(BIN)/python -m inception_jax.prepare digits --data_dir data
	$(BIN)/python -m inception_jax.train --config configs/digits.py --config.seed=$(SEED) --workdir $(RUN)
	$(BIN)/python -m inception_jax.predict --workdir $(RUN) --images data/digits_samples > $(RUN)/predictions.jsonl
	$(BIN)/python -m inception_jax.evaluate --workdir $(RUN)

install: $(INSTALLED_TEST)  ## the virtual environment with all that testing needs

test: $(INSTALLED_TEST)  ## all code, and one example of each fault: at most seven minutes on two cores
	$(PYTEST) -p no:randomly -m "$(DEFAULT_TESTS)"

test-breadth: $(INSTALLED_TEST)  ## more cases of what `test` has one of, which CI runs, too
	$(PYTEST) -p no:randomly -m "breadth and not torch"

test-all: $(INSTALLED_TEST)  ## all but `soak`, in random order, and `test` on the other edge of JAX
	$(PYTEST) -m "not soak and not torch"
	VENV=$(VENV) tests/other_edge.sh test

other-edge: $(INSTALLED_TEST)  ## the smoke run on the other edge of the supported versions of JAX
	VENV=$(VENV) tests/other_edge.sh smoke

soak: $(INSTALLED_SOAK)  ## on demand: kills again and again, Slurm, libtpu, PyTorch, browsers
	$(PYTEST) -p no:randomly -m "soak and not torch"
	$(BIN)/python -m pytest -m torch  # by itself: PyTorch and TensorFlow do not always load into one process

lint: $(INSTALLED_TEST)  ## style, format, imports between rooms, and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(INSTALLED_TEST)  ## rewrite to the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(INSTALLED_TEST): $(INSTALLED) pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(INSTALLED_SOAK): $(INSTALLED_TEST)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,soak]'
	touch $@
