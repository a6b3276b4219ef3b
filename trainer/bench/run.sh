#!/usr/bin/env bash
# `make bench-trainer`: a training step beside the same step in PyTorch, by turns in the same minutes, the same LibTorch under both.
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/local/common.sh"
. "$LOCAL_DIR/env.sh"
cd "$LOCAL_DIR/../.."
CONFIG=${CONFIG:-configs/train-demo.toml}
STEPS=${STEPS:-15}
ROUNDS=${ROUNDS:-3}
export OMP_WAIT_POLICY=passive
for round in $(seq "$ROUNDS"); do
  echo "round $round"
  "$CARGO_TARGET_DIR/debug/trainer" bench --config "$CONFIG" --steps "$STEPS"
  PYTHONPATH=$ASTROMECH_CACHE/libtorch python3 trainer/bench/pytorch_step.py --config "$CONFIG" --steps "$STEPS"
done
