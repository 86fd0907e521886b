# Every target sets up what it needs: Python 3.10 or later, Rust and make are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# PyO3 links nothing of the interpreter, but its build script asks for one.
export PYO3_PYTHON := $(abspath $(BIN)/python)
# Tests fail, instead of leaving a tier out, where this machine has it.
export RESNET_RS_REQUIRE_ISA ?= $(shell awk '/^flags/ { \
	for (i = 1; i <= NF; i++) has[$$i] = 1; \
	if (has["avx2"] && has["fma"]) printf "avx2,"; \
	if (has["avx512f"]) printf "avx512,"; exit }' /proc/cpuinfo 2>/dev/null)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# No threads, files or clock: the core must type-check for it.
WASM := wasm32-unknown-unknown
PY_FILES := python tests tools benches examples

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Name the digits in the demo photos with the demo model
	$(BIN)/python examples/sign-digits/predict_digits.py

.PHONY: test
test: test-rust test-python ## Pass all tests, parity with torch among them

.PHONY: test-rust
test-rust: ## Test the Rust core; needs no Python
	cargo test

.PHONY: test-python
test-python: build $(VENV)/.test ## Test the package (installs torch and torchvision)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Parts of the names of tests that run where the processor is emulated: these take minutes, all of them hours.
EMULATED ?= simd:: kernels::conv::int8 kernels::conv::dot
MODEL ?= tigerlake

.PHONY: test-emulated
test-emulated: ## Test kernels of AVX-512 and VNNI on an emulated processor (Debian; see tools/emulated.py)
	python3 tools/emulated.py --model $(MODEL) $(EMULATED)

# Less optimisation, because instrumented kernels take minutes to compile otherwise. A missing tier fails no
# test: Miri has only the portable one.
sanitize%: export CARGO_PROFILE_TEST_OPT_LEVEL = 1
sanitize%: export RESNET_RS_REQUIRE_ISA =

.PHONY: sanitize
sanitize: sanitize-address sanitize-thread sanitize-miri ## Test the core with sanitizers and Miri (nightly)

.PHONY: sanitize-address
sanitize-address:
	RUSTFLAGS=-Zsanitizer=address cargo +nightly test --lib --target $(HOST)

# The standard library is instrumented too: otherwise its synchronisation would look like data races.
.PHONY: sanitize-thread
sanitize-thread: nightly
	RUSTFLAGS=-Zsanitizer=thread \
		cargo +nightly test --lib --target $(HOST) -Zbuild-std -- threads:: infer::

# Everything on one thread first. With several, rayon breaks the experimental rules for references, so
# Miri does not check those there, and rayon's threads never end.
.PHONY: sanitize-miri
sanitize-miri: nightly
	cargo +nightly miri test --lib -- simd:: memory::buffer kernels:: plan::arena weights::relay \
		infer::small_tests::one_thread
	MIRIFLAGS='-Zmiri-disable-stacked-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks' \
		cargo +nightly miri test --lib -- threads:: infer::small_tests::two_threads

.PHONY: nightly
nightly:
	rustup component add --toolchain nightly rust-src miri

# Samples: that many mutants of the core and of the package, drawn by a seed.
CORE ?= 150
PACKAGE ?= 200
SEED ?= 1

.PHONY: mutants
mutants: mutants-core mutants-package ## Count the faults that the tests notice: CORE=150 PACKAGE=200 SEED=1

.PHONY: mutants-core
mutants-core: $(VENV)/.venv
	cargo install --quiet --locked cargo-mutants
	$(BIN)/python tools/core_mutants.py --count $(CORE) --seed $(SEED)

.PHONY: mutants-package
mutants-package: build $(VENV)/.mutants
	$(BIN)/python tools/mutants.py --count $(PACKAGE) --seed $(SEED)

TIME ?= 10m

.PHONY: fuzz
fuzz: build $(VENV)/.test ## Feed damaged input to every reader (nightly): TIME=1h SEED=1
	cargo install --quiet --locked cargo-fuzz
	$(BIN)/python tools/fuzz.py --time $(TIME) --seed $(SEED)

.PHONY: test-slow
test-slow: build $(VENV)/.slow ## Pass the slow tests (installs Ray)
	$(BIN)/python -m pytest --runslow -m slow

.PHONY: docs
docs: build $(VENV)/.docs ## Build the book into site/
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

.PHONY: lint
lint: build $(VENV)/.test $(VENV)/.lint ## Check format, lints, types, the stub, and marks of a merge
	! git grep -nE '^(<{7}|>{7})( |$$)'
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --lib --features python -- -D warnings
	rustup target add $(WASM)
	cargo check --lib --target $(WASM)
	$(BIN)/ruff check $(PY_FILES)
	$(BIN)/ruff format --check $(PY_FILES)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest resnet_rs._core

.PHONY: fmt
fmt: $(VENV)/.lint ## Format everything
	cargo fmt
	$(BIN)/ruff check --fix $(PY_FILES)
	$(BIN)/ruff format $(PY_FILES)

.PHONY: bench
bench: ## Time each convolution and the whole model, for each tier
	cargo bench

.PHONY: peers
peers: build $(VENV)/.bench ## Time ours beside onnxruntime, OpenVINO, ncnn and torch
	$(BIN)/python benches/peers.py --threads 1 2 --batch 1

.PHONY: build
build: $(VENV)/.build ## Build the extension and install the package into .venv

.PHONY: wheel
wheel: $(VENV)/.venv ## Build the wheel into dist/
	$(BIN)/maturin build --release --out dist

.PHONY: check-wheel
check-wheel: $(VENV)/.venv ## Build the wheel and show its size, libraries and import time
	$(BIN)/python tools/check_wheel.py

.PHONY: clean
clean: ## Remove everything that make has made
	rm -rf target fuzz/target dist site $(VENV) python/resnet_rs/_core.abi3.so

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip 'maturin>=1.9.4,<2'
	@touch $@

$(VENV)/.build: $(VENV)/.venv Cargo.toml Cargo.lock pyproject.toml $(shell find rust -name '*.rs')
	$(BIN)/maturin develop --release --quiet
	@touch $@

# torch and torchvision from the package index, as a pair: a build of torch that lies elsewhere
# may not fit the torchvision there is.
$(VENV)/.test: $(VENV)/.venv pyproject.toml
	PIP_FIND_LINKS= $(BIN)/pip install --quiet --group test
	$(BIN)/python -c 'import torch, torchvision; print("torch", torch.__version__, "torchvision", torchvision.__version__)'
	@touch $@

$(VENV)/.slow: $(VENV)/.test
	PIP_FIND_LINKS= $(BIN)/pip install --quiet --group slow
	@touch $@

$(VENV)/.mutants: $(VENV)/.test
	PIP_FIND_LINKS= $(BIN)/pip install --quiet --group mutants
	@touch $@

$(VENV)/.docs: $(VENV)/.venv pyproject.toml
	$(BIN)/pip install --quiet --group docs
	@touch $@

$(VENV)/.lint: $(VENV)/.venv pyproject.toml
	$(BIN)/pip install --quiet --group lint
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	PIP_FIND_LINKS= $(BIN)/pip install --quiet --group bench
	@touch $@
