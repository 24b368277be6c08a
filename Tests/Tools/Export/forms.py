#!/usr/bin/env python3
"""Operators on codes at the size of real layers, beside ONNX Runtime without graph optimization.

    forms.py [--tools .build/release]

Each form of fixtures/generate/quantized_forms.py whose result ONNX Runtime defines to the last bit is run
from the .onnx file (float32 arithmetic on the codes' numbers) and from the .qm that qconvert makes of it
(integers). A line says how many codes differ and by how many steps; of float32 results, the largest
difference relative to the largest number. ONNX Runtime's own sums saturate on processors without dot
products of bytes. Needs numpy, onnx and onnxruntime.
"""
import argparse
import os
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

RANDOM = np.random.default_rng(7)
MICROSOFT = "com.microsoft"


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def codes(*shape):
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def on_grid(scale, kind, zero, *shape):
    """Numbers that QuantizeLinear rounds to the same codes however it computes."""
    bounds = np.iinfo(kind)
    integers = RANDOM.integers(bounds.min, bounds.max + 1, shape) - zero
    return (integers * np.float64(scale)).astype(np.float32)


def scales(count):
    return (0.004 + RANDOM.random(count) / 500).astype(np.float32)


def node(operation, inputs, outputs, domain=MICROSOFT, **attributes):
    return h.make_node(operation, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def difference(result, right):
    apart = np.abs(result.astype(np.float64) - right.astype(np.float64))
    if right.dtype.kind in "iu":
        return f"{int(apart.max())} steps, {int((apart > 0).sum())} of {apart.size} codes"
    return f"{apart.max() / np.abs(right).max():.1e}"


def compare(tools, name, nodes, feeds, kinds, constants):
    graph = h.make_graph(
        nodes, "g",
        [h.make_tensor_value_info(key, h.np_dtype_to_tensor_dtype(array.dtype), array.shape)
         for key, array in feeds.items()],
        [h.make_tensor_value_info(key, kind, None) for key, kind in kinds.items()],
        [nh.from_array(np.asarray(array), key) for key, array in constants.items()])
    made = h.make_model(
        graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid(MICROSOFT, 1)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        network, samples = os.path.join(folder, "a.onnx"), os.path.join(folder, "in")
        onnx.save(made, network)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"])
        right = dict(zip(kinds, session.run(list(kinds), feeds)))
        os.makedirs(samples)
        for key, array in feeds.items():
            np.save(os.path.join(samples, f"s.{key}.npy" if len(feeds) > 1 else "s.npy"), array)
        small = os.path.join(folder, "a.qm")
        subprocess.run(
            [f"{tools}/qconvert", network, small, "--bits", "8", "--quiet"], check=True,
            stdout=subprocess.DEVNULL)
        cells = []
        for file in [network, small]:
            out = os.path.join(folder, "out" + file[-3:])
            subprocess.run(
                [f"{tools}/qrun", file, samples, "--output", out, "--quiet"], check=True,
                stdout=subprocess.DEVNULL)
            cells.append("; ".join(
                difference(np.load(os.path.join(out, f"s.{key}.npy")), array)
                for key, array in right.items()))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", default=".build/release")
    tools = parser.parse_args().tools
    single = np.float32
    print("| form | .onnx | .qm |\n| --- | --- | --- |")
    for text, kind, zero, lowest in [("uint8", np.uint8, 117, 0), ("int8", np.int8, -3, -128)]:
        output = {"y": T.UINT8 if kind == np.uint8 else T.INT8}
        first = [node("QuantizeLinear", "x s z", "q", "")]
        second = first + [node("QuantizeLinear", "v t u", "r", "")]
        grid = {"s": single(0.031), "z": kind(zero)}
        def numbers(*shape):
            return on_grid(grid["s"], kind, zero, *shape)

        image = {"x": numbers(4, 32, 40, 40)}

        def products(count):
            return dict(grid, ws=scales(count), wz=np.zeros(count, np.int8), t=single(0.2),
                        u=kind(zero // 2), b=RANDOM.integers(-3000, 3000, count).astype(np.int32))

        for operator, channels, depth, groups in [
                ("QLinearConv", 48, 32, 1), ("QLinearConv, depthwise", 32, 1, 32)]:
            compare(tools, f"{operator} {text}", first + [
                node("QLinearConv", "q s z w ws wz t u b", "y", "", pads=[1, 1, 1, 1], group=groups)],
                image, output, dict(products(channels), w=codes(channels, depth, 3, 3)))
        matrix = products(500)
        compare(tools, f"QLinearMatMul {text}",
                first + [node("QLinearMatMul", "q s z w ws wz t u", "y", "")],
                {"x": numbers(4, 64, 300)}, output, dict(matrix, w=codes(300, 500)))
        compare(tools, f"QGemm {text}",
                first + [node("QGemm", "q s z w ws wz b t u", "y", transB=1, alpha=0.5)],
                {"x": numbers(200, 300)}, output, dict(matrix, w=codes(500, 300)))
        pair = dict(image, v=on_grid(0.017, kind, zero // 2, 4, 32, 40, 40))
        both = dict(grid, t=single(0.017), u=kind(zero // 2), o=single(0.0437), p=kind(zero // 3))
        for operator in ["QLinearAdd", "QLinearMul"]:
            compare(tools, f"{operator} {text}", second + [node(operator, "q s z r t u o p", "y")],
                    pair, output, both)
        compare(tools, f"QLinearConcat {text}",
                second + [node("QLinearConcat", "o p q s z r t u", "y", axis=1)], pair, output, both)
        compare(tools, f"QLinearWhere {text}",
                second + [node("QLinearWhere", "c q s z r t u o p", "y")], pair, output,
                dict(both, c=RANDOM.random((4, 32, 40, 40)) < 0.5))
        one = dict(grid, o=single(0.0371), p=kind(zero // 3))
        shares = dict(grid, o=single(1 / 256), p=kind(lowest))
        for operator, attributes, constants in [
                ("QLinearLeakyRelu", {"alpha": 0.1}, one), ("QLinearSigmoid", {}, shares),
                ("QLinearSoftmax", {"axis": -1, "opset": 13}, shares),
                ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, one),
                ("QLinearGlobalAveragePool", {}, one)]:
            compare(tools, f"{operator} {text}",
                    first + [node(operator, "q s z o p", "y", **attributes)],
                    {"x": numbers(40, 32, 20, 20)}, output, constants)

    weights = {"w": codes(300, 500), "wz": np.int8(0), "ws": single(0.01)}
    filters = dict(weights, w=codes(48, 32, 3, 3))
    first = node("DynamicQuantizeLinear", "x", "q s z", "")
    end = [h.make_node("Cast", ["i"], ["c"], to=T.FLOAT), node("Mul", "s ws", "m", ""),
           node("Mul", "c m", "y", "")]
    rows, number = {"x": floats(4, 64, 300) + single(0.3)}, {"y": T.FLOAT}
    compare(tools, "DynamicQuantizeLinear", [first], rows,
            {"q": T.UINT8, "s": T.FLOAT, "z": T.UINT8}, {})
    compare(tools, "MatMulInteger", [first, node("MatMulInteger", "q w z wz", "i", ""), *end], rows,
            number, weights)
    compare(tools, "MatMulInteger, its sums", [first, node("MatMulInteger", "q w z wz", "i", "")],
            rows, {"i": T.INT32}, {"w": weights["w"], "wz": weights["wz"]})
    compare(tools, "ConvInteger",
            [first, node("ConvInteger", "q w z wz", "i", "", pads=[1, 1, 1, 1]), *end],
            {"x": floats(4, 32, 40, 40)}, number, filters)
    biased = dict(weights, b=floats(500))
    compare(tools, "DynamicQuantizeMatMul", [node("DynamicQuantizeMatMul", "x w ws wz b", "y")],
            rows, number, biased)
    compare(tools, "MatMulIntegerToFloat",
            [first, node("MatMulIntegerToFloat", "q w s ws z wz b", "y")], rows, number, biased)


main()
