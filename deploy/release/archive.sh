#!/usr/bin/env bash
# archive.sh BINARY VERSION OUT: packs the daemon, ONNX Runtime's library, the demo and the configurations into OUT/astromech-VERSION-….tar.gz.
# Needs `deploy/local/install.sh build onnxruntime`. The archive runs without a compiler: see README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:?the daemon} version=${2:?a version} out=${3:?a folder}
cache=${ASTROMECH_CACHE:-$HOME/.cache/astromech}
library=$cache/onnxruntime/onnxruntime/capi/libonnxruntime.so.1.31.1
[ -f "$library" ] || { echo "error: $library is not there" >&2; echo "  fix: deploy/local/install.sh build onnxruntime" >&2; exit 1; }
name=astromech-$version-x86_64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/lib" "$work/$name/configs" "$out"
install -m 755 "$binary" "$work/$name/astromech"
strip "$work/$name/astromech"
install -m 755 "$library" "$work/$name/lib/"
# The wheel's own licence and what it includes go with its library.
cp "$cache"/onnxruntime/onnxruntime/{LICENSE,ThirdPartyNotices.txt} "$work/$name/lib/"
cp -r configs/demo.toml configs/local.toml configs/reference.toml configs/demo "$work/$name/configs/"
cp -r deploy/systemd deploy/prometheus deploy/grafana "$work/$name/"
cp -r schemas/json "$work/$name/schemas"
cp README.md CHANGELOG.md LICENSE NOTICE SECURITY.md "$work/$name/"
# Reproducible: sorted, the commit's time, nobody's names.
time=$(git log -1 --format=%ct 2>/dev/null || date +%s)
tar --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner -C "$work" -c "$name" | gzip -n >"$out/$name.tar.gz"
echo "$out/$name.tar.gz: $(du -h "$out/$name.tar.gz" | cut -f1)"
