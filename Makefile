# The only entry points. `make demo` and `make test` need nothing but a Rust toolchain and a C
# compiler; what is missing besides is installed by cargo.

CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
EXAMPLE := tests/fixtures/example
# Many tests wait for a server or a process: two for each core.
TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: demo test check doc e2e bench chaos

## Build, grade the bundled example with the embedded store and the simulated judge, print the tree.
demo:
	$(CARGO) build --release -p tribunal-cli
	$(TARGET_DIR)/release/tribunal grade \
	    --rubric $(EXAMPLE)/rubric.json \
	    --submission $(EXAMPLE)/submission \
	    --paper $(EXAMPLE)/paper.md \
	    --addendum $(EXAMPLE)/addendum.md \
	    --judge-addendum $(EXAMPLE)/judge_addendum.md \
	    --store sqlite:tribunal-out/demo/store.db \
	    --out tribunal-out/demo \
	    --tree

## Every test: units, conformance, end to end.
test:
	$(CARGO) build --workspace --all-features --bins
	if $(CARGO) nextest --version >/dev/null 2>&1; \
	    then $(CARGO) nextest run --workspace --all-features --no-fail-fast -j $(TEST_THREADS); \
	    else $(CARGO) test --workspace --all-features --all-targets; fi

## Formatting, lints, docs, and the gates of the rules that are prose.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	tests/gates.sh
	tests/deploy.sh
	if $(CARGO) deny --version >/dev/null 2>&1; \
	    then $(CARGO) deny --all-features check licenses bans sources; \
	    else echo "SKIPPED: licences, bans and sources of dependencies: no cargo-deny" >&2; fi

doc:
	$(CARGO) doc --workspace --no-deps --open

## The end-to-end suite alone.
e2e:
	$(CARGO) build -p tribunal-cli
	$(CARGO) nextest run -p tribunal-e2e

## Benchmarks; tables are written to tribunal-out/bench.md (the pool's) and bench-store.md.
bench:
	$(CARGO) build --release -p tribunal-cli
	$(CARGO) bench -p tribunal-e2e --bench pool
	$(CARGO) bench -p tribunal-e2e --bench pages
	$(CARGO) bench -p tribunal-evidence --bench log
	$(CARGO) bench -p tribunal-store --bench throughput

## Faults around a PostgreSQL store, more often than `make test` has them; keeps the table of
## docs/reliability.md.
chaos:
	$(CARGO) build --workspace --all-features --bins
	TRIBUNAL_CHAOS=$(or $(TIMES),5) $(CARGO) test --workspace --all-features --test chaos -- --test-threads 1 --nocapture
