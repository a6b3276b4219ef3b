# shellcheck shell=bash
# Source this: the environment of every cargo command of the repository. Change nothing lightly: other RUSTFLAGS rebuild all dependencies.
export ASTROMECH_CACHE=${ASTROMECH_CACHE:-$HOME/.cache/astromech}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ASTROMECH_CACHE/target}
export LIBTORCH=$ASTROMECH_CACHE/libtorch/torch
export LD_LIBRARY_PATH=$ASTROMECH_CACHE/libtorch/torch/lib:$ASTROMECH_CACHE/libtorch/nvidia/cu13/lib
export ORT_DYLIB_PATH=$ASTROMECH_CACHE/onnxruntime/onnxruntime/capi/libonnxruntime.so.1.31.1
# mold links in a fraction of the time; without it the build is slower, not different.
if command -v mold >/dev/null 2>&1; then
  export RUSTFLAGS=${RUSTFLAGS:--C link-arg=-fuse-ld=mold}
fi
# rustup's folder is on the path of a login shell only.
if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
  export PATH=$HOME/.cargo/bin:$PATH
fi
# One target folder serves several clones, and cargo tells by time alone whether what lies there is of this one: the sources of a clone that
# did not build last are made newer than any artifact, or its tests would run another clone's code.
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ "$(cat "$CARGO_TARGET_DIR/.checkout" 2>/dev/null)" != "$checkout" ]; then
  mkdir -p "$CARGO_TARGET_DIR"
  find "$checkout"/{schemas,daemon,trainer,tests} -name '*.rs' -exec touch {} +
  printf '%s' "$checkout" >"$CARGO_TARGET_DIR/.checkout"
fi
unset checkout
