#!/usr/bin/env bash
# Search, re-score and embed with curl: bash docs/examples/client.sh [http://localhost:8080] [a text]
# Set ASTROMECH_KEY where the daemon has API keys.
set -euo pipefail
url=${1:-http://localhost:8080} text=${2:-红色的汽车}
ask() { # ask PATH JSON; the problem document of an error goes to standard error
  curl -sS --fail-with-body --retry 2 -H 'content-type: application/json' ${ASTROMECH_KEY:+-H "authorization: Bearer $ASTROMECH_KEY"} -d "$2" "$url$1"
  echo
}
ask /v1/search "{\"text\": \"$text\", \"kinds\": [\"image\"], \"limit\": 5}"
ask /v1/search "{\"text\": \"$text\", \"kinds\": [\"image\"], \"limit\": 5, \"rescore\": 5}"
ask /v1/rescore "{\"context\": {\"text\": \"$text\"}, \"candidates\": [{\"text\": \"$text\"}]}"
ask /v1/embed "{\"texts\": [\"$text\"]}"
