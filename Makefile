# What one can do here: `make help`.
# `make demo` and `make test` do everything on a fresh machine: they install what they need, and say so.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER_TOOL := hack/cluster
# One for each process of tests that kill their API server, or take kinds from it.
export MODELMILL_API_CLUSTERS := modelmill-api modelmill-api-2
# Neighbours share fixtures, so each process gets a run of tests, and takes from the other's end when it is through.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
# The tests of a file share what they begin with; long files are first.
export BY_FILE := -n 2 --dist loadfile --no-loadscope-reorder
export PATH := $(abspath $(BIN)):$(PATH)
# Hundreds of programs are started: each would compile what it imports where this is set.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test unit modelcheck mutants apiserver chaos e2e check fuzz bench cluster images down crds lock format clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/installed: requirements/dev.txt pyproject.toml
	@echo "==> Installing the development environment into $(VENV) (about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

demo: ## from kubectl apply to a prediction and a second version, on a local cluster
	@$(PYTHON) hack/demo

test: ## checks, unit, model check, a real API server, end to end on a real cluster; not in it: mutants, chaos, fuzz
	@hack/test

unit: $(VENV)/installed ## unit tests
	$(BIN)/pytest tests/unit $(PARALLEL)

modelcheck: $(VENV)/installed ## explore everything that can happen to the core: a million states for each kind (make test: a part)
	$(BIN)/pytest tests/modelcheck -q -s -m slow -k "not part_of_the_states"

apiserver: $(VENV)/installed ## tests against a real API server without nodes
	for name in $(MODELMILL_API_CLUSTERS); do $(CLUSTER_TOOL) up --name $$name --without-nodes || exit 1; done
	$(CLUSTER_TOOL) build status-readers
	$(BIN)/pytest tests/apiserver $(BY_FILE)

chaos: modelcheck ## what takes minutes: a million states for each kind; the control plane is away for longer than a lease lives; Kueue
	$(CLUSTER_TOOL) up --name modelmill-api --without-nodes
	PYTHONPATH=tests/apiserver $(BIN)/pytest -p conftest tests/chaos
	$(CLUSTER_TOOL) up
	$(CLUSTER_TOOL) images
	$(BIN)/pytest tests/e2e tests/unit/trainer/test_mirroring.py -m long

e2e: $(VENV)/installed ## tests on a real cluster with nodes, images and a store
	$(CLUSTER_TOOL) up
	$(CLUSTER_TOOL) images
	$(BIN)/pytest tests/e2e $(BY_FILE) -m "not alone and not long"
	$(BIN)/pytest tests/e2e -m "alone and not long"

check: $(VENV)/installed ## the quick loop: format, lint, types, layers, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=tests/apiserver $(BIN)/mypy --config-file tests/mypy.ini tests/apiserver tests/chaos
	MYPYPATH=tests/e2e $(BIN)/mypy --config-file tests/mypy.ini tests/e2e
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/modelcheck -q -m "not slow" $(PARALLEL)

mutants: $(VENV)/installed ## seeded bugs in the core, which its unit tests have to notice: half an hour of a core; can be stopped and goes on
	nice -n 19 $(BIN)/python -m tests.mutation

fuzz: $(VENV)/installed ## a million requests, messages and connections to the model server's parsers, and which of their branches these reach
	$(BIN)/python -m tests.fuzz --inputs 1000000

bench: $(VENV)/installed ## measure against peers in the same run, and write docs/BENCHMARKS.md
	$(BIN)/python -m tests.bench

cluster: ## start the local cluster (down: make down)
	$(CLUSTER_TOOL) up

images: ## build the images and load them into the local cluster
	$(CLUSTER_TOOL) images

down: ## stop the local clusters and leave nothing behind
	$(CLUSTER_TOOL) down
	for name in $(MODELMILL_API_CLUSTERS); do $(CLUSTER_TOOL) down --name $$name || exit 1; done

crds: $(VENV)/installed ## write crds/ from operator/modelmill/api
	$(BIN)/python -m modelmill.api.crd crds

lock: ## resolve dependencies anew (needs uv)
	hack/lock --upgrade

format: $(VENV)/installed ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the development environment
	rm -rf $(VENV)
