#!/usr/bin/env bash
# The rules that are prose, each as a check. Prints what breaks one and where; exit 1 if any does.
set -u
# A gate is the last of its pipe: what it finds must outlive it.
shopt -s lastpipe
cd "$(dirname "$0")/.."
failed=0

gate() { # NAME, then the offending lines on standard input
    local lines
    lines=$(cat)
    if [ -n "$lines" ]; then
        printf 'gate: %s\n%s\n\n' "$1" "$lines" >&2
        failed=1
    fi
}

sources() { git ls-files -co --exclude-standard 'crates/*.rs' 'tests/*.rs'; }

sources | while read -r file; do
    head -n 1 "$file" | grep -q '^//!' || echo "$file"
done | gate "every module begins with what it owns (//!)"

sources | grep '/mod\.rs$' | gate "no mod.rs"

sources | xargs grep -nE '#!?\[allow\(' | gate "#[expect(lint, reason)] instead of #[allow]"

sources | xargs grep -nE '\b(TODO|FIXME|XXX)\b|todo!\(|unimplemented!\(' | gate "nothing is left for later"

sources | grep -v '/tests/' | xargs wc -l | awk '$2 != "total" && $1 > 500' |
    gate "files of a few hundred lines"

# One room each for what others must not use.
sources | xargs grep -nE '\bbackoff::' | grep -v '^crates/worker/src/retry.rs:' |
    gate "backoff is used in retry.rs alone"
sources | xargs grep -nE '\b(println|eprintln|print|eprint)!\(' | grep -vE '^(crates/cli/src/|tests/|crates/[a-z]+/(tests|benches)/)' |
    gate "only the binary speaks to the terminal"

# Dependencies point one way.
arrow() { # CRATE FORBIDDEN...
    local crate=$1
    shift
    for other in "$@"; do
        grep -nE "^tribunal-$other\b" "crates/$crate/Cargo.toml" | sed "s|^|crates/$crate/Cargo.toml:|"
    done
}
{
    arrow core evidence store worker collector audit tune report sim cli
    arrow evidence store worker collector audit tune report sim cli
    arrow store evidence worker collector audit tune report sim cli
    arrow worker collector audit tune report sim cli
    arrow collector evidence worker audit tune report sim cli
    arrow audit evidence store worker collector tune report sim cli
    arrow tune evidence store worker collector report sim cli
    arrow report evidence worker sim cli
    arrow sim evidence store worker collector audit tune report cli
} | gate "the dependency rule of ARCHITECTURE.md"
for crate in core audit tune; do
    sed '/^\[dev-dependencies\]/,$d' crates/$crate/Cargo.toml | grep -nE '^(tokio|reqwest|sqlx)'
done | gate "core, audit and tune have no runtime and no I/O"
grep -nE '^[a-z0-9_-]+ *= *("|\{[^}]*version)' crates/*/Cargo.toml tests/Cargo.toml |
    grep -vE ':(name|path|version|edition) *=' |
    gate "versions stand in the workspace's Cargo.toml alone"

# Every key of the config is explained.
awk '/^#?[a-z_]+ = / && prev !~ /^#/ && prev !~ /= / { print FILENAME ":" FNR ": " $0 } { prev = $0 }' config/default.toml |
    gate "every key of the config has a comment"

exit $failed
