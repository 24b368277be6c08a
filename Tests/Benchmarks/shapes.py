"""Times layers of many shapes: int8, every form that can be forced, beside ONNX Runtime.

    shapes.py --tools FOLDER [--only REGEX] [--every N] [--json FILE]

A layer whose output has the shape of its input is timed as a chain of four, so that the conversion
of input and output counts little. Ranges are fixed by a sample unless --without-samples is given.
Printed are GOP/s (two operations for each multiply-add), the share of --limit, the ratio to
ONNX Runtime's float32 in the same rounds (above 1, swift-qm is faster), the best of the forms that
were forced, and the ten worst shapes. Forms: every kernel set of the processor, and weights in
--memory compact, where nothing is transformed.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench import machine, timed


class Shape:
    """One layer: how to build it, and its multiply-adds."""

    def __init__(self, kind, name, build, multiply_adds, chained):
        self.kind, self.name, self.build = kind, f"{kind} {name}", build
        self.count = 4 if chained else 1
        self.multiply_adds = multiply_adds * self.count


def convolution(channels, outputs, window, size, stride=1, groups=1, dilation=1):
    rank = len(window)
    pads = [dilation * (k - 1) // 2 for k in window]
    ends = [dilation * (k - 1) - p for k, p in zip(window, pads)]
    output = [(n - 1) // stride + 1 for n in size]
    attributes = {"pads": pads + ends, "strides": [stride] * rank, "group": groups,
                  "dilations": [dilation] * rank}
    weights = [outputs, channels // groups, *window]

    def build(random, count):
        nodes, constants, value = [], [], "x"
        for i in range(count):
            w = random.standard_normal(weights) / numpy.sqrt(numpy.prod(weights[1:]))
            constants.append(numpy_helper.from_array(w.astype("float32"), f"w{i}"))
            nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], **attributes))
            nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i}"]))
            value = f"y{i}"
        return nodes, constants, [1, channels, *size], value

    kind = "depthwise" if groups == channels == outputs > 1 else "convolution"
    name = (f"{channels}→{outputs} {'×'.join(map(str, window))} at {'×'.join(map(str, size))}"
            + (f" stride {stride}" if stride > 1 else "")
            + (f" groups {groups}" if groups > 1 and kind == "convolution" else "")
            + (f" dilation {dilation}" if dilation > 1 else ""))
    work = int(numpy.prod(output)) * int(numpy.prod(weights))
    return Shape(kind, name, build, work, channels == outputs and output == list(size))


def product(rows, depth, columns):
    def build(random, count):
        nodes, constants, value = [], [], "x"
        for i in range(count):
            w = random.standard_normal([depth, columns]) / numpy.sqrt(depth)
            constants.append(numpy_helper.from_array(w.astype("float32"), f"w{i}"))
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"y{i}"]))
            value = f"y{i}"
        return nodes, constants, [rows, depth], value

    return Shape("product", f"{rows} × {depth} × {columns}", build, rows * depth * columns,
                 depth == columns)


def recurrent(operator, units, steps):
    gates = {"LSTM": 4, "GRU": 3}[operator]

    def build(random, count):
        shapes = {"w": [1, gates * units, units], "r": [1, gates * units, units],
                  "b": [1, 2 * gates * units]}
        constants = [
            numpy_helper.from_array(
                (random.standard_normal(s) / numpy.sqrt(units)).astype("float32"), n)
            for n, s in shapes.items()]
        extra = {"linear_before_reset": 1} if operator == "GRU" else {}
        node = helper.make_node(operator, ["x", "w", "r", "b"], ["y"], hidden_size=units, **extra)
        return [node], constants, [steps, 1, units], "y"

    return Shape(operator, f"{units} units × {steps}", build, 2 * steps * gates * units * units,
                 False)


def attention(length, width, heads):
    """Softmax(Q·Kᵀ / √d)·V with its four projections."""
    def build(random, count):
        constants, nodes = [], []
        for name in "qkvo":
            w = random.standard_normal([width, width]) / numpy.sqrt(width)
            constants.append(numpy_helper.from_array(w.astype("float32"), f"w_{name}"))
        constants += [
            numpy_helper.from_array(numpy.array([1, length, heads, width // heads]), "split"),
            numpy_helper.from_array(numpy.array([1, length, width]), "join"),
            numpy_helper.from_array(numpy.float32((width // heads) ** -.5), "scale")]
        for name in "qkv":
            nodes += [helper.make_node("MatMul", ["x", f"w_{name}"], [f"m_{name}"]),
                      helper.make_node("Reshape", [f"m_{name}", "split"], [f"s_{name}"]),
                      helper.make_node("Transpose", [f"s_{name}"], [name],
                                       perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])]
        nodes += [helper.make_node("MatMul", ["q", "k"], ["scores"]),
                  helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
                  helper.make_node("Softmax", ["scaled"], ["shares"], axis=-1),
                  helper.make_node("MatMul", ["shares", "v"], ["mixed"]),
                  helper.make_node("Transpose", ["mixed"], ["t"], perm=[0, 2, 1, 3]),
                  helper.make_node("Reshape", ["t", "join"], ["joined"]),
                  helper.make_node("MatMul", ["joined", "w_o"], ["y"])]
        return nodes, constants, [1, length, width], "y"

    return Shape("attention", f"{length} × {width}, {heads} heads", build,
                 length * width * (4 * width + 2 * length), False)


def shapes():
    for channels, size in (8, 56), (12, 40), (16, 20), (16, 56), (24, 28), (32, 10), (32, 56), \
            (48, 28), (64, 14), (64, 56), (96, 28), (128, 7), (128, 28), (192, 14), (256, 14), \
            (512, 7):
        for k in 1, 3, 5:
            yield convolution(channels, channels, [k, k], [size, size])
    for outputs, k, stride, size in (8, 3, 2, 96), (16, 3, 2, 224), (32, 3, 2, 224), (64, 7, 2, 112), \
            (16, 3, 1, 56), (24, 5, 2, 112), (32, 9, 1, 56):
        yield convolution(3, outputs, [k, k], [size, size], stride)
        yield convolution(1, outputs, [k, k], [size, size], stride)
    for channels, outputs, size in (16, 32, 56), (32, 64, 28), (64, 128, 14), (128, 256, 7):
        yield convolution(channels, outputs, [3, 3], [size, size], 2)
        yield convolution(channels, outputs, [1, 1], [size, size], 2)
        yield convolution(channels, outputs, [1, 1], [size, size])
        yield convolution(outputs, channels, [1, 1], [size, size])
    for channels, size in (16, 112), (32, 56), (96, 56), (128, 28), (144, 14), (384, 14), (512, 7):
        for k in 3, 5, 7:
            yield convolution(channels, channels, [k, k], [size, size], groups=channels)
        yield convolution(channels, channels, [3, 3], [size, size], 2, groups=channels)
    for channels, groups, size in (64, 4, 28), (128, 32, 14), (32, 2, 56):
        yield convolution(channels, channels, [3, 3], [size, size], groups=groups)
    for channels in 12, 32, 64:
        for dilation in 2, 4:
            yield convolution(channels, channels, [3, 3], [28, 28], dilation=dilation)
    for channels, window, size in (12, [7, 1], [200, 20]), (24, [1, 11], [48, 160]), \
            (8, [64, 1], [256, 8]), (32, [1, 7], [16, 80]), (64, [3, 1], [40, 80]), \
            (16, [5, 1], [100, 64]):
        yield convolution(channels, channels, window, size)
    for channels in 1, 8, 16, 32, 64, 128, 256:
        for k, dilation, length in (3, 1, 400), (5, 2, 400), (31, 1, 200), (15, 1, 1000):
            yield convolution(channels, channels, [k], [length], dilation=dilation)
        if channels > 8:
            yield convolution(channels, channels, [15], [400], groups=channels)
    for units, steps in (8, 100), (25, 400), (32, 100), (64, 200), (128, 50), (256, 20), (512, 8):
        yield recurrent("LSTM", units, steps)
        yield recurrent("GRU", units, steps)
    for rows, depth, columns in (1, 64, 64), (1, 256, 256), (1, 1024, 1024), (1, 4096, 1024), \
            (2, 512, 512), (4, 256, 256), (8, 128, 128), (16, 64, 64), (64, 100, 100), \
            (100, 10, 10), (128, 128, 128), (128, 384, 384), (128, 384, 1536), (128, 1536, 384), \
            (256, 256, 256), (400, 40, 128), (512, 512, 512), (1000, 16, 16), (1024, 64, 64), \
            (1024, 1024, 64), (4096, 16, 32), (4096, 64, 3), (4096, 3, 64), (64, 64, 4096), \
            (32, 2048, 32), (1, 512, 10), (49, 768, 768), (7, 200, 50), (300, 5, 300):
        yield product(rows, depth, columns)
    for length, width, heads in (64, 64, 2), (128, 384, 12), (400, 128, 4), (197, 192, 3), \
            (32, 256, 8):
        yield attention(length, width, heads)


def own(tools, model, folder, count, threads, extra):
    def run():
        result = subprocess.run(
            [f"{tools}/qrun", model, folder, "--benchmark", str(count), "--threads", str(threads),
             "--json", "--quiet", *extra], check=True, capture_output=True, text=True)
        return json.loads(result.stdout)["median_ms"]

    return run


def forms(tools):
    """Options of qrun that force a form, by name."""
    text = subprocess.run([f"{tools}/qrun", "--help"], capture_output=True, text=True).stdout
    sets = re.search(r"On this machine:([\s\w,]*)\.", text).group(1).split(",")
    forced = {s.strip(): ["--kernels", s.strip()] for s in sets[2:]}
    forced["compact"] = ["--memory", "compact"]
    return forced


def measure(shape, arguments, forced, work):
    random = numpy.random.default_rng(1)
    nodes, constants, extents, output = shape.build(random, shape.count)
    model = helper.make_model(
        helper.make_graph(nodes, "layer",
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, extents)],
                          [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                          constants),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    source, folder = f"{work}/model.onnx", pathlib.Path(work) / "samples"
    onnx.save(onnx.shape_inference.infer_shapes(model), source)
    folder.mkdir()
    sample = random.standard_normal(extents).astype("float32")
    numpy.save(folder / "0.npy", sample)
    # Noise is no judge of accuracy: every activation is to be int8.
    recipe = pathlib.Path(work) / "recipe.json"
    recipe.write_text('{"thresholds": {"below_plateau_db": 200, "min_sqnr_db": 0}}')
    samples = [] if arguments.without_samples else ["--samples", str(folder)]
    target = f"{work}/model.qm"
    if arguments.float:
        target = source
    else:
        subprocess.run(
            [f"{arguments.tools}/qconvert", source, target, "--bits", arguments.bits, *samples,
             "--recipe", str(recipe), "--effort", "fast", "--quiet"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    peer = timed(lambda: session.run(None, {"x": sample}))
    runs = {"": []}
    runs.update({name: extra for name, extra in forced.items()})
    once = own(arguments.tools, target, str(folder), 3, arguments.threads, [])()
    count = max(3, min(2000, int(1e3 * arguments.seconds / once)))
    peer_count = max(3, min(2000, int(1e3 * arguments.seconds / peer(3))))
    times, peers = {name: [] for name in runs}, []
    for _ in range(arguments.rounds):
        peers.append(peer(peer_count))
        for name, extra in runs.items():
            times[name].append(
                own(arguments.tools, target, str(folder), count, arguments.threads, extra)())
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(medians, key=medians.get)
    speed = 2e-6 * shape.multiply_adds / medians[""]
    return {"name": shape.name, "kind": shape.kind, "ms": medians[""], "gops": speed,
            "multiply_adds": shape.multiply_adds,
            "ratio": statistics.median(peers) / medians[""], "best": best or "chosen",
            "of_best": min(medians.values()) / medians[""]}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", required=True, help="folder of qconvert and qrun")
    parser.add_argument("--only", default="", help="regular expression of names")
    parser.add_argument("--every", type=int, default=1, help="take every N-th shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bits", default="8")
    parser.add_argument("--float", action="store_true", help="the float network itself")
    parser.add_argument("--without-samples", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.03, help="of one form in one round")
    parser.add_argument("--limit", type=float, help="GOP/s that the processor can do (limits.c)")
    parser.add_argument("--no-forms", action="store_true", help="only what is chosen")
    parser.add_argument("--json", help="file for all figures")
    arguments = parser.parse_args()
    forced = {} if arguments.no_forms else forms(arguments.tools)
    print(machine(), f"{arguments.threads} thread(s), forms:", *forced)
    print("\n| shape | ms | GOP/s | of the limit | over ORT fp32 | of the best form | which |")
    print("|---|---|---|---|---|---|---|")
    results = []
    for number, shape in enumerate(shapes()):
        if not re.search(arguments.only, shape.name) or number % arguments.every:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                result = measure(shape, arguments, forced, work)
            except subprocess.CalledProcessError as error:
                print(f"{shape.name}: {error.stderr}", file=sys.stderr)
                continue
        results.append(result)
        share = f"{result['gops'] / arguments.limit:.0%}" if arguments.limit else "–"
        print(f"| {result['name']} | {result['ms']:.4f} | {result['gops']:.1f} | {share} | "
              f"{result['ratio']:.2f} | {result['of_best']:.2f} | {result['best']} |", flush=True)
    print(f"\n{len(results)} shapes, median ratio "
          f"{statistics.median(r['ratio'] for r in results):.2f}; the worst:")
    for result in sorted(results, key=lambda r: r["ratio"])[:10]:
        print(f"  {result['ratio']:.2f} {result['name']}: {result['gops']:.1f} GOP/s")
    late = [r for r in results if r["of_best"] < 0.9]
    print(f"{len(late)} below 0.9 of the best form:",
          *(f"{r['name']} ({r['of_best']:.2f}, {r['best']})" for r in late), sep="\n  ")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
