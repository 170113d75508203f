# Every Pixel: the commands. `make` alone lists them. GNU make 3.81 (macOS) is enough.
#
#   make PYTHON=/path/to/python ...   makes .venv with this Python (3.11 to 3.13)
#   make GPU=1 ...  or  GPU=0         adds CUDA's libraries, or not, whatever nvidia-smi says

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help env book test test-jax test-rare lab lint format notebooks results bench lock clean

# The first that runs: pyenv puts a name on the PATH for every version that it knows of. 3.12 comes
# first because Colab runs it.
PYTHON ?= $(shell for name in python3.12 python3.13 python3.11 python3; do \
	$$name -c 'import ensurepip, venv' 2>/dev/null && echo $$name && break; done)
GPU ?= $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU ')
ENV := .venv/base.stamp $(if $(filter-out 0,$(GPU)),.venv/gpu.stamp)
# Programs of .venv are called through its Python, so that the folder can be moved.
BIN := .venv/bin
RUN := $(BIN)/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps

# Notebooks or files of tests at a time. One uses about one core, and 2 to 4 GB. They share the
# cores: TensorFlow's threads that wait for one another's core would cost an eighth of the time.
JOBS ?= 2
THREADS ?= $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) / $(JOBS) )); echo $$((n ? n : 1)))
SHARE = TF_NUM_INTRAOP_THREADS=$(THREADS)
SEGLIB_PROFILE ?= sample
TF_CPP_MIN_LOG_LEVEL ?= 3
# Set with := so that a backend chosen in the shell for other work does not change the book.
KERAS_BACKEND := tensorflow
export SEGLIB_PROFILE TF_CPP_MIN_LOG_LEVEL KERAS_BACKEND
# Modules from elsewhere would come before those of .venv.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

env: $(ENV)  ## make .venv from requirements.lock (the other commands do this first)

SUITS = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CHECK = @"$(PYTHON)" -c '$(SUITS)' 2>/dev/null || { echo >&2 "Python 3.11, 3.12 or 3.13 with its" \
	"venv module is needed. Install one, or name it: make PYTHON=/path/to/python ..."; exit 1; }

# The stamp comes last: after a failed or interrupted installation the next one begins anew.
.venv/base.stamp: requirements.lock
	$(CHECK)
	@echo "Making .venv: a few minutes and 3 GB, once"
	"$(PYTHON)" -m venv --clear --prompt every-pixel .venv
	$(PIP) -r requirements.lock
	@for folder in .venv/lib/python*/site-packages; do echo ../../../.. >"$$folder/seglib.pth"; done
	@touch $@

.venv/%.stamp: requirements-%.lock .venv/base.stamp
	$(PIP) --force-reinstall -r $<
	@touch $@

book: $(ENV)  ## build the book from the stored notebooks into _build/html
	$(RUN) $(BIN)/jupyter-book build . --toc book/_toc.yml --all -W -n --keep-going -q

test: book  ## check everything: seglib, each notebook by running it, the built book
	$(SHARE) $(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		--cov=seglib --cov-report=term:skip-covered --cov-fail-under=95 \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=900 notebooks tests

# JAX compiles each operation that a test calls, so all of them take long. EVERY=6: each sixth.
EVERY ?= 1
test-jax: $(ENV) .venv/jax.stamp  ## check models, losses and metrics on the JAX backend
	KERAS_BACKEND=jax $(RUN) -m pytest -n $(JOBS) --every $(EVERY) tests/models tests/losses \
		tests/metrics tests/inference tests/core

# 5,000 examples of each property, 10,000 damaged files, 20 kills, an overfitted detector: hours.
RARE ?= tests
test-rare: $(ENV)  ## look for rare cases, longer than `make test` does
	$(RUN) -m pytest -n $(JOBS) --hypothesis-profile=nightly -m "hypothesis or rare" $(RARE)

lab: $(ENV)  ## open the notebooks in JupyterLab
	$(RUN) -m jupyterlab notebooks

lint: $(ENV)  ## check the style of the code and the state of the notebooks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) tools/notebooks.py check

format: $(ENV)  ## mend the style of the code
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# One of them: make notebooks NOTEBOOKS=notebooks/02_unet.ipynb
notebooks: $(ENV)  ## run the notebooks and store their outputs in them
	$(SHARE) SEGLIB_PROFILE=sample $(RUN) tools/notebooks.py run --jobs $(JOBS) $(NOTEBOOKS)

# A run needs a clean tree, so that its commit holds its code: make results DIRTY=1 overrides that.
SCORING := leaderboard pictures
TRAINING ?= $(basename $(notdir $(sort $(wildcard benchmarks/train_*.py)))) $(SCORING)
results: $(ENV)  ## measure the models on the real pets and write results/*.json
	@for name in $(TRAINING); do echo "$$name"; $(RUN) -m benchmarks.$$name || exit; done
	$(RUN) -m measured README.md book/images/leaderboard.svg notebooks/*.ipynb

# One of them: make bench BENCHMARK=losses
BENCHMARK ?= $(filter-out train% timing __init__ $(SCORING),$(basename $(notdir $(sort $(wildcard benchmarks/*.py)))))
bench: $(ENV)  ## measure the speed
	@for name in $(BENCHMARK); do echo "$$name"; $(RUN) -m benchmarks.$$name || exit; done

# An add-on's lock holds only what comes on top of requirements.lock.
COMPILE = _build/uv/bin/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)
lock:  ## choose the versions anew and write the locks (UPGRADE=1: the newest)
	$(CHECK)
	"$(PYTHON)" -m venv --clear _build/uv
	_build/uv/bin/python -m pip install --quiet uv
	$(COMPILE) --extra book --extra test --output-file requirements.lock >/dev/null
	for extra in gpu jax; do \
		lock=requirements-$$extra.lock; cp $$lock _build/$$lock && \
		$(COMPILE) --extra $$extra -c requirements.lock --output-file _build/$$lock >/dev/null && \
		grep -vxFf requirements.lock _build/$$lock >$$lock || exit; done

clean:  ## remove what the commands made, except .venv
	rm -rf _build .pytest_cache .ruff_cache .coverage
