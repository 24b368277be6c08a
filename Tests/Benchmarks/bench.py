"""Times networks and single layers with swift-qm, ONNX Runtime and OpenVINO.

Everything is timed in turns, round after round, so that a busy machine slows all alike. What is
printed are ratios of medians: above 1, swift-qm's W8A8 (or the width named) is the faster one.
"""
import argparse
import contextlib
import json
import logging
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def machine():
    """The processor's name and its class by what it has for integers."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text).group(1).split()) if "flags" in text else set()
    kind = "B (dot products of bytes)" if {"avx512_vnni", "avx_vnni"} & flags else (
        "A (AVX-512)" if "avx512bw" in flags else "A (AVX2)" if "avx2" in flags else "other")
    return f"{name.group(1) if name else os.uname().machine}, class {kind}"


class Network:
    """A float network and samples of its inputs."""

    def __init__(self, name, model, folder, inputs):
        self.name, self.model, self.folder = name, str(model), str(folder)
        stems = sorted({p.name.split(".")[0] for p in pathlib.Path(folder).iterdir()})
        self.samples = [self.read(stem, inputs) for stem in stems[:16]]

    def read(self, stem, inputs):
        def key(name):
            return re.sub(r"[^A-Za-z0-9_]", "_", name)

        path = pathlib.Path(self.folder) / stem
        if os.path.exists(f"{path}.npz"):
            arrays = numpy.load(f"{path}.npz")
            return {name: arrays[key(name)] for name in inputs}
        if len(inputs) == 1 and os.path.exists(f"{path}.npy"):
            return {inputs[0]: numpy.load(f"{path}.npy")}
        return {name: numpy.load(f"{path}.{key(name)}.npy") for name in inputs}


def networks(folder, only):
    for path in sorted(pathlib.Path(folder).iterdir()):
        model = path / "model.onnx"
        if not model.exists() or (only and path.name not in only):
            continue
        graph = onnx.load(str(model)).graph
        constants = {tensor.name for tensor in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in constants]
        yield Network(path.name, model, path / "calib", inputs)


# Name, operator, input, weights, attributes.
LAYERS = [
    ("product 512³", "MatMul", [512, 512], [512, 512], {}),
    ("matrix × vector 1024", "MatMul", [1, 1024], [1024, 1024], {}),
    ("1×1, 128 channels, 56²", "Conv", [1, 128, 56, 56], [128, 128, 1, 1], {}),
    ("3×3, 64 channels, 56²", "Conv", [1, 64, 56, 56], [64, 64, 3, 3], {"pads": [1] * 4}),
    ("3×3, 128 channels, 28²", "Conv", [1, 128, 28, 28], [128, 128, 3, 3], {"pads": [1] * 4}),
    ("depthwise 3×3, 128 channels, 56²", "Conv", [1, 128, 56, 56], [128, 1, 3, 3],
     {"pads": [1] * 4, "group": 128}),
]


def layers(work):
    random = numpy.random.default_rng(1)
    for number, (name, operator, shape, weights, attributes) in enumerate(LAYERS):
        folder = pathlib.Path(work) / f"layer{number}"
        (folder / "calib").mkdir(parents=True)
        for sample in range(4):
            array = random.standard_normal(shape).astype("float32")
            numpy.save(folder / "calib" / f"{sample}.npy", array)
        tensor = random.standard_normal(weights).astype("float32") / weights[0]
        graph = helper.make_graph(
            [helper.make_node(operator, ["x", "w"], ["y"], **attributes)], "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(tensor, "w")])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model), str(folder / "model.onnx"))
        yield Network(name, folder / "model.onnx", folder / "calib", ["x"])


# Contenders: each returns a function of the number of runs that gives their median in ms.


def timed(run):
    def time_runs(count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)

    return time_runs


def runtime(network, model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"])
    return timed(lambda: session.run(None, network.samples[0]))


def runtime_int8(network, work):
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter(network.samples)

        def get_next(self):
            return next(self.left, None)

    prepared, target = f"{work}/prepared.onnx", f"{work}/int8.onnx"
    quantization.quant_pre_process(network.model, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, target, Reader(), per_channel=True)
    return target


def openvino_model(network, quantized):
    import openvino

    model = openvino.Core().read_model(network.model)
    if quantized:
        import nncf

        samples = nncf.Dataset(network.samples)
        model = nncf.quantize(model, samples, subset_size=len(network.samples))
    return model


def openvino(model, network, threads):
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return timed(lambda: request.infer(network.samples[0]))


def convert(network, work, bits, tools):
    target = f"{work}/w{bits}.qm"
    subprocess.run(
        [f"{tools}/qconvert", network.model, target, "--bits", str(bits), "--samples",
         network.folder, "--min-sqnr", "0", "--quiet"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return target


def own(network, model, threads, tools):
    def time_runs(count):
        result = subprocess.run(
            [f"{tools}/qrun", model, network.folder, "--benchmark", str(count), "--threads",
             str(threads), "--json", "--quiet"], check=True, capture_output=True, text=True)
        return json.loads(result.stdout)["median_ms"]

    return time_runs


def reason(error):
    text = getattr(error, "stderr", None) or str(error)
    text = text.decode() if isinstance(text, bytes) else text
    return (text.strip().splitlines() or [type(error).__name__])[-1][:160]


def own_name(width):
    return width if width == "float" else f"W{width}A8"


def compare(network, arguments):
    """Medians in ms by contender and threads."""
    contenders, failures = {}, {}

    def prepare(name, make):
        try:
            value = make()
            for threads in arguments.threads:
                contenders[name, threads] = value(threads)
        except Exception as error:  # A peer that cannot do it is a gap in the table.
            failures[name] = reason(error)

    with tempfile.TemporaryDirectory() as work:
        for width in arguments.widths:
            def make(width=width):
                model = network.model if width == "float" else convert(
                    network, work, width, arguments.tools)
                return lambda threads: own(network, model, threads, arguments.tools)
            prepare(own_name(width), make)
        prepare("ORT fp32", lambda: lambda t: runtime(network, network.model, t))
        if not arguments.only_runtime_float:
            def make():
                model = runtime_int8(network, work)
                return lambda threads: runtime(network, model, threads)
            prepare("ORT int8", make)
            for name, quantized in ("OV fp32", False), ("OV int8", True):
                def make(quantized=quantized):
                    model = openvino_model(network, quantized)
                    return lambda threads: openvino(model, network, threads)
                prepare(name, make)
        counts, times = {}, {key: [] for key in contenders}
        for key, run in list(contenders.items()):
            try:
                counts[key] = max(2, min(200, int(1e3 * arguments.seconds / run(3))))
            except Exception as error:
                failures[key[0]] = reason(error)
                del contenders[key]
        for _ in range(arguments.rounds):
            for key, run in contenders.items():
                times[key].append(run(counts[key]))
    return {key: statistics.median(values) for key, values in times.items() if values}, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", required=True, help="folder of qconvert and qrun")
    parser.add_argument("--models", required=True, help="folder of folders with model.onnx, calib/")
    parser.add_argument("--only", nargs="*", help="networks by name")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--widths", nargs="*", default=["8", "4"],
                        help="of the weights, in bits; float runs the network as it is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one contender in one round")
    parser.add_argument("--no-layers", action="store_true")
    parser.add_argument("--no-networks", action="store_true")
    parser.add_argument("--only-runtime-float", action="store_true", help="ORT fp32 alone as peer")
    parser.add_argument("--json", help="file for all medians")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)

    own_names = [own_name(width) for width in arguments.widths]
    peers = ["ORT fp32"] + (
        [] if arguments.only_runtime_float else ["ORT int8", "OV fp32", "OV int8"])
    print(machine())
    print("each cell: median ms of the peer / median ms of swift-qm; above 1 swift-qm is faster\n")
    print("| | threads | swift-qm | ms | " + " | ".join(peers) + " |")
    print("|---|---|---|---|" + "---|" * len(peers))
    everything = {}
    with tempfile.TemporaryDirectory() as work:
        subjects = [] if arguments.no_layers else list(layers(work))
        if not arguments.no_networks:
            subjects += list(networks(arguments.models, arguments.only))
        for network in subjects:
            with contextlib.redirect_stdout(sys.stderr):
                medians, failures = compare(network, arguments)
            everything[network.name] = {f"{n} {t}": v for (n, t), v in medians.items()}
            for threads in arguments.threads:
                for name in own_names:
                    mine = medians.get((name, threads))
                    if mine is None:
                        continue
                    cells = [
                        f"{medians[peer, threads] / mine:.2f}" if (peer, threads) in medians
                        else "–" for peer in peers]
                    print(f"| {network.name} | {threads} | {name} | {mine:.3f} | "
                          + " | ".join(cells) + " |", flush=True)
            for name, why in failures.items():
                print(f"{network.name}: {name}: {why}", file=sys.stderr)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
