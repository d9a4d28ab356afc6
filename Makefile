# make help lists the targets. Override a variable on the command line: make train-cascaded RUN=runs/mine
PYTHON ?= python3
VENV   := .venv
LOWEST_VENV := .venv-lowest
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
EXTRAS ?= test

# Without photos in data/raw a sample set stands in for them, so that every target runs.
PHOTOS := $(shell find data/raw -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \
            -o -iname '*.webp' -o -iname '*.bmp' -o -iname '*.tif' -o -iname '*.tiff' \) \
            2>/dev/null | head -n 1)
ifeq ($(PHOTOS),)
RAW    ?= build/sample
OUT    ?= data/processed/sample
CONFIG ?= experiments/tiny.yaml
RUN    ?= runs/sample
else
RAW    ?= data/raw
OUT    ?= data/processed/faces
CONFIG ?= experiments/compact.yaml
RUN    ?= runs/cascaded
endif
DATA   ?= $(OUT)

.PHONY: help install demo demo-web test test-core test-lowest lint preprocess train-cascaded train-progan ablations table1 table2 lfw eval-lfw docs dist bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

install: $(VENV)/.installed-$(EXTRAS) ## .venv with the package in it, editable, and the test extra

$(VENV)/.installed-$(EXTRAS): setup.cfg setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
ifneq ($(findstring reference,$(EXTRAS)),)
	$(BIN)/python -m pip install --quiet --no-deps lpips==0.1.4 piq==0.8.0 torch-fidelity==0.4.0
endif
	@touch $@

# PHOTO: a photo or a folder of photos of yours. MODEL: another model than the shipped one.
DEMO := build/demo
demo: install ## hallucinate around PHOTO, or two public-domain portraits: build/demo/hallucinated.png
	rm -rf $(addprefix $(DEMO)/,pictures pasted hallucinated.png)
	$(if $(PHOTO),,$(BIN)/facehal sample $(DEMO)/portraits --portraits)
	$(BIN)/facehal hallucinate "$(or $(PHOTO),$(DEMO)/portraits)" --out $(DEMO) --paste --model $(MODEL)

demo-web: install ## a local page to drop photos on, at 127.0.0.1:7860 or PORT; fetches Gradio once
	@$(BIN)/python -c 'import gradio' 2>/dev/null || \
	  { echo "installing Gradio for the page, once"; $(BIN)/python -m pip install --quiet --editable '.[web]'; }
	$(BIN)/facehal demo-web --model $(MODEL) $(if $(PORT),--port $(PORT))

# Two processes, for most of a test is one thread's work; each begins with half of the files, and who is done takes over.
JOBS ?= 2
SHARED_OUT := -n $(JOBS) --dist worksteal
test: install lint ## everything: lint, the tests, the core again on JAX where it is installed; LOWEST=1, CI: test-lowest, too
	$(BIN)/python -m pytest $(SHARED_OUT)
	$(MAKE) test-core
	$(if $(or $(LOWEST),$(CI)),$(MAKE) test-lowest)

# Most of this run is XLA compiling what runs once or twice: unoptimised, and kept for the next time. That
# the compared systems' networks are the published ones is shown on TensorFlow, that JAX computes what
# TensorFlow does of each by tests/models/test_families.py: the former's files are left out here. The
# three families that take longest to compile train here, too, but are not stopped and compiled again.
test-core: export XLA_FLAGS := --xla_backend_optimization_level=0
test-core: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/build/jax
test-core: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.3
test-core:
	@if $(BIN)/python -c 'import jax' 2>/dev/null; then \
	  KERAS_BACKEND=jax $(BIN)/python -m pytest -m core $(SHARED_OUT) \
	    --ignore-glob='tests/models/[degrs]*/test_[aclnp]*.py' \
	    -k 'not (test_a_stopped_run and (deepfillv1 or edgeconnect or symmfcnet))'; \
	else echo "JAX is not installed: the second run of the core is left out (make test EXTRAS=test,jax)"; fi

# Every requirement at the lower bound that setup.cfg gives it. The releases of that time have no
# wheels for Python 3.13.
LOWEST_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) \
  $(shell command -v python3.10 || command -v python3.11 || command -v python3.12) $(PYTHON))

# On the newest versions alone: several workers and devices, and the compared systems beside the published
# ones. tests/models/test_families.py trains, stops and reads the others here, too; the three that take
# longest to compile are made of the same layers.
test-lowest: $(LOWEST_VENV)/.installed ## the core on TensorFlow with the oldest packages that setup.cfg allows
	KERAS_BACKEND=tensorflow $(LOWEST_VENV)/bin/python -m pytest -m core $(SHARED_OUT) \
	  --ignore=tests/training/test_workers.py --ignore=tests/training/test_cluster.py \
	  --ignore-glob='tests/models/[degrs]*/*' -k 'not (deepfillv1 or edgeconnect or symmfcnet)'

$(LOWEST_VENV)/.installed: setup.cfg tools/lowest.py
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_PYTHON) tools/lowest.py tensorflow portraits > $(LOWEST_VENV)/pins.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(LOWEST_VENV)/bin/python -m pip install --quiet --requirement $(LOWEST_VENV)/pins.txt 'pytest>=8' 'pytest-xdist>=3.6'
	@touch $@

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(RAW)/.sample:
	@if [ "$(RAW)" = build/sample ]; then $(BIN)/facehal sample $(RAW) && touch $@; \
	else echo "$(RAW): no such folder; make preprocess RAW=folder-of-photos OUT=folder" >&2; exit 1; fi

preprocess: install $(if $(PHOTOS),,$(if $(filter build/sample,$(RAW)),$(RAW)/.sample)) ## photos in RAW → aligned faces in OUT
	$(BIN)/facehal preprocess $(RAW) $(OUT)

