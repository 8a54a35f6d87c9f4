# All of these do their own set-up on a fresh Debian 12 machine, and can be run again at any time.
# What runs on the site in a box needs root.
PYTHON := .venv/bin/python
ON_SITE := contrib/site/with

.PHONY: help
help: ## Say what there is to make (this)
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

.PHONY: setup
setup: ## Packages from the distribution, and the virtual environment in .venv
	@contrib/setup

.PHONY: demo
demo: setup ## Bring up a whole site, a job and a cloud user in machines of their own, take it down
	@$(ON_SITE) contrib/site/demo

.PHONY: test
test: setup lint unit fuzz e2e e2e-ce ## Lint, unit tests, a minute of fuzzing, end-to-end tests on the site in a box

.PHONY: lint
lint: setup ## ruff, mypy --strict, shellcheck
	@echo "lint: ruff, mypy, shellcheck"
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy
	@grep -rlE --exclude-dir='.?*' --exclude-dir=build --exclude='*.j2' '^#!/bin/(ba)?sh' . .ci/run | xargs shellcheck

.PHONY: unit
unit: setup ## Tests that need no site
	@$(PYTHON) -m pytest tests/unit --numprocesses=4 --dist=loadfile

.PHONY: fuzz
fuzz: setup ## Requests of all kinds, over HTTP, for a minute
	@$(PYTHON) -m pytest tests/unit/occi_bridge/test_fuzz.py --hypothesis-profile=minute

.PHONY: e2e
e2e: setup ## Tests as an ordinary user, on the site in a box
	@$(ON_SITE) $(PYTHON) -m pytest tests/e2e --ignore=tests/e2e/test_ce.py

.PHONY: e2e-ce
e2e-ce: setup ## Jobs that come in by a computing element, on the site with one
	@$(ON_SITE) --ce arc -- $(PYTHON) -m pytest tests/e2e/test_ce.py

.PHONY: bench
bench: setup ## Measure on the site in a box; a table here, the numbers in build/bench.json
	@$(ON_SITE) $(PYTHON) -m contrib.bench.bench

# The figures come last, after the site has gone.
define prove
@mkdir -p build && rm -f build/$(1).json
@$(ON_SITE) $(PYTHON) -m $(2); code=$$?; cat build/$(1).json; exit $$code
endef

.PHONY: chaos
chaos: setup ## Kill each process at each step of a machine's life; figures in build/chaos.json
	$(call prove,chaos,tests.chaos)

.PHONY: soak
soak: setup ## Short jobs and cloud machines for SOAK_MINUTES (30): does anything grow?
	$(call prove,soak,tests.chaos.soak)

.PHONY: clean
clean: ## Remove what was made in this folder; for the site: contrib/site/site down --purge
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
