#!/usr/bin/env bash
# `make ops-check`: what operators run, by the real tools. Runs every executable script of this folder, prints a line with its seconds for each,
# and fails at the end where one failed.
#   check.sh [NAME…]      those alone, such as `helm prometheus`
. "$(dirname "${BASH_SOURCE[0]}")/../local/common.sh"
cd "$(dirname "${BASH_SOURCE[0]}")"
LOG=$(mktemp "${TMPDIR:-/tmp}/astromech-ops-check.XXXXXX")
trap 'rm -f "$LOG"' EXIT

names=("$@")
if [ $# = 0 ]; then
  for script in *.sh; do
    if [ -x "$script" ] && [ "$script" != check.sh ]; then names+=("${script%.sh}"); fi
  done
fi

failed=() began=$SECONDS
for name in "${names[@]}"; do
  [ -x "$name.sh" ] || die "no check is called $name" "one of those in deploy/ops"
  from=$SECONDS
  if "./$name.sh" >"$LOG" 2>&1; then
    printf '%-14s ok      %4d s  %s\n' "$name" $((SECONDS - from)) "$(tail -n 1 "$LOG")"
  else
    printf '%-14s FAILED  %4d s\n' "$name" $((SECONDS - from))
    sed 's/^/    /' "$LOG"
    failed+=("$name")
  fi
done
printf '%d passed, %d failed in %d s\n' $((${#names[@]} - ${#failed[@]})) ${#failed[@]} $((SECONDS - began))
if [ ${#failed[@]} -gt 0 ]; then die "failed: ${failed[*]}" "what is above; one alone: deploy/ops/check.sh ${failed[0]}"; fi
