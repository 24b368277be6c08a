#!/bin/sh
# The input `sequence_lens` of LSTM ends each sequence of a padded batch: behind its end Y is 0, and
# Y_h is the state after its last step. onnx.reference of onnx 1.23.2 reads the input and does not use
# it: it runs over the padding, and Y_h is the state after the last padded step. Whoever takes the
# reference as ground truth for a batch of sentences of different lengths compares with wrong numbers,
# and no error says so. GRU and RNN behave in the same way.
#
# Seen, as the largest difference between Y_h of the second sequence (one step of three) and the state
# after a run over that one step alone:
#   onnx.reference 0.59, ONNX Runtime 1.32.0 0.00
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

random = np.random.default_rng(4)
weights = [numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
           for name, shape in (("W", (1, 8, 3)), ("R", (1, 8, 2)))]
x = random.standard_normal((3, 2, 3)).astype(np.float32)


def network(steps, batch):
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "W", "R", "", "lengths"], ["", "last"], hidden_size=2)],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, batch, 3]),
              helper.make_tensor_value_info("lengths", TensorProto.INT32, [batch])],
        [helper.make_tensor_value_info("last", TensorProto.FLOAT, [1, batch, 2])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def reference(model, feeds):
    return ReferenceEvaluator(model).run(None, feeds)[0]


def runtime(model, feeds):
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


padded = {"x": x, "lengths": np.array([3, 1], np.int32)}
alone = {"x": x[:1, 1:], "lengths": np.array([1], np.int32)}
differences = {
    run.__name__: np.abs(run(network(3, 2), padded)[:, 1] - run(network(1, 1), alone)[:, 0]).max()
    for run in (reference, runtime)}
print("Y_h of a sequence of 1 step, padded to 3, differs from the state after 1 step: "
      f"onnx.reference {differences['reference']:.2f}, ONNX Runtime {differences['runtime']:.2f}")
assert differences["reference"] > 0.1 and differences["runtime"] < 1e-6
END
