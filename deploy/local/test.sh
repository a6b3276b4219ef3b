#!/usr/bin/env bash
# `make test`: installs every part, builds once, runs every test of the workspace; the last line counts them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$LOCAL_DIR/../.."

step 'install the parts' "$LOCAL_DIR/install.sh" all
# After the installs: whether mold is there decides RUSTFLAGS, and other RUSTFLAGS rebuild every dependency.
. "$LOCAL_DIR/env.sh"
LOG=$CARGO_TARGET_DIR/astromech-test.log

run_tests() { cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$LOG"; }

mkdir -p "$CARGO_TARGET_DIR"
# --bins too: the end-to-end tests start the daemon's binary. Libraries and tests in one command, so that features are resolved once.
step 'build' cargo build --workspace --locked --lib --bins --tests
rc=0
step 'tests' run_tests || rc=$?

# "test result: ok. 12 passed; 0 failed; 0 ignored; …", one line a test binary.
read -r passed failed ignored < <(awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) g += $(i-1) } } END { print p + 0, f + 0, g + 0 }' "$LOG")
if [ $rc -ne 0 ] && [ "$failed" -eq 0 ]; then
  echo "a test binary ended without a result: see above (counted as 1 failed)"
  failed=1
fi
if [ "$failed" -gt 0 ]; then sed -n 's/^test \(.*\) \.\.\. FAILED$/failed: \1/p' "$LOG"; fi
if [ "$ignored" -gt 0 ]; then echo "$ignored ignored"; fi
printf '%s passed, %s failed\n' "$passed" "$failed"
exit $rc
