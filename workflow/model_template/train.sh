#!/usr/bin/env bash
# Usage: train.sh GPU DATA_DIR [CONFIG_FILE] [--option value ...]
set -euo pipefail

if (( $# < 2 )); then
    echo "usage: train.sh GPU DATA_DIR [CONFIG_FILE] [--option value ...]   (train.sh GPU DATA_DIR --help lists the options)" >&2
    exit 2
fi
# numpy uses no GPU; a model that does needs nothing else to be placed on one.
export CUDA_VISIBLE_DEVICES=$1
export IMPROVE_DATA_DIR=$2
shift 2

if [[ -n ${1-} && $1 != -* ]]; then
    set -- --config_file "$@"
fi

# Several trainings share a node, so each keeps to one thread.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUNBUFFERED=1
here=$(dirname -- "$(readlink -f -- "$0")")
exec python3 "$here/train.py" "$@"
