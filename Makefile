# Every target builds the environment it needs; a fresh machine needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV   ?= .venv
# The CPU build that we test with; on a GPU machine: make demo TORCH=torch
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin

.PHONY: demo test soak lint types format clean env

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[all,dev]"
	touch $@

demo: env
	$(BIN)/weaktal demo --out demo

test: env lint types
	$(BIN)/python -m pytest -n auto

# every method, killed 20 times at random moments and resumed to the same bits; 200 videos the same way
soak: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cluster]"
	WEAKTAL_KILLS=20 $(BIN)/python -m pytest -n auto tests/methods/test_contract.py -k killed
	WEAKTAL_VIDEOS=200 $(BIN)/python -m pytest tests/features/extract/test_driver.py -k "killed or cluster"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
