# shellcheck shell=bash disable=SC2034
# Sourced by every check of this folder: the installed tools, and what counts its assertions.
. "$(dirname "${BASH_SOURCE[0]}")/../local/common.sh"
cd "$LOCAL_DIR/../.."
export NO_COLOR=1

HELM=$ASTROMECH_CACHE/helm/$HELM_VERSION/helm
KUBECONFORM=$ASTROMECH_CACHE/kubeconform/$KUBECONFORM_VERSION/kubeconform
PROMTOOL=$ASTROMECH_CACHE/promtool/usr/bin/promtool
ACTIONLINT=$ASTROMECH_CACHE/actionlint/$ACTIONLINT_VERSION/actionlint
WORK=$(mktemp -d "${TMPDIR:-/tmp}/astromech-ops.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
set -E
trap 'printf "fault: the check ended at line %s of %s: %s\n" "$LINENO" "${BASH_SOURCE[0]}" "$BASH_COMMAND" >&2' ERR
CHECKED=0 FAULTS=0

need() { "$LOCAL_DIR/install.sh" "$@" 2>"$WORK/install.log" || { cat "$WORK/install.log" >&2; exit 1; }; }

fault() {
  printf 'fault: %s\n' "$*" >&2
  FAULTS=$((FAULTS + 1))
}

# holds NAME COMMAND…: the command succeeds; else its output is shown and it is counted.
holds() {
  local name=$1
  shift
  CHECKED=$((CHECKED + 1))
  "$@" >"$WORK/output" 2>&1 && return
  fault "$name"
  tail -n 40 "$WORK/output" >&2
}

# has NAME FILE TEXT and lacks NAME FILE TEXT: a literal text.
has() { holds "$1: '$3' is in it" grep -qF -- "$3" "$2"; }
lacks() {
  CHECKED=$((CHECKED + 1))
  if grep -qF -- "$3" "$2"; then fault "$1: '$3' is in it, and should not be"; fi
}

# The last line of a check: what it looked at; not 0 where something does not hold.
summary() {
  printf '%s: %d checked, %d faults\n' "$1" $CHECKED $FAULTS
  [ $FAULTS = 0 ]
}
