#!/bin/sh
# Before opset 13, Softmax normalizes over all axes from `axis` on together (default: 1), as if they
# were one. onnx.reference of onnx 1.23.2 reads such a network as the newest operator: it normalizes
# over one axis, the last. So the reference cannot check a classifier that was exported with an older opset.
#
# Seen for x = 0 ... 7 in the shape [1, 2, 4], opset 11, without attributes, as the sum of all results
# (one distribution must have the sum 1):
#   onnx.reference 2.0, ONNX Runtime 1.32.0 1.0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
graph = helper.make_graph(
    [helper.make_node("Softmax", ["x"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
reference = ReferenceEvaluator(model).run(None, {"x": x})[0]
runtime = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
print(f"sum of Softmax: onnx.reference {reference.sum():.4f}, ONNX Runtime {runtime.sum():.4f}")
last_axis = np.exp(x) / np.exp(x).sum(axis=2, keepdims=True)
assert np.allclose(runtime, np.exp(x) / np.exp(x).sum())
assert np.allclose(reference, last_axis)
END
