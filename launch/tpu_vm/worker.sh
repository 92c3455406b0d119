#!/usr/bin/env bash
# Runs on each worker of a TPU slice, called by the other scripts:
#   worker.sh install | share HOST:/SHARE | start COMMAND FLAGS... | follow | stop
# What it knows of the run is in ~/.inception_jax: lock (held while it runs), log, pid, exit_code.
set -euo pipefail
cd "$(dirname "$0")/../.."
state=$HOME/.inception_jax
mkdir -p "$state"

install() {
    # TPU VMs come with Python 3.10; uv brings another. The variable means nothing to an old pip, and
    # a new one would refuse to install beside the system's packages without it.
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
    PATH=$HOME/.local/bin:$PATH
    uv venv --quiet --python 3.12 --allow-existing .venv
    uv pip install --quiet --python .venv/bin/python --requirement requirements.txt \
        --constraint launch/docker/constraints.txt 'jax[tpu]'
}

share() {
    sudo apt-get install --yes --quiet nfs-common
    sudo mkdir -p /mnt/shared
    mountpoint --quiet /mnt/shared || sudo mount --types nfs "$1" /mnt/shared
}

start() {
    local asked
    asked=$(printf '%q ' "$@")
    exec 9>"$state/lock"  # held by whoever inherits it: loop and the command
    if ! flock --nonblock 9; then
        if [[ $asked != "$(<"$state/command")" ]]; then
            echo "error: another run is on: $(<"$state/command"); stop.sh ends it" >&2
            exit 1
        fi
        echo "already running"
        return
    fi
    echo "$asked" >"$state/command"
    rm -f "$state/stop" "$state/exit_code"
    setsid nohup "$PWD/launch/tpu_vm/worker.sh" loop "$@" >>"$state/log" 2>&1 </dev/null &
    echo $! >"$state/pid"
}

# Exit code 42 means: preempted or a peer lost, start me again.
loop() {
    local code=42
    while ((code == 42)) && [[ ! -e $state/stop ]]; do
        code=0
        .venv/bin/python -m "inception_jax.$1" "${@:2}" || code=$?
        echo "exit code $code"
    done
    echo "$code" >"$state/exit_code"
}

follow() {
    tail --lines=100 --sleep-interval=0.2 --pid="$(<"$state/pid")" --follow=name "$state/log"
    if [[ ! -e $state/exit_code ]]; then
        echo "error: the run ended without a word, as when a machine restarts; run.sh goes on" >&2
        exit 1
    fi
    exit "$(<"$state/exit_code")"
}

stop() {
    ! flock --nonblock "$state/lock" true || return 0
    touch "$state/stop"
    pkill --signal TERM --parent "$(<"$state/pid")" || true
    if ! flock --timeout 120 "$state/lock" true; then
        echo "error: still running after two minutes" >&2
        exit 1
    fi
}

"$@"
