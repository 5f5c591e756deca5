# `make run` installs and runs the main job; `make test` installs and passes the tests. Both need Python 3.11+ and make only.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: run test check install clean

run: .venv/installed
	$(BIN)/python main.py $(ARGS)

test: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SliceOff needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv

# torch first and pinned, so that nothing else chooses its version.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,test,dev]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info
