#!/usr/bin/env python3
"""Steps a second and peak memory of training: qtune beside PyTorch on the processor.

    Tests/Benchmarks/training.py MODELS [--tools .build/release] [--rounds 3] [--seconds 3]
        [--networks digits20_resnet:64,letters_mlp:256,ppocr_cls:16] [--modes float,4-bit] [--threads 1,2]

MODELS/NAME has model.onnx and train.npz, with the input by its name and `labels`; or, without labels,
calib/, a folder of one .npy a sample. The tools must be built: `make build`. Needs numpy, onnx and torch.

float: labels (without train.npz, made ones: only time is measured), cross-entropy, AdamW. 4-bit: the same
with weights of 4 bits by channel and activations of 8 bits by tensor; without train.npz the float network
is the teacher, with the divergence of class probabilities as the loss. PyTorch gets the same network with
batch normalizations folded, hard-swish as one operation, and its fused fake quantization with moving
ranges; qtune also learns the scales and holds the entropy of the codes. Features are not compared.

qtune's time is the difference of two runs with different numbers of steps, so that reading, conversion and
writing cancel; PyTorch's is that of its steps after a few others, with threads that do not spin while they
wait (spinning makes it many times slower where anything else runs). All take turns, round after round; what
is printed are medians. Processor time is that of all threads: other programs disturb it least. Peak memory
is that of the whole process; what importing PyTorch alone takes depends on its build (with CUDA or not) and
is printed beside it.
"""
import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
from onnx import numpy_helper

# Batches in the set of samples: few, so that the conversion is short beside the steps.
BATCHES = 2
RATE = 1e-4
MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024


# The samples


def samples(model, name_of_input, count):
    """Inputs and labels; None for labels that must be made."""
    if os.path.exists(f"{model}/train.npz"):
        arrays = numpy.load(f"{model}/train.npz")
        return arrays[name_of_input][:count], arrays["labels"][:count]
    files = sorted(os.listdir(f"{model}/calib"))[:count]
    arrays = [numpy.load(f"{model}/calib/{file}") for file in files]
    shape = max(array.shape for array in arrays)
    return numpy.concatenate([array for array in arrays if array.shape == shape]), None


# PyTorch, in a process of its own


