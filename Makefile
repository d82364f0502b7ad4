# All commands run from .venv, which `make install` creates with the versions in constraints.txt.
PYTHON ?= python3
PORT ?= 3000
BIN := .venv/bin
# The history of this project is in .dagster_home. An exported DAGSTER_HOME is of another project.
unexport DAGSTER_HOME
# It may be set outside. Then every process that starts compiles the project again.
unexport PYTHONDONTWRITEBYTECODE
ANOTHER_HOME = $(filter-out $(CURDIR)/.dagster_home,$(DAGSTER_HOME))
HOME_NOTICE = $(if $(ANOTHER_HOME),@echo "! DAGSTER_HOME is $(ANOTHER_HOME); make uses it only if .env sets it")
LOAD_EXAMPLE := make load ASSETS=dixa_metrics/csat DAYS=2026-11-01...2026-11-07
FIRST_TO_LAST = $(DAYS)$(if $(findstring ...,$(DAYS)),,...$(DAYS))
# Test modules run in parallel, in the order of conftest.py.
PYTEST := -m pytest -n auto --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install audit demo dev load doctor probe test test-slow test-services check report crash-test fuzz soak bench bench-quick bench-services

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/installed ## Create .venv with the pinned versions

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: .venv/installed ## Start the Dagster UI with a simulated Dixa, no account needed (PORT=3000)
	@exec $(BIN)/python -m dixa_assets.launch demo --port $(PORT)

dev: doctor ## Start the Dagster UI with your own Dixa account, configured in .env (PORT=3000)
	@exec $(BIN)/python -m dixa_assets.launch dev --port $(PORT)

doctor: .venv/installed ## Check the settings in .env
	$(HOME_NOTICE)
	@$(BIN)/python -m dixa_assets doctor

# A new home gets its settings and the catalogue first, as in `make dev`.
load: .venv/installed ## Load days at once, without the UI (ASSETS=… DAYS=…)
	$(if $(and $(ASSETS),$(DAYS)),,$(error make load needs both, for instance: $(LOAD_EXAMPLE)))
	$(HOME_NOTICE)
	@set -e; umask 077; \
	export VIRTUAL_ENV='$(CURDIR)/.venv' DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS=1; \
	export DAGSTER_HOME="$$($(BIN)/dotenv get DAGSTER_HOME 2>/dev/null)"; \
	: "$${DAGSTER_HOME:=$(CURDIR)/.dagster_home}"; mkdir -p "$$DAGSTER_HOME"; \
	[ -e "$$DAGSTER_HOME/dagster.yaml" ] || ln -sf '$(CURDIR)/dagster.yaml' "$$DAGSTER_HOME"; \
	[ -e "$$DAGSTER_HOME/defs_state" ] || $(BIN)/dg utils refresh-defs-state; \
	exec $(BIN)/dg launch --assets '$(ASSETS)' --partition-range '$(FIRST_TO_LAST)'

probe: .venv/installed ## Test what Dixa does not document, with at most 80 requests; write probe.md
	$(HOME_NOTICE)
	@$(BIN)/python -m dixa_assets probe

audit: ## List known vulnerabilities of the pinned versions; needs the network
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv-audit/bin/pip-audit -r constraints.txt

report: .venv/installed ## Write the HTML report next to the database (OUTPUT=path)
	$(HOME_NOTICE)
	@$(BIN)/python -m dixa_assets report $(if $(OUTPUT),--output "$(OUTPUT)")

test: .venv/installed ## Run the quick tests
	@$(BIN)/python $(PYTEST) -m "not slow"

test-slow: .venv/installed ## Run the slow tests: Dagster processes, faults, fuzzing, kills
	@$(BIN)/python $(PYTEST) -m slow

.venv-services/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-services
	grep -v '^duckdb==' constraints.txt > .venv-services/pins.txt
	.venv-services/bin/python -m pip install --quiet --disable-pip-version-check \
		-c .venv-services/pins.txt -e ".[services]"
	@touch $@

test-services: .venv-services/installed ## Run the tests that need Postgres and Redis, and the database tests on a lake
	@.venv-services/bin/python $(PYTEST) --lake -m "services or not slow" dixa_assets_tests/warehouse \
		dixa_assets_tests/load/test_periods.py dixa_assets_tests/load/test_personal_data.py \
		dixa_assets_tests/checks/test_periods.py \
		dixa_assets_tests/api/test_pace_postgres.py dixa_assets_tests/test_many_machines.py \
		dixa_assets_tests/test_deploy.py

check: .venv/installed ## Check lint, formatting, types and definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/dg check defs
	$(BIN)/dagster definitions validate -w workspace.yaml

crash-test: .venv/installed ## Kill a backfill at 50 random moments, resume it, compare every row
	@$(BIN)/python -m dixa_assets_tests.stress crash --kills 50

fuzz: .venv/installed ## Search for faults: 10,000 mutated answers, 300 lives of a database, 300 environments
	@$(BIN)/python -m dixa_assets_tests.stress fuzz --cases 10000
	@$(BIN)/python -m dixa_assets_tests.stress lives --lives 300
	@$(BIN)/python -m dixa_assets_tests.stress environments --cases 300

soak: .venv/installed ## Load under mixed faults and kills for ten minutes, then compare every row
	@$(BIN)/python -m dixa_assets_tests.stress soak --minutes 10

# In its own environment, which also has dlt, to compare with.
.venv-bench/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[dev,bench]"
	@touch $@

bench: .venv-bench/installed ## Measure speed, memory and growth; write docs/benchmarks.md
	@.venv-bench/bin/python -m dixa_assets_tests.bench

bench-services: .venv-services/installed ## Measure a lake, Postgres, pace and workers; write docs/many-machines.md
	@.venv-services/bin/python -m dixa_assets_tests.bench --page many-machines

bench-quick: .venv-bench/installed ## Run the quick benchmarks with smaller sizes; print only
	@.venv-bench/bin/python -m dixa_assets_tests.bench --quick
