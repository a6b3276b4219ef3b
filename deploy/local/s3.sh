#!/usr/bin/env bash
# A real S3 server (Versity's gateway over a folder) on a free port, its buckets folders below DIR/s3/data.
#   s3.sh start DIR                writes DIR/s3.env: S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY, S3_DATA, S3_PID; again on the same DIR: same port
#   s3.sh stop DIR | kill DIR      graceful, or at once with SIGKILL
#   s3.sh status DIR               exit 0 when it is ready
# A bucket is made by making its folder: mkdir "$S3_DATA/models". With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

BINARY=$ASTROMECH_CACHE/versitygw/$VERSITYGW_VERSION/versitygw

usage() { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# -eq 2 ] || usage
verb=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
HOME_DIR=$DIR/s3 ENV_FILE=$DIR/s3.env LOG=$DIR/s3.log

S3_PID='' PORT=''
# For a server on this machine's own address; they protect nothing.
ACCESS_KEY=astromech SECRET_KEY=astromech-local
load_state() {
  if [ -f "$ENV_FILE" ]; then . "$ENV_FILE"; fi
  if [ -f "$HOME_DIR/port" ]; then read -r PORT <"$HOME_DIR/port"; fi
}
write_env() {
  printf 'S3_ENDPOINT=http://127.0.0.1:%s\nS3_ACCESS_KEY=%s\nS3_SECRET_KEY=%s\nS3_DATA="%s"\nS3_PID=%s\n' \
    "$PORT" "$ACCESS_KEY" "$SECRET_KEY" "$HOME_DIR/data" "$1" | write_file "$ENV_FILE"
}
ready() { http_ok "$PORT" /health; }
running() { is_ours "$S3_PID" "$HOME_DIR" && ready; }

launch() {
  spawn "$HOME_DIR" "$LOG" env ROOT_ACCESS_KEY="$ACCESS_KEY" ROOT_SECRET_KEY="$SECRET_KEY" \
    "$BINARY" --quiet --port "127.0.0.1:$PORT" --health /health posix "$HOME_DIR/data"
  S3_PID=$SPAWNED
  wait_ready S3 "$S3_PID" "$LOG" ready
}

start() {
  [ -x "$BINARY" ] || die "the S3 server is not in $BINARY" "$LOCAL_DIR/install.sh versitygw"
  mkdir -p "$HOME_DIR/data"
  touch "$LOG"
  lock_state "$HOME_DIR"
  load_state
  if running; then
    log "S3 already answers on 127.0.0.1:$PORT"
    return
  fi
  stop_process S3 "$S3_PID" "$HOME_DIR"
  local attempt
  for attempt in 1 2 3; do
    if [ ! -f "$HOME_DIR/port" ]; then
      PORT=$(free_port)
      echo "$PORT" | write_file "$HOME_DIR/port"
    fi
    if launch; then
      write_env "$S3_PID"
      stop_with_owner "$LOCAL_DIR/s3.sh" "$DIR"
      log "S3 answers on 127.0.0.1:$PORT (PID $S3_PID, log $LOG)"
      return
    fi
    stop_process S3 "$S3_PID" "$HOME_DIR"
    # Another process took the port between our look and the bind: a new one, where no client knows the old one yet.
    if [ -f "$ENV_FILE" ]; then break; fi
    rm -f "$HOME_DIR/port"
  done
  die "the S3 server did not start (attempt $attempt)" "read $LOG"
}

stop() {
  [ -d "$HOME_DIR" ] || return 0
  lock_state "$HOME_DIR"
  load_state
  if [ "$1" = KILL ] && is_ours "$S3_PID" "$HOME_DIR"; then kill -KILL "$S3_PID"; fi
  stop_process S3 "$S3_PID" "$HOME_DIR"
  if [ -n "$PORT" ]; then write_env ''; fi
  log "S3 is stopped ($DIR)"
}

case $verb in
  start) start ;;
  stop) stop TERM ;;
  kill) stop KILL ;;
  status)
    load_state
    if running; then echo "S3 answers on $S3_ENDPOINT (PID $S3_PID)"; else echo "S3 does not run for $DIR"; exit 3; fi ;;
  *) usage ;;
esac
