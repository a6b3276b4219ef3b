#!/usr/bin/env bash
# A real Qdrant server on free ports, its data in a folder of yours.
#   qdrant.sh start DIR            writes DIR/qdrant.env: QDRANT_URL (gRPC), QDRANT_HTTP, QDRANT_PID; again on the same DIR: same ports, same data
#   qdrant.sh stop DIR | kill DIR  graceful, or at once with SIGKILL
#   qdrant.sh status DIR           exit 0 when it is ready
# With DIR/secured/{certificate.pem,key.pem,api-key} it speaks TLS only and wants the key.
# With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$LOCAL_DIR/server.sh"

NAME=Qdrant KEY=qdrant PART=qdrant BINARY=$ASTROMECH_CACHE/qdrant/$QDRANT_VERSION/bin/qdrant
PORTS_WANTED=2 BUSY='address already in use'

secured() { [ -d "$DIR/secured" ]; }
at() { if secured; then echo "https://localhost:$1"; else echo "http://127.0.0.1:$1"; fi; }
variables() { printf 'QDRANT_URL=%s\nQDRANT_HTTP=%s\n' "$(at "${PORTS[1]}")" "$(at "${PORTS[0]}")"; }
answers() { echo "127.0.0.1:${PORTS[0]}, gRPC ${PORTS[1]}"; }
# By TLS bash can ask for nothing: then open ports have to do.
ready() { if secured; then port_answers "${PORTS[0]}"; else http_ok "${PORTS[0]}" /readyz; fi && port_answers "${PORTS[1]}"; }

spawn_server() {
  local secured=()
  if secured; then
    secured=(QDRANT__SERVICE__ENABLE_TLS=true QDRANT__TLS__CERT="$DIR/secured/certificate.pem" QDRANT__TLS__KEY="$DIR/secured/key.pem"
      QDRANT__SERVICE__API_KEY="$(<"$DIR/secured/api-key")")
  fi
  spawn "$HOME_DIR" "$LOG" env -C "$HOME_DIR" \
    QDRANT__SERVICE__HOST=127.0.0.1 QDRANT__SERVICE__HTTP_PORT="${PORTS[0]}" QDRANT__SERVICE__GRPC_PORT="${PORTS[1]}" \
    QDRANT__STORAGE__STORAGE_PATH="$HOME_DIR/storage" QDRANT__STORAGE__SNAPSHOTS_PATH="$HOME_DIR/snapshots" \
    QDRANT__TELEMETRY_DISABLED=true QDRANT__LOG_LEVEL=INFO "${secured[@]}" "$BINARY"
}

serve "$@"
