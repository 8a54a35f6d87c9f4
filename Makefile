# All of these do their own set-up on a fresh Debian 12 machine, and can be run again at any time.
# What runs on the site in a box needs root.
SHELL := /bin/bash
PYTHON := .venv/bin/python
ON_SITE := contrib/site/with
# Compiled modules are kept, whatever the shell says: each of hundreds of processes would else
# compile them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## List what there is to make (this)
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: setup
setup: ## Packages from the distribution, and the virtual environment in .venv
	@contrib/setup

.PHONY: setup-demo
setup-demo:
	@contrib/setup demo

.PHONY: demo
demo: setup-demo ## Bring up a whole site, run a job and a cloud user's VM on it, take it down
	@$(ON_SITE) contrib/site/demo

.PHONY: test
test: setup lint unit integration fuzz e2e scale-small ## Lint, and all tests that must pass: 40 minutes

.PHONY: lint
lint: setup ## ruff, mypy --strict, shellcheck
	@echo "lint: ruff, mypy, shellcheck"
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy
	@grep -rlE --exclude-dir='.?*' --exclude-dir=build --exclude-dir=__pycache__ --exclude='*.j2' '^#!/bin/(ba)?sh' . .ci/run | xargs shellcheck

.PHONY: unit
unit: setup ## Tests within one process, about a minute
	@$(PYTHON) -m pytest tests/unit -m 'not integration' --numprocesses=3 --dist=loadfile

.PHONY: integration
integration: setup ## Tests with other programs and processes, but without a site
	@$(PYTHON) -m pytest tests/unit -m integration --numprocesses=3 --dist=loadfile

.PHONY: fuzz
fuzz: setup ## OCCI requests of all kinds, for a minute
	@$(PYTHON) -m pytest tests/unit/occi_bridge/web/test_fuzz.py --hypothesis-profile=minute

# The end-to-end tests in groups, each with a site of its own, two at a time, the longest first. Each
# group's output comes when it has ended; while it runs it is in build/e2e-GROUP.log. Those in batch/
# run on each batch system.
E2E_FOLDER := $(or $(WNODES_SITE),/var/lib/wnodes-site)
E2E_FAULTS := $(patsubst %,tests/e2e/%.py,test_chaos test_drain test_failures batch/test_failures)
E2E_CLOUD := $(wildcard tests/e2e/test_cloud*.py) tests/e2e/test_conformance.py
E2E_CE := tests/e2e/test_ce.py
E2E_BATCH := $(filter-out $(E2E_FAULTS) $(E2E_CLOUD) $(E2E_CE),\
    $(wildcard $(addsuffix test_*.py,tests/e2e/ tests/e2e/batch/ tests/e2e/slurm/)))

.PHONY: e2e
e2e: setup ## End-to-end tests on sites in a box, as ordinary users, two groups at once
	@echo "e2e: two groups at once, see build/e2e-*.log"
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target \
	    e2e-faults e2e-cloud e2e-batch e2e-gridengine e2e-attacks e2e-ce

.PHONY: e2e-faults
e2e-faults: setup ## The end-to-end tests of what breaks, and of drained nodes
	$(call on_site,faults,,$(E2E_FAULTS))

.PHONY: e2e-cloud
e2e-cloud: setup ## The end-to-end tests of cloud VMs
	@tests/e2e/install-pocci
	$(call on_site,cloud,,$(E2E_CLOUD))

.PHONY: e2e-batch
e2e-batch: setup ## The end-to-end tests of batch jobs, and what no other group has
	$(call on_site,batch,,$(E2E_BATCH))

.PHONY: e2e-attacks
e2e-attacks: setup ## The end-to-end tests of users, guests, nodes and a bridge that mean harm
	$(call on_site,attacks,,tests/e2e/attacks)

.PHONY: e2e-ce
e2e-ce: setup ## The end-to-end tests of jobs that come in through a computing element
	$(call on_site,ce,--ce arc --,$(E2E_CE))

.PHONY: e2e-gridengine
e2e-gridengine: setup ## The end-to-end tests of jobs and VMs on a site with Grid Engine
	$(call on_site,ge,--lrms gridengine --,tests/e2e/batch tests/e2e/gridengine)

