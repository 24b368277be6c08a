#!/bin/sh
# QuantizeLinear to int8 whose attribute output_dtype says INT8, in accord with its int8 zero point: a
# valid model of opset 21, which ONNX's checker accepts and its reference evaluator runs. ONNX Runtime
# 1.32.0 (CPU, processors without VNNI) refuses it with every product behind it: its own optimization
# turns the zero point to uint8, leaves the attribute, and then finds that they disagree. Without the
# attribute, or without optimization, it runs.
#
# Seen on a processor with AVX2:
#   with output_dtype: output_dtype INT8 does not match y_zero_point type UINT8
#   with output_dtype, no optimization: runs
#   without output_dtype: runs
# On processors with VNNI that optimization does not take place, and all three run.
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
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)
x = np.ones((2, 8), np.float32)


def network(**attributes):
    codes = np.random.default_rng(0).integers(-100, 100, (8, 8)).astype(np.int8)
    constants = {"scale": np.float32(0.05), "zero": np.int8(3), "codes": codes,
                 "weight_scale": np.float32(0.01), "weight_zero": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["codes", "weight_scale", "weight_zero"], ["weights"]),
        helper.make_node("MatMul", ["rounded", "weights"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["q_sum"]),
        helper.make_node("DequantizeLinear", ["q_sum", "scale", "zero"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    ReferenceEvaluator(model).run(None, {"x": x})
    return model.SerializeToString()


def outcome(model, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return str(error).rsplit("[TypeInferenceError] ", 1)[-1].strip(" .\n")
    return "runs" if session.run(None, {"x": x}) else ""


levels = onnxruntime.GraphOptimizationLevel
stated = network(output_dtype=TensorProto.INT8)
results = [outcome(stated, levels.ORT_ENABLE_ALL), outcome(stated, levels.ORT_DISABLE_ALL),
           outcome(network(), levels.ORT_ENABLE_ALL)]
for name, result in zip(["with output_dtype", "with output_dtype, no optimization",
                         "without output_dtype"], results):
    print(f"{name}: {result}")
try:
    flags = open("/proc/cpuinfo").read().split()
except OSError:
    flags = []
concerned = platform.machine() == "x86_64" and "avx2" in flags and not {
    "avx512_vnni", "avx_vnni"} & set(flags)
refusal = "output_dtype INT8 does not match y_zero_point type UINT8"
assert results == [refusal if concerned else "runs", "runs", "runs"]
END
