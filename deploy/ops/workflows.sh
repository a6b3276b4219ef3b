#!/usr/bin/env bash
# GitHub's workflows by actionlint, their scripts and all of the repository's by shellcheck.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need actionlint shellcheck
SHELLCHECK=$ASTROMECH_CACHE/shellcheck/$SHELLCHECK

holds 'workflows' "$ACTIONLINT" -shellcheck "$SHELLCHECK" -no-color .github/workflows/*.yml
mapfile -t scripts < <(find deploy tests trainer .ci -name '*.sh' -o -path .ci/run)
[ ${#scripts[@]} -gt 20 ] || fault "only ${#scripts[@]} scripts were found"
# What is sourced by a variable's name can't be followed (SC1090, SC1091).
for script in "${scripts[@]}"; do
  holds "$script" "$SHELLCHECK" --shell=bash --external-sources --source-path=SCRIPTDIR --exclude=SC1090,SC1091 --severity=warning "$script"
done
summary 'workflows and scripts'
