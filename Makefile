# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
#
# The one place that says how anything is built, checked and shown. `make help` lists the targets.
# CORE=2.18 runs unit or sanity with that ansible-core instead of 2.19, CORE=newest unit with what this Python takes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CORE ?= 2.19
VENV := $(CURDIR)/.venv$(if $(filter-out 2.19,$(CORE)),-$(CORE))
VERSION := $(shell sed -n 's/^version: //p' galaxy.yml)
SOURCES := galaxy.yml README.md CHANGELOG.md COPYING LICENSES changelogs docs files meta playbooks plugins \
    requirements.txt roles tests/config.yml tests/sanity
TARBALL := build/rendezvous-wireguard-$(VERSION).tar.gz
COLLECTION := ansible_collections/rendezvous/wireguard
# The checkout as a collection, for development; the unpacked tarball, for whatever proves deployment.
DEVELOPED := build/collections
INSTALLED := build/collections-installed
# ansible-test wants a copy to itself and a home for its caches.
SANITY := build/sanity-$(CORE)
SANITY_HOME := $(CURDIR)/build/sanity-home

export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_HOME := $(CURDIR)/build/ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/$(DEVELOPED)

# Network namespaces and containers are root's.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env env PATH="$$PATH")

.PHONY: help setup program collections collection installed lint docs types sanity unit simulation lab bench \
    bench-ansible integration molecule kills demo demo-down demo-check test clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

setup: ## Debian packages (with sudo unless root) and .venv, .venv-2.18 (and .venv-newest, given Python 3.12) with the rest
	@.ci/setup

program: ## build/wg-rendezvous.pyz, the program that runs on the nodes
	@mkdir -p build
	@python3 plugins/plugin_utils/_program.py build/wg-rendezvous.pyz

collections: ## build/collections, where the checkout is found as the collection
	@mkdir -p $(DEVELOPED)/$(dir $(COLLECTION))
	@test -L $(DEVELOPED)/$(COLLECTION) || ln -s ../../../.. $(DEVELOPED)/$(COLLECTION)

collection: $(TARBALL) ## the collection's tarball in build/

$(TARBALL): $(shell find $(wildcard $(SOURCES)) -type f -not -name '*.pyc' -not -path '*/output/*')
	@mkdir -p build
	@ansible-galaxy collection build --force --output-path build >build/collection.log 2>&1 || { cat build/collection.log; false; }
	@echo $@

installed: $(INSTALLED)/$(COLLECTION)/MANIFEST.json ## build/collections-installed, the tarball installed into an empty path

# What `ansible-galaxy collection install` needs to know to leave the network and the user's collections alone
UNPACK = rm -rf $(1)/ansible_collections && ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(1) \
    ansible-galaxy collection install --offline --force -p $(1) $(TARBALL) >build/install.log 2>&1 || { cat build/install.log; false; }

$(INSTALLED)/$(COLLECTION)/MANIFEST.json: $(TARBALL)
	@$(call UNPACK,$(INSTALLED))
	@touch $@

lint: collections ## ruff, ansible-lint, yamllint, licences, changelog, docs, Python 3.9 on nodes, nothing private
	ruff check .
	ruff format --check .
	yamllint --strict .
	reuse --no-multiprocessing lint --quiet || reuse lint
	vermin --quiet --no-tips --violations --target=3.9- --backport argparse --eval-annotations files plugins
	antsibull-changelog lint
	antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs dependent \
	    --disallow-unknown-collection-refs .
	@$(MAKE) docs
	ansible-lint
	.ci/private

docs: collections ## build/docs, the reference of all plugins and roles as reStructuredText; fails on any warning
	@install -d -m 700 build/docs
	antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir build/docs rendezvous.wireguard

types: collections ## mypy --strict: the node program, the plugins, the tests
	MYPYPATH=files mypy -p wg_rendezvous
	MYPYPATH=$(DEVELOPED) mypy -p ansible_collections.rendezvous.wireguard.plugins
	MYPYPATH=files:$(DEVELOPED) mypy tests .ci noxfile.py

sanity: $(TARBALL) ## ansible-test sanity, in the installed tarball
	@$(call UNPACK,$(SANITY))
	@git init -q $(SANITY)/$(COLLECTION) # else ansible-test asks the checkout's git, which ignores build/
	@mkdir -p $(SANITY_HOME)/.ansible/test/cache
	@cp .ci/get_pip.py $(SANITY_HOME)/.ansible/test/cache/get_pip_24_2.py
	cd $(SANITY)/$(COLLECTION) && HOME=$(SANITY_HOME) ansible-test sanity --color no --requirements \
	    --python $$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])') $(TESTS)

unit: collections ## unit tests; with CORE=2.18 or CORE=newest those that ansible-core takes part in
	python -m pytest -n 2 $(if $(filter 2.19,$(CORE)),tests/unit,tests/unit/plugins) $(ARGS)

simulation: ## many agents, models of WireGuard and NATs, a simulated clock
	python -m pytest -n 2 --dist worksteal tests/simulation $(ARGS)

lab: program collections ## the built program under real WireGuard and NATs in network namespaces
	$(AS_ROOT) python -m pytest -n 4 --dist worksteal tests/lab $(ARGS)

bench: ## whole runs in the lab, measured: a table with goals; ARGS="--runs 5 --only join-drop-drop cut"
	$(AS_ROOT) python -m tests.bench $(ARGS)

bench-ansible: collections ## what site.yml costs on 5, 10, 20 and 40 containers, beside gathering facts; ARGS="--hosts 5"
	$(AS_ROOT) python -m tests.bench.deploy $(ARGS)

integration: collections ## the hub and the modules against real interfaces in network namespaces
	$(AS_ROOT) python -m pytest $(or $(TESTS),tests/integration) -n 2 --dist loadfile $(ARGS)

SCENARIOS ?= $(notdir $(patsubst %/molecule.yml,%,$(wildcard extensions/molecule/*/molecule.yml)))
molecule: export ANSIBLE_COLLECTIONS_PATH = $(CURDIR)/$(INSTALLED)
molecule: installed ## deployment in systemd containers; SCENARIOS=default for one of them
	for scenario in $(SCENARIOS); do $(AS_ROOT) tests/containers/scenario "$$scenario"; done

kills: export ANSIBLE_COLLECTIONS_PATH = $(CURDIR)/$(INSTALLED)
kills: export KILLS ?= 30
kills: installed ## 30 runs killed or cut off at random tasks, in the scenario `life`; KILLS=100 for more
	$(AS_ROOT) tests/containers/scenario life

demo demo-check: export ANSIBLE_COLLECTIONS_PATH = $(CURDIR)/$(INSTALLED)
demo: setup ## a network of containers, a hub and peers behind NATs in it, deployed and shown
	@$(MAKE) installed
	@$(AS_ROOT) demo/up

demo-down: ## removes what `make demo` made
	@$(AS_ROOT) demo/down

demo-check: installed ## the same, removed again when all pairs are direct; fails if they are not
	$(AS_ROOT) demo/up && $(AS_ROOT) demo/down

test: setup ## everything: lint, types, sanity, unit, simulation, lab, molecule, demo
	@$(AS_ROOT) $(VENV)/bin/python .ci/stages.py # all of it, so that Ctrl-C reaches every stage, and sudo asks once

clean: ## removes what was built; the environments stay
	rm -rf build .mypy_cache .ruff_cache .hypothesis .ansible tests/output
