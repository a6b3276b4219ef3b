#!/usr/bin/env bash
# A real schema registry (Apicurio, in memory) on a free port.
#   registry.sh start DIR              writes DIR/registry.env: REGISTRY_URL (Confluent's API), REGISTRY_PID; again on the same DIR: same port, no schemas
#   registry.sh stop DIR | kill DIR    graceful, or at once with SIGKILL
#   registry.sh status DIR             exit 0 when it is ready
# With DIR/secured/{certificate.pem,key.pem} it speaks TLS only. With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$LOCAL_DIR/server.sh"

NAME='The schema registry' KEY=registry PART=apicurio
BINARY=$ASTROMECH_CACHE/apicurio/$APICURIO_VERSION/apicurio-registry-app-$APICURIO_VERSION-runner.jar
PORTS_WANTED=1 BUSY='address already in use|port.*in use'
API=/apis/ccompat/v7

secured() { [ -d "$DIR/secured" ]; }
at() { if secured; then echo "https://localhost:${PORTS[0]}"; else echo "http://127.0.0.1:${PORTS[0]}"; fi; }
variables() { printf 'REGISTRY_URL=%s%s\n' "$(at)" "$API"; }
answers() { echo "127.0.0.1:${PORTS[0]}"; }
# By TLS bash can ask for nothing: then an open port has to do.
ready() { if secured; then port_answers "${PORTS[0]}"; else http_ok "${PORTS[0]}" "$API/subjects"; fi; }

spawn_server() {
  local http=(-Dquarkus.http.port="${PORTS[0]}")
  if secured; then
    http=(-Dquarkus.http.insecure-requests=disabled -Dquarkus.http.ssl-port="${PORTS[0]}"
      -Dquarkus.http.ssl.certificate.files="$DIR/secured/certificate.pem" -Dquarkus.http.ssl.certificate.key-files="$DIR/secured/key.pem")
  fi
  # Its management port would be a second fixed one.
  spawn "$HOME_DIR" "$LOG" env -C "$HOME_DIR" java -Xmx400m -Dquarkus.http.host=127.0.0.1 "${http[@]}" \
    -Dquarkus.management.enabled=false -jar "$BINARY"
}

serve "$@"
