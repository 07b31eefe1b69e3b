# Two commands do all the set-up: `make serve` and `make test`. Python 3.11+ and make are all they ask for.

PYTHON ?= python3
VENV ?= .venv
EXTRA ?= cpu
ARGS ?=
UV_VERSION := 0.13.8

# Commands of Debian packages the tests run, as command:package. A line more is all a new server needs.
SERVERS := \
	chromium:chromium \
	promtool:prometheus \
	redis-server:redis-server

# Files whose every line and branch the tests must take.
WHOLE := gateway/api/payload.py gateway/inference/manifest.py gateway/inference/row_queue.py gateway/inference/signature.py

# One worker more than processors, for tests wait a third of their time; a file's tests share its servers, so they stay
# together. WORKERS= runs everything in one process.
WORKERS ?= --numprocesses $(shell expr 1 + `getconf _NPROCESSORS_ONLN`) --maxprocesses 4 --dist loadfile --durations 20

# The two onnxruntime wheels break each other, so each has an environment of its own.
ifeq ($(EXTRA),cpu)
RUNTIME_LOCK := requirements.lock
RUNTIME_VENV := $(VENV)
else
RUNTIME_LOCK := requirements-$(EXTRA).lock
RUNTIME_VENV := $(VENV)-$(EXTRA)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help serve test test-core test-gpu lint format bench bench-routes loadtest story demo calibration dashboards lock clean servers screenshots

help: ## List the targets
	@while IFS= read -r line; do case "$$line" in \
		[a-z]*": "*"## "*) printf '  make %-12s %s\n' "$${line%%:*}" "$${line#*## }";; \
	esac; done < Makefile

serve: $(RUNTIME_VENV)/serve.stamp ## Serve the models in models/ (ARGS='--port 9000', EXTRA=gpu)
	@exec $(RUNTIME_VENV)/bin/gateway serve $(ARGS)

test: servers $(VENV)/test.stamp lint ## Check format, lint and types, run every test, hold the coverage
	@$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest $(WORKERS) $(ARGS)
	@$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report
	@for file in $(WHOLE); do \
		printf '%s must be 100 %%, is ' $$file; \
		$(VENV)/bin/coverage report --include=$$file --format=total --fail-under=100 || exit 1; \
	done

test-core: lint ## The same without Chromium, Prometheus, Redis and coverage
	$(VENV)/bin/python -m pytest $(WORKERS) -m "not browser and not prometheus and not redis" $(ARGS)

test-gpu: ## Run the tests that need an NVIDIA GPU, in an environment of their own (.venv-gpu)
	@$(MAKE) --no-print-directory EXTRA=gpu $(VENV)-gpu/tests.stamp
	$(VENV)-gpu/bin/python -m pytest tests/gpu $(ARGS)

lint: $(VENV)/test.stamp ## Check format, lint and types
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

format: $(VENV)/test.stamp ## Format, and mend what the linter can mend
	$(VENV)/bin/ruff check --fix-only
	$(VENV)/bin/ruff format

bench: $(VENV)/bench.stamp ## Compare with plain servers, or with PEERS=1 with MLServer, Triton and others (QUICK=1 takes a minute)
	$(VENV)/bin/python -m loadtests.bench $(if $(PEERS),--peers) $(if $(QUICK),--quick) $(ARGS)

bench-routes: $(VENV)/bench.stamp ## Measure what a split costs, and what a slow shadow does to the p99 (ARGS='split --rounds 5')
	$(VENV)/bin/python -m loadtests.bench.route_cost $(ARGS)

loadtest: $(VENV)/test.stamp ## Put half a minute of load on a gateway of its own (ARGS='--shape burst --peak-users 50')
	$(VENV)/bin/python -m loadtests $(ARGS)

story: servers $(VENV)/test.stamp ## Tell the whole story on real processes: split, shadow, drift, alarm, abort (two minutes, a report)
	$(VENV)/bin/python -m loadtests.story $(ARGS)

