#!/bin/sh
# Two MatMul with int8 weights that share one initializer as zero point: a valid model that ONNX
# Runtime 1.32.0 (CPU) runs. With the option session.x64quantprecision=1, which is there to keep sums
# of int8 products exact on x86 processors without VNNI, the session is refused: turning the weights
# to uint8 adds the new zero point once for each weight, under one name. With a zero point for each
# weight it runs, with the same result. Writers that store equal constants once make such models.
#
# Seen on a processor with AVX2:
#   one zero point: runs; with the option: Attempt to replace the existing tensor
#   own zero points: runs; with the option: runs
# On processors with VNNI the option changes nothing, and all four run.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'END'
import platform

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)


def network(shared):
    random = np.random.default_rng(0)
    constants = {"scale": np.float32(0.05), "zero": np.uint8(128)}
    nodes, value = [], "x"
    for index in range(2):
        zero = "weight_zero" if shared else f"weight_zero_{index}"
        constants |= {f"codes_{index}": random.integers(-100, 100, (8, 8)).astype(np.int8),
                      f"weight_scale_{index}": np.float32(0.01), zero: np.int8(0)}
        nodes += [
            helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"q_{index}"]),
            helper.make_node("DequantizeLinear", [f"q_{index}", "scale", "zero"], [f"x_{index}"]),
            helper.make_node("DequantizeLinear", [f"codes_{index}", f"weight_scale_{index}", zero],
                             [f"weight_{index}"]),
            helper.make_node("MatMul", [f"x_{index}", f"weight_{index}"], [f"sum_{index}"])]
        value = f"sum_{index}"
    nodes += [helper.make_node("QuantizeLinear", [value, "scale", "zero"], ["q"]),
              helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def outcome(shared, exact):
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(
            network(shared), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return str(error).rsplit("AddInitializedOrtValue ", 1)[-1].strip()
    return "runs" if session.run(None, {"x": np.ones((1, 8), np.float32)}) else ""


results = {(shared, exact): outcome(shared, exact) for shared in (True, False) for exact in (False, True)}
for shared, name in [(True, "one zero point"), (False, "own zero points")]:
    print(f"{name}: {results[shared, False]}; with the option: {results[shared, True]}")
try:
    flags = open("/proc/cpuinfo").read().split()
except OSError:
    flags = []
concerned = platform.machine() == "x86_64" and "avx2" in flags and not {
    "avx512_vnni", "avx_vnni"} & set(flags)
expected = "Attempt to replace the existing tensor" if concerned else "runs"
assert results == {(True, False): "runs", (True, True): expected,
                   (False, False): "runs", (False, True): "runs"}
END
