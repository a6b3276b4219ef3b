#!/usr/bin/env bash
# A real schema registry (Apicurio, in memory) on a free port.
#   registry.sh start DIR              writes DIR/registry.env: REGISTRY_URL (Confluent's API), REGISTRY_PID; again on the same DIR: same port, no schemas
#   registry.sh stop DIR | kill DIR    graceful, or at once with SIGKILL
#   registry.sh status DIR             exit 0 when it is ready
# With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

FOLDER=$ASTROMECH_CACHE/apicurio/$APICURIO_VERSION
RUNNER=$FOLDER/apicurio-registry-app-$APICURIO_VERSION-runner.jar
API=/apis/ccompat/v7

usage() { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# -eq 2 ] || usage
verb=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
HOME_DIR=$DIR/registry ENV_FILE=$DIR/registry.env LOG=$DIR/registry.log

REGISTRY_PID='' PORT=''
load_state() {
  if [ -f "$ENV_FILE" ]; then . "$ENV_FILE"; fi
  if [ -f "$HOME_DIR/port" ]; then read -r PORT <"$HOME_DIR/port"; fi
}
write_env() { printf 'REGISTRY_URL=http://127.0.0.1:%s%s\nREGISTRY_PID=%s\n' "$PORT" "$API" "$1" | write_file "$ENV_FILE"; }
ready() { http_ok "$PORT" "$API/subjects"; }
running() { is_ours "$REGISTRY_PID" "$HOME_DIR" && ready; }

launch() {
  touch "$LOG"
  LOG_FROM=$(($(stat -c %s "$LOG") + 1))
  # Its management port would be a second fixed one.
  spawn "$HOME_DIR" "$LOG" env -C "$HOME_DIR" java -Xmx400m -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$PORT" \
    -Dquarkus.management.enabled=false -jar "$RUNNER"
  REGISTRY_PID=$SPAWNED
  wait_ready 'the schema registry' "$REGISTRY_PID" "$LOG" ready
}

start() {
  [ -f "$RUNNER" ] || die "the schema registry is not in $FOLDER" "$LOCAL_DIR/install.sh apicurio"
  mkdir -p "$HOME_DIR"
  lock_state "$HOME_DIR"
  load_state
  if running; then
    log "the schema registry already answers on 127.0.0.1:$PORT"
    return
  fi
  stop_process 'the schema registry' "$REGISTRY_PID" "$HOME_DIR"
  local attempt
  for attempt in 1 2 3; do
    if [ ! -f "$HOME_DIR/port" ]; then
      PORT=$(free_port)
      echo "$PORT" | write_file "$HOME_DIR/port"
    fi
    if launch; then
      write_env "$REGISTRY_PID"
      stop_with_owner "$LOCAL_DIR/registry.sh" "$DIR"
      log "the schema registry answers on 127.0.0.1:$PORT (PID $REGISTRY_PID, log $LOG)"
      return
    fi
    stop_process 'the schema registry' "$REGISTRY_PID" "$HOME_DIR"
    # Another process took the port between our look and the bind: a new one, where no client knows the old one yet.
    if [ -f "$ENV_FILE" ] || ! tail -c +"$LOG_FROM" "$LOG" | grep -qiE 'address already in use|port.*in use'; then break; fi
    rm -f "$HOME_DIR/port"
  done
  die "the schema registry did not start (attempt $attempt)" "read $LOG"
}

stop() {
  [ -d "$HOME_DIR" ] || return 0
  lock_state "$HOME_DIR"
  load_state
  if [ "$1" = KILL ] && is_ours "$REGISTRY_PID" "$HOME_DIR"; then kill -KILL "$REGISTRY_PID"; fi
  stop_process 'the schema registry' "$REGISTRY_PID" "$HOME_DIR"
  if [ -n "$PORT" ]; then write_env ''; fi
  log "the schema registry is stopped ($DIR)"
}

case $verb in
  start) start ;;
  stop) stop TERM ;;
  kill) stop KILL ;;
  status)
    load_state
    if running; then echo "the schema registry answers on $REGISTRY_URL (PID $REGISTRY_PID)"; else echo "no schema registry runs for $DIR"; exit 3; fi ;;
  *) usage ;;
esac
