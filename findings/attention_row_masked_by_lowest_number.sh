#!/bin/sh
# Exporters forbid a key by adding the lowest float32 number to its score, -3.4028235e38, instead of
# minus infinity. In a row whose keys are all forbidden (the padding of a batch) the scores are then
# equal, and their softmax gives the mean of V. So does onnx.reference of onnx 1.23.2. The operator
# Attention of ONNX Runtime 1.32.0 takes this number for minus infinity, for which the row is 0. With
# -1e30 both give the mean. Such rows differ between the two, and so does any mean over all rows.
#
# Seen for a row whose three keys have the bias -3.4028235e38, and for -1e30:
#   onnx.reference the mean of V, the mean of V
#   ONNX Runtime 0, the mean of V
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

random = np.random.default_rng(6)
feeds = {name: random.standard_normal((1, 1, 3, 2)).astype(np.float32) for name in "qkv"}
graph = helper.make_graph(
    [helper.make_node("Attention", ["q", "k", "v", "bias"], ["y"])], "g",
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 3, 2]) for name in "qkv"]
    + [helper.make_tensor_value_info("bias", TensorProto.FLOAT, [3, 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 2])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"])
evaluator = ReferenceEvaluator(model)
mean = feeds["v"].mean(axis=(0, 1, 2))
seen = []
for lowest in (np.finfo(np.float32).min, np.float32(-1e30)):
    bias = np.zeros((3, 3), np.float32)
    bias[2] = lowest
    rows = [run.run(None, feeds | {"bias": bias})[0][0, 0, 2] for run in (evaluator, session)]
    seen += ["mean of V" if np.allclose(row, mean, atol=1e-6) else str(row) for row in rows]
print(f"a row of lowest numbers: onnx.reference {seen[0]}, ONNX Runtime {seen[1]}; "
      f"a row of -1e30: {seen[2]}, {seen[3]}")
assert seen[0] == seen[2] == seen[3] == "mean of V" and seen[1] == str(np.zeros(2, np.float32))
END
