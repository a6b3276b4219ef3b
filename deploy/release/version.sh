#!/usr/bin/env bash
# version.sh VERSION: prints version=VERSION where Cargo.toml, the chart and the changelog have it; else says where it is missing, and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=${1:?a version, such as 1.2.3} missing=0
has() { # has FILE LINE
  if ! grep -qxF -- "$2" "$1"; then
    echo "error: $1 has no line: $2" >&2
    missing=1
  fi
}
has Cargo.toml "version = \"$version\""
has deploy/helm/astromech/Chart.yaml "version: $version"
has deploy/helm/astromech/Chart.yaml "appVersion: $version"
if ! grep -qF -- "## [$version]" CHANGELOG.md; then
  echo "error: CHANGELOG.md has no section: ## [$version]" >&2
  missing=1
fi
if [ "$missing" = 1 ]; then exit 1; fi
echo "version=$version"
