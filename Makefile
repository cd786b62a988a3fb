# Two commands do all the set-up on a machine with Python 3.11 or later and make:
#   make boot   build the kernel for a Raspberry Pi 3 and boot it on an emulated CPU
#   make test   every check that a change must pass
#   make bench  the heaps and every malloc that is installed, side by side

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto

.PHONY: boot test lint types bench clean

boot: .venv/installed
	@$(BIN)/kernmem boot

test: lint types
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

bench: .venv/installed
	@$(BIN)/kernmem compare tests/data/traces/*.npz zephyr robson

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	    f"kernmem needs Python 3.11 or later, and $(PYTHON) is {sys.version.split()[0]}: " \
	    "try  make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	@echo "installing kernmem into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing what the tests need into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[dev]'
	@touch $@
