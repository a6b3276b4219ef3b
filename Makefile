# The commands of the repository. Everything they install goes to $ASTROMECH_CACHE (default ~/.cache/astromech), but for apt packages;
# what they build goes to target/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo check unit doc test torture mutations bench bench-trainer lint fmt ops-check audit sbom build trainer up down clean-cache

LOCAL := deploy/local
BASE := . $(LOCAL)/common.sh;
# After the installs: whether mold is there decides RUSTFLAGS, and other RUSTFLAGS rebuild every dependency.
ENV := . $(LOCAL)/env.sh;
CONFIG ?= configs/demo.toml

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: ## index the demo pictures into the embedded index and serve the search page (DEMO_ONCE=1: print the hits and end)
	@$(BASE) step 'install ONNX Runtime' $(LOCAL)/install.sh build onnxruntime; \
	$(ENV) step 'build the daemon' cargo build --locked; \
	"$$CARGO_TARGET_DIR/debug/astromech" demo --config $(CONFIG) $(if $(DEMO_ONCE),--once)

test: ## every test: units, parity, end to end against a real Kafka, Qdrant and browser
	@$(LOCAL)/test.sh

MINUTES ?= 10
torture: ## kills and freezes daemons, brokers and Qdrant for MINUTES (10) and at least KILLS (100); SEED repeats a schedule
	@$(BASE) step 'install the parts' $(LOCAL)/install.sh build onnxruntime libtorch kafka qdrant; \
	$(ENV) step 'build' cargo build --workspace --bins --locked; \
	TORTURE_MINUTES=$(MINUTES) TORTURE_KILLS=$(or $(KILLS),100) TORTURE_SEED=$(or $(SEED),$$RANDOM) step 'torture' \
	cargo test --workspace --locked --test e2e -- --exact --nocapture torture::promises_1_2_3_4_hold_under_a_seeded_torture_of_brokers_qdrant_and_daemons

mutations: ## takes each promise's guard away and sees its test fail (ONLY=promise_2 for some)
	@$(BASE) step 'install the parts' $(LOCAL)/install.sh build onnxruntime libtorch kafka qdrant; $(ENV) tests/mutations/run.sh $(ONLY)

# The dev profile (dependencies at opt-level 1, decoders at 3) is what is built already; most of the time is ONNX Runtime's in any case.
# PROFILE=release measures what a production build does and takes ten minutes to build on 2 cores.
PROFILE ?= dev
bench: ## the figures of BENCHMARKS.md (PROFILE=release for an optimised build)
	@$(BASE) step 'install the parts' $(LOCAL)/install.sh build onnxruntime libtorch kafka qdrant; \
	$(ENV) step 'build' cargo build --workspace --bins --locked --profile $(PROFILE); \
	step 'bench' "$$CARGO_TARGET_DIR/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/astromech-bench"

bench-trainer: ## a training step beside the same step in PyTorch (needs PyTorch: PYTHON=… with torch 2.11)
	@$(BASE) step 'install LibTorch' $(LOCAL)/install.sh build libtorch onnxruntime; \
	$(ENV) step 'build' cargo build --workspace --bin trainer --locked; \
	PYTHON=$(or $(PYTHON),python3) trainer/bench/run.sh

check: ## a contributor's loop: format, lints and unit tests of what differs from main (CRATES="a b" for those alone)
	@$(BASE) step 'install ONNX Runtime' $(LOCAL)/install.sh build onnxruntime; $(LOCAL)/check.sh $(CRATES)

unit: ## the unit tests of every crate
	@$(BASE) step 'install LibTorch and ONNX Runtime' $(LOCAL)/install.sh build libtorch onnxruntime; \
	$(ENV) step 'unit tests' cargo test --workspace --lib --bins --locked

doc: ## the documentation of our crates into target/doc; a broken link is an error
	@$(BASE) step 'install LibTorch (the trainer is read too)' $(LOCAL)/install.sh build libtorch; \
	$(ENV) RUSTDOCFLAGS='-D warnings' step 'rustdoc' cargo doc --workspace --no-deps --locked

lint: ## rustfmt, clippy and rustdoc, warnings are errors
	@$(BASE) step 'install LibTorch (the trainer is checked too)' $(LOCAL)/install.sh build libtorch; \
	$(ENV) step 'rustfmt' cargo fmt --all --check; \
	step 'clippy' cargo clippy --workspace --all-targets --locked -- -D warnings; \
	RUSTDOCFLAGS='-D warnings' step 'rustdoc' cargo doc --workspace --no-deps --locked

fmt: ## format the code
	@$(BASE) $(ENV) cargo fmt --all

ops-check: ## what operators run, by the real tools: chart, alerts, units, images, workflows (ONLY="helm systemd" for some; ADVISORY_DB=FOLDER)
	@deploy/ops/check.sh $(ONLY)

audit: ## licences, duplicates, sources and advisories of every dependency (deny.toml); builds cargo-deny the first time
	@$(LOCAL)/audit.sh check

sbom: ## a CycloneDX bill of materials of the daemon and of the trainer
	@$(LOCAL)/audit.sh sbom

build: ## the daemon (no LibTorch needed)
	@$(BASE) step 'check the tools' $(LOCAL)/install.sh build; $(ENV) step 'build the daemon' cargo build --locked

up: ## start a real Kafka and Qdrant for work by hand
	@$(LOCAL)/up.sh

trainer: ## the trainer (installs LibTorch)
	@$(BASE) step 'install LibTorch and ONNX Runtime' $(LOCAL)/install.sh build libtorch onnxruntime; \
	$(ENV) step 'build the trainer' cargo build --locked --workspace --bin trainer; \
	echo ". $(LOCAL)/common.sh; . $(LOCAL)/env.sh; $$CARGO_TARGET_DIR/debug/trainer --help"

down: ## stop them; their data stays
	@$(LOCAL)/down.sh

clean-cache: ## remove what was installed and built (servers must be stopped)
	@$(BASE) $(ENV) $(LOCAL)/down.sh; \
	echo 'removing target'; rm -rf target; \
	for part in target libtorch onnxruntime kafka qdrant openapi versitygw apicurio audit local helm kubeconform kubernetes-schemas operators promtool compose hadolint shellcheck actionlint cargo-audit; do echo "removing $$ASTROMECH_CACHE/$$part"; rm -rf "$$ASTROMECH_CACHE/$$part"; done
