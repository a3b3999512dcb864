# Slipway. `make help` lists the commands.
#
# STACK names a stack file in stacks/. "sandbox" is the small cloud on this machine; any other stack uses your own
# environment: DIGITALOCEAN_TOKEN, Pulumi backend, passphrase. No command for these touches tests/.
# PLUGINS=official runs the sandbox with Pulumi's own provider plugins. Other stacks use no others.
#
# Works with GNU make 3.81 and bash 3.2, which macOS has: no .ONESHELL, and .SHELLFLAGS has no effect there.
STACK ?= $(or $(if $(filter rollback,$(MAKECMDGOALS)),,$(TO)),sandbox)
PLUGINS ?= own
ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help new up preview refresh verify status open logs demo backup backups restore bench screenshots down recreate drift strays test nightly faults test-scale
.PHONY: docs lock shell pulumi ready prepared env diff promote revert image pipeline recover repair rollback

PYTHON := .cache/venv/bin/python
POLICIES := --policy-pack policies
SANDBOX := $(PYTHON) -m tests.sandbox
ifeq ($(STACK),sandbox)
RUN := $(SANDBOX) exec --
YES := --yes
UPDATE := pulumi up --stack $(STACK) --yes --skip-preview $(POLICIES)
PACKAGES := sandbox
# The workstation has the rights, and the network is near.
ALL_PORTS ?= 1
export SLIPWAY_PLUGINS := $(PLUGINS)
else
RUN := $(PYTHON) -m tools exec --
YES :=
# By a plan that is shown.
UPDATE := python -m tools up --stack $(STACK)
PACKAGES := tools
endif
# For developers, whatever the stack.
test nightly faults test-scale docs: PACKAGES := sandbox
SUMMARY = $(RUN) python -m tools summary --stack $(STACK) $(if $(filter-out sandbox,$(STACK)),--arguments STACK=$(STACK))
SAY := @printf '\n==> %s\n'

help: ## this list
	@echo 'make TARGET [STACK=sandbox|dev|staging|production] [PLUGINS=own|official] [ARGS="…"]'
	@awk -F ':.*## ' '/^[a-z-]*:.*## /{printf "  %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

new: env ## write the stack file of a new environment: make new STACK=dev ARGS="--set domain=dev.example.com"
ifeq ($(STACK),sandbox)
	@echo 'error: name the new stack: make new STACK=dev' >&2; exit 2
else
	@$(PYTHON) -m tools new --stack $(STACK) $(ARGS)
endif

# What an interrupted update has left is settled first, and what drift finds is recorded, because an update alone does not
# look. Neither must keep an update from running.
up: ready ## tools, sandbox, `pulumi up` (which also puts drift right), then verify
	$(SAY) 'repair: stack $(STACK)'
	-@$(RUN) python -m tools repair --stack $(STACK) $(or $(YES),$(if $(filter --yes -y,$(ARGS)),--yes))
	$(SAY) 'drift: stack $(STACK)'
	-@$(RUN) python -m tools drift --stack $(STACK) --mark
	$(SAY) 'pulumi up: stack $(STACK)'
	@$(RUN) $(UPDATE) $(ARGS)
	@$(MAKE) verify
	@$(SUMMARY)

diff: prepared ## what would be promoted: make diff FROM=staging TO=production
	@$(RUN) python -m tools diff $(if $(KEEP_SECRETS),--keep-secrets) $(FROM) $(TO)

promote: ready ## apply to TO what FROM runs, by a plan that is shown: make promote FROM=staging TO=production
	@$(RUN) python -m tools promote $(if $(KEEP_SECRETS),--keep-secrets) $(ARGS) $(FROM) $(TO)

image: ready ## a snapshot with packages installed, for new machines: make image STACK=dev FOR=server or a runner's name
ifdef IMAGE
	@$(RUN) python -m tools image $(FROM) $(TO) $(IMAGE)
else
	@$(RUN) python -m tools golden-image --stack $(STACK) --for '$(or $(FOR),server)'
endif

revert: ready ## apply the settings from before the last promotion to STACK, by a plan that is shown
	@$(RUN) python -m tools revert $(ARGS) $(STACK)

preview: ready ## what `make up` would change
	$(SAY) 'pulumi preview: stack $(STACK)'
	@$(RUN) pulumi preview --stack $(STACK) $(POLICIES) $(ARGS)

