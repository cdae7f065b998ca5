#!/usr/bin/env bash
# Usage: preprocess.sh DATA_DIR [--option value ...]
set -euo pipefail

if (( $# < 1 )); then
    echo "usage: preprocess.sh DATA_DIR [--option value ...]   (preprocess.sh DATA_DIR --help lists the options)" >&2
    exit 2
fi
export IMPROVE_DATA_DIR=$1
shift

# Several trainings share a node, so each keeps to one thread.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUNBUFFERED=1
here=$(dirname -- "$(readlink -f -- "$0")")
exec python3 "$here/preprocess.py" "$@"
