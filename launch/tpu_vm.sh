#!/usr/bin/env bash
# Runs a command on all workers of a Cloud TPU VM, which gcloud creates and deletes (README.md):
#   launch/tpu_vm.sh setup
#   launch/tpu_vm.sh run train --config configs/googlenet.py --workdir /mnt/shared/runs/googlenet
#   launch/tpu_vm.sh stop
# setup copies what is committed here and installs what it needs; again after each change. run shows
# the output of worker 0. The run goes on if this connection ends or Ctrl-C is pressed: the same line
# connects again, or continues a run that has ended. stop lets the run save first.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { # EXIT_CODE MESSAGE
    echo "error: $2" >&2
    exit "$1"
}

# --- here

setup() {
    git diff --quiet HEAD || echo "warning: changes that are not committed are left out" >&2
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:inception_jax.tar.gz" --zone="$TPU_ZONE" --worker=all
    on_workers all mkdir -p inception_jax
    on_workers all tar -xzf inception_jax.tar.gz -C inception_jax
    on_workers all inception_jax/launch/tpu_vm.sh worker_install
}

run() {
    (($# >= 2)) || fail 2 "usage: launch/tpu_vm.sh run train|evaluate|doctor FLAGS..."
    on_workers all inception_jax/launch/tpu_vm.sh worker_start "$@"
    on_workers 0 inception_jax/launch/tpu_vm.sh worker_follow
}

stop() {
    on_workers all inception_jax/launch/tpu_vm.sh worker_stop
}

on_workers() { # NUMBER|all COMMAND ARGUMENTS...
    gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$TPU_ZONE" --worker="$1" \
        --command="$(printf '%q ' "${@:2}")"
}

# --- on each worker; the state of its run is in ~/.inception_jax: lock (held while it runs),
# command, log, pid, stop (asked for), exit_code

state=$HOME/.inception_jax

worker_install() {
    # TPU VMs come with Python 3.10; uv brings another. The variable means nothing to an old pip, and
    # a new one would refuse to install beside the system's packages without it.
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
    PATH=$HOME/.local/bin:$PATH
    uv venv --quiet --python 3.12 --allow-existing .venv
    uv pip install --quiet --python .venv/bin/python --requirement requirements.txt \
        --constraint launch/docker/constraints.txt 'jax[tpu]'
}

worker_start() {
    local asked
    asked=$(printf '%q ' "$@")
    mkdir -p "$state"
    exec 9>"$state/lock" # held by the processes that inherit it: the loop and the command
    if ! flock --nonblock 9; then
        [[ $asked == "$(<"$state/command")" ]] ||
            fail 1 "another run is on: $(<"$state/command"); launch/tpu_vm.sh stop ends it"
        echo "already running"
        return
    fi
    echo "$asked" >"$state/command"
    rm -f "$state/stop" "$state/exit_code"
    setsid nohup "$PWD/launch/tpu_vm.sh" worker_loop "$@" >>"$state/log" 2>&1 </dev/null &
    echo $! >"$state/pid"
}

# Exit code 42 means: preempted or a peer lost, start me again.
worker_loop() {
    local code=42
    while ((code == 42)) && [[ ! -e $state/stop ]]; do
        code=0
        .venv/bin/python -m "inception_jax.$1" "${@:2}" || code=$?
        echo "exit code $code"
    done
    echo "$code" >"$state/exit_code"
}

worker_follow() {
    tail --lines=100 --sleep-interval=0.2 --pid="$(<"$state/pid")" --follow=name "$state/log"
    [[ -e $state/exit_code ]] ||
        fail 1 "the run ended without an exit code, as when a machine restarts; the same command goes on"
    exit "$(<"$state/exit_code")"
}

worker_stop() {
    [[ -e $state/lock ]] && ! flock --nonblock "$state/lock" true || return 0
    touch "$state/stop"
    pkill --signal TERM --parent "$(<"$state/pid")" || true
    flock --timeout 120 "$state/lock" true || fail 1 "still running after two minutes"
}

case ${1:-} in
setup | run | stop)
    [[ -n ${TPU_NAME:-} ]] || fail 2 "TPU_NAME is not set, as in: export TPU_NAME=inception"
    [[ -n ${TPU_ZONE:-} ]] || fail 2 "TPU_ZONE is not set, as in: export TPU_ZONE=us-west4-a"
    ;;
worker_*) ;;
*) fail 2 "usage: launch/tpu_vm.sh setup | run COMMAND FLAGS... | stop" ;;
esac
"$@"
