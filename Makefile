# make run | make test | make lint | make docs | make bench | make reliability | make coverage   (each sets up what it needs in .venv)
# On Linux without a GPU, the smaller CPU build of torch:  make run TORCH_INDEX_URL=<an index of CPU builds>

SHELL := /bin/bash
BIN := .venv/bin
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))

.PHONY: help run test lint format docs bench reliability coverage clean

help:
	@sed -n 1p Makefile

.venv/.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH_INDEX) "$$(grep -E '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -e '.[dev,wandb]' -c constraints.txt
	@if command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null; then \
		$(BIN)/python -m pip install --quiet hnswlib -c constraints.txt \
			|| echo "hnswlib did not build: going on with faiss alone"; \
	else echo "No C++ compiler: hnswlib skipped, faiss searches alone"; fi
	@touch $@

run: .venv/.stamp
	$(BIN)/t4dm train experiment=first_night $(ARGS)

test: lint
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.stamp
	$(BIN)/python -m pip install --quiet -e '.[docs]' -c constraints.txt
	$(BIN)/python docs/make_help.py
	$(BIN)/mkdocs build --strict

# The peers live in an environment of their own. One that cannot be installed costs its rows, not the run.
.venv-bench/.stamp: experiments/storage_bench/requirements.txt experiments/spiking_bench/requirements.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@grep -hE '^[a-z]' $^ | while read -r package; do \
		case "$$package" in torch==*) index="$(TORCH_INDEX)";; *) index=;; esac; \
		.venv-bench/bin/python -m pip install --quiet --only-binary :all: --no-binary norse,hnswlib $$index \
			$(addprefix -c ,$^) "$$package" \
			|| echo "$$package could not be installed: its rows will be missing"; done
	@touch $@

# All wings; make bench ARGS='--only storage', '--only spiking', '--only lm' or row groups by name for a part.
bench: .venv/.stamp .venv-bench/.stamp
	.venv-bench/bin/python -m experiments.bench $(if $(N),--n $(N)) $(if $(DIM),--dim $(DIM)) $(ARGS)

TIER ?= pr

reliability: .venv/.stamp
	OMP_NUM_THREADS=1 PYTHONPATH=tests/t4dx $(BIN)/python -m reliability --tier $(TIER) $(ARGS)

# Branches of the storage engine that its tests take; the slow runners of `make reliability` are left out.
coverage: .venv/.stamp
	$(BIN)/python -m coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q tests/t4dx --deselect tests/t4dx/test_reliability.py $(ARGS)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --fail-under 95

clean:
	rm -rf .venv .venv-bench dist build .pytest_cache .mypy_cache .ruff_cache
