#!/usr/bin/env bash
# Starts a command on all workers and shows what worker 0 says.
#   launch/tpu_vm/run.sh train --config configs/googlenet.py --workdir /mnt/shared/runs/googlenet
# It runs on if this connection ends or Ctrl-C is pressed; the same line connects again, or goes on
# with a run that has ended.
set -euo pipefail
cd "$(dirname "$0")/../.."
if (($# < 2)); then
    echo "error: usage: launch/tpu_vm/run.sh train|evaluate|doctor FLAGS..." >&2
    exit 2
fi
source launch/tpu_vm/names.sh
on_workers all inception_jax/launch/tpu_vm/worker.sh start "$@"
on_workers 0 inception_jax/launch/tpu_vm/worker.sh follow
