#!/bin/sh
# Resize with coordinate_transformation_mode "align_corners" puts the first and the last output on the
# first and the last input: that is what the mode is named after, and what PyTorch, whose exporter
# writes it, computes. onnx.reference of onnx 1.23.2 divides by scale * L - 1 with the fractional
# length scale * L, though the output has floor(scale * L) elements. Unless scale * L is an integer,
# the last output misses the corner, and all others are shifted.
#
# Seen for x = 1 ... 5 and scale 1.3 (6 outputs; 1.3 * 5 = 6.5), mode linear:
#   onnx.reference 1, 1.727, 2.455, 3.182, 3.909, 4.636
#   ONNX Runtime 1.32.0 1, 1.8, 2.6, 3.4, 4.2, 5
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 1, 5)
graph = helper.make_graph(
    [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear",
                      coordinate_transformation_mode="align_corners")], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 6])],
    [numpy_helper.from_array(np.array([1, 1, 1, 1.3], np.float32), "scales")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
reference = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel()
runtime = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0].ravel()
print("Resize by 1.3: onnx.reference", reference.round(3), "ONNX Runtime", runtime.round(3))
assert np.allclose(runtime, np.linspace(1, 5, 6))
assert np.allclose(reference, 1 + np.arange(6) * 4 / 5.5)
END
