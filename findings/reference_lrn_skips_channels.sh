#!/bin/sh
# LRN divides every element by a power of a sum over neighbouring channels. onnx.reference of onnx
# 1.23.2 sums for as many channels as the batch has items; in the others the sum stays 0, so that they
# leave the operator unchanged (bias 1). With a batch of 1 only the first channel is normalized.
#
# Seen for x = 1, 2, 3, 4 in four channels, batch 1, size 3, alpha 1:
#   onnx.reference 0.4792, 2, 3, 4
#   ONNX Runtime 1.32.0 0.4792, 0.5445, 0.5083, 0.7491
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

x = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1)
graph = helper.make_graph(
    [helper.make_node("LRN", ["x"], ["y"], size=3, alpha=1.0)], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
reference = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel()
runtime = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0].ravel()
print("LRN: onnx.reference", reference.round(4), "ONNX Runtime", runtime.round(4))
sums = np.convolve(np.square(x.ravel()), np.ones(3), "same")
expected = x.ravel() / (1 + sums / 3) ** 0.75
assert np.allclose(runtime, expected, rtol=1e-5)
assert np.allclose(reference[0], expected[0], rtol=1e-5)
assert np.array_equal(reference[1:], x.ravel()[1:])
END
