#!/usr/bin/env bash
# `make bench-trainer`: a training step beside the same step in PyTorch, by turns in the same minutes, LibTorch 2.11 under both.
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/local/common.sh"
. "$LOCAL_DIR/env.sh"
cd "$LOCAL_DIR/../.."
CONFIG=${CONFIG:-configs/train-demo.toml}
STEPS=${STEPS:-15}
ROUNDS=${ROUNDS:-3}
# A Python with torch 2.11 of its own: the wheel that LibTorch comes from lacks the CUDA libraries that `import torch` wants.
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import torch' 2>/dev/null || die "$PYTHON has no torch" "python3 -m venv torch-venv && torch-venv/bin/pip install torch==2.11.0 && make bench-trainer PYTHON=torch-venv/bin/python"
export OMP_WAIT_POLICY=passive
for round in $(seq "$ROUNDS"); do
  echo "round $round"
  "$CARGO_TARGET_DIR/debug/trainer" bench --config "$CONFIG" --steps "$STEPS" --set optim.muon_lr_scale=0.0
  env -u LD_LIBRARY_PATH "$PYTHON" trainer/bench/pytorch_step.py --config "$CONFIG" --steps "$STEPS"
done
