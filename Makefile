# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
.PHONY: demo test bench build lint check clean

TEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo "cargo nextest run" || echo "cargo test")

demo: ## watch an agent act, be refused, and leave evidence
	scripts/setup demo
	cargo build --release -p writd -p writ
	demo/run

build: ## the two programs
	scripts/setup build
	cargo build --release -p writd -p writ

test: lint ## everything that must hold; needs root for the kernel's part
	scripts/setup test
	cargo build --workspace --all-targets
	$(TEST) --workspace

lint:
	scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: ## the table of benches/README.md
	scripts/setup bench
	cargo build --release -p writd -p writ -p writ-bench
	benches/run

clean:
	cargo clean
	rm -rf .cache
