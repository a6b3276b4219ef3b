# shellcheck shell=bash
# Sourced by the checks of the HTTP interface: a daemon over the demo's bundle and an embedded index of the demo's set, with a key, until
# the script ends. ASTROMECH_BIN names a binary; without it the debug build is used, and made where it is not there or old.
. "$(dirname "${BASH_SOURCE[0]}")/../local/common.sh"
. "$LOCAL_DIR/env.sh"
OPS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$OPS_DIR/../.." && pwd)
OPS_CACHE=$ASTROMECH_CACHE/ops
WORK=$(mktemp -d "${TMPDIR:-/tmp}/astromech-ops.XXXXXX")
DAEMON_PID='' KEY=ops-check-0123456789abcdef

end() {
  if [ -n "$DAEMON_PID" ]; then
    kill -INT "$DAEMON_PID" 2>/dev/null || true
    stop_process astromech "$DAEMON_PID" "$WORK"
  fi
  rm -rf "$WORK"
}
trap end EXIT

# start_daemon: sets URL and KEY; the daemon answers searches when it returns.
start_daemon() {
  local binary=${ASTROMECH_BIN:-$CARGO_TARGET_DIR/debug/astromech} port
  [ -n "${ASTROMECH_BIN:-}" ] || cargo build --quiet --workspace --locked --bin astromech --manifest-path "$ROOT/Cargo.toml"
  "$LOCAL_DIR/install.sh" onnxruntime 2>"$WORK/install.log" || { cat "$WORK/install.log" >&2; exit 1; }
  port=$(free_port)
  printf '%s\n' "$KEY" >"$WORK/key"
  cat >"$WORK/demo.toml" <<TOML
[bundle]
path = "$ROOT/configs/demo/bundle"
[index]
engine = "embedded"
[index.embedded]
path = "$WORK/index"
[media]
file_roots = ["$ROOT/configs/demo/set"]
[http]
listen = "127.0.0.1:$port"
[http.auth.write_keys]
"ops" = "$WORK/key"
TOML
  spawn "$WORK" "$WORK/daemon.log" "$binary" demo --config "$WORK/demo.toml"
  DAEMON_PID=$SPAWNED
  wait_ready astromech "$DAEMON_PID" "$WORK/daemon.log" http_ok "$port" /readyz/search || die 'the daemon did not start'
  URL=http://127.0.0.1:$port
}

# python_tools NAME: installs deploy/ops/pins/NAME.txt into a folder of its own and sets TOOLS to its bin.
python_tools() {
  local pins=$OPS_DIR/pins/$1.txt target=$OPS_CACHE/$1
  TOOLS=$target/bin
  cmp -s "$pins" "$target/pins.txt" && return
  rm -rf "$target"
  mkdir -p "$OPS_CACHE"
  python3 -m venv "$target" || die "Python's venv is missing" 'sudo apt-get install python3-venv'
  "$TOOLS/pip" install -q --disable-pip-version-check --no-deps -r "$pins" >&2 || die "pip could not install $1" "check the network and pip's index"
  # Last: an interrupted installation is begun again.
  cp "$pins" "$target/pins.txt"
}

# node_tools NAME: installs deploy/ops/pins/NAME/package-lock.json and sets TOOLS to its folder.
node_tools() {
  local pins=$OPS_DIR/pins/$1 target=$OPS_CACHE/$1
  TOOLS=$target
  cmp -s "$pins/package-lock.json" "$target/pins.json" && return
  have npm || die 'npm is missing' 'sudo apt-get install npm'
  rm -rf "$target"
  mkdir -p "$target"
  cp "$pins"/* "$target"
  (cd "$target" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) || die "npm could not install $1" "check the network and npm's registry"
  cp "$pins/package-lock.json" "$target/pins.json"
}
