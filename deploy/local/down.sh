#!/usr/bin/env bash
# Stops what up.sh started; the data stays in DIR (default $ASTROMECH_CACHE/local).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
DIR=${1:-$ASTROMECH_CACHE/local}
if [ ! -d "$DIR" ]; then
  log "nothing was started in $DIR"
  exit 0
fi
"$LOCAL_DIR/kafka.sh" stop "$DIR"
"$LOCAL_DIR/qdrant.sh" stop "$DIR"