def simplified(graph):
    """Nodes as [kind, inputs, outputs, attributes], and constants by name; what PyTorch's users would have
    as one operation is one."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
        else:
            nodes.append([node.op_type, list(node.input), list(node.output), attributes])

    def users(node):
        return [user for user in nodes if node[2][0] in user[1]]

    def number(name):
        return float(constants[name]) if name in constants and constants[name].size == 1 else None

    for node in list(nodes):
        if node[0] == "Reshape" and node[1][0] in constants:
            constants[node[2][0]] = constants[node[1][0]].reshape(constants[node[1][1]])
            nodes.remove(node)
        # Fake quantization by channel is fast along the first axis only.
        if node[0] == "MatMul" and node[1][1] in constants:
            constants[node[1][1]] = constants[node[1][1]].T
            node[0], node[3] = "Gemm", {"transB": 1}
    for node in [node for node in nodes if node[0] == "Conv" and len(users(node)) == 1]:
        fold(node, users(node)[0], nodes, constants)
    # x · Clip(x + 3, 0, 6) / 6
    for add in [node for node in nodes if node[0] == "Add" and number(node[1][1]) == 3]:
        clip = users(add)[0]
        multiply = users(clip)[0]
        divide = users(multiply)[0]
        if [clip[0], multiply[0], divide[0]] == ["Clip", "Mul", "Div"] and number(divide[1][1]) == 6:
            for node in [clip, multiply, divide]:
                nodes.remove(node)
            add[:] = ["HardSwish", add[1][:1], divide[2], {}]
    return nodes, constants


def fold(node, last, nodes, constants):
    """Puts a normalization or an addition of constants into the convolution in front of it."""
    weights = constants[node[1][1]]
    bias = constants[node[1][2]] if len(node[1]) > 2 else numpy.zeros(len(weights))
    if last[0] == "BatchNormalization":
        scale, shift, mean, variance = (constants[name] for name in last[1][1:])
        factor = scale / numpy.sqrt(variance + last[3].get("epsilon", 1e-5))
        weights, bias = weights * factor.reshape(-1, 1, 1, 1), shift + (bias - mean) * factor
    elif last[0] == "Add" and last[1][1] in constants:
        bias = bias + constants[last[1][1]].reshape(-1)
    else:
        return
    name = node[1][1]
    constants[name], constants[name + ".bias"] = weights.astype("float32"), bias.astype("float32")
    node[1], node[2] = [node[1][0], name, name + ".bias"], last[2]
    nodes.remove(last)


def result(kind, operands, attributes):
    """What a node computes."""
    import torch
    from torch.nn import functional

    x = operands[0]
    match kind:
        case "Conv":
            pads = attributes.get("pads", [0, 0, 0, 0])
            assert pads[:2] == pads[2:]
            return functional.conv2d(
                *operands, stride=attributes["strides"], padding=pads[:2],
                dilation=attributes["dilations"], groups=attributes["group"])
        case "Gemm":
            weights = operands[1] if attributes.get("transB", 0) else operands[1].T
            return functional.linear(x, weights, *operands[2:])
        case "Relu":
            return functional.relu(x)
        case "LeakyRelu":
            return functional.leaky_relu(x, attributes.get("alpha", 0.01))
        case "HardSwish":
            return functional.hardswish(x)
        case "HardSigmoid":
            return torch.clamp(x * attributes["alpha"] + attributes["beta"], 0, 1)
        case "Tanh":
            return torch.tanh(x)
        case "Add":
            return x + operands[1]
        case "Sub":
            return x - operands[1]
        case "Mul":
            return x * operands[1]
        case "Div":
            return x / operands[1]
        case "MaxPool":
            pads = attributes.get("pads", [0, 0, 0, 0])
            return functional.max_pool2d(
                x, attributes["kernel_shape"], attributes["strides"], padding=pads[:2])
        case "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        case "Flatten":
            return x.flatten(attributes.get("axis", 1))
        case "Reshape":
            return x.reshape([int(extent) for extent in operands[1]])
        case "Shape":
            return torch.tensor(x.shape)
        case "Slice":
            first, last = int(operands[1][0]), int(operands[2][0])
            return x[first:last]
        case "Concat":
            return torch.cat([operand.reshape(-1) for operand in operands])
        case "Softmax":
            return torch.softmax(x, attributes["axis"])
        case "LogSoftmax":
            return torch.log_softmax(x, attributes["axis"])
        case "Identity" | "Cast":
            return x
    raise SystemExit(f"training.py: no {kind} in PyTorch's network")


def imported(path, is_quantized):
    """The network of an .onnx file as a PyTorch module, and its last operation."""
    import torch
    from torch import nn
    from torch.ao import quantization

    graph = onnx.load(path).graph
    nodes, constants = simplified(graph)
    products = {"Conv", "Gemm"}

    def weights_rounding():
        return quantization.FusedMovingAvgObsFakeQuantize(
            observer=quantization.MovingAveragePerChannelMinMaxObserver, quant_min=-8, quant_max=7,
            dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0)

    def activations_rounding():
        return quantization.FusedMovingAvgObsFakeQuantize(
            observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255,
            dtype=torch.quint8)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = {}
            self.roundings = nn.ModuleDict()
            for index, node in enumerate(nodes):
                for name in node[1]:
                    if name not in constants or name in self.places:
                        continue
                    tensor = torch.from_numpy(constants[name].copy())
                    self.places[name] = f"p{len(self.places)}"
                    if node[0] in products or (node[0] == "Add" and tensor.ndim == 1):
                        self.register_parameter(self.places[name], nn.Parameter(tensor))
                    else:
                        self.register_buffer(self.places[name], tensor)
                if is_quantized and node[0] in products:
                    assert node[0] == "Conv" or node[3].get("transB", 0)
                    self.roundings[f"w{index}"] = weights_rounding()
                    self.roundings[f"a{index}"] = activations_rounding()

        def forward(self, x):
            values = {graph.input[0].name: x}
            for index, (kind, inputs, outputs, attributes) in enumerate(nodes):
                operands = [values[name] if name in values else getattr(self, self.places[name])
                            for name in inputs if name]
                if kind in products and is_quantized:
                    operands[0] = self.roundings[f"a{index}"](operands[0])
                    operands[1] = self.roundings[f"w{index}"](operands[1])
                values[outputs[0]] = result(kind, operands, attributes)
            return values[graph.output[0].name]

    return Network(), [node[0] for node in nodes if node[0] != "Identity"][-1]


def worker(task):
    """Trains with PyTorch and prints seconds, processor seconds and the first output."""
    import torch
    from torch.ao import quantization  # noqa: F401
    from torch.nn import functional

    imported_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MEMORY_UNIT
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    arrays = numpy.load(task["samples"])
    inputs = torch.from_numpy(arrays[task["input"]])
    labels = torch.from_numpy(arrays["labels"])
    network, last = imported(task["model"], task["bits"] is not None)
    teacher = imported(task["model"], False)[0] if task["teacher"] else None
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0)

    def logarithms(output):
        if last == "Softmax":
            return torch.log(output.clamp_min(1e-12))
        return output if last == "LogSoftmax" else torch.log_softmax(output, 1)

    def step():
        chosen = torch.randperm(len(inputs))[:task["batch"]]
        optimizer.zero_grad(set_to_none=True)
        output = logarithms(network(inputs[chosen]))
        if teacher is None:
            loss = functional.nll_loss(output, labels[chosen])
        else:
            with torch.no_grad():
                target = logarithms(teacher(inputs[chosen]))
            loss = functional.kl_div(output, target, log_target=True, reduction="batchmean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    # What is trained must be the network of the file.
    with torch.no_grad():
        first = imported(task["model"], False)[0](inputs[:2]).tolist()
    for _ in range(3):
        step()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(task["steps"]):
        step()
    print(json.dumps({"wall": (time.perf_counter() - wall) / task["steps"],
                      "processor": (time.process_time() - processor) / task["steps"],
                      "imported": imported_memory, "first": first}))


# Measuring


# Of what the system counts for a process, its peak memory begins with that of the process that started it:
# so a small one starts it.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
wall = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
"""


