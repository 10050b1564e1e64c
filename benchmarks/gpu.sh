#!/usr/bin/env bash
# Everything that needs a GPU, in one call of at most 560 s, without network, with whatever of
# torch, triton, cuda-bindings, onnx, onnxruntime and tensorrt the interpreter has. Nothing is
# installed; packages that lie unpacked in folders of PYTHONPATH count too. The report grows while
# it runs, so that a cut leaves what was measured. --rehearse does the same on a CPU in a minute.
#   benchmarks/gpu.sh [--rehearse] [gpu.json] [PART...]      PYTHON=python3
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
options=()
if [ "${1:-}" = --rehearse ]; then
  options=(--rehearse)
  # what stands in for a GPU lies with the tests
  export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$root/tests/support/gpu"
  # as the tests fetch it, where it is not installed
  for wheel in "$root"/.venv/wheels/triton-*; do
    if [ -d "$wheel/triton" ]; then PYTHONPATH="$PYTHONPATH:$wheel"; fi
  done
  shift
fi
json=${1:-gpu.json}
shift || true
# the checkout is the package: give it the package's name
link=$(mktemp -d)
trap 'rm -rf "$link"' EXIT
ln -s "$root" "$link/sam2rt"
export PYTHONPATH="$link${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# in the foreground, or Ctrl-C would not reach it
timeout --foreground 560 "${PYTHON:-python3}" -m sam2rt.benchmarks.gpu --json "$json" --seconds 550 \
  ${options[@]+"${options[@]}"} ${1:+--parts "$@"}
