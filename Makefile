# Every command a developer needs. `make up` and `make test` are all that a newcomer needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help up test molecule lab test-parity lint format bench docs check-model locks clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.runtime: requirements/runtime.lock requirements/vocabulary.lock pyproject.toml gpu_inference/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fleet Commander needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Try: make $(MAKECMDGOALS) PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements/vocabulary.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e ./gpu_inference -e .
	$(BIN)/python -m fleet_api.collection link
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements/test.lock
	$(BIN)/python -m pip install -q --require-hashes -r requirements/test.lock
	@touch $@

$(VENV)/.lint: $(VENV)/.test requirements/lint.lock
	$(BIN)/python -m pip install -q --require-hashes -r requirements/lint.lock
	@touch $@

$(VENV)/.parity: $(VENV)/.test requirements/parity.txt
	$(BIN)/python -m pip install -q -r requirements/parity.txt
	@touch $@

up: $(VENV)/.runtime ## Install what is missing and start the control plane with an agent on this machine
	@exec $(BIN)/fleet up

PROCESSES ?= $(shell nproc 2>/dev/null || echo 2)
# Several processes at once, each with whole files. The lab's nodes come last, by two: each lab is a few engines and their systemds.
test: $(VENV)/.test ## Run every test that this machine can run
	$(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 --dist loadfile --no-loadscope-reorder --ignore tests/lab
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/lab
	@echo "Left out: the comparison with torch and diffusers (several GB of packages). To run it: make test-parity"

test-parity: $(VENV)/.parity ## Compare samplers and pipeline with torch and diffusers
	FLEET_REQUIRE_PARITY=1 $(BIN)/python -m pytest -m parity tests/parity

lint: $(VENV)/.lint ## Check style, types, the collection, and that what runs on nodes is Python 3.8
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin -q -t=3.8- --no-tips --exclude-regex 'gpu_inference/builtin/training' gpu_inference plugins/modules plugins/module_utils
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline

format: $(VENV)/.lint ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

SCENARIOS ?= $(sort $(notdir $(patsubst %/molecule.yml,%,$(wildcard extensions/molecule/*/molecule.yml))))
molecule: $(VENV)/.test ## Prove the roles on fresh lab nodes, one scenario a role (SCENARIOS="site jetson" for some)
	@for scenario in $(SCENARIOS); do echo "== $$scenario"; \
	    PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s $$scenario || exit 1; done

lab: $(VENV)/.runtime ## Start three virtual nodes on this machine (wants a Docker Engine)
	$(BIN)/fleet lab up --nodes 3

bench: $(VENV)/.test ## Print the benchmark tables
	$(BIN)/python -m benchmarks.run

check-model: $(VENV)/.test ## Judge the built-in model with the independent checker (a few minutes)
	$(BIN)/python -m benchmarks.builtin_model.evaluate

docs: $(VENV)/.runtime ## Write docs/api.md from the API itself, and the roles' READMEs from their specifications
	$(BIN)/python -m fleet_api.apidocs > docs/api.md
	$(BIN)/python -m fleet_api.roledocs

locks: ## Resolve the locks again (needs uv)
	sh requirements/compile.sh

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
