# The two commands of the README are `make demo` and `make test`. CORES says how many cores the demo may use.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env models demo test test-exhaustive test-slurm soak fuzz bench bench-gpu bench-scale lint format tables clean

CORES ?= $(shell nproc)
BIN := .venv/bin

help:
	@echo "make demo    set up, make a demo cohort and de-identify it (a quarter of an hour on 2 cores)"
	@echo "make test    set up and run the tests"
	@echo "make test-exhaustive   run the tests that take minutes each"
	@echo "make test-slurm   run the workflow on a SLURM of one node, installed here (root on Debian; 4 minutes)"
	@echo "make soak    inject random faults into runs, here and on SLURM (root on Debian; a quarter of an hour)"
	@echo "make fuzz    damage photographs of every format and count what intake says of them (some minutes; ARGS=--help)"
	@echo "make bench   the seed method against deidlib's inversion, side by side (a quarter of an hour; ARGS=--help)"
	@echo "make bench-gpu  photographs a second for each batch size, and the device's floor (ARGS=--help)"
	@echo "make bench-scale  plan a million photographs, and every stage over the whole cohort on 100 000 (ARGS=--help)"
	@echo "make env     make the environment .venv from uv.lock"
	@echo "make lint    ruff, snakefmt, snakemake --lint"
	@echo "make tables  make the tables of config/README.md from the schemas"
	@echo "make clean   remove the demo's results"

env:
	@envs/setup.sh

models: env
	@$(BIN)/deidlib models fetch

demo/key: | env
	@$(BIN)/deidlib keygen $@

demo/cohort/samples.tsv: | models
	@$(BIN)/deidlib demo-cohort demo/cohort

demo: models demo/key demo/cohort/samples.tsv
	@$(BIN)/deidlib run demo/cohort/samples.tsv --key demo/key --results demo/results --cores $(CORES)

# A file's tests run in one process, in the order of tests/conftest.py (the longest files first). A process computes with
# one thread: two on each core only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

test: models
	@$(PYTEST) -m "not exhaustive"

test-exhaustive: models
	@$(PYTEST) -m exhaustive

test-slurm: models
	@$(BIN)/python -m pytest tests/slurm -rs

soak: models
	@$(BIN)/python tests/soak/soak.py

fuzz: env
	@$(BIN)/python tests/soak/formats.py $(ARGS)

bench: models
	@$(BIN)/python tests/bench/inversion.py $(ARGS)

bench-gpu: models
	@$(BIN)/python tests/bench/gpu.py $(ARGS)

bench-scale: env
	@$(BIN)/python tests/bench/scale.py
	@$(BIN)/python tests/bench/tail.py $(ARGS)

lint: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@mkdir -p .snakemake && rm -f .snakemake/lint.key && $(BIN)/deidlib keygen .snakemake/lint.key 2>/dev/null
	@DEIDLIB_KEY_FILE=.snakemake/lint.key $(BIN)/snakemake --lint --config cohort=config/samples.tsv

tables: env
	@$(BIN)/python docs/settings.py

format: env
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile workflow

clean:
	rm -rf demo/results
