# `make demo` trains a StyleGAN2 on pictures, `make test` runs the tests. Both need Python 3.10 or later (with headers and venv), a C++
# compiler and make; they install the rest, into the active virtual environment, or else into .venv here.

# The torch of the project's own .venv; an active environment's torch is used as it is.
TORCH := torch==2.13.0
PYTHON := python3
DEMO_MINUTES := 10
# One worker per core at most; the tests' tensors are tiny, so each worker gets one thread.
TEST_WORKERS := 2

ACTIVE := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX))
ENV := $(or $(ACTIVE),.venv)
BIN := $(ENV)/bin/
CPP = $(filter csrc/%,$(SOURCES)) $(wildcard tests/*/*.h tests/*/*.cpp)
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*.cuh)

# A stamp says what was installed into which environment; one that is older than an environment made anew counts for nothing.
STAMP := build/stamps/$(subst /,_,$(abspath $(ENV)))
ifeq ($(wildcard $(BIN)python),)
$(shell rm -f $(STAMP)-*)
endif

.PHONY: help build demo test test-wheel test-matrix bench lint format clean

help:
	@echo 'make demo         draw faces, train a StyleGAN2 on them for DEMO_MINUTES=$(DEMO_MINUTES) minutes, name the grid of generated pictures'
	@echo 'make test         build, and run the tests on TEST_WORKERS=$(TEST_WORKERS) processes'
	@echo 'make build        build the libraries in place'
	@echo 'make bench        measure ops, networks and training against the limits of this machine (many minutes)'
	@echo 'make test-wheel   build source distribution and wheel, run the op tests from the wheel in a fresh environment'
	@echo 'make test-matrix  the same on the oldest and the newest torch too (slow downloads)'
	@echo 'make lint         check style and format;  make format mends them'
	@echo 'make clean        remove what the build left; .venv and runs stay'
	@echo
	@echo 'environment: $(ENV)$(if $(ACTIVE), (active),)'

$(STAMP)-env: $(wildcard $(ENV)/pyvenv.cfg)
ifeq ($(ACTIVE),)
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or later is needed: make PYTHON=...")'
	test -x $(BIN)python || $(PYTHON) -m venv $(ENV)
	$(BIN)python -m pip install --quiet 'setuptools>=65' wheel ninja '$(TORCH)'
else
	$(BIN)python -m pip install --quiet 'setuptools>=65' wheel ninja 'torch>=2.10'
endif
	@mkdir -p $(@D) && touch $@

$(STAMP)-build: $(STAMP)-env $(SOURCES)
	$(BIN)python -m pip install --quiet --no-build-isolation -e '.[train,demo,figures,checkpoints,test]'
	@touch $@

# The extra's tools alone: installing the package with it would build once more.
TOOLS := import importlib.metadata as m; print(*(r.partition(";")[0] for r in m.requires("stylegan_ops") if "dev" in r.partition("extra ==")[2]))

$(STAMP)-dev: $(STAMP)-build
	$(BIN)python -m pip install --quiet $$($(BIN)python -c '$(TOOLS)')
	@touch $@

build: $(STAMP)-build

# Waiting threads sleep: on a machine that does other work too, spinning ones cost most of the speed (8 against 30 images/s measured).
# A second call goes on where the first one ended or was interrupted, and is done at once when the minutes are over.
demo: $(STAMP)-build
	test -e runs/demo/data.zip || $(BIN)stylegan-ops dataset dicebear:pixel-art runs/demo/data.zip --resolution 32 --count 10000
	test -n '$(wildcard runs/demo/train/checkpoint-*.pt)' || rm -rf runs/demo/train
	OMP_WAIT_POLICY=PASSIVE $(BIN)stylegan-ops train runs/demo/data.zip --outdir runs/demo/train --minutes $(DEMO_MINUTES) \
	  $(if $(wildcard runs/demo/train/checkpoint-*.pt),--resume latest,--preset demo)

test: $(STAMP)-build
	OMP_NUM_THREADS=1 $(BIN)python -m pytest -q -n $(TEST_WORKERS) tests

test-wheel: $(STAMP)-build
	.ci/build-wheel $(BIN)python
	.ci/test-package $(PYTHON) $(TORCH) dist/*.whl

# One wheel runs on every torch from the oldest to the newest, and the oldest one's headers build it too.
test-matrix: test-wheel
	.ci/test-package $(PYTHON) torch==2.10.0 dist/*.whl
	.ci/test-package $(PYTHON) torch dist/*.whl
	.ci/test-package $(PYTHON) torch==2.10.0 dist/*.tar.gz

bench: $(STAMP)-build
	$(BIN)stylegan-ops benchmark --json build/benchmark.json --html build/benchmark.html

lint: $(STAMP)-dev
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)clang-format --dry-run --Werror $(CPP)

format: $(STAMP)-dev
	$(BIN)ruff check --fix .
	$(BIN)ruff format .
	$(BIN)clang-format -i $(CPP)

clean:
	rm -rf build dist *.egg-info stylegan_ops/_build_info.json stylegan_ops/*.so
	find stylegan_ops tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
