#!/usr/bin/env bash
# Stops the run on all workers: it saves what is done. run.sh with the same flags goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/tpu_vm/names.sh
on_workers all inception_jax/launch/tpu_vm/worker.sh stop
