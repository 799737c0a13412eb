# Everything a newcomer types: `make demo`, `make test`. Each does its own set-up.

PYTHON ?= python3
BIN := .venv/bin
NAME ?= coxswain
NODES ?= 3
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kernels test-kernels-gpu test-all faults kube lint format bench bench-scheduler bench-kernels generate lock cluster-up cluster-down clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: .venv/.compiled  ## Install the Python packages into .venv, compile the scheduler (the other targets do it by themselves)

.venv/.installed: requirements.txt pyproject.toml .ci/venv
	@PYTHON=$(PYTHON) bash .ci/venv
	@touch $@

.venv/.compiled: .venv/.installed scheduler/compiling.py $(shell find scheduler/coxswain_scheduler scheduler/coxswain_gateway -name '*.py')
	@$(BIN)/python scheduler/compiling.py
	@touch $@

demo: setup  ## Kill a node under twenty streams on a real local Kubernetes (KEEP=1 leaves it running)
	$(BIN)/python -m e2e.demo $(if $(KEEP),--keep)

test: setup kube  ## The everyday suite: unit, API server, local cluster (those on the cluster need root)
	$(MAKE) test-kernels KNOWN=1
	$(BIN)/python -m pytest -m "not faults" $(ARGS)

test-kernels: setup  ## Interpret the GPU kernels, compile them for every target, check docs/kernels.md (WRITE=1: write it)
	@mkdir -p build
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/kernels/interpreted --kernel-outcomes build/kernel-outcomes.json
	$(BIN)/python -m coxswain_kernels.gate --outcomes build/kernel-outcomes.json $(if $(WRITE),,--check) $(if $(KNOWN),--unless-known)

test-kernels-gpu: setup  ## The kernels on this machine's GPU: the interpreted tests, float64 references, bits, CUDA graphs
	$(BIN)/python -m pytest tests/kernels/interpreted tests/kernels/gpu --device cuda $(ARGS)

faults: setup kube  ## The long suite: every kind of failure under traffic on the local cluster
	$(BIN)/python -m pytest -m faults $(ARGS)

kube: setup  ## Compile Kubernetes into the cache, once per machine (the other targets do it by themselves)
	$(BIN)/python -m e2e.cluster build

test-all: test faults  ## Both suites

lint: setup  ## ruff, mypy, import-linter, generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m coxswain_crds.generate --check

format: setup  ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: setup  ## Write the CRD manifests from the models
	$(BIN)/python -m coxswain_crds.generate

bench: setup kube  ## Measure, beside the peers; writes benchmarks/results
	$(BIN)/python -m benchmarks.first_light

bench-scheduler: setup  ## Compare schedulers in the simulator; writes benchmarks/results/scheduler.md (ARGS=--quick: a small one)
	$(BIN)/python -m benchmarks.scheduler $(ARGS)

bench-kernels: setup  ## Time the kernels on this machine's GPU; writes benchmarks/results/kernels.md (ARGS=--quick: files nothing)
	$(BIN)/python -m benchmarks.kernels $(ARGS)

lock: setup  ## Pin what pyproject.toml asks for into requirements.txt
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --no-emit-index-url --no-annotate --custom-compile-command "make lock" -c .ci/constraints.txt -o requirements.txt --upgrade

cluster-up: setup  ## A real Kubernetes on this machine, without Docker (needs root)
	$(BIN)/python -m e2e.cluster up --name $(NAME) --nodes $(NODES)

cluster-down: setup  ## Take it away again, with everything it left
	$(BIN)/python -m e2e.cluster down --name $(NAME)

clean:  ## Remove what was built in this folder (caches outside it stay)
	rm -rf .venv build dist