refresh: ready ## compare the state with what exists, and record the differences
	$(SAY) 'API token: stack $(STACK)'
	@$(RUN) python -m tools renew-token --stack $(STACK)
	$(SAY) 'pulumi refresh: stack $(STACK)'
	@$(RUN) pulumi refresh --stack $(STACK) $(YES) $(ARGS)

verify: prepared ## measure what runs, from outside: DNS, ports, TLS, GitLab, registry; ALL_PORTS=1 scans all, as root
	$(SAY) 'verify: stack $(STACK)'
	@$(RUN) python -m tools verify --stack $(STACK) $(if $(ALL_PORTS),--all-ports)

status: prepared ## how it is, in seconds; fails if anything is failing: make status ARGS=--json
	@$(RUN) python -m tools status --stack $(STACK) $(ARGS)

open: prepared ## GitLab in your browser, the sandbox's on a port of 127.0.0.1 (PORT=8929); PASSWORD=1 prints it
ifeq ($(STACK),sandbox)
	@$(SANDBOX) open --stack $(STACK) $(if $(PORT),--port $(PORT)) $(if $(PASSWORD),--password)
else
	@$(RUN) python -m tools open --stack $(STACK) $(if $(PASSWORD),--password)
endif

logs: prepared ## of gitlab, registry, runner, target, job or backup: make logs WHAT=runner FOLLOW=1 LINES=50 JOB=12
	@$(RUN) python -m tools logs $(or $(WHAT),gitlab) --stack $(STACK) $(if $(filter-out 0,$(FOLLOW)),--follow) \
	    $(if $(LINES),--lines $(LINES)) $(if $(JOB),--job $(JOB)) $(ARGS)

demo: ready ## commit a change, watch its pipeline, run the released image
ifeq ($(STACK),sandbox)
	$(SAY) 'pulumi up: stack $(STACK)'
	@$(RUN) $(UPDATE)
endif
	$(SAY) 'demo: stack $(STACK)'
	@$(RUN) python -m tools demo --stack $(STACK) $(YES) $(ARGS)

rollback: prepared ## deploy again what ran before: make rollback PROJECT=hello ENVIRONMENT=production [TO=pipeline or digest]
	@$(RUN) python -m tools rollback --stack $(STACK) --project '$(PROJECT)' --environment '$(ENVIRONMENT)' $(if $(TO),--to '$(TO)')

backup: prepared ## back up GitLab, its registry and its configuration now
	$(SAY) 'backup: stack $(STACK)'
	@$(RUN) python -m tools backup --stack $(STACK)

backups: prepared ## list the backups of a stack
	@$(RUN) python -m tools backups --stack $(STACK)

restore: ready ## restore a backup: make restore STACK=… FROM=latest|ID|OTHERSTACK:ID
	$(SAY) 'restore: stack $(STACK)'
	@$(RUN) python -m tools restore --stack $(STACK) --from '$(if $(FROM),$(FROM),latest)' $(ARGS)

ifeq ($(STACK),sandbox)
bench: ready ## time the pipeline and a recreated stack against others (sandbox only)
	$(SAY) 'bench'
	@$(RUN) python -m tools bench --stack $(STACK) $(ARGS)

screenshots: ready ## take the README's pictures of a running stack (sandbox only)
	@$(SANDBOX) prepare --tests
	@$(RUN) python -m tests.sandbox.screenshots
else
bench screenshots:
	@echo 'error: make $@ works in the sandbox only: leave STACK out' >&2; exit 2
endif

down: env ## destroy the stack (protected data stays) and the sandbox
ifeq ($(STACK),sandbox)
	@failed=0; \
	if $(SANDBOX) running && $(RUN) pulumi stack select $(STACK) 2>/dev/null; then \
	    printf '\n==> %s\n' 'pulumi destroy: stack $(STACK)'; \
	    $(SANDBOX) unlock; \
	    $(RUN) python -m tools down --stack $(STACK) --yes $(ARGS) || failed=$$?; \
	fi; \
	$(SANDBOX) stop; \
	if [ $$failed != 0 ]; then echo 'error: pulumi destroy failed (see above); the sandbox was removed all the same' >&2; fi; \
	exit $$failed
else
	$(SAY) 'pulumi destroy: stack $(STACK)'
	@$(PYTHON) -m tools prepare
	@$(RUN) python -m tools down --stack $(STACK) $(ARGS)
