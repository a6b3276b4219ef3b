# shellcheck shell=bash
# Source this: the environment of every cargo command of the repository. Change nothing lightly: other RUSTFLAGS rebuild all dependencies.
export ASTROMECH_CACHE=${ASTROMECH_CACHE:-$HOME/.cache/astromech}
# One target folder a checkout: cargo tells by time and relative path alone whether what lies there is built of this one.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target}
export LIBTORCH=$ASTROMECH_CACHE/libtorch/torch
export LD_LIBRARY_PATH=$ASTROMECH_CACHE/libtorch/torch/lib:$ASTROMECH_CACHE/libtorch/nvidia/cu13/lib
export ORT_DYLIB_PATH=$ASTROMECH_CACHE/onnxruntime/onnxruntime/capi/libonnxruntime.so.1.31.1
# mold links in a fraction of the time; without it the build is slower, not different.
if command -v mold >/dev/null 2>&1; then
  export RUSTFLAGS=${RUSTFLAGS:--C link-arg=-fuse-ld=mold}
fi
# librdkafka's TLS: the system's OpenSSL where its headers are, since compiling it takes minutes. Builds that leave the machine (deploy/docker,
# a plain `cargo build --release`) have their own.
if pkg-config --exists 'openssl >= 3' 2>/dev/null; then
  export OPENSSL_NO_VENDOR=${OPENSSL_NO_VENDOR:-1}
fi
# rustup's folder is on the path of a login shell only.
if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
  export PATH=$HOME/.cargo/bin:$PATH
fi
