# `make demo` shows the product; `make test` passes the tests. Both install what they need.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/codeforge/target

.PHONY: demo test setup build bench schemas

demo:
	cargo build --locked --quiet
	@"$(CARGO_TARGET_DIR)/debug/codeforge" demo

setup:
	scripts/setup

test: setup
	cargo nextest --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-nextest
	cargo nextest run --locked --no-fail-fast
	cargo test --locked --doc --quiet

build:
	cargo build --locked --release

bench:
	scripts/bench/all
