# make demo and make test do everything on a fresh machine: they need python3 (3.11 to 3.13), pip and make.

PYTHON ?= python3
SEED ?= 0
RUN = .venv/bin/python
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(UPGRADE)

.PHONY: setup setup-dev demo docs test test-all bad-input bench lint lock clean

setup: .venv/requirements.stamp

setup-dev: .venv/requirements-dev.stamp

.venv/bin/python:
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f'Python 3.11 to 3.13 is needed, found {v[0]}.{v[1]}; set PYTHON=python3.12 or the like')"
	$(PYTHON) -m venv .venv

.venv/requirements.stamp: requirements.lock pyproject.toml | .venv/bin/python
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-deps -e .
	touch $@

.venv/requirements-dev.stamp: requirements-dev.lock .venv/requirements.stamp
	$(INSTALL) -r requirements-dev.lock
	touch $@

# After a change of requirements.txt or of the extras; UPGRADE=--upgrade also takes newer indirect ones.
lock: .venv/bin/python
	$(INSTALL) uv
	$(LOCK) requirements.txt -o requirements.lock
	$(LOCK) requirements.txt pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock

demo: .venv/requirements.stamp
	$(RUN) scripts/demo.py --seed $(SEED)

test: .venv/requirements-dev.stamp
	$(RUN) -m ruff check .
	.venv/bin/lint-imports --no-cache
	$(RUN) -m pytest -m "not slow" -n auto --dist loadfile

test-all: .venv/requirements-dev.stamp .venv/requirements-docs.stamp
	$(RUN) -m ruff check .
	.venv/bin/lint-imports --no-cache
	$(RUN) -m pytest -n auto --dist loadfile

bad-input: .venv/requirements-dev.stamp
	$(RUN) tests/support/list_bad_input.py

.venv/requirements-bench.stamp: pyproject.toml .venv/requirements.stamp
	$(INSTALL) --extra-index-url https://download.pytorch.org/whl/cpu -e ".[bench]"
	touch $@

bench: .venv/requirements-bench.stamp
	$(RUN) scripts/benchmarks/loader.py --quick

.venv/requirements-docs.stamp: pyproject.toml .venv/requirements.stamp
	$(INSTALL) -e ".[docs]"
	touch $@

# Into site/; open site/index.html. The variable silences an advertisement of the theme.
docs: .venv/requirements-docs.stamp
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

lint: .venv/requirements-dev.stamp
	$(RUN) -m ruff format .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

clean:
	rm -rf .venv demo site
