#!/usr/bin/env bash
# Creates a TPU slice. TPU_SPOT=1 makes it cheaper, and lets it be taken away.
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/tpu_vm/names.sh
need TPU_TYPE v5litepod-16
need TPU_RUNTIME v2-alpha-tpuv5-lite
gcloud compute tpus tpu-vm create "$TPU_NAME" --zone="$TPU_ZONE" \
    --accelerator-type="$TPU_TYPE" --version="$TPU_RUNTIME" ${TPU_SPOT:+--spot}
