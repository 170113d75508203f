# Every Pixel: the commands. `make` alone lists them. GNU make 3.81 (macOS) is enough.
#
#   make PYTHON=/path/to/python ...   makes .venv with this Python (3.11 to 3.13)
#   make GPU=1 ...  or  GPU=0         adds CUDA's libraries, or not, whatever nvidia-smi says

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help env book test test-jax test-rare lab lint format notebooks results bench lock clean

BIN := .venv/bin
RUN := $(BIN)/python
MAKE_ENV := sh tools/python.sh tools/environment.py

# Notebooks or files of tests at a time. One uses about one core, and 2 to 4 GB. They share the
# cores: TensorFlow's threads that wait for one another's core would cost an eighth of the time.
JOBS ?= 2
THREADS ?= $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) / $(JOBS) )); echo $$((n ? n : 1)))
SHARE = TF_NUM_INTRAOP_THREADS=$(THREADS)
SEGLIB_PROFILE ?= sample
TF_CPP_MIN_LOG_LEVEL ?= 3
# Set with := so that a backend chosen in the shell for other work does not change the book.
KERAS_BACKEND := tensorflow
export PYTHON GPU SEGLIB_PROFILE TF_CPP_MIN_LOG_LEVEL KERAS_BACKEND
# Modules from elsewhere would come before those of .venv.
unexport PYTHONPATH PYTHONHOME

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

env:  ## make .venv from requirements.lock (the other commands do this first)
	@$(MAKE_ENV)

book: env  ## run the notebooks and build the book into _build/html
	@$(SHARE) $(RUN) tools/build_book.py --jobs $(JOBS)

# nbval checks the run of each notebook that the book has just made (tools/book_run.py).
# The files keep their order: sorted by number of tests, the one that takes longest would be last.
test: book  ## check everything: seglib, the notebooks, the built book
	$(SHARE) $(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		--cov=seglib --cov-report=term:skip-covered --cov-fail-under=95 \
		-p tools.book_run --nbval-lax notebooks tests

# JAX compiles each operation that a test calls, so all of them take long. EVERY=6: each sixth.
EVERY ?= 1
test-jax:  ## check models, losses and metrics on the JAX backend
	@$(MAKE_ENV) --with jax
	KERAS_BACKEND=jax $(RUN) -m pytest -n $(JOBS) --every $(EVERY) tests/models tests/losses \
		tests/metrics tests/inference tests/test_distance.py tests/test_counting.py

# 5,000 examples of each property, 10,000 damaged files, 20 kills, an overfitted detector: hours.
RARE ?= tests
test-rare: env  ## look for rare cases, longer than `make test` does
	$(RUN) -m pytest -n $(JOBS) --hypothesis-profile=nightly -m "hypothesis or rare" $(RARE)

lab: env  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

lint: env  ## check the style of the code and the state of the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN) tools/notebooks.py check

format: env  ## mend the style of the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The committed outputs are those of the drawn pets.
notebooks:  ## run the notebooks that changed and store their outputs in them
	@$(MAKE) --no-print-directory book SEGLIB_PROFILE=sample
	$(RUN) tools/notebooks.py take

SCORING := benchmarks/leaderboard.py benchmarks/pictures.py
TRAINING ?= $(sort $(wildcard benchmarks/train_*.py)) $(SCORING)
results: env  ## measure the models on the real pets and write results/*.json
	@for script in $(TRAINING); do echo "$$script"; $(RUN) $$script || exit; done
	$(RUN) -m seglib.results README.md book/images/leaderboard.svg notebooks/*.ipynb

# One of them: make bench BENCHMARK=benchmarks/losses.py
BENCHMARK ?= $(filter-out benchmarks/train% benchmarks/timing.py $(SCORING),$(sort $(wildcard benchmarks/*.py)))
bench: env  ## measure the speed
	@for script in $(BENCHMARK); do echo "$$script"; $(RUN) $$script || exit; done

lock:  ## choose the versions anew and write the locks (UPGRADE=1: the newest)
	@sh tools/python.sh tools/lock.py $(if $(UPGRADE),--upgrade)

clean:  ## remove what the commands made, except .venv
	rm -rf _build .pytest_cache .ruff_cache .coverage
