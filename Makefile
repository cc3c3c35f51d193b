# Every target makes what it needs: .venv, the native modules, a Kafka.
# `make help` lists the targets.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv/bin/python
PIP := $(VENV) -m pip --disable-pip-version-check install --quiet
PYX := $(wildcard aioproducer/_native/*.pyx)
NATIVE := $(PYX) $(filter-out $(PYX:.pyx=.c), $(wildcard aioproducer/_native/*.[ch])) \
	$(wildcard aioproducer/_native/*.px[di])
# An editable install builds every module; later, only those that changed are built in place.
INSTALL = PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --editable .
REBUILD = $(VENV) -W ignore -c 'from setuptools import setup; setup()' \
	--quiet build_ext --inplace --parallel 2
# The tests of a real Kafka beside the others.
AT_ONCE := -n auto --maxprocesses 4 --dist loadgroup
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "%-14s %s\n", $$1, $$2 }'

.PHONY: demo
demo: build  ## Send card payments exactly once, with rates and latencies, and audit the log.
	@$(VENV) -m tools.demo

.PHONY: test
test: build  ## Run the tests, but the slow ones; those of a real Kafka where one can be had.
	@$(VENV) -m pytest $(AT_ONCE) -m "not slow"

.PHONY: test-all
test-all: build  ## Run all tests, as CI does: there, a missing Kafka is a failure.
	@$(VENV) -m pytest $(AT_ONCE)

.PHONY: kerberos
kerberos: build  ## Install what the tests of Kerberos need, where Debian's packages can be had.
	@tools/kerberos.sh $(VENV)

.PHONY: test-unit
test-unit: build  ## Run the tests that need no real Kafka.
	@$(VENV) -m pytest -m "not broker"

.PHONY: test-broker
test-broker: build  ## Run all tests against a real Kafka.
	@$(VENV) -m pytest -m broker

.PHONY: coverage
coverage: build  ## Show which lines of Python the tests without a real Kafka do not reach.
	@$(VENV) -m coverage run -m pytest -q -m "not broker and not slow"
	@$(VENV) -m coverage report

.PHONY: test-pythons
test-pythons: build  ## Run the unit and loop tests on each Python from 3.11 to 3.14 that is here.
	@$(VENV) -m tools.pythons $(PYTHONS)

.PHONY: soak
soak: build  ## Traffic over breaking connections, random programs and fuzzers, MINUTES (10) each.
	@$(VENV) -m tests.soak $(PARTS) --minutes $(or $(MINUTES),10)
	@$(VENV) -m tests.model --minutes $(or $(MINUTES),10)
	@$(VENV) -m tests.fuzz --minutes $(or $(MINUTES),10)

.PHONY: lint
lint: .venv/linters  ## Check style, spelling, and that imports point down.
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	PATH=".venv/bin:$$PATH" cython-lint aioproducer
	.venv/bin/codespell
	.venv/bin/lint-imports

.PHONY: format
format: .venv/linters  ## Put the code into the form that lint wants.
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: types
types: .venv/linters  ## Check the types of package, tests, examples and tools: mypy and pyright, strict.
	.venv/bin/mypy
	.venv/bin/pyright --project pyproject.toml

.PHONY: build
build: .venv/built  ## Make .venv and build the native modules, if they changed.

.PHONY: debug
debug: build  ## Build the native modules unoptimised, with symbols and asserts, until `make clean`.
	@rm -rf build/temp.* aioproducer/_native/*.so
	CFLAGS="-O0 -g -UNDEBUG" $(REBUILD)

.PHONY: kafka
kafka:  ## Start a Kafka for hand work, on port 9092 if that is free.
	@$(PYTHON) tools/kafka.py start --print-bootstrap

.PHONY: kafka-stop
kafka-stop:  ## Stop it.
	@$(PYTHON) tools/kafka.py stop

.PHONY: bench
bench: .venv/bench  ## Measure this producer and its peers in one run: some minutes.
	@$(VENV) -m benchmarks

.PHONY: bench-full
bench-full: .venv/bench  ## Measure everything into benchmarks/results, in an hour.
	@$(VENV) -m benchmarks --full --seconds 1.5 --save full $(BENCH)
	@$(VENV) -m benchmarks.report full

.PHONY: bench-tls
bench-tls: .venv/bench  ## Measure what TLS costs this producer and its peers: a quarter of an hour.
	@$(VENV) -m benchmarks --tls --seconds 1.5 --save tls $(BENCH)
	@$(VENV) -m benchmarks.report tls

.PHONY: bench-transactions
bench-transactions: .venv/bench  ## Measure transactions, this producer's and its peers'.
	@$(VENV) -m benchmarks --transactions --seconds 1.5 --save transactions $(BENCH)
	@$(VENV) -m benchmarks.report transactions

.PHONY: bench-compare
bench-compare: .venv/bench  ## Measure, and fail if it is slower than the newest stored run.
	@$(VENV) -m benchmarks --rounds 5 --compare

.PHONY: chaos
chaos: .venv/bench  ## Break three brokers under this producer and its peers, and audit each record.
	@$(VENV) -m tests.chaos $(CHAOS)

.PHONY: exactly-once
exactly-once: .venv/bench  ## Break brokers and cut commits under transactions, and audit each of them.
	@$(VENV) -m tests.exactly_once $(EXACTLY_ONCE)

.PHONY: service
service: .venv/bench  ## Break what a web service needs under HTTP clients, and audit each response.
	@$(VENV) -m tests.service $(SERVICE)

.PHONY: profile
profile: .venv/bench  ## Show where a record's nanoseconds go, by perf or py-spy.
	@$(VENV) -m benchmarks.profiling

.PHONY: wheel-test
wheel-test: build  ## Test the built wheel from another folder.
	@tools/wheel_test.sh

.PHONY: sanitize
sanitize: build  ## Test the native modules under the address and undefined sanitizers of gcc.
	@tools/sanitize.sh

.PHONY: clean
clean:  ## Remove what was built; the Kafka jars stay.
	rm -rf .venv build dist *.egg-info .*_cache .hypothesis .coverage
	find aioproducer -name '*.so' -delete -o -name '*.pyx' -exec sh -c 'rm -f "$${0%pyx}c"' {} \;
	find . -name __pycache__ -not -path './.kafka/*' -prune -exec rm -rf {} +

.venv/installed: pyproject.toml tools/check_toolchain.py
	@test -n "$(PYTHON)" || { echo "aioproducer needs Python 3.11 or newer on the PATH;" \
		"install it with your package manager, e.g. sudo apt-get install -y python3"; exit 1; }
	@$(PYTHON) tools/check_toolchain.py
	@echo "installing what the tests and the build need into .venv"
	@test -x $(VENV) || $(PYTHON) -m venv .venv
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) --group dev
	@touch $@

.venv/built: .venv/installed $(NATIVE)
	@$(PYTHON) tools/check_toolchain.py
	@echo "building the native modules"
	@# What a .pxd declares is compiled into every module that imports it.
	@$(if $(filter .venv/installed,$?),$(INSTALL),$(REBUILD) $(if $(filter %.pxd,$?),--force))
	@touch $@

.venv/linters: .venv/built
	@echo "installing the linters into .venv"
	@$(PIP) --group lint
	@touch $@

.venv/bench: .venv/built
	@echo "installing the peers to measure into .venv"
	@$(PIP) --group bench
	@touch $@
