# Two commands: `make demo` and `make test`. Both install into .venv what they need; `make install` does that alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_WORKERS ?= 3
KERNELS := $(wildcard rwkv_runtime/native/src/*)

.PHONY: install demo test lint soak clean

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/unspool run examples/quickstart.yaml

test: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.faults.soak

lint: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml setup.py constraints.txt $(KERNELS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info rwkv_runtime/native/kernels.so
