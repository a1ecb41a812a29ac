# Every target works on a machine with Python 3.11, git and make. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DOCS   := $(VENV)/docs
JOBS   ?= 4# tests at a time: they wait for half of their time. Two have whole stacks, the others all else (tests/conftest.py)
PYTEST  = $(BIN)/pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder
UNIT   := tests/unit tests/test_architecture.py

# Else each worker and each service that a test starts compiles the tree anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo local repair-redis up down logs check test test-unit test-all soak lint fmt bench bench-proxy bench-deploy bench-idle bench-build bench-flags bench-scale bench-overload bench-canary bench-abort docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(VENV)/run ## the whole way of a push, told line by line; no Docker
	@$(BIN)/python -m stack.demo

local: $(VENV)/run ## the stack in the foreground: Redis, Envoy, five services, apps as processes
	@exec $(BIN)/python -m stack.local

repair-redis: $(VENV)/run ## if Redis cannot read its append-only file: cut off what is damaged, after a copy
	@$(BIN)/python -m stack.local.aof_repair

up: ## the stack in containers: docker compose, five services, Envoy, Redis, apps as containers
	@$(PYTHON) -m stack.compose up

down: ## end the stack in containers, and its apps; their data stays
	@$(PYTHON) -m stack.compose down

logs: ## follow the logs of the stack in containers
	@docker compose logs --follow --tail 100

check test-unit: JOBS := 3# they wait for little, and each worker imports all anew, in 10 s

check: lint ## before a commit, in half a minute: ruff, mypy, the layout, the quick unit tests
	$(PYTEST) -q -m "not slow" $(UNIT)

test-unit: $(VENV)/dev ## every unit test and the layout, in about a minute: no engine, no Envoy, no network, no root
	$(PYTEST) $(UNIT)

test: $(VENV)/dev ## before a push, in five minutes: unit, integration, a smoke test of each promise; no Docker, no root
	$(PYTEST) -m "not docker and (unit or smoke or not slow)"

test-all: $(VENV)/dev ## every test, in 20 to 30 minutes; with Docker, Chromium, Node and root only those of `make soak` are skipped
	$(PYTEST) --durations=30

soak: $(VENV)/dev ## the long forms, in an hour and a half: longer outages, more kills, pushes and releases, a slower leak, also in containers
	E2E_RATE=200 E2E_DOWN_S=20 E2E_RELEASES=20 E2E_ROLLBACKS=3 E2E_LEAK_MB_S=2 E2E_KILLS=10 E2E_PUSHES=10 $(BIN)/pytest --timeout 1800 \
	  tests/e2e/test_faults.py tests/e2e/test_memory.py tests/integration/test_build_burst.py \
	  tests/integration/test_build_kills_in_containers.py tests/e2e/test_promotion.py tests/e2e/test_volumes.py tests/compose/test_death.py tests/compose/test_releases.py
	E2E_RATE=500 E2E_ROLLOUTS=50 E2E_STEPS=1 $(BIN)/pytest --timeout 3600 tests/e2e/test_killed_instances.py tests/e2e/test_steps.py
	E2E_GALLERY=all $(BIN)/pytest tests/e2e/test_gallery.py tests/compose/test_gallery.py
	E2E_EXAMPLES=600 E2E_SEEDS=200 $(BIN)/pytest tests/unit/build/reports/test_report_properties.py tests/unit/deployer/plan/test_stop_first.py
	E2E_DOWN_S=60 E2E_SILENT_S=60 E2E_OUTAGES=1 $(BIN)/pytest --timeout 1800 tests/e2e/test_told.py tests/e2e/test_outages.py
	E2E_CASES=20000 E2E_SEED=$$(date +%s) $(BIN)/pytest --timeout 3600 tests/integration/test_api_documents.py
	E2E_RATE=200 E2E_KILLS=200 E2E_VICTIMS="build deployer proxy build keeper flags redis" $(BIN)/pytest tests/e2e/test_kills.py

lint: $(VENV)/dev ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-proxy bench-deploy bench-idle bench-build bench-flags ## every benchmark

bench-proxy: $(VENV)/dev ## throughput through port 3456 beside bare Envoy and the app itself
	$(BIN)/python -m bench.proxy

bench-deploy: $(VENV)/dev ## releases under load: time to live, requests lost; containers beside Swarm and compose
	$(BIN)/python -m bench.deploy

bench-idle: $(VENV)/dev ## start to ready, and what the idle stack holds
	$(BIN)/python -m bench.idle

bench-build: $(VENV)/dev ## what the platform adds to a build, on processes and in containers; a long log
	$(BIN)/python -m bench.build

bench-overload: $(VENV)/dev ## 60 idle apps beside 40 programs that compute: nothing is replaced, no release fails (20 min)
	$(BIN)/python -m bench.overload

bench-flags: $(VENV)/dev ## a switched flag: until Redis and a stream have it, and its cost among 10 to 10 000 flags
	$(BIN)/python -m bench.flags

bench-scale: $(VENV)/dev ## what 1, 10, 100 and 400 live apps cost, and whether a bad canary is stopped as soon; half an hour
	$(BIN)/python -m bench.scale

bench-canary: $(VENV)/dev ## the canary's judge on simulated traffic next to Flagger's rule: false aborts, missed harm, time (20 min)
	$(BIN)/python -m bench.canary

bench-abort: $(VENV)/dev ## bad canaries on a real stack: until they have no visitors; how long an abort takes (15 min)
	$(BIN)/python -m bench.abort

docs: $(VENV)/dev $(DOCS)/installed ## the reference pages from the code, and the site in site/
	@$(BIN)/python -m docs.generate
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

lock: ## write requirements*.lock anew from requirements*.in (needs uv)
	for each in requirements requirements-local requirements-dev requirements-docs; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $$each.in -o $$each.lock || exit; \
	done

clean: ## remove the virtual environment and the tools' caches; the platform's data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Slipway needs Python 3.11 or newer; say which: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements-local.lock | $(VENV)/bin/python
	@echo "installing what Slipway runs with …"
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-local.lock
	@touch $@

$(VENV)/dev: requirements-dev.lock | $(VENV)/bin/python
	@echo "installing what the tests need …"
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# The site's packages have a virtual environment of their own: they constrain nothing that Slipway runs or is tested with.
$(DOCS)/installed: requirements-docs.lock | $(VENV)/bin/python
	@echo "installing what the docs are built with …"
	@$(BIN)/python -m venv $(DOCS)
	@$(DOCS)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@
