#!/usr/bin/env bash
# Runs `make test`, or a short training and its evaluation, on the other edge of the supported
# versions: jax 0.10.2 (Python 3.11), or jax 0.12 (Python 3.12 and newer) where this one has 3.11.
#
#   [VENV=.venv] tests/other_edge.sh smoke|test
#
# Its environment is .venv-edge. Without such a Python it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?smoke or test}

if [[ $("${VENV:-.venv}/bin/python" -c 'import sys; print(sys.version_info >= (3, 12))') == True ]]; then
    versions=(3.11)
else
    versions=(3.13 3.12)
fi

# A command of that name may be a shim that only says that there is none: each is tried.
works() { "$1" -c 'import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" 2>/dev/null; }

find_python() {
    local version candidate
    for version in "${versions[@]}"; do
        for candidate in "$(command -v "python$version")" \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/python3; do
            if [[ -n $candidate ]] && works "$candidate" "$version"; then
                echo "$candidate"
                return
            fi
        done
    done
    # uv fetches interpreters, where the network lets it.
    for version in "${versions[@]}"; do
        if command -v uv >/dev/null && UV_HTTP_TIMEOUT=30 uv python install --quiet "$version"; then
            uv python find "$version"
            return
        fi
    done
}

python=$(find_python)
if [[ -z $python ]]; then
    echo "skipped: no Python ${versions[*]} here (on PATH, pyenv's or through uv)"
    exit 0
fi
echo "the other edge: $("$python" --version), $python"

edge=(make --no-print-directory "PYTHON=$python" VENV=.venv-edge)
case $what in
    test) "${edge[@]}" test ;;
    smoke)
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        "${edge[@]}" ".venv-edge/.installed-$version"
        workdir=$(mktemp -d)
        trap 'rm -rf "$workdir"' EXIT
        export PYTHONWARNINGS=error
        .venv-edge/bin/python -m inception_jax.train --config configs/smoke.py --workdir "$workdir"
        .venv-edge/bin/python -m inception_jax.evaluate --workdir "$workdir"
        ;;
    *)
        echo "error: tests/other_edge.sh takes smoke or test, not $what" >&2
        exit 2
        ;;
esac