# It needs more of the machine than the sites in a box do: where that is not there, it says so.
.PHONY: e2e-install
e2e-install: setup ## The installation pages on Debian 12 (install-test), where a container can be booted
	@mkdir -p build
	@set -o pipefail; $(PYTHON) -u -m tests.install bookworm --if-possible 2>&1 | tee build/e2e-install.log

# The same job on a node and in a VM of any image. IMAGE is a file of a catalogue, or a tag that the
# site in a box has.
LRMS := slurm

.PHONY: twin
twin: setup ## Can a job tell a VM of IMAGE (FOLDER/TAG.toml) from the node? With LRMS slurm, gridengine
	@test -n "$(IMAGE)" || { echo 'usage: make twin IMAGE=FOLDER/TAG.toml [LRMS=gridengine]'; exit 2; }
	$(call on_site,twin,--lrms $(LRMS) --ready-timeout 600 --,tests/e2e/batch/test_twin.py --twin-image=$(IMAGE))

# pytest on the site of a group, which is brought up with these options, with these files.
define on_site
@mkdir -p build
@set -o pipefail; WNODES_SITE=$(E2E_FOLDER)-$(1) $(ON_SITE) $(2) $(PYTHON) -m pytest $(3) 2>&1 | \
    tee build/e2e-$(1).log
endef

# The Debian that it is done on: bookworm (12) or trixie (13).
SUITE := bookworm

.PHONY: install-test
install-test: setup ## What docs/install*.md says, typed on a Debian SUITE under systemd
	@$(PYTHON) -m tests.install $(SUITE)

.PHONY: screenshots
screenshots: setup ## Pictures of the page for docs/screenshots, by Chromium on the site in a box
	@$(ON_SITE) $(PYTHON) -m contrib.docs.screenshots

.PHONY: bench-installed
bench-installed: setup ## Start and end of VMs under systemd, on a Debian SUITE in a container, beside the bare tools
	@$(PYTHON) -m tests.install $(SUITE) --measure

.PHONY: vm-test
vm-test: setup ## What only a kernel of one's own shows: a site in an emulated VM with Debian SUITE
	@$(PYTHON) -m tests.vm $(SUITE) $(if $(AGAIN),--again)

.PHONY: packages
packages: setup ## debs for Debian 12 and 13 and an rpm for EL 10, in build/packages; TARGETS="debian12 el9"
	@$(PYTHON) contrib/packages/build.py $(TARGETS)

.PHONY: bench
bench: setup ## Measure on the site in a box; the figures come as they are measured, and are in build/bench.json
	@contrib/bench/install-peers
	@$(ON_SITE) $(PYTHON) -m contrib.bench.bench

# Run as on a machine of its own; bash is there as its process 1, and buries what its daemons leave.
define scale
@WNODES_SCALE_APART=yes contrib/site/apart bash -c '"$$@"; exit $$?' scale $(PYTHON) -m contrib.scale $(1)
endef

.PHONY: scale
scale: setup ## 100 nodes and 2,000 VMs on this machine: what costs how much; figures in build/scale.json
	$(call scale,)

.PHONY: scale-small
scale-small: setup ## The same with 10 nodes and 100 VMs
	$(call scale,--small)

# The figures come last, after the site has gone.
define prove
@mkdir -p build && rm -f build/$(1).json
@$(ON_SITE) $(3) $(PYTHON) -m $(2); code=$$?; cat build/$(1).json; exit $$code
endef

.PHONY: chaos
chaos: setup ## Kill each process at each step of a VM's life; figures in build/chaos*.json
	@code=0; $(MAKE) --no-print-directory chaos-gridengine || code=$$?; \
	    $(MAKE) --no-print-directory chaos-slurm || code=$$?; exit $$code

.PHONY: chaos-slurm
chaos-slurm: setup ## The part of it on Slurm: everything but leases through DRMAA
	$(call prove,chaos,tests.chaos)

.PHONY: chaos-gridengine
chaos-gridengine: setup ## The part of it on Grid Engine: leases through DRMAA
	$(call prove,chaos-gridengine,tests.chaos,--lrms gridengine --)

.PHONY: soak
soak: setup ## Short jobs and cloud VMs for SOAK_MINUTES (30): does anything grow?
	$(call prove,soak,tests.chaos.soak)

.PHONY: clean
clean: ## Remove what was made in this folder; for the site: contrib/site/site down --purge
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
