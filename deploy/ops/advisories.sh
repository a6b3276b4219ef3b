#!/usr/bin/env bash
# Known vulnerabilities of what Cargo.lock names, by cargo-audit with a folder of advisories: ADVISORY_DB=FOLDER, a clone of RustSec's
# advisory-db. Without one only cargo-audit itself is tried, on an advisory of our own making: then the last line says so.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need cargo-audit
AUDIT=$ASTROMECH_CACHE/cargo-audit/$CARGO_AUDIT

# cargo-audit opens a database as a git repository.
audit() { env CARGO_HOME="$WORK/cargo" "$AUDIT" audit --no-fetch --stale --no-yanked --color never --db "$1" --file Cargo.lock "${@:2}"; }

# An advisory against a crate that is in the lock file is found: the tool reads the folder and the file.
locked=$(sed -n '/^name = "tokio"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
mkdir -p "$WORK/db/crates/tokio"
cat >"$WORK/db/crates/tokio/RUSTSEC-2000-0001.md" <<ADVISORY
\`\`\`toml
[advisory]
id = "RUSTSEC-2000-0001"
package = "tokio"
date = "2000-01-01"

[versions]
patched = ["> $locked"]
\`\`\`

# An advisory that is made for this check
It says nothing of tokio.
ADVISORY
git -C "$WORK/db" init -q
git -C "$WORK/db" add .
git -C "$WORK/db" -c user.name=check -c user.email=check@localhost commit -qm advisory
CHECKED=$((CHECKED + 1))
if audit "$WORK/db" >"$WORK/found" 2>&1; then fault 'an advisory against a crate of the lock file is found'; fi
has 'the report of a made advisory' "$WORK/found" RUSTSEC-2000-0001
sed -i 's/^patched = .*/patched = [">= 0.0.1"]/' "$WORK/db/crates/tokio/RUSTSEC-2000-0001.md"
git -C "$WORK/db" -c user.name=check -c user.email=check@localhost commit -qam patched
holds 'an advisory against versions that are not in the lock file is none' audit "$WORK/db"

if [ -n "${ADVISORY_DB:-}" ]; then
  [ "$(find "$ADVISORY_DB/crates" -name 'RUSTSEC-*.md' | wc -l)" -gt 500 ] || die "$ADVISORY_DB is no clone of RustSec's advisory-db" 'ADVISORY_DB=FOLDER, with crates/*/RUSTSEC-*.md in it'
  holds "no advisory of $ADVISORY_DB is against the lock file" audit "$ADVISORY_DB"
  summary "advisories of $ADVISORY_DB"
else
  summary 'advisories: NOT LOOKED AT, since ADVISORY_DB names no clone of them; cargo-audit itself'
fi