def child(command):
    """What a process prints, its seconds, processor seconds and peak memory in bytes."""
    # Threads that spin while they wait slow PyTorch many times where anything else runs.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.NamedTemporaryFile("r") as record:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", LAUNCHER, record.name, *command],
                              capture_output=True, text=True, env=environment)
        code, wall, processor, memory = json.load(record)
    if code != 0:
        raise SystemExit(f"training.py: {' '.join(command)}\n{done.stderr}")
    return done.stdout, wall, processor, memory * MEMORY_UNIT


class Case:
    """One network, mode and number of threads."""

    def __init__(self, options, folder, name, batch, mode, threads):
        self.name, self.batch, self.mode, self.threads = name, batch, mode, threads
        self.model = f"{options.models}/{name}"
        graph = onnx.load(f"{self.model}/model.onnx").graph
        constants = {tensor.name for tensor in graph.initializer}
        (name_of_input,) = [i.name for i in graph.input if i.name not in constants]
        inputs, labels = samples(self.model, name_of_input, BATCHES * batch)
        self.is_float = mode == "float"
        self.has_teacher = labels is None and not self.is_float
        if labels is None:
            labels = numpy.arange(len(inputs)) % 2
        self.samples = f"{folder}/{name}.npz"
        numpy.savez(self.samples, **{name_of_input: inputs, "labels": labels.astype(numpy.int64)})
        self.task = {
            "model": f"{self.model}/model.onnx", "samples": self.samples, "input": name_of_input,
            "batch": batch, "bits": None if self.is_float else 4, "teacher": self.has_teacher,
            "threads": threads}
        self.tool, self.folder = f"{options.tools}/qtune", folder
        self.ours, self.theirs = [], []
        self.first = inputs[:2]

    def run_ours(self, steps):
        command = [self.tool, f"{self.model}/model.onnx"]
        if self.is_float:
            command += [f"{self.folder}/out.npz", "--float", "--labels", "labels"]
        else:
            command += [f"{self.folder}/out.qm", "--bits", self.mode.split("-")[0], "--features", "0"]
            command += [] if self.has_teacher else ["--labels", "labels", "--teacher", "0"]
        return child(command + [
            "--samples", self.samples, "--batch", str(self.batch), "--steps", str(steps),
            "--rate", str(RATE), "--hold-out", "0.01", "--threads", str(self.threads), "--quiet"])

    def choose_steps(self, seconds):
        """As many steps as take about so long."""
        short = self.run_ours(2)[2]
        steps = 6
        while True:
            longer = self.run_ours(2 + steps)[2]
            if longer - short > 0.5 or steps > 5000:
                break
            steps *= 4
        self.steps = max(5, int(seconds * steps / max(longer - short, 1e-3)))

    def round(self):
        _, wall, processor, _ = self.run_ours(2)
        _, longer, more, memory = self.run_ours(2 + self.steps)
        self.ours.append(
            ((longer - wall) / self.steps, (more - processor) / self.steps, memory))
        printed, _, _, memory = child(
            [sys.executable, __file__, "--worker", json.dumps({**self.task, "steps": self.steps})])
        found = json.loads(printed.strip().splitlines()[-1])
        self.theirs.append((found["wall"], found["processor"], memory, found["imported"]))
        return found["first"]

    def row(self):
        def middle(rows, index):
            return statistics.median(row[index] for row in rows)

        wall, processor, memory = (
            (middle(self.ours, i), middle(self.theirs, i)) for i in range(3))
        return (
            f"| {self.name}, batch {self.batch} | {self.mode} | {self.threads} "
            f"| {1 / wall[0]:.3g} | {1 / wall[1]:.3g} | {wall[1] / wall[0]:.2f} "
            f"| {processor[1] / processor[0]:.2f} | {memory[0] / 1e6:.0f} | {memory[1] / 1e6:.0f} "
            f"| {middle(self.theirs, 3) / 1e6:.0f} | {memory[0] / memory[1]:.2f} |")