endif

repair: ready ## settle what an interrupted update has left: take it over, or delete it; `make up` does it first
	$(SAY) 'repair: stack $(STACK)'
	@$(RUN) python -m tools repair --stack $(STACK) $(YES) $(ARGS)

recover: ready ## take over kept data after the state was lost: make recover STACK=production
	$(SAY) 'recover: stack $(STACK)'
	@$(RUN) python -m tools recover --stack $(STACK) $(ARGS)

recreate: ready ## destroy the stack and create it again, on the data that it keeps
	$(SAY) 'pulumi destroy: stack $(STACK)'
	@$(RUN) python -m tools down --stack $(STACK) $(YES)
	$(SAY) 'pulumi up: stack $(STACK)'
	@$(RUN) $(UPDATE) $(ARGS)
	@$(MAKE) verify
	@$(SUMMARY)

# With ARGS=--mark, what is found is recorded, and the next update puts it right.
drift: $(if $(filter sandbox,$(STACK)),ready,prepared) ## what differs between the stack and reality; fails if anything does
	$(SAY) 'drift: stack $(STACK)'
	@$(RUN) python -m tools drift --stack $(STACK) $(ARGS)

strays: $(if $(filter sandbox,$(STACK)),ready,prepared) ## what carries the project's name in the account and is in no stack
	$(SAY) 'strays'
	@$(RUN) python -m tools strays $(ARGS)

pipeline: prepared ## let GitLab preview, update and check a stack: make pipeline STACK=… PROJECT=https://gitlab.example.com/ops/slipway
	@$(RUN) python -m tools pipeline --stack $(STACK) --project '$(PROJECT)' $(ARGS)

test: env ## lint, types, unit, sandbox and end-to-end tests, with a summary
	@$(PYTHON) -m tests $(ARGS)

nightly: env ## unit and sandbox tests with the clock at five moments, such as a leap day
	@$(PYTHON) -m tests tools
	@$(PYTHON) -m tests.moments all $(PYTHON) -m tests unit sandbox
	@$(PYTHON) -m tests nightly nightly-e2e faults scale

faults: env ## the fault matrix: every fault of every API call of an update
	@$(PYTHON) -m tests tools faults

test-scale: env ## what takes too much for the other tests: real Kubernetes
	@$(PYTHON) -m tests tools scale

docs: env ## write the generated parts of docs, Pulumi.yaml and the sandbox's coverage
	@$(PYTHON) -m tools.docs
	@$(PYTHON) -m tests.sandbox.coverage

# The largest file first: its versions are those of the other two. Versions that are in a file stay until UPGRADE asks.
UV ?= uv
COMPILE := $(UV) pip compile --quiet pyproject.toml --universal --generate-hashes --no-header --python-version 3.11

lock: ## write the lock files after a change of pyproject.toml, with uv: make lock UPGRADE="--upgrade-package httpx"
	@$(COMPILE) $(UPGRADE) --extra kubernetes --group tools --group sandbox --group test --output-file requirements-sandbox.txt
	@$(COMPILE) --no-annotate --constraint requirements-sandbox.txt --group tools --output-file requirements-tools.txt
	@$(COMPILE) --no-annotate --constraint requirements-sandbox.txt --output-file requirements.txt
	@$(COMPILE) --no-annotate --constraint requirements-sandbox.txt --extra kubernetes --output-file requirements-kubernetes.txt

shell: ready ## a shell in which plain `pulumi` works
	@$(RUN) bash

pulumi: ready ## run one Pulumi command: make pulumi ARGS="preview --diff"
	@$(RUN) pulumi $(ARGS)

# Tools, sandbox, selected stack: what the commands above need. Quick if all of it is there.
ready: env
	$(SAY) 'tools'
ifeq ($(STACK),sandbox)
	@$(SANDBOX) prepare
	@$(SANDBOX) start
	@$(SANDBOX) unlock
else
	@$(PYTHON) -m tools prepare
endif
	@$(RUN) pulumi stack select --create $(STACK)

# Tools alone, for commands that do not start the sandbox.
prepared: env
ifneq ($(STACK),sandbox)
	@$(PYTHON) -m tools prepare
endif

env:
	@tools/bootstrap.sh $(PACKAGES)
