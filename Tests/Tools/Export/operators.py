#!/usr/bin/env python3
"""Networks of single operators exported as ONNX and run by ONNX Runtime, beside this package's own run.

    operators.py CASES [--tools .build/release]

Each network CASES/<name>/model.onnx is converted to a float .qm file, exported with qexport, checked by
onnx.checker, and run on the inputs in io.npz by qrun and by ONNX Runtime without graph optimization. Their
outputs must agree to 1e-4 of the largest element. What the tools refuse, or ONNX Runtime does not implement,
is listed. Needs numpy, onnx and onnxruntime.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime


def tool(options, name, *arguments):
    done = subprocess.run([f"{options.tools}/{name}", *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def difference(wanted, found):
    """The largest difference of two arrays beside the largest finite element."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    if wanted.size == 0 or np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"):
        return 0.0
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True):
        return float("inf")
    return np.abs(wanted - found)[finite].max() / max(np.abs(wanted[finite]).max(), 1e-30)


def compare(options, folder, work):
    """The largest difference over all outputs of a network."""
    file, exported, results = f"{work}/n.qm", f"{work}/n.onnx", f"{work}/out"
    arrays = np.load(f"{folder}/io.npz")
    inputs = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in:")}
    np.savez(f"{work}/s.npz", **inputs)
    os.mkdir(f"{work}/samples")
    os.rename(f"{work}/s.npz", f"{work}/samples/s.npz")
    tool(options, "qconvert", f"{folder}/model.onnx", file, "--bits", "32")
    tool(options, "qexport", file, exported)
    tool(options, "qrun", file, f"{work}/samples", "--output", results)
    onnx.checker.check_model(onnx.load(exported))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(exported, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {entry.name: inputs[entry.name] for entry in session.get_inputs()})
    keys = [re.sub(r"[^A-Za-z0-9_]", "_", name) for name in names]
    return max(difference(np.load(f"{results}/s.{key}.npy"), array) for key, array in zip(keys, found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases")
    parser.add_argument("--tools", default=".build/release")
    options = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
    names = sorted(name for name in os.listdir(options.cases)
                   if os.path.exists(f"{options.cases}/{name}/io.npz"))
    agreeing = differing = 0
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            try:
                found = compare(options, f"{options.cases}/{name}", work)
            except Exception as error:  # What cannot run is a result.
                print(f"{name}: {str(error).splitlines()[0][:200]}")
                continue
        agreeing += found <= 1e-4
        differing += not found <= 1e-4
        if not found <= 1e-4:
            print(f"{name}: differs by {found:.3g}")
    print(f"{agreeing} of {len(names)} networks agree, {differing} differ")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
