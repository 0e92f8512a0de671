# Two commands for a new user; both set up everything in .venv (needs Python 3.11 or newer, with venv).
#   make rehearse   plays one whole implantation on the example patient
#   make test       runs the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: rehearse test setup

rehearse: setup
	$(BIN)/seedguide rehearse examples/hn-recurrence --out out/first --overwrite

test: setup
	$(BIN)/pytest -n 2 --dist loadfile

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@
