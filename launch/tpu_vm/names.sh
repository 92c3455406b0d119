# shellcheck shell=bash
# Sourced by the other scripts: which TPU it is, and how to reach its workers.

# need NAME EXAMPLE: ends with 2 if the variable is not set.
need() {
    if [[ -z ${!1:-} ]]; then
        echo "error: $1 is not set, as in: export $1=$2" >&2
        exit 2
    fi
}

# on_workers WHICH COMMAND ARGUMENTS...: runs it on one worker (0, 1, ...) or all, words as they are.
on_workers() {
    gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$TPU_ZONE" --worker="$1" \
        --command="$(printf '%q ' "${@:2}")"
}

need TPU_NAME inception
need TPU_ZONE us-west4-a
