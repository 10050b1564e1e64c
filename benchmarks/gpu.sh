#!/usr/bin/env bash
# Everything that needs a GPU, in one call of at most nine minutes, without network, with whatever
# of torch, triton, onnxruntime-gpu and tensorrt the interpreter has. Nothing is installed.
#   benchmarks/gpu.sh [gpu.json] [PART...]      PYTHON=python3
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
json=${1:-gpu.json}
shift || true
# the checkout is the package: give it the package's name
link=$(mktemp -d)
trap 'rm -rf "$link"' EXIT
ln -s "$root" "$link/sam2rt"
export PYTHONPATH="$link${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
timeout 540 "${PYTHON:-python3}" -m sam2rt.benchmarks.gpu --json "$json" --seconds 520 \
  ${1:+--parts "$@"}
