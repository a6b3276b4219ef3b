# shellcheck shell=bash disable=SC2034
# One server a folder, on free ports that it keeps: start, stop, kill and status. Sourced by the script of a server, which has set
#   NAME                what people call it
#   KEY                 its folder and its files in DIR, and the prefix of its variables
#   BINARY and PART     the file it is started from, and what install.sh calls it
#   PORTS_WANTED        how many ports
#   BUSY                what its log says where another process took a port; empty where it says nothing
# and defines
#   spawn_server        starts it by `spawn "$HOME_DIR" "$LOG" …`, on the ports PORTS
#   ready               whether it answers
#   variables           prints NAME=VALUE for clients
#   answers             where it answers, for people
# before it calls `serve VERB DIR`. Its comment's first lines are its usage.

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

load_state() {
  PID='' PORTS=()
  if [ -f "$ENV_FILE" ]; then PID=$(sed -n "s/^${KEY^^}_PID=//p" "$ENV_FILE"); fi
  if [ -f "$HOME_DIR/ports" ]; then read -ra PORTS <"$HOME_DIR/ports"; fi
}
write_env() { { variables; printf '%s_PID=%s\n' "${KEY^^}" "$1"; } | write_file "$ENV_FILE"; }
running() { is_ours "$PID" "$HOME_DIR" && ready; }

draw_ports() {
  local i
  for ((i = 0; i < PORTS_WANTED; i++)); do PORTS[i]=$(free_port); done
  echo "${PORTS[*]}" | write_file "$HOME_DIR/ports"
}

# The log says, from LOG_FROM on, that a port is taken.
port_was_taken() { [ -z "$BUSY" ] || tail -c +"$LOG_FROM" "$LOG" | grep -iE "$BUSY" >/dev/null; }

start() {
  [ -r "$BINARY" ] || die "$NAME is not in $BINARY" "$LOCAL_DIR/install.sh $PART"
  mkdir -p "$HOME_DIR"
  touch "$LOG"
  lock_state "$HOME_DIR"
  load_state
  if running; then
    log "$NAME already answers on $(answers)"
    return
  fi
  stop_process "$NAME" "$PID" "$HOME_DIR"
  local attempt
  for attempt in 1 2 3; do
    if [ ! -f "$HOME_DIR/ports" ]; then draw_ports; fi
    LOG_FROM=$(($(stat -c %s "$LOG") + 1))
    spawn_server
    PID=$SPAWNED
    if wait_ready "$NAME" "$PID" "$LOG" ready; then
      write_env "$PID"
      stop_with_owner "$0" "$DIR"
      log "$NAME answers on $(answers) (PID $PID, log $LOG)"
      return
    fi
    stop_process "$NAME" "$PID" "$HOME_DIR"
    # Another process took a port between our look and the bind: new ones, where no client knows the old ones yet.
    if [ -f "$ENV_FILE" ] || ! port_was_taken; then break; fi
    rm -f "$HOME_DIR/ports"
  done
  if port_answers "${PORTS[0]}"; then die "$NAME did not start: another process holds its port ${PORTS[0]}" "end that process, or remove $DIR to start afresh on other ports"; fi
  die "$NAME did not start (attempt $attempt)" "read $LOG"
}

stop() {
  [ -d "$HOME_DIR" ] || return 0
  lock_state "$HOME_DIR"
  load_state
  if [ "$1" = KILL ] && is_ours "$PID" "$HOME_DIR"; then kill -KILL "$PID"; fi
  stop_process "$NAME" "$PID" "$HOME_DIR"
  if [ ${#PORTS[@]} -gt 0 ]; then write_env ''; fi
  log "$NAME is stopped ($DIR)"
}

serve() {
  [ $# -eq 2 ] || usage
  mkdir -p "$2"
  DIR=$(cd "$2" && pwd)
  HOME_DIR=$DIR/$KEY ENV_FILE=$DIR/$KEY.env LOG=$DIR/$KEY.log
  case $1 in
    start) start ;;
    stop) stop TERM ;;
    kill) stop KILL ;;
    status)
      load_state
      running || { echo "$NAME does not run for $DIR"; exit 3; }
      echo "$NAME answers on $(answers) (PID $PID)" ;;
    *) usage ;;
  esac
}
