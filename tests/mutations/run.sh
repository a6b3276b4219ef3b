#!/usr/bin/env bash
# Takes the guard of each promise away, one patch at a time, and sees its test fail: a test that passes without its guard proves nothing.
#   run.sh [PATTERN…]      patches whose names hold one of the patterns (default: all); exit 1 where a test survives
# Each patch says in its head which test must fail: "Test: lib|test BINARY|CRATE NAME". The sources are restored afterwards, whatever happens.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$HERE/../.."
LOGS=${CARGO_TARGET_DIR:-target}/mutations
mkdir -p "$LOGS"

applied=''
restore() { if [ -n "$applied" ]; then git apply -R "$applied" && applied=''; fi; }
trap restore EXIT
trap 'exit 130' INT TERM

# A mutation may leave code without a use: its warnings are its own.
run_test() {
  case $1 in
    lib) cargo test --workspace --locked --lib -- --exact "$3" ;;
    # The end-to-end tests start the daemon's binary, and cargo does not know that.
    test) cargo build --workspace --locked --bin astromech && cargo test --workspace --locked --test "$2" -- "$3" ;;
  esac
}

# Whether the named test itself failed: a patch that does not compile, or a name that fits nothing, proves nothing.
failed_as_wanted() { grep -Eq "^test (.*::)?$2(_on_[a-z]+|::[a-z_]+)? \.\.\. FAILED|^test .*$2.* \.\.\. FAILED" "$1"; }

survived=0 killed=0
for patch in "$HERE"/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ] && ! grep -qF -f <(printf '%s\n' "$@") <<<"$name"; then continue; fi
  read -r kind binary test < <(sed -n 's/^Test: //p' "$patch")
  guard=$(sed -n 's/^Guard: //p' "$patch")
  log=$LOGS/$name.log
  git apply --check "$patch" || { echo "$name: the patch no longer fits the code; make it anew"; survived=$((survived + 1)); continue; }
  git apply "$patch"
  applied=$patch
  if run_test "$kind" "$binary" "$test" >"$log" 2>&1; then
    echo "$name: SURVIVED: \`$test\` passes without \"$guard\""
    survived=$((survived + 1))
  elif failed_as_wanted "$log" "${test##*::}"; then
    echo "$name: killed: $(grep -m1 -A1 "panicked at" "$log" | tail -n 1 | cut -c1-160)"
    killed=$((killed + 1))
  else
    echo "$name: NOT PROVED: the test did not run; the end of $log:"
    tail -n 5 "$log"
    survived=$((survived + 1))
  fi
  restore
done
echo "$killed mutations killed, $survived not"
[ $survived -eq 0 ]
