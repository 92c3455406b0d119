#!/usr/bin/env bash
# Copies what is committed here to all workers and installs what it needs; again after each change.
# Data and runs must lie where all workers see them. TPU_NFS=HOST:/SHARE (a Filestore, say) is
# mounted as /mnt/shared.
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/tpu_vm/names.sh
git diff --quiet HEAD || echo "warning: changes that are not committed are left out" >&2
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:inception_jax.tar.gz" --zone="$TPU_ZONE" --worker=all
on_workers all mkdir -p inception_jax
on_workers all tar -xzf inception_jax.tar.gz -C inception_jax
on_workers all inception_jax/launch/tpu_vm/worker.sh install
[[ -z ${TPU_NFS:-} ]] || on_workers all inception_jax/launch/tpu_vm/worker.sh share "$TPU_NFS"
