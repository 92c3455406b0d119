#!/usr/bin/env bash
# What every job does: one step with all its processes, and back to the queue after exit code 42.
# Usage, in a batch job or as one (sbatch --nodes=2 launch/slurm/step.sh ...): step.sh COMMAND FLAGS...
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=python3
    [[ ! -x .venv/bin/python ]] || PYTHON=$PWD/.venv/bin/python
fi
export PYTHON

# The address by which Slurm itself reaches the first node: its name need not resolve. The port lies
# below those that Linux gives to outgoing connections; jobs that share the node differ in it. Of the
# names sed reads all, and prints one: `head` would end scontrol by SIGPIPE, and so this script.
node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
address=$(scontrol show node "$node" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
export JAX_COORDINATOR_ADDRESS="$address:$((10000 + SLURM_JOB_ID % 20000))"

# --kill-on-bad-exit=0 and --wait: when a process has ended, the others have two minutes to name the
# lost one and to end by themselves. Since Slurm 22.05 srun does not inherit --cpus-per-task.
code=0
srun --kill-on-bad-exit=0 --wait=120 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    launch/slurm/task.sh "$@" || code=$?

# srun says the highest exit code of all tasks, and task.sh put failures above 42.
if ((code == 42)); then
    # The number of an array's last task is that of the array: name the task.
    job=$SLURM_JOB_ID
    [[ -z ${SLURM_ARRAY_JOB_ID:-} ]] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    echo "preempted, or a peer was lost: job $job goes back to the queue" >&2
    scontrol requeue "$job"
fi
exit $((code > 200 && code < 242 ? code - 200 : code))
