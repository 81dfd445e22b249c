# Every target sets up what it needs. Python 3.11 or newer and make are enough for run, test and check;
# stack and e2e build the real servers from Go modules once and keep them in ${XDG_CACHE_HOME:-~/.cache}/otel-llm.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
SYNC := $(BIN)/uv sync --quiet --frozen --inexact
OLDEST := .venv-oldest
VLLM := .venv-vllm
WEB := otel_agent/console/web

.PHONY: help run test test-oldest check servers e2e e2e-vllm stack up docs web bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.local ## this machine, live on a page: agent, receiver, store and console in one process
	@$(BIN)/otel-agent up

test: $(VENV)/.dev ## every test that needs no servers built
	$(BIN)/pytest

test-oldest: $(OLDEST)/.ready ## the LiteLLM instrumentation with the oldest LiteLLM it supports
	$(OLDEST)/bin/pytest tests/instrumentation

check: $(VENV)/.dev ## lint, types, generated pages and built assets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/otel-agent docs --check docs
	$(BIN)/python -m dashboards --check
	$(BIN)/python scripts/check_web.py

servers: $(VENV)/.dev ## build the real servers that tests and stack use, once
	$(BIN)/python compose/native/build.py otelcol-llm prometheus alertmanager loki docker-compose

e2e: servers ## the pipeline against the real servers
	$(BIN)/python scripts/system_packages.py
	$(BIN)/pytest -m e2e

e2e-vllm: $(VENV)/.dev ## the real vLLM, its CPU build: offline, engine, server behind the LiteLLM proxy
	$(BIN)/python scripts/vllm_environment.py
	$(VLLM)/bin/pytest -m e2e_vllm tests/e2e_vllm --ignore tests/e2e_vllm/test_stat_server.py
	$(VLLM)/bin/pytest -m e2e_vllm tests/e2e_vllm/test_stat_server.py # with the machine to itself: it is about times

stack: $(VENV)/.dev ## Collector, Prometheus, Loki, Alertmanager and the agent as ordinary processes
	$(BIN)/python compose/native/build.py
	$(BIN)/python -m compose.native.stack

up: ## the same with Docker Compose
	compose/up

docs: $(VENV)/.dev ## write the generated pages and dashboards
	$(BIN)/otel-agent docs --write docs
	$(BIN)/python -m dashboards

web: ## build the console's assets
	cd $(WEB) && npm ci --no-audit --no-fund && npm run build

bench: $(VENV)/.dev ## the numbers that README and docs quote
	$(BIN)/python -m benchmarks

clean: ## forget the environment; servers built for the stack stay in the cache
	rm -rf $(VENV) $(OLDEST) $(VLLM)

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.local: uv.lock pyproject.toml | $(BIN)/uv
	$(SYNC) --no-dev --extra local
	@touch $@

$(VENV)/.dev: uv.lock pyproject.toml | $(BIN)/uv
	$(SYNC) --group dev
	@touch $@

$(OLDEST)/.ready: uv.lock pyproject.toml | $(BIN)/uv
	UV_PROJECT_ENVIRONMENT=$(OLDEST) $(BIN)/uv sync --quiet --frozen --no-default-groups --group oldest
	@touch $@