demo: $(VENV)/test.stamp ## Run two replicas, Redis, Prometheus and traffic that drifts, for a quarter of an hour (ARGS='--minutes 5')
	@$(VENV)/bin/python -m loadtests.demo $(ARGS)

calibration: $(VENV)/bench.stamp ## Measure how often the drift rules are wrong and write the page on it (half an hour)
	$(VENV)/bin/python -m loadtests.calibration $(ARGS)

dashboards: $(VENV)/test.stamp ## Write the dashboards' JSON again
	@$(VENV)/bin/python -m dashboards.build

screenshots: servers $(VENV)/test.stamp ## Take the pictures of the console in docs/images again
	$(VENV)/bin/python -m tests.console.screenshots

# The test lock is resolved first and binds the others, so that every pin is the same in all of them.
LOCK = $(VENV)-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" --group build $(if $(UPGRADE),--upgrade) pyproject.toml
lock: $(VENV)-lock/bin/uv ## Resolve the locks again (UPGRADE=1 takes newer releases)
	$(LOCK) --extra cpu --extra test --extra bench --output-file requirements-test.lock
	$(LOCK) --extra cpu --constraint requirements-test.lock --output-file requirements.lock
	$(LOCK) --extra cpu --extra bench --constraint requirements-test.lock --output-file requirements-bench.lock
	$(LOCK) --extra gpu --constraint requirements-test.lock --output-file requirements-gpu.lock

clean: ## Remove environments, caches and build outputs
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .bench .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: only Python and what the shell has built in --------------------------------

$(sort $(VENV)/bin/pip $(RUNTIME_VENV)/bin/pip):
	@$(PYTHON) -c 'import sys; sys.exit("make: needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; say make PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv --clear $(@:/bin/pip=)

# One pip run from a hashed lock, then the package itself, editable, from what is already there.
define install
@echo "installing $< into $(@D) (once)"
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
@: > $@
endef

$(RUNTIME_VENV)/serve.stamp: $(RUNTIME_LOCK) pyproject.toml | $(RUNTIME_VENV)/bin/pip
	$(install)

$(VENV)/bench.stamp: requirements-bench.lock pyproject.toml | $(VENV)/bin/pip
	$(install)

# Every lock's pins are in this one: what it installs, the others need not install again.
$(VENV)/test.stamp: requirements-test.lock pyproject.toml | $(VENV)/bin/pip
	$(install)
	@: > $(@D)/bench.stamp
	@: > $(@D)/serve.stamp

# Beside the runtime only what the tests on a GPU import: the whole test lock would bring the CPU's onnxruntime.
GPU_TESTS := hypothesis|iniconfig|pluggy|pygments|pytest|pytest-asyncio|pytest-timeout|sortedcontainers
$(VENV)-gpu/tests.stamp: requirements-test.lock $(VENV)-gpu/serve.stamp
	@$(PYTHON) -c 'import re; print(*re.findall(r"^(?:$(GPU_TESTS))==.*(?:\n .*)*", open("$<").read(), re.M), sep="\n")' \
		| $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement /dev/stdin
	@: > $@

$(VENV)-lock/bin/uv: Makefile
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Binaries only: while apt runs, policy-rc.d keeps the packages' services from starting.
servers:
	@missing=; \
	for pair in $(SERVERS); do command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair#*:}"; done; \
	[ -n "$$missing" ] || exit 0; \
	refuse() { echo "make test: needs$$missing and $$1; install with 'apt-get install$$missing', or run 'make test-core'" >&2; exit 1; }; \
	if [ "$$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; \
	command -v apt-get >/dev/null || refuse "there is no apt-get"; \
	$$root true 2>/dev/null || refuse "neither is this root nor does sudo work without a password"; \
	echo "installing$$missing (once)"; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
		trap '$$root rm -f $$policy' EXIT; trap 'exit 1' HUP INT TERM; \
		printf '#!/bin/sh\nexit 101\n' | $$root tee $$policy >/dev/null && $$root chmod 755 $$policy; \
	fi; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null 2>&1 || true; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $$missing </dev/null >/dev/null \
		|| refuse "apt-get could not install it"
