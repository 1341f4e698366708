# Each recipe is a line that can also be typed by hand; `make` alone lists them.
.DEFAULT_GOAL := list
.PHONY: list check lint deny sbom redis test test-page test-contract man torture run demo schema load load-peers speed-table instructions load-hits load-writes load-lag load-collapse load-brownout load-tiers load-purge

list: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

check: lint test ## what CI asks for: format, lints, documentation, tests

lint: ## format, lints and documentation
	cargo fmt --check && cargo clippy --all-targets --jobs 2 -- -D warnings && cargo clippy --no-default-features --jobs 2 -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --jobs 2

deny: ## licences, bans and sources of what is built in
	.ci/deny

sbom: ## the bill of materials of the binary (CycloneDX), in target/tidegate.cdx.json
	@command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx
	cargo cyclonedx --format json --override-filename tidegate.cdx && install -D tidegate.cdx.json target/tidegate.cdx.json && rm tidegate.cdx.json

redis:
	@command -v redis-server >/dev/null || .ci/install-redis

test: redis ## every test, or those whose name contains name=.. : make test name=purge
	cargo test --jobs 2 $(if $(name),-- $(name))

test-page: ## the admin page in headless Chromium, with screenshots in target/page
	tests/page/run

test-contract: ## the admin API against its own description, by schemathesis from PyPI, for a minute
	tests/contract/run

man: ## manual pages, in target/man
	cargo run --release -- man target/man

torture: redis ## the long forms of the proofs: a thousand deaths, many more random cases, for hours
	TIDEGATE_TORTURE=1 PROPTEST_CASES=20000 cargo test --jobs 2 $(if $(name),-- $(name))

config ?= config/sidecar.toml
run: ## the gateway with config=FILE
	cargo run --release -- serve --config $(config)

demo: ## the main job on embedded defaults
	cargo run --release -- demo

schema: ## the JSON Schema of the configuration, on standard output
	@cargo run --quiet --release -- schema

load: load-hits load-writes load-lag load-collapse load-brownout load-tiers load-purge ## every scenario of Tidegate alone

peers ?= target/peers.json
load-peers: ## Tidegate beside nginx, haproxy, Varnish, Traffic Server; flags=--quick: rough, in 4 minutes
	load-tests/install-peers
	cargo build --release && PATH="$$PATH:/usr/sbin" cargo run --release --example load -- peers --json $(peers) $(flags)

speed-table: ## the table for README.md of a kept run, run=FILE that make load-peers has written (peers=FILE)
	cargo run --release --example load -- peers --table $(or $(run),$(peers))

# Lines of the gateway's own sources, so that the strict gate is found in what it is inlined into.
lines := --config 'profile.release.package.tidegate.debug="line-tables-only"'
instructions: ## instructions of a hit, a 304 and a forward under callgrind; flags=--write renews the budget
	load-tests/install-valgrind
	cargo build --release $(lines) && cargo run --release $(lines) --example load -- instructions $(flags)

load-hits: ## open-loop load: answers from memory
	cargo build --release && cargo run --release --example load -- hits

load-writes: ## as many durable writes as go, beside a bare program, Redis and PostgreSQL
	cargo build --release && cargo run --release --example load -- writes

load-lag: ## 2,000 changes a second to three destinations, one silent for a minute
	cargo build --release && cargo run --release --example load -- lag

load-collapse: ## 1,000 clients at once on what is not stored
	cargo build --release && cargo run --release --example load -- collapse

rate ?= 5000
load-brownout: ## open-loop load while the source is ten times slower, rate=REQUESTS a second
	cargo build --release && cargo run --release --example load -- brownout --rate $(rate)

load-tiers: redis ## an answer's cost from memory, Redis and the source, beside redis-benchmark
	cargo build --release && cargo run --release --example load -- tiers

load-purge: redis ## a purge by a tag of ten responses and of 100,000
	cargo build --release && cargo run --release --example load -- purge
