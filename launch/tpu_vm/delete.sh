#!/usr/bin/env bash
# Deletes the TPU slice and its disks. What a run wrote stays where it was put (TPU_NFS).
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/tpu_vm/names.sh
gcloud compute tpus tpu-vm delete "$TPU_NAME" --zone="$TPU_ZONE" --quiet
