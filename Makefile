# The ways into the project. `make` alone lists them; the work itself is in scripts/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench soak fmt lint guests web clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	|| sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1  \2/p' $(MAKEFILE_LIST)

demo: ## install what is missing, build, and run a word count on four nodes (DATA=path, LIMIT_MB=n, KEEP=1)
	@scripts/setup
	@scripts/interpreters || test $$? -eq 3
	@scripts/web || test $$? -eq 3
	@cargo build --release --locked --bin timerose
	@scripts/demo

test: ## install what is missing and run every check; the last line counts them
	@scripts/test

bench: ## measure the paths that must be fast, each beside its limit (SIZE_MB=n, ROUNDS=n)
	@scripts/bench

soak: ## the long tests: many seeds, many deaths, a million calls, a file of 10 GiB (SEEDS=n, ROUNDS=n, KILLS=n, TASKS=n, CALLS=n, SIZE=n); about an hour
	@scripts/soak

fmt: ## format the sources
	@cargo fmt

lint: ## check the formatting and run clippy, warnings denied
	@cargo fmt --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

guests: ## build the example functions into guests/built
	@guests/build.sh

web: ## build the web page into web/dist; the next build of the binary takes it in
	@scripts/web

clean: ## remove everything that was built
	@cargo clean
	@rm -rf web/dist web/interpreters web/node_modules
