# Two commands to begin with: `make quickstart`, `make test`. Any Python from 3.11: make PYTHON=python3.13 ...
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# One stamp a Python version: another interpreter gets a fresh environment.
INSTALLED := $(VENV)/.installed-$(VERSION)
INSTALLED_TEST := $(VENV)/.installed-test-$(VERSION)
INSTALLED_TORCH := $(VENV)/.installed-torch-$(VERSION)
RUN ?= runs/digits
SEED ?= 0

.PHONY: quickstart install test test-slow test-torch lint format

quickstart: $(INSTALLED)  ## train a small GoogLeNet on handwritten digits, evaluate it, classify some
	$(BIN)/python -m inception_jax.prepare digits --data_dir data
	$(BIN)/python -m inception_jax.train --config configs/digits.py --config.seed=$(SEED) --workdir $(RUN)
	$(BIN)/python -m inception_jax.predict --workdir $(RUN) --images data/digits_samples > $(RUN)/predictions.jsonl
	$(BIN)/python -m inception_jax.evaluate --workdir $(RUN)

install: $(INSTALLED_TEST)  ## the virtual environment with all that testing needs

test: $(INSTALLED_TEST)  ## the fast tests, ten to twenty minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 -m "not slow and not torch"

test-slow: $(INSTALLED_TEST)  ## the tests that take minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 -m "slow and not torch"

test-torch: $(INSTALLED_TORCH)  ## the tests against torchvision, which this installs
	$(BIN)/python -m pytest -m torch

lint: $(INSTALLED_TEST)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
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

$(INSTALLED_TORCH): $(INSTALLED_TEST)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,torch]'
	touch $@
