#!/usr/bin/env bash
# notes.sh VERSION: the version's section of CHANGELOG.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=${1:?a version, such as 1.2.3}
notes=$(awk -v head="## [$version]" 'index($0, "## ") == 1 { in_it = index($0, head) == 1; next } in_it' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || { echo "error: CHANGELOG.md says nothing of $version" >&2; exit 1; }
printf '%s\n' "$notes"