def check_same(options, case, first):
    """PyTorch's network must give what qrun gives."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/in")
        numpy.save(f"{folder}/in/a.npy", case.first)
        child([f"{options.tools}/qrun", f"{case.model}/model.onnx", f"{folder}/in",
               "--output", f"{folder}/out", "--quiet"])
        (file,) = os.listdir(f"{folder}/out")
        ours = numpy.load(f"{folder}/out/{file}")
    difference = float(numpy.abs(ours - numpy.array(first).reshape(ours.shape)).max())
    if difference > 1e-3 * max(1, float(numpy.abs(ours).max())):
        raise SystemExit(f"training.py: {case.name} differs in PyTorch by {difference}")


def machine():
    text = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    name = re.search(r"model name\s*: (.*)", text)
    return f"{name.group(1) if name else platform.machine()}, {os.cpu_count()} processors"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models")
    parser.add_argument("--tools", default=".build/release")
    parser.add_argument("--networks", default="digits20_resnet:64,letters_mlp:256,ppocr_cls:16")
    parser.add_argument("--modes", default="float,4-bit")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    from importlib import metadata

    with tempfile.TemporaryDirectory() as folder:
        cases = [
            Case(options, folder, name, int(batch), mode, int(threads))
            for name, batch in (item.split(":") for item in options.networks.split(","))
            for mode in options.modes.split(",") for threads in options.threads.split(",")]
        for case in cases:
            case.choose_steps(options.seconds)
        for number in range(options.rounds):
            for case in cases:
                first = case.round()
                if number == 0:
                    check_same(options, case, first)
                print(f"round {number + 1}: {case.row()}", file=sys.stderr, flush=True)
    print(f"- machine: {machine()}, load average {os.getloadavg()[1]:.1f}")
    print(f"- peers: PyTorch {metadata.version('torch')}, Python {platform.python_version()}")
    print(f"- medians of {options.rounds} rounds\n")
    print("| | weights | threads | qtune, steps/s | PyTorch, steps/s | ratio | ratio of processor time "
          "| qtune, MB | PyTorch, MB "
          "| of these to import | share |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        print(case.row())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(json.loads(sys.argv[2]))
    else:
        main()
