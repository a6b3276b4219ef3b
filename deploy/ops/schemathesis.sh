#!/usr/bin/env bash
# Schemathesis against a running daemon for two minutes, with all its checks: what openapi.json says is what the daemon does.
#   MINUTES=10 SEED=7 deploy/ops/schemathesis.sh     longer, or a run again
. "$(dirname "${BASH_SOURCE[0]}")/daemon.sh"
start_daemon
python_tools schemathesis

export KEY ASTROMECH_PICTURES=$ROOT/configs/demo/set/pictures SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$OPS_DIR/schemathesis PYTHONDONTWRITEBYTECODE=1
cd "$WORK"
"$TOOLS/schemathesis" --config-file "$OPS_DIR/schemathesis/schemathesis.toml" run "$URL/openapi.json" --checks all --mode all \
  --max-time $((${MINUTES:-2} * 60)) --workers 2 ${SEED:+--seed "$SEED"} >schemathesis.log 2>&1 ||
  { cat schemathesis.log >&2; tail -n 5 daemon.log >&2; die 'Schemathesis found something' 'mend the daemon, or say in openapi.json what it does'; }
kill -0 "$DAEMON_PID" || { cat daemon.log >&2; die 'the daemon ended'; }
if grep -E ' (ERROR|WARN) |panicked' daemon.log >&2; then die 'the daemon complained' 'mend what its log names'; fi
grep -E 'generated|passed|Seed' schemathesis.log | tail -n 3 | tr '\n' ' '
echo
