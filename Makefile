# Each target sets up what it needs: uv in .tools/ if there is none, the environment in .venv/.
# `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GET_UV := deployments/get-uv.sh
RUN := .venv/bin/

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

.PHONY: environment
environment:  ## make or update .venv/ from uv.lock
	@uv=$$($(GET_UV)) && $$uv sync $(if $(wildcard .venv),--quiet) --locked --compile-bytecode

.PHONY: demo
demo: environment  ## simulate a chip, find it in an embedded ISPyB, process it, record it
	@$(RUN)ssx demo

.PHONY: test
test: environment  ## all checks: lock, format, lint, types, import contracts, tests; as root installs what they need
	@deployments/install-debian-packages.sh
	@uv=$$($(GET_UV)) && $$uv lock --quiet --check
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)pyright
	$(RUN)lint-imports --no-logo
	$(RUN)pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST)

.PHONY: stack
stack: environment  ## PostgreSQL, Prefect, MariaDB, worker, watcher on this machine, an acceptance run; KILLS=50: parts killed
	@deployments/install-debian-packages.sh
	@$(RUN)python -m deployments.stack --kills $(or $(KILLS),0)

.PHONY: format
format: environment  ## format, and mend what the linter can mend
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

.PHONY: benchmark
benchmark: environment  ## time of each step per frame, as ratios to bare decompression
	$(RUN)python benchmarks/hit_finding.py
	$(RUN)python benchmarks/frames.py
	$(RUN)python benchmarks/indexing.py 50
	$(RUN)python benchmarks/geometry.py

.PHONY: debian
debian:  ## as root: install the Debian packages that optional features and tests need
	@deployments/install-debian-packages.sh

.PHONY: clean
clean:  ## remove what make made, the demo included
	rm -rf .venv .tools demo .pytest_cache .ruff_cache .import_linter_cache
