#!/usr/bin/env bash
# Three Kafka brokers that are controllers too (KRaft), on free ports, each a folder of kafka.sh below DIR: node-1, node-2, node-3.
#   kafka-cluster.sh start DIR    writes DIR/kafka.env: KAFKA_BOOTSTRAP; again on the same DIR: same ports, same data
#   kafka-cluster.sh stop DIR     graceful
# One node by itself: kafka.sh kill DIR/node-2, kafka.sh start DIR/node-2. Topics of three replicas outlive the loss of one node.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# -eq 2 ] || usage
verb=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
NODES=(1 2 3)

# Ports, quorum and identity are drawn once: they are in the formatted data.
plan() {
  [ ! -f "$DIR/planned" ] || return 0
  local node voters='' id ports=() bootstrap=''
  for node in "${NODES[@]}"; do
    ports[node]="$(free_port) $(free_port)"
    voters+="${voters:+,}$node@127.0.0.1:${ports[node]#* }"
    bootstrap+="${bootstrap:+,}127.0.0.1:${ports[node]% *}"
  done
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  [[ $id != -* ]] || id=A${id:1}
  for node in "${NODES[@]}"; do
    mkdir -p "$DIR/node-$node/kafka"
    echo "${ports[node]}" | write_file "$DIR/node-$node/kafka/ports"
    echo "$node $id $voters" | write_file "$DIR/node-$node/kafka/cluster"
  done
  echo "KAFKA_BOOTSTRAP=$bootstrap" | write_file "$DIR/kafka.env"
  touch "$DIR/planned"
}

# All at once: a node is ready only when most of the quorum is there.
every() {
  local node pids=() rc=0
  for node in "${NODES[@]}"; do
    "$LOCAL_DIR/kafka.sh" "$1" "$DIR/node-$node" &
    pids+=($!)
  done
  for node in "${pids[@]}"; do wait "$node" || rc=1; done
  return $rc
}

case $verb in
  start)
    plan
    every start || die "the cluster did not start" "read $DIR/node-*/kafka.log"
    log "three brokers answer: $(cat "$DIR/kafka.env")" ;;
  stop) every stop ;;
  *) usage ;;
esac
