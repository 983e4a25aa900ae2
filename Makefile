# Every target builds the environment it needs; a fresh machine needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV   ?= .venv
# The CPU build that we test with; on a GPU machine: make demo TORCH=torch
TORCH  ?= torch==2.13.0
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test soak docs audit constraints pythons oldest lower-bounds lint types format clean env

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) -c constraints.txt -e ".[all,dev]"
	touch $@

demo: env
	$(BIN)/weaktal demo --out demo

test: env lint types
	$(BIN)/python -m pytest -n auto

# every method, killed 20 times at random moments and resumed to the same bits; 200 videos the same way; 2,000 damaged
# files for each reader
soak: env
	$(PIP) -c constraints.txt -e ".[cluster]"
	WEAKTAL_FUZZ=2000 $(BIN)/python -m pytest -n auto tests/fuzz
	WEAKTAL_COMPILE_BACKEND=inductor $(BIN)/python -m pytest tests/train/test_compile.py
	WEAKTAL_KILLS=20 $(BIN)/python -m pytest -n auto tests/methods/test_contract.py -k killed
	WEAKTAL_VIDEOS=200 $(BIN)/python -m pytest tests/features/extract/test_driver.py -k "killed or cluster"

# the site, into build/site; a warning is an error
docs: env
	$(PIP) -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

# known holes in the pinned versions; says so where no vulnerability service can be reached
audit: env
	$(PIP) pip-audit
	@mkdir -p build; $(BIN)/pip-audit --progress-spinner off --disable-pip --no-deps -r constraints.txt >build/audit.txt 2>&1; \
	grep -v "not found on PyPI" build/audit.txt | head -40; \
	if grep -q "not found on PyPI" build/audit.txt; then \
		echo "audit: no vulnerability service can be asked from here about what build/audit.txt lists"; fi

# the versions of this environment become the pinned ones
constraints: env
	(head -2 constraints.txt; $(BIN)/python -m pip freeze | grep -v "^-e\|^torch\|^weaktal\|@ file") > constraints.new
	mv constraints.new constraints.txt

# what works without torch, under the other versions of Python that this machine has; says which were skipped
pythons: env
	$(BIN)/python tests/pythons.py

# the same with the oldest versions that pyproject.toml allows
oldest: env
	$(BIN)/python tests/pythons.py --oldest 3.11

# the oldest versions that pyproject.toml allows, torch too (several GB: old releases of torch are CUDA builds)
lower-bounds:
	$(PYTHON) -m venv .venv-oldest && .venv-oldest/bin/pip install -q uv
	.venv-oldest/bin/uv pip install -q --python .venv-oldest/bin/python --resolution lowest-direct \
		".[video,hdf5,fast]" "pytest>=8" "hypothesis>=6.100" "pandas>=2.1"
	PYTHONPATH=src .venv-oldest/bin/python -m pytest -q tests/core tests/formats tests/evaluate tests/localize tests/nn \
		tests/report tests/test_dataset.py tests/test_public.py tests/cli/test_main.py tests/cli/test_data.py \
		tests/cli/test_evaluate.py tests/train/test_run.py

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-oldest build demo .pytest_cache .mypy_cache .ruff_cache
