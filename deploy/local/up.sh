#!/usr/bin/env bash
# Starts a real Kafka broker with the default topics, and a real Qdrant, for work by hand. State in DIR (default $ASTROMECH_CACHE/local).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
DIR=${1:-$ASTROMECH_CACHE/local}
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
"$LOCAL_DIR/install.sh" kafka qdrant
"$LOCAL_DIR/kafka.sh" start "$DIR"
"$LOCAL_DIR/kafka.sh" create-topics "$DIR"
"$LOCAL_DIR/qdrant.sh" start "$DIR"
cat <<EOT

Kafka and Qdrant run; their data lies in $DIR. Next, in this order:
  . deploy/local/env.sh                                            # the libraries' places
  set -a; . "$DIR/kafka.env"; . "$DIR/qdrant.env"; set +a          # KAFKA_BOOTSTRAP, QDRANT_URL, QDRANT_HTTP
  cargo run -- run --config configs/local.toml                     # the daemon
  make down                                                        # stop both; the data stays
EOT
