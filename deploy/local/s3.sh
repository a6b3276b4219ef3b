#!/usr/bin/env bash
# A real S3 server (Versity's gateway over a folder) on a free port, its buckets folders below DIR/s3/data.
#   s3.sh start DIR                writes DIR/s3.env: S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY, S3_DATA, S3_PID; again on the same DIR: same port
#   s3.sh stop DIR | kill DIR      graceful, or at once with SIGKILL
#   s3.sh status DIR               exit 0 when it is ready
# A bucket is made by making its folder: mkdir "$S3_DATA/models". With ASTROMECH_OWNER_PID set, the server stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$LOCAL_DIR/server.sh"

NAME=S3 KEY=s3 PART=versitygw BINARY=$ASTROMECH_CACHE/versitygw/$VERSITYGW_VERSION/versitygw
PORTS_WANTED=1 BUSY=''
# For a server on this machine's own address; they protect nothing.
ACCESS_KEY=astromech SECRET_KEY=astromech-local

variables() {
  printf 'S3_ENDPOINT=http://127.0.0.1:%s\nS3_ACCESS_KEY=%s\nS3_SECRET_KEY=%s\nS3_DATA="%s"\n' \
    "${PORTS[0]}" "$ACCESS_KEY" "$SECRET_KEY" "$HOME_DIR/data"
}
answers() { echo "127.0.0.1:${PORTS[0]}"; }
ready() { http_ok "${PORTS[0]}" /health; }

spawn_server() {
  mkdir -p "$HOME_DIR/data"
  spawn "$HOME_DIR" "$LOG" env ROOT_ACCESS_KEY="$ACCESS_KEY" ROOT_SECRET_KEY="$SECRET_KEY" \
    "$BINARY" --quiet --port "127.0.0.1:${PORTS[0]}" --health /health posix "$HOME_DIR/data"
}

serve "$@"
