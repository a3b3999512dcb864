# Slipway. `make help` says what there is.
#
# STACK names the stack file in stacks/; "sandbox" is the small cloud that lives on this machine. Any other stack uses
# your own environment: DIGITALOCEAN_TOKEN, Pulumi backend, passphrase.
STACK ?= sandbox
ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help up preview verify demo bench screenshots down test nightly docs shell pulumi tools ready env

SANDBOX := .cache/venv/bin/python -m tests.sandbox
ifeq ($(STACK),sandbox)
RUN := $(SANDBOX) exec --
YES := --yes
else
RUN := $(SANDBOX) tools --
YES :=
endif
SAY := @printf '\n==> %s\n'

help: ## this list
	@echo 'make TARGET [STACK=sandbox|dev|staging|production] [ARGS="…"]'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

up: ready ## everything: tools, sandbox, pulumi up, then verify
	$(SAY) 'pulumi up: stack $(STACK)'
	@$(RUN) pulumi up --stack $(STACK) $(if $(YES),--yes --skip-preview) $(ARGS)
	@$(MAKE) verify

preview: ready ## what `make up` would change
	$(SAY) 'pulumi preview: stack $(STACK)'
	@$(RUN) pulumi preview --stack $(STACK) $(ARGS)

verify: env ## measure what runs: DNS, ports, TLS, GitLab, registry
	$(SAY) 'verify: stack $(STACK)'
	@$(RUN) python -m tools.verify --stack $(STACK)

demo: ready ## a commit, its pipeline as it runs, and what the released image answers
ifeq ($(STACK),sandbox)
	$(SAY) 'pulumi up: stack $(STACK)'
	@$(RUN) pulumi up --stack $(STACK) --yes --skip-preview
endif
	$(SAY) 'demo: stack $(STACK)'
	@$(RUN) python -m tools.demo --stack $(STACK) $(YES) $(ARGS)

ifeq ($(STACK),sandbox)
bench: ready ## the pipeline against the walk-through's own file, in the sandbox: ratios of one run
	$(SAY) 'bench'
	@$(RUN) python -m tools.bench $(ARGS)
else
bench:
	@echo 'error: make bench makes and destroys a stack of its own, in the sandbox alone; leave STACK out' >&2; exit 2
endif

screenshots: ready ## pictures of the sandbox's pages for the README, of a stack that runs
	@$(SANDBOX) prepare --tests
	@$(RUN) python -m tests.sandbox.screenshots

down: env ## destroy the stack, all but protected data; with the sandbox, the sandbox as well
ifeq ($(STACK),sandbox)
	@failed=0; \
	if $(SANDBOX) running && $(RUN) pulumi stack select $(STACK) 2>/dev/null; then \
	    printf '\n==> %s\n' 'pulumi destroy: stack $(STACK)'; \
	    $(SANDBOX) unlock; \
	    $(RUN) pulumi destroy --stack $(STACK) --yes --skip-preview --exclude-protected $(ARGS) || failed=$$?; \
	fi; \
	$(SANDBOX) stop; \
	if [ $$failed != 0 ]; then echo 'error: pulumi destroy failed (see above); the sandbox is gone all the same' >&2; fi; \
	exit $$failed
else
	$(SAY) 'pulumi destroy: stack $(STACK)'
	@$(SANDBOX) prepare --tools-only
	@$(RUN) pulumi destroy --stack $(STACK) --exclude-protected $(ARGS)
endif

test: env ## lint, types, unit, sandbox and end-to-end tests, with a summary
	@.cache/venv/bin/python -m tests $(ARGS)

nightly: env ## unit and sandbox tests with the clock at five moments, such as a leap day
	@.cache/venv/bin/python -m tests tools
	@.cache/venv/bin/python -m tests.moments all .cache/venv/bin/python -m tests unit sandbox

docs: env ## write the generated parts of docs, Pulumi.yaml and the sandbox's coverage
	@.cache/venv/bin/python -m tools.docs
	@.cache/venv/bin/python -m tests.sandbox.coverage

shell: ready ## a shell where plain `pulumi` works
	@$(RUN) bash

pulumi: ready ## one Pulumi command: make pulumi ARGS="preview --diff"
	@$(RUN) pulumi $(ARGS)

# Tools, sandbox, stack: what every command above stands on. Quick when all is there.
ready: env
	$(SAY) 'tools'
ifeq ($(STACK),sandbox)
	@$(SANDBOX) prepare
	@$(SANDBOX) start
	@$(SANDBOX) unlock
else
	@$(SANDBOX) prepare --tools-only
endif
	@$(RUN) pulumi stack select --create $(STACK)

env:
	@tools/bootstrap.sh
