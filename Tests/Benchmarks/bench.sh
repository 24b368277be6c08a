#!/bin/bash
# Compares the speed of the released tools with ONNX Runtime and OpenVINO, interleaved, as ratios.
#   bench.sh [OPTIONS OF bench.py]
#   bench.sh --shapes [OPTIONS OF shapes.py]
# First it says what the processor can do at most (limits.c). The peers come from PyPI into a
# virtual environment outside the tree: QM_BENCH_ENVIRONMENT, or  ~/.cache/swift-qm/benchmarks.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
environment=${QM_BENCH_ENVIRONMENT:-${XDG_CACHE_HOME:-$HOME/.cache}/swift-qm/benchmarks}
if [ ! -x "$environment/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$environment"
fi
if ! "$environment/bin/python" -c "import onnxruntime, openvino, nncf, onnx" 2> /dev/null; then
  "$environment/bin/pip" install -q onnxruntime==1.31.1 openvino==2026.4.1 nncf==3.4.0 onnx >&2
fi
if [ "$(uname -m)" = x86_64 ]; then
  limits=$(mktemp)
  "${CC:-clang}" -O2 "$here/limits.c" -o "$limits" && "$limits" && echo
  rm -f "$limits"
fi
if [ "${1:-}" = --shapes ]; then
  shift
  tools=$(cd "$root" && swift build -c release --show-bin-path)
  exec "$environment/bin/python" "$here/shapes.py" --tools "$tools" "$@"
fi
tools=$(cd "$root" && swift build -c release --show-bin-path)
exec "$environment/bin/python" "$here/bench.py" --tools "$tools" \
  --models "${QM_BENCH_MODELS:-$root/fixtures/models}" "$@"
