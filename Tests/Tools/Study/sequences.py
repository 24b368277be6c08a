#!/usr/bin/env python3
"""What gradient clipping buys in recurrent networks over long sequences: accuracy over learning rate.

    Tests/Tools/Study/sequences.py OUT [--tools .build/release] [--networks rnn,lstm] [--seeds 3]
        [--length 200] [--steps 500] [--minutes 90] [--draw]

The task: whether the sum of 200 normally distributed numbers, read one after the other, is above 0. The
networks have one recurrent layer of 16 units, of which the last state decides; the matrices between
states are orthogonal, the biases of the LSTM's forget gate 3, so that gradients reach the first numbers.
`qtune --float` trains them by SGD on 4,000 sequences, with gradients through all steps and through 20.

Every run is a line of OUT/sequences.jsonl; what is there is not repeated. The value of a run is the
accuracy of the state that the tool keeps on 1,000 other sequences, in percent. Writes
OUT/sequences-NETWORK.svg and OUT/sequences.md. Needs numpy and onnx; the tools must be built.
"""
import argparse
import itertools
import json
import os
import statistics
import tempfile
import time

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from clipping import Panel, Study, complete, picture, run

UNITS = 16
CLIPS = ["none", "norm:1", "value:0.05"]
RATES = {"rnn": [0.001, 0.003, 0.01, 0.03, 0.1], "lstm": [0.003, 0.01, 0.03, 0.1, 0.3]}
GATES = {"rnn": 1, "lstm": 4}


def sequences(count, length, seed):
    inputs = numpy.random.default_rng(seed).standard_normal((count, length, 1)).astype(numpy.float32)
    return inputs, (inputs.sum((1, 2)) > 0).astype(numpy.int64)


def write_network(kind, length, seed, path):
    random = numpy.random.default_rng(seed)
    gates = GATES[kind]
    states = [numpy.linalg.qr(random.standard_normal((UNITS, UNITS)))[0] for _ in range(gates)]
    biases = numpy.zeros((1, 2 * gates * UNITS))
    if kind == "lstm":
        # ONNX's order of gates: input, output, forget, cell.
        biases[0, 2 * UNITS:3 * UNITS] = 3
    arrays = {"W": random.standard_normal((1, gates * UNITS, 1)) / UNITS ** 0.5,
              "R": numpy.concatenate(states)[None], "B": biases,
              "C": random.standard_normal((2, UNITS)) / UNITS ** 0.5, "D": numpy.zeros(2)}
    constants = [numpy_helper.from_array(array.astype(numpy.float32), name) for name, array in arrays.items()]
    constants.append(numpy_helper.from_array(numpy.array([0]), "axes"))
    nodes = [helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
             helper.make_node(kind.upper(), ["steps", "W", "R", "B"], ["", "last"], hidden_size=UNITS),
             helper.make_node("Squeeze", ["last", "axes"], ["state"]),
             helper.make_node("Gemm", ["state", "C", "D"], ["y"], transB=1)]
    graph = helper.make_graph(
        nodes, kind, [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", length, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def measure(study, network, through_time, clip, rate, length, seed, steps):
    options, folder = study.options, f"{study.options.models}/{network}"
    kind, _, threshold = clip.partition(":")
    archive, log = f"{folder}/out.npz", f"{folder}/log"
    started = time.perf_counter()
    write_network(network, length, seed, f"{folder}/model.onnx")
    run(f"{options.tools}/qtune", f"{folder}/model.onnx", archive, "--float", "--samples",
        f"{options.models}/train.npz", "--labels", "labels", "--steps", steps, "--rate", rate, "--optimizer",
        "sgd", "--clip", kind, *(["--clip-norm", threshold] if threshold else []), "--through-time",
        through_time, "--seed", seed, "--log", log, "--quiet", "--threads", 1)
    trained = study.with_weights(network, archive, f"{folder}/out.onnx")
    with open(log) as file:
        lines = [json.loads(line) for line in file]
    norms = [line["norm"] for line in lines if isinstance(line.get("norm"), (int, float))]
    return {"accuracy": study.accuracy(network, trained), "median_norm": statistics.median(norms),
            "largest_norm": max(norms), "clipped": statistics.mean(line["isClipped"] for line in lines),
            "divergences": sum("divergence" in line for line in lines),
            "seconds": round(time.perf_counter() - started, 3)}


def draw(options, rows):
    lines = [
        f"Mean accuracy over the seeds, the least and the largest. {len(rows)} runs of {options.steps} steps.",
        "",
        "norm: the median of the gradient norms of all steps, and the largest, over all seeds at the rate in "
        "the middle. stops: runs of which the tool undid steps as diverging.", ""]
    for network in dict.fromkeys(row["network"] for row in rows):
        found = [row for row in rows if row["network"] == network]
        panels = [Panel(f"gradients through {through or options.length} steps",
                        [row for row in found if row["through_time"] == through], "rate")
                  for through in sorted({row["through_time"] for row in found})]
        with open(f"{options.out}/sequences-{network}.svg", "w") as file:
            file.write(picture(f"{network}, {options.length} steps", panels, "learning rate"))
        rates = panels[0].places
        lines += [f"## {network}", "", "| through | clipping | "
                  + " | ".join(f"rate {rate:g}" for rate in rates) + " | norm | stops |",
                  "|---|---|" + "---|" * (len(rates) + 2)]
        for panel, clip in itertools.product(panels, panels[0].clips):
            seeds = [panel.seeds.get((clip, rate), []) for rate in rates]
            fields = [f"{statistics.mean(s):.1f} ({min(s):.0f}–{max(s):.0f})" if s else "–" for s in seeds]
            own = [row for row in found if row["clip"] == clip and panel.title.endswith(
                f" {row['through_time'] or options.length} steps")]
            middle = [row for row in own if row["rate"] == rates[len(rates) // 2]]
            norms = (f"{statistics.median(row['median_norm'] for row in middle):.2g}, "
                     f"{max(row['largest_norm'] for row in middle):.3g}" if middle else "–")
            stops = sum(row["divergences"] > 0 for row in own)
            lines.append(f"| {panel.title.split()[2]} | {clip} | " + " | ".join(fields)
                         + f" | {norms} | {stops} of {len(own)} |")
        lines.append("")
    with open(f"{options.out}/sequences.md", "w") as file:
        file.write("\n".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--tools", default=".build/release")
    parser.add_argument("--networks", default="rnn,lstm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    cells = [dict(network=network, through_time=through, clip=clip, rate=rate, length=options.length,
                  seed=seed, steps=options.steps)
             for seed, network in itertools.product(range(options.seeds), options.networks.split(","))
             for through, clip, rate in itertools.product([0, 20], CLIPS, RATES[network])]
    with tempfile.TemporaryDirectory() as folder:
        options.models = folder
        inputs, labels = sequences(4000, options.length, 1)
        numpy.savez(f"{folder}/train.npz", x=inputs, labels=labels)
        inputs, labels = sequences(1000, options.length, 2)
        for network in options.networks.split(","):
            os.makedirs(f"{folder}/{network}/eval")
            numpy.save(f"{folder}/{network}/eval/0000.npy", inputs)
            with open(f"{folder}/{network}/labels.json", "w") as file:
                json.dump({"label": {"0000": labels.tolist()}}, file)
        study = Study(options, folder)
        draw(options, complete(options, "sequences.jsonl", cells, lambda **cell: measure(study, **cell)))


if __name__ == "__main__":
    main()
