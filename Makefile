# `make help` lists the targets. Each installs what it lacks, once: stamps in .venv and node_modules
# remember. Python packages come from requirements/*.txt (pinned, hashed), into .venv in this folder.

PYTHON ?= python3
# workers of the test run
JOBS ?= 2
# more words for `volact quickstart` or pytest: make run ARGS=--fresh, make slow ARGS="-k kill"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# twice quiet: errors only
PIP := -m pip --disable-pip-version-check --no-input -q -q
UV := uv==0.13.9
LOCKED := --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-config --no-strip-extras --quiet
# Programs that the tests start, each with the Debian package that has it
TEST_PROGRAMS := initdb=postgresql faketime=faketime node=nodejs npm=npm named=bind9 knotd=knot nft=nftables \
	slapd=slapd sshd=openssh-server ssh-keygen=openssh-client chromium=chromium \
	gnome-keyring-daemon=gnome-keyring dbus-run-session=dbus-daemon \
	ip=iproute2 unshare=util-linux
BENCH_PROGRAMS := initdb=postgresql hey=hey

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test check slow bench fmt lock docs vectors changelog clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## the quick start: the real roles on loopback, activated end to end
	@$(BIN)/volact quickstart $(ARGS)

test: programs-test $(VENV)/.test node_modules/.stamp check ## everything that CI runs
	@echo "tests ..."
	@$(BIN)/python -m slipcover --json --out coverage.json -m pytest -n $(JOBS) $(ARGS)
	@$(BIN)/python scripts/check_coverage.py coverage.json
	@test ! -f scripts/gen_cli_docs.py || $(BIN)/python scripts/gen_cli_docs.py | diff -u docs/cli.md - \
		|| { echo "docs/cli.md is not what the commands say now: run 'make docs'." >&2; exit 1; }

check: $(VENV)/.test ## the quick part: format, lint, types, architecture, repository
	@echo "format, lint, types, architecture ..."
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --diff --quiet .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_repository.py

slow: programs-test $(VENV)/.test node_modules/.stamp ## the tests that take minutes: large counts, many kills
	@$(BIN)/python -m pytest -m slow $(ARGS)

bench: programs-bench $(VENV)/.test .venv-bench/.stamp ## speed, beside the machine's limits and another server
	@SEALIUM_PYTHON=.venv-bench/bin/python $(BIN)/python bench/run.py $(ARGS)

fmt: $(VENV)/.test ## format, and mend what the linter can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

lock: ## pin the dependencies again (UPGRADE=1: at their newest versions)
	@echo "resolving ..."
	@rm -rf .venv-lock && scripts/make-venv $(PYTHON) .venv-lock
	@.venv-lock/bin/python $(PIP) install $(UV)
	@.venv-lock/bin/uv pip compile $(LOCKED) $(if $(UPGRADE),--upgrade) \
		pyproject.toml --extra server --extra vamt --group build -o requirements/run.txt >/dev/null
	@.venv-lock/bin/uv pip compile $(LOCKED) $(if $(UPGRADE),--upgrade) \
		pyproject.toml --extra server --extra vamt --group build --group test -c requirements/run.txt \
		-o requirements/test.txt >/dev/null
	@.venv-lock/bin/uv pip compile $(LOCKED) $(if $(UPGRADE),--upgrade) \
		--group bench -o requirements/bench.txt >/dev/null
	@rm -rf .venv-lock

docs: $(VENV)/.test ## write docs/cli.md from the commands themselves
	@$(BIN)/python scripts/gen_cli_docs.py > docs/cli.md

vectors: $(VENV)/.test ## write tests/vectors/ again; the same bytes unless the protocol changed
	@$(BIN)/python tests/vectors/make.py

changelog: $(VENV)/.test ## show the release notes that the fragments in changelog.d/ make
	@$(BIN)/towncrier build --draft

clean: ## remove what make installed and made (also the cure when this folder was moved)
	@rm -rf $(VENV) .venv-* node_modules build dist .coverage* coverage.json \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Not for people: the steps above need these. They ask apt for nothing when all is there.
programs-%:
	@scripts/debian-packages $(if $(filter bench,$*),$(BENCH_PROGRAMS),$(TEST_PROGRAMS))

$(VENV)/.made:
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	@echo "installing Python packages into $(VENV) (once) ..."
	@$(BIN)/python $(PIP) install --require-hashes -r requirements/run.txt
	@$(BIN)/python $(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

# test.txt holds all of run.txt, so one installation serves both.
$(VENV)/.test: $(VENV)/.made requirements/test.txt pyproject.toml
	@echo "installing Python packages into $(VENV) (once) ..."
	@$(BIN)/python $(PIP) install --require-hashes -r requirements/test.txt
	@$(BIN)/python $(PIP) install --no-build-isolation --no-deps -e .
	@touch $(VENV)/.run $@

.venv-bench/.stamp: requirements/bench.txt
	@echo "installing the server to compare with into .venv-bench (once) ..."
	@scripts/make-venv $(PYTHON) .venv-bench
	@.venv-bench/bin/python $(PIP) install --require-hashes -r $<
	@touch $@

node_modules/.stamp: package.json package-lock.json .npmrc
	@echo "installing npm packages into node_modules (once) ..."
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@
