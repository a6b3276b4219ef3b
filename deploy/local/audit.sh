#!/usr/bin/env bash
# `make audit` and `make sbom`: what the build is made of. The two tools are built once into $ASTROMECH_CACHE/audit (some minutes).
#   audit.sh check   licences, duplicates, banned crates, sources (deny.toml), then the advisories of RustSec
#   audit.sh sbom    CycloneDX 1.5 of the daemon and of the trainer, into $SBOM_DIR (default: sbom/ in the target folder)
# The advisory database comes from GitHub; where that can't be reached the check fails, or is left out with AUDIT_WITHOUT_ADVISORIES=1.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$LOCAL_DIR/env.sh"
cd "$LOCAL_DIR/../.."

TOOLS=$ASTROMECH_CACHE/audit

# tool NAME VERSION: unoptimised, since each runs for seconds and an optimised build takes ten times as long.
tool() {
  [ -x "$TOOLS/bin/$1" ] && [ "$(cat "$TOOLS/$1.version" 2>/dev/null)" = "$2" ] && return
  log "building $1 $2"
  env -u RUSTFLAGS CARGO_TARGET_DIR="$TOOLS/target" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
    cargo install -q "$1" --version "=$2" --locked --force --root "$TOOLS"
  rm -rf "$TOOLS/target"
  echo "$2" >"$TOOLS/$1.version"
}

check() {
  tool cargo-deny 0.20.2
  local deny="$TOOLS/bin/cargo-deny"
  step 'licences, duplicates, bans, sources' "$deny" --locked check licenses bans sources
  if [ "${AUDIT_WITHOUT_ADVISORIES:-}" = 1 ]; then
    log 'advisories: left out (AUDIT_WITHOUT_ADVISORIES=1)'
  else
    step 'advisories' "$deny" --locked check advisories ||
      die 'there are advisories, or their database could not be had' 'read what is above; without a network: AUDIT_WITHOUT_ADVISORIES=1 make audit'
  fi
}

sbom() {
  tool cargo-cyclonedx 0.5.9
  local out=${SBOM_DIR:-$CARGO_TARGET_DIR/sbom} epoch file name
  epoch=$(git log -1 --format=%ct 2>/dev/null || date +%s)
  mkdir -p "$out"
  # It writes beside each manifest of the workspace, whichever is named.
  SOURCE_DATE_EPOCH=$epoch "$TOOLS/bin/cargo-cyclonedx" cyclonedx --manifest-path daemon/Cargo.toml --format json --spec-version 1.5 --describe binaries -q
  for file in daemon/astromech_bin trainer/trainer_bin tests/astromech-bench_bin; do
    name=$(basename "${file%_bin}")
    # This machine's folder is nobody's business.
    if [ "$name" != astromech-bench ]; then sed "s|file://$PWD|file://|g" "$file.cdx.json" >"$out/$name.cdx.json"; log "$out/$name.cdx.json: $(grep -c '"purl"' "$out/$name.cdx.json") components"; fi
    rm -f "$file.cdx.json"
  done
}

case ${1:-} in
  check) check ;;
  sbom) sbom ;;
  *) die "audit.sh: no such command: ${1:-}" 'audit.sh check | sbom' ;;
esac
