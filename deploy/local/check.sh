#!/usr/bin/env bash
# `make check`: format, lints and unit tests of the crates that changed since the merge base with main, and of those that depend on them.
#   check.sh [CRATE…]      of these crates alone
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$LOCAL_DIR/../.."
. "$LOCAL_DIR/env.sh"
MAIN=${MAIN:-main}

# Paths that differ from the merge base, committed or not.
changed_paths() {
  local base
  base=$(git merge-base HEAD "origin/$MAIN" 2>/dev/null || git merge-base HEAD "$MAIN" 2>/dev/null) || base=HEAD
  git diff --name-only "$base"
  git ls-files --others --exclude-standard
}

# changed_crates: reads paths, prints the crates that they belong to and all that depend on those.
changed_crates() {
  cargo metadata --no-deps --format-version 1 --locked | python3 -c '
import json, os, sys
paths = [os.path.abspath(path) for path in open(sys.argv[1]).read().splitlines()]
crates = {crate["name"]: crate for crate in json.load(sys.stdin)["packages"]}
folders = {os.path.dirname(crate["manifest_path"]): name for name, crate in crates.items()}

def owner(path):
    while path != os.path.dirname(path):
        if path in folders:
            return folders[path]
        path = os.path.dirname(path)

everything = {os.path.abspath(name) for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml")}
found = set(crates) if everything & set(paths) else {owner(path) for path in paths} & set(crates)
while True:
    above = {name for name, crate in crates.items() if any(dependency["name"] in found for dependency in crate["dependencies"])}
    if above <= found:
        break
    found |= above
print(*sorted(found), sep="\n")
' "$1"
}

if [ $# -gt 0 ]; then
  crates=("$@")
else
  changed_paths >"${TMPDIR:-/tmp}/astromech-changed.$$"
  listed=$(changed_crates "${TMPDIR:-/tmp}/astromech-changed.$$")
  mapfile -t crates <<<"$listed"
  rm -f "${TMPDIR:-/tmp}/astromech-changed.$$"
fi
crates=("${crates[@]/#/--package=}")
step 'rustfmt' cargo fmt --all --check
if [ "${crates[*]}" = '' ] || [ "${crates[*]}" = --package= ]; then
  log 'no crate has changed since the merge base with main'
  exit
fi
log "crates: ${crates[*]#--package=}"
case " ${crates[*]} " in *trainer* | *e2e*) step 'install LibTorch (the trainer is checked too)' "$LOCAL_DIR/install.sh" build libtorch ;; esac
step 'clippy' cargo clippy "${crates[@]}" --all-targets --locked -- -D warnings
step 'unit tests' cargo test "${crates[@]}" --lib --bins --locked --quiet
