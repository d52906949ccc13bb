# make demo and make test do everything on a fresh machine: they need python3 (3.11 to 3.13), pip and make.

PYTHON ?= python3
SEED ?= 0
RUN = .venv/bin/python

.PHONY: setup demo test test-all bad-input bench lint clean

setup: .venv/requirements.stamp

.venv/bin/python:
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f'Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}; set PYTHON=python3.12 or the like')"
	$(PYTHON) -m venv .venv

.venv/requirements.stamp: requirements.txt | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/requirements-dev.stamp: requirements-dev.txt requirements-export.txt .venv/requirements.stamp
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: .venv/requirements.stamp
	$(RUN) scripts/demo.py --seed $(SEED)

test: .venv/requirements-dev.stamp
	$(RUN) -m ruff check .
	.venv/bin/lint-imports --no-cache
	$(RUN) -m pytest -m "not slow" -n auto --dist loadfile

test-all: .venv/requirements-dev.stamp
	$(RUN) -m ruff check .
	.venv/bin/lint-imports --no-cache
	$(RUN) -m pytest -n auto --dist loadfile

bad-input: .venv/requirements-dev.stamp
	$(RUN) tests/support/list_bad_input.py

.venv/requirements-bench.stamp: requirements-bench.txt .venv/requirements.stamp
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@

bench: .venv/requirements-bench.stamp
	$(RUN) scripts/benchmarks/loader.py --quick

lint: .venv/requirements-dev.stamp
	$(RUN) -m ruff format .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

clean:
	rm -rf .venv demo
