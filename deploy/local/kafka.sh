#!/usr/bin/env bash
# A real Kafka broker (KRaft, one node) on free ports, its data in a folder of yours.
#   kafka.sh start DIR            writes DIR/kafka.env: KAFKA_BOOTSTRAP, KAFKA_PID; again on the same DIR: same ports, same data
#   kafka.sh stop DIR | kill DIR  graceful, or at once with SIGKILL
#   kafka.sh status DIR           exit 0 when it answers
#   kafka.sh create-topics DIR [NAME:PARTITIONS[:KEY=VALUE]…]   without names: the topics of configs/
# With DIR/secured/{server.pem,ca.pem,password} it also listens on KAFKA_SASL_SSL (PLAIN, SCRAM; user astromech) and KAFKA_MTLS, both by TLS.
# With ASTROMECH_OWNER_PID set, the broker stops once that process is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

JARS=$ASTROMECH_CACHE/kafka/$KAFKA_VERSION/libs
HEAP=512m
DEFAULT_TOPICS=(astromech.changes:4 astromech.results:4 astromech.dead-letters:4)

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
shift 2
HOME_DIR=$DIR/kafka ENV_FILE=$DIR/kafka.env LOG=$DIR/kafka.log

KAFKA_PID='' PORT='' CONTROLLER_PORT='' SASL_PORT='' MTLS_PORT='' LISTENERS='' ADVERTISED='' PROTOCOLS='' SCRAM=()
SECURED=$DIR/secured
# A node of a cluster (kafka-cluster.sh): its number and the voters of the quorum lie beside its data. Alone it is node 1 of one.
NODE_ID=1 VOTERS='' CLUSTER_ID='' REPLICAS=1 ISR_MIN=1
load_cluster() {
  [ -f "$HOME_DIR/cluster" ] || return 0
  read -r NODE_ID CLUSTER_ID VOTERS <"$HOME_DIR/cluster"
  # Three JVMs on one machine: small heaps, and time for them to start side by side.
  REPLICAS=3 ISR_MIN=2 HEAP=200m READY_TIMEOUT_S=120
}
load_state() {
  load_cluster
  if [ -f "$ENV_FILE" ]; then . "$ENV_FILE"; fi
  if [ -f "$HOME_DIR/ports" ]; then read -r PORT CONTROLLER_PORT <"$HOME_DIR/ports"; fi
}
write_env() {
  {
    printf 'KAFKA_BOOTSTRAP=127.0.0.1:%s\nKAFKA_PID=%s\n' "$PORT" "$1"
    if [ -d "$SECURED" ]; then printf 'KAFKA_SASL_SSL=localhost:%s\nKAFKA_MTLS=localhost:%s\n' "$SASL_PORT" "$MTLS_PORT"; fi
  } | write_file "$ENV_FILE"
}
running() { is_ours "$KAFKA_PID" "$HOME_DIR" && port_answers "$PORT"; }
ready() { tail -c +"$LOG_FROM" "$LOG" | grep 'Kafka Server started' >/dev/null && port_answers "$PORT"; }
java_jars() { env -u LD_LIBRARY_PATH java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$JARS/*" "$@"; }

# Names are checked by clients: the certificate is localhost's.
secure() {
  [ -d "$SECURED" ] || return 0
  if [ ! -f "$HOME_DIR/secured-ports" ]; then echo "$(free_port) $(free_port)" | write_file "$HOME_DIR/secured-ports"; fi
  read -r SASL_PORT MTLS_PORT <"$HOME_DIR/secured-ports"
  LISTENERS=,SASL_SSL://127.0.0.1:$SASL_PORT,MTLS://127.0.0.1:$MTLS_PORT
  ADVERTISED=,SASL_SSL://localhost:$SASL_PORT,MTLS://localhost:$MTLS_PORT
  PROTOCOLS=,SASL_SSL:SASL_SSL,MTLS:SSL
  local password mechanism
  password=$(<"$SECURED/password")
  for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do SCRAM+=(--add-scram "$mechanism=[name=astromech,password=$password]"); done
}
secured_properties() {
  [ -d "$SECURED" ] || return 0
  local security=org.apache.kafka.common.security
  cat <<EOP
ssl.keystore.type=PEM
ssl.keystore.location=$SECURED/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$SECURED/ca.pem
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=$security.plain.PlainLoginModule required user_astromech="$(<"$SECURED/password")";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$security.scram.ScramLoginModule required;
EOP
}

write_properties() {
  # Limits: records to 16 MiB (inline pictures); retention off, because tests carry old timestamps; sessions from 1 s, so that a rebalance is quick;
  # the broker's own session short, because after a SIGKILL the controller lets it register again only when the old one has run out.
  write_file "$HOME_DIR/server.properties" <<EOP
process.roles=broker,controller
node.id=$NODE_ID
$(if [ -n "$VOTERS" ]; then echo "controller.quorum.voters=$VOTERS"; else echo "controller.quorum.bootstrap.servers=127.0.0.1:$CONTROLLER_PORT"; fi)
default.replication.factor=$REPLICAS
min.insync.replicas=$ISR_MIN
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$CONTROLLER_PORT$LISTENERS
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$CONTROLLER_PORT$ADVERTISED
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$PROTOCOLS
inter.broker.listener.name=PLAINTEXT
log.dirs=$HOME_DIR/data
auto.create.topics.enable=false
num.partitions=4
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.replication.factor=$REPLICAS
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$REPLICAS
transaction.state.log.min.isr=$ISR_MIN
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$REPLICAS
share.coordinator.state.topic.min.isr=$ISR_MIN
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
$(secured_properties)
EOP
}

format_once() {
  [ ! -f "$HOME_DIR/data/meta.properties" ] || return 0
  local id out
  local standalone=(--standalone)
  id=$CLUSTER_ID
  if [ -n "$VOTERS" ]; then standalone=(); else id=$(java_jars kafka.tools.StorageTool random-uuid 2>/dev/null); fi
  out=$(java_jars kafka.tools.StorageTool format "${standalone[@]}" "${SCRAM[@]}" -t "$id" -c "$HOME_DIR/server.properties" 2>&1) ||
    die "Kafka could not prepare $HOME_DIR/data: $out" "is the disk full, or the folder of another version? remove $HOME_DIR"
}

launch() {
  secure
  write_properties
  format_once
  touch "$LOG"
  LOG_FROM=$(($(stat -c %s "$LOG") + 1))
  spawn "$HOME_DIR" "$LOG" java "-Xmx$HEAP" -XX:+UseSerialGC -cp "$JARS/*" "-Dlog4j2.configurationFile=$LOCAL_DIR/log4j2.yaml" \
    kafka.Kafka "$HOME_DIR/server.properties"
  KAFKA_PID=$SPAWNED
  wait_ready Kafka "$KAFKA_PID" "$LOG" ready
}

start() {
  have java || die "Java is missing" "$LOCAL_DIR/install.sh kafka"
  [ -d "$JARS" ] || die "Kafka's jars are not in $JARS" "$LOCAL_DIR/install.sh kafka"
  mkdir -p "$HOME_DIR"
  lock_state "$HOME_DIR"
  load_state
  if running; then
    log "Kafka already answers on 127.0.0.1:$PORT"
    return
  fi
  stop_process Kafka "$KAFKA_PID" "$HOME_DIR"
  local attempt
  for attempt in 1 2 3; do
    if [ ! -f "$HOME_DIR/ports" ]; then
      PORT=$(free_port) CONTROLLER_PORT=$(free_port)
      echo "$PORT $CONTROLLER_PORT" | write_file "$HOME_DIR/ports"
    fi
    if launch; then
      write_env "$KAFKA_PID"
      stop_with_owner "$LOCAL_DIR/kafka.sh" "$DIR"
      log "Kafka answers on 127.0.0.1:$PORT (PID $KAFKA_PID, log $LOG)"
      return
    fi
    stop_process Kafka "$KAFKA_PID" "$HOME_DIR"
    # Another process took the port between our look and the bind: new ports, where no client knows the old ones yet.
    if [ -n "$VOTERS" ] || [ -f "$ENV_FILE" ] || ! tail -c +"$LOG_FROM" "$LOG" | grep 'Address already in use' >/dev/null; then break; fi
    rm -rf "$HOME_DIR/ports" "$HOME_DIR/secured-ports" "$HOME_DIR/data" # the ports are in the formatted data
  done
  if port_answers "$PORT"; then die "Kafka did not start: another process holds its port $PORT" "end that process, or remove $DIR to start afresh on other ports"; fi
  die "Kafka did not start (attempt $attempt)" "read $LOG; Java 17 or newer is needed: $(java -version 2>&1 | head -n 1)"
}

stop() {
  [ -d "$HOME_DIR" ] || return 0
  lock_state "$HOME_DIR"
  load_state
  if [ "$1" = KILL ] && is_ours "$KAFKA_PID" "$HOME_DIR"; then kill -KILL "$KAFKA_PID"; fi
  stop_process Kafka "$KAFKA_PID" "$HOME_DIR"
  if [ -n "$PORT" ]; then write_env ''; fi
  log "Kafka is stopped ($DIR)"
}

create_topics() {
  load_state
  running || die "no broker answers for $DIR" "$LOCAL_DIR/kafka.sh start $DIR"
  [ $# -gt 0 ] || set -- "${DEFAULT_TOPICS[@]}"
  local spec name rest config
  for spec in "$@"; do
    name=${spec%%:*} rest=${spec#*:} config=()
    if [[ $rest == *:* ]]; then config=(--config "${rest#*:}"); fi
    # In kafka-tools, not in kafka_2.13.
    java_jars org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_BOOTSTRAP" --create --if-not-exists \
      --topic "$name" --partitions "${rest%%:*}" --replication-factor 1 "${config[@]}" 2>&1 | { grep -v -e SLF4J -e StatusLogger -e '^WARNING' || true; } >&2
  done
}

case $verb in
  start) start ;;
  stop) stop TERM ;;
  kill) stop KILL ;;
  status)
    load_state
    if running; then echo "Kafka answers on $KAFKA_BOOTSTRAP (PID $KAFKA_PID)"; else echo "Kafka does not run for $DIR"; exit 3; fi ;;
  create-topics) create_topics "$@" ;;
  *) usage ;;
esac
