#!/usr/bin/env bash
# A real Qdrant server on free ports, its data in a folder of yours.
#   qdrant.sh start DIR            writes DIR/qdrant.env: QDRANT_URL (gRPC), QDRANT_HTTP, QDRANT_PID; again on the same DIR: same ports, same data
#   qdrant.sh stop DIR | kill DIR  graceful, or at once with SIGKILL
#   qdrant.sh status DIR           exit 0 when it is ready
# With DIR/secured/{certificate.pem,key.pem,api-key} it speaks TLS only and wants the key.
# With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

BINARY=$ASTROMECH_CACHE/qdrant/$QDRANT_VERSION/bin/qdrant

usage() { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# -eq 2 ] || usage
verb=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
SECURED=$DIR/secured
HOME_DIR=$DIR/qdrant ENV_FILE=$DIR/qdrant.env LOG=$DIR/qdrant.log

QDRANT_PID='' HTTP_PORT='' GRPC_PORT=''
load_state() {
  if [ -f "$ENV_FILE" ]; then . "$ENV_FILE"; fi
  if [ -f "$HOME_DIR/ports" ]; then read -r HTTP_PORT GRPC_PORT <"$HOME_DIR/ports"; fi
}
write_env() {
  local at=http://127.0.0.1
  if [ -d "$SECURED" ]; then at=https://localhost; fi
  printf 'QDRANT_URL=%s:%s\nQDRANT_HTTP=%s:%s\nQDRANT_PID=%s\n' "$at" "$GRPC_PORT" "$at" "$HTTP_PORT" "$1" | write_file "$ENV_FILE"
}
# By TLS bash can ask for nothing: then open ports have to do.
ready() { if [ -d "$SECURED" ]; then port_answers "$HTTP_PORT"; else http_ok "$HTTP_PORT" /readyz; fi && port_answers "$GRPC_PORT"; }
running() { is_ours "$QDRANT_PID" "$HOME_DIR" && ready; }

launch() {
  touch "$LOG"
  local secured=()
  if [ -d "$SECURED" ]; then
    secured=(QDRANT__SERVICE__ENABLE_TLS=true QDRANT__TLS__CERT="$SECURED/certificate.pem" QDRANT__TLS__KEY="$SECURED/key.pem"
      QDRANT__SERVICE__API_KEY="$(<"$SECURED/api-key")")
  fi
  LOG_FROM=$(($(stat -c %s "$LOG") + 1))
  spawn "$HOME_DIR" "$LOG" env -C "$HOME_DIR" \
    QDRANT__SERVICE__HOST=127.0.0.1 QDRANT__SERVICE__HTTP_PORT="$HTTP_PORT" QDRANT__SERVICE__GRPC_PORT="$GRPC_PORT" \
    QDRANT__STORAGE__STORAGE_PATH="$HOME_DIR/storage" QDRANT__STORAGE__SNAPSHOTS_PATH="$HOME_DIR/snapshots" \
    QDRANT__TELEMETRY_DISABLED=true QDRANT__LOG_LEVEL=INFO "${secured[@]}" "$BINARY"
  QDRANT_PID=$SPAWNED
  wait_ready Qdrant "$QDRANT_PID" "$LOG" ready
}

start() {
  [ -x "$BINARY" ] || die "Qdrant is not in $BINARY" "$LOCAL_DIR/install.sh qdrant"
  mkdir -p "$HOME_DIR"
  lock_state "$HOME_DIR"
  load_state
  if running; then
    log "Qdrant already answers on 127.0.0.1:$HTTP_PORT"
    return
  fi
  stop_process Qdrant "$QDRANT_PID" "$HOME_DIR"
  local attempt
  for attempt in 1 2 3; do
    if [ ! -f "$HOME_DIR/ports" ]; then
      HTTP_PORT=$(free_port) GRPC_PORT=$(free_port)
      echo "$HTTP_PORT $GRPC_PORT" | write_file "$HOME_DIR/ports"
    fi
    if launch; then
      write_env "$QDRANT_PID"
      stop_with_owner "$LOCAL_DIR/qdrant.sh" "$DIR"
      log "Qdrant answers on 127.0.0.1:$HTTP_PORT, gRPC $GRPC_PORT (PID $QDRANT_PID, log $LOG)"
      return
    fi
    stop_process Qdrant "$QDRANT_PID" "$HOME_DIR"
    # Another process took the port between our look and the bind: new ports, where no client knows the old ones yet.
    if [ -f "$ENV_FILE" ] || ! tail -c +"$LOG_FROM" "$LOG" | grep -qi 'address already in use'; then break; fi
    rm -f "$HOME_DIR/ports"
  done
  if port_answers "$HTTP_PORT"; then die "Qdrant did not start: another process holds its port $HTTP_PORT" "end that process, or remove $DIR to start afresh on other ports"; fi
  die "Qdrant did not start (attempt $attempt)" "read $LOG"
}

stop() {
  [ -d "$HOME_DIR" ] || return 0
  lock_state "$HOME_DIR"
  load_state
  if [ "$1" = KILL ] && is_ours "$QDRANT_PID" "$HOME_DIR"; then kill -KILL "$QDRANT_PID"; fi
  stop_process Qdrant "$QDRANT_PID" "$HOME_DIR"
  if [ -n "$HTTP_PORT" ]; then write_env ''; fi
  log "Qdrant is stopped ($DIR)"
}

case $verb in
  start) start ;;
  stop) stop TERM ;;
  kill) stop KILL ;;
  status)
    load_state
    if running; then echo "Qdrant answers on $QDRANT_HTTP, gRPC $QDRANT_URL (PID $QDRANT_PID)"; else echo "Qdrant does not run for $DIR"; exit 3; fi ;;
  *) usage ;;
esac