# DATA: a folder of prepared faces, or several: make train-cascaded DATA="data/processed/a data/processed/b"
FROM_DATA = $(addprefix --data ,$(DATA))
# VALIDATION: prepared faces of other people, to measure the model on after every epoch.
CHECK = $(if $(VALIDATION),--validation $(VALIDATION))
train-cascaded: install ## the cascade on the faces in DATA, with CONFIG, into RUN
	$(BIN)/facehal train cascaded $(FROM_DATA) --out $(RUN) --config $(CONFIG) $(CHECK)

# Only the defaults differ: what stands on the command line wins here, too.
train-progan: CONFIG := experiments/$(if $(PHOTOS),progan_compact,progan_tiny).yaml
train-progan: RUN := runs/$(if $(PHOTOS),progan,sample_progan)
train-progan: install ## the progressively growing version, likewise; CONFIG says model: progan
	$(BIN)/facehal train progan $(FROM_DATA) --out $(RUN) --config $(CONFIG) $(CHECK)

# TEST: prepared faces of people who are not in DATA. BASE: an experiment file to start from instead of
# experiments/ablation_base.yaml (experiments/cascaded.yaml: the paper's size, for a GPU).
TEST ?= $(firstword $(wildcard data/processed/lfw data/processed/lfw_dev) $(DATA))
ablations: RUN := runs/$(if $(PHOTOS),ablations,sample_ablations)
ablations: BASE := $(if $(PHOTOS),,experiments/tiny.yaml)
ablations: install ## every variant of experiments/ablation_*.yaml alike, one table: a night on two cores
	$(BIN)/facehal ablations $(FROM_DATA) --test $(TEST) --out $(RUN) $(if $(BASE),--base $(BASE))

# The paper's seven systems, each trained for MINUTES, and the reference rows. While data/raw is empty a
# minute of each on the sample shows the way; DeepFake needs its two people and is left out there.
table1: RUN := runs/$(if $(PHOTOS),table1,sample_table1)
MINUTES ?= $(if $(PHOTOS),60,1)
table1: install ## Table 1 whole: trains what is missing, an hour for each system, and measures all
	$(BIN)/facehal compare $(FROM_DATA) --test $(TEST) --out $(RUN) --minutes $(MINUTES)

# Three data arms, SEEDS trainings of each, at most MINUTES of work for every one. CONFIG=recognition is the
# paper's network, for a GPU. On the sample, two people, a few steps show the way.
table2: RUN := runs/$(if $(PHOTOS),table2,sample_table2)
table2: CONFIG := recognition_compact
table2: MINUTES := $(if $(PHOTOS),30,1)
SEEDS ?= $(if $(PHOTOS),3,1)
table2: install ## Table 2: does hallucinated context make a recogniser better? pictures, trainings, table
	$(BIN)/facehal table2 $(FROM_DATA) --test $(TEST) --out $(RUN) --config $(CONFIG) --model $(MODEL) \
	  --seeds $(SEEDS) --minutes $(MINUTES) $(if $(PHOTOS),,--epochs 1)

# The shipped model and the reference rows on LFW. TRAIN: prepared training faces, for two of the rows.
LFW     ?= data/processed/lfw
MODEL   ?= compact
TRAIN   ?= $(wildcard data/processed/train)
RESULTS ?= results/lfw

lfw: install ## LFW → data/processed/lfw; FROM=lfw-funneled.tgz or FROM=folder takes what you have
	@if [ -d "$(FROM)" ]; then $(BIN)/facehal preprocess "$(FROM)" $(LFW); \
	else { [ -d data/raw/lfw ] || $(BIN)/facehal lfw data/raw/lfw $(if $(FROM),--archive "$(FROM)"); } \
	  && $(BIN)/facehal preprocess data/raw/lfw $(LFW); fi

eval-lfw: install ## Table 1 and Figure 5 of MODEL on LFW → results/lfw
	@if [ ! -f $(LFW)/manifest.csv ]; then \
	  echo "$(LFW): no prepared faces; make lfw fetches them, make lfw FROM=folder takes yours" >&2; \
	  exit 1; fi
	$(BIN)/facehal evaluate table1 --data $(LFW) --system cascaded=$(MODEL) --out $(RESULTS) \
	  $(if $(TRAIN),--train $(TRAIN))

# In an environment of its own, where users build what they read: nothing of ours is imported.
DOCS_VENV := .venv-docs
docs: $(DOCS_VENV)/.installed ## the documentation: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/$(notdir $(BIN))/python -m mkdocs build --quiet --strict

$(DOCS_VENV)/.installed: setup.cfg
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/$(notdir $(BIN))/python -m pip install --quiet --upgrade pip
	$(DOCS_VENV)/$(notdir $(BIN))/python -m pip install --quiet 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.26' 'mkdocs-include-markdown-plugin>=6'
	@touch $@

dist: install ## wheel and source archive in dist/, the wheel tried in an environment of its own
	rm -rf dist build/dist-venv
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/dist-venv
	build/dist-venv/bin/python -m pip install --quiet "$$(ls $(CURDIR)/dist/*.whl)[tensorflow,portraits]"
	cd build && dist-venv/bin/facehal sample dist-photos --portraits && \
	  dist-venv/bin/facehal hallucinate dist-photos --out dist-pictures

bench: install ## speed (see benchmarks/README.md): EXTRAS=test,reference,jax,export
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/step_shares.py
	$(BIN)/python benchmarks/epoch_time.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/preprocessing.py
	$(BIN)/python benchmarks/optimizers.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/startup.py

clean: ## what the targets made, not the data and not the runs
	rm -rf build dist $(LOWEST_VENV) $(DOCS_VENV) .pytest_cache .ruff_cache .mypy_cache
