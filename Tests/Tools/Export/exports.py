#!/usr/bin/env python3
"""Networks of a folder exported as ONNX and run by ONNX Runtime, beside this package's own run.

    exports.py MODELS OUT [--bits 8 4] [--networks NAME ...] [--tools .build/release]

Each network <name>/model.onnx is converted with the samples in calib/, exported with qexport, checked by
onnx.checker with full_check, and run on the samples in eval/ by qrun and by ONNX Runtime. Both are compared
with the float network, run by ONNX Runtime: SQNR is the median over the samples of all outputs (the least of
the outputs), and the task's metric is that of <name>/metric.py. Needs numpy, onnx and onnxruntime.

ONNX Runtime runs without graph optimization: with it, it replaces float products between DequantizeLinear and
QuantizeLinear by products of its own, whose sums may saturate on processors without VNNI. --optimized adds
columns with its default session, and with the option session.x64quantprecision, which makes the sums exact.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime


def tool(options, name, *arguments):
    done = subprocess.run([f"{options.tools}/{name}", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def samples(folder, inputs):
    """The samples of a folder: stem and arrays by the name of the input."""
    keys = {re.sub(r"[^A-Za-z0-9_]", "_", name): name for name in inputs}
    found = {}
    for file in sorted(os.listdir(folder)):
        parts = file[: -len(".npy")].split(".")
        stem, key = (parts[0], parts[1]) if len(keys) > 1 else (parts[0], next(iter(keys)))
        found.setdefault(stem, {})[keys[key]] = np.load(os.path.join(folder, file))
    return found


def session(path, kind="ort"):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if kind == "exact":
        options.add_session_config_entry("session.x64quantprecision", "1")
    elif kind == "ort":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(network, arrays):
    names = [output.name for output in network.get_outputs()]
    return dict(zip(names, network.run(names, arrays)))


def sqnr(reference, outputs):
    """The least over the outputs of the median over the samples, in dB."""
    least = float("inf")
    for name in next(iter(reference.values())):
        ratios = []
        for stem, wanted in reference.items():
            r = wanted[name].astype(np.float64)
            error = ((r - outputs[stem][name].astype(np.float64)) ** 2).sum()
            signal = (r ** 2).sum()
            ratios.append(10 * np.log10(signal / error) if error > 0 and signal > 0 else float("inf"))
        least = min(least, float(np.median(ratios)))
    return least


def metric(model, outputs):
    with tempfile.TemporaryDirectory() as folder:
        for stem, arrays in outputs.items():
            for name, array in arrays.items():
                key = re.sub(r"[^A-Za-z0-9_]", "_", name)
                np.save(os.path.join(folder, f"{stem}.{key}.npy"), array)
        done = subprocess.run([sys.executable, f"{model}/metric.py", folder], capture_output=True, text=True)
        result = json.loads(done.stdout)
        return result[result["primary"]]


def compare(options, name, bits):
    model = f"{options.models}/{name}"
    file, exported = f"{options.out}/{name}.{bits}.qm", f"{options.out}/{name}.{bits}.onnx"
    if not os.path.exists(file):
        tool(options, "qconvert", f"{model}/model.onnx", file, "--bits", str(bits), "--samples",
             f"{model}/calib", "--quiet")
    report = json.loads(tool(options, "qexport", file, exported, "--json", "--quiet"))
    onnx.checker.check_model(onnx.load(exported), full_check=True)

    reference = session(f"{model}/model.onnx")
    inputs = samples(f"{model}/eval", [entry.name for entry in reference.get_inputs()])
    wanted = {stem: run(reference, arrays) for stem, arrays in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        tool(options, "qrun", file, f"{model}/eval", "--output", folder, "--quiet")
        keys = {output.name: re.sub(r"[^A-Za-z0-9_]", "_", output.name) for output in reference.get_outputs()}
        ours = {stem: {output: np.load(f"{folder}/{stem}.{key}.npy") for output, key in keys.items()}
                for stem in inputs}
    runs = {"own": ours}
    for column in options.columns[1:]:
        try:
            network = session(exported, column)
            runs[column] = {stem: run(network, arrays) for stem, arrays in inputs.items()}
        except Exception as error:  # A session that cannot be made is a result.
            print(f"{name} at {bits} bits, {column}: {str(error).splitlines()[0][:300]}", file=sys.stderr)
    return {
        "network": name, "bits": bits, "qm": report["model"]["bytes"], "onnx": report["output"]["bytes"],
        "float nodes": len(report["float_nodes"]), "metric of float": metric(model, wanted),
        **{f"SQNR {key}": sqnr(wanted, outputs) for key, outputs in runs.items()},
        **{f"metric {key}": metric(model, outputs) for key, outputs in runs.items()},
        "reasons": sorted({f"{node['operation']}: {node['reason']}" for node in report["float_nodes"]}),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--tools", default=".build/release")
    parser.add_argument("--optimized", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    names = options.networks or sorted(
        name for name in os.listdir(options.models) if os.path.exists(f"{options.models}/{name}/model.onnx"))
    columns = options.columns = ["own", "ort"] + (["default", "exact"] if options.optimized else [])
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}\n")
    head = ["network", "bits", ".qm", ".onnx"] + [f"SQNR {column}" for column in columns]
    head += ["metric of float"] + [f"metric {column}" for column in columns] + ["float nodes", ""]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    failed = 0
    for bits in options.bits:
        for name in names:
            row = compare(options, name, bits)
            good = row.get("SQNR ort", float("-inf")) >= row["SQNR own"] - 1
            failed += not good
            cells = [name, str(bits), str(row["qm"]), str(row["onnx"])]
            cells += [f"{row[f'SQNR {column}']:.2f}" if f"SQNR {column}" in row else "–" for column in columns]
            cells.append(f"{row['metric of float']:.4f}")
            cells += [f"{row[f'metric {column}']:.4f}" if f"metric {column}" in row else "–" for column in columns]
            cells += [str(row["float nodes"]), "" if good else "worse"]
            print("| " + " | ".join(cells) + " |", flush=True)
            with open(f"{options.out}/rows.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
