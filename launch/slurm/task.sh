#!/usr/bin/env bash
# One process of a step: its share of the node's GPUs, and an exit code whose maximum says the truth.
# Usage, under srun: task.sh COMMAND FLAGS...
set -euo pipefail

# Left alone, JAX takes the one GPU whose number is SLURM_LOCALID. That is right for one process a
# GPU on a node where all see all, and wrong for one process a node or GPUs bound to tasks by Slurm.
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-}"
if ((${#gpus[@]} > 0)); then
    processes=1
    [[ -n ${SLURM_GPUS_PER_TASK:-} ]] || processes=$((SLURM_STEP_NUM_TASKS / SLURM_STEP_NUM_NODES))
    share=$((${#gpus[@]} / processes))
    if ((share == 0)); then
        echo "error: $processes processes cannot share ${#gpus[@]} GPUs: a smaller --ntasks-per-node" >&2
        exit 202
    fi
    first=$((processes == 1 ? 0 : SLURM_LOCALID * share))
    JAX_LOCAL_DEVICE_IDS=$(seq --separator=, "$first" $((first + share - 1)))
    export JAX_LOCAL_DEVICE_IDS
fi

# Slurm signals this shell, too. A trap (unlike an ignored signal) is not inherited.
trap : TERM INT
code=0
"$PYTHON" -m "inception_jax.$1" "${@:2}" || code=$?

# srun takes the highest code of all tasks. "Start me again" (42) is to hold only if no task failed:
# so errors go above it, and come back in step.sh. Who dies of SIGTERM did not listen yet: preempted.
case $code in
    0 | 42) exit $code ;;
    143) exit 42 ;;
    *) exit $((code < 42 ? code + 200 : code)) ;;
esac
