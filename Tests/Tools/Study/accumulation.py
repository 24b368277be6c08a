#!/usr/bin/env python3
"""Clipping before and after accumulation: accuracy over learning rate, with and without outliers.

    Tests/Tools/Study/accumulation.py MODELS OUT [--seeds 5] [--steps 300] [--minutes 90] [--draw]

The tools clip once a step, after the gradients of its micro-batches were added. Here a network written in
numpy does both: 64-128-64-10 with ReLU, started by He's rule, SGD with momentum 0.9, warm-up and cosine as
in the tools, steps of 4 micro-batches of 8 samples. Threshold 1 of the norm either of the mean gradient
(after) or of each micro-batch's (before). Data and outliers as in clipping.py.

Every run is a line of OUT/accumulation.jsonl; what is there is not repeated. The value of a run is the
accuracy on eval/ after the last step, in percent; nothing goes back from a divergence. Writes
OUT/accumulation.svg and OUT/accumulation.md. Needs numpy and scikit-learn.
"""
import argparse
import itertools
import json
import os
import statistics
import tempfile

import numpy

from clipping import Panel, Study, complete, picture

SIZES = [64, 128, 64, 10]
SHARES = [0, 0.02, 0.05]
RATES = [0.01, 0.03, 0.1, 0.3, 1, 3]
ORDERS = ["none", "after", "before"]
(MICRO_BATCHES, SIZE), THRESHOLD, MOMENTUM = (4, 8), 1, 0.9


def start(random):
    return [array for inputs, outputs in zip(SIZES, SIZES[1:])
            for array in (random.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)), numpy.zeros(outputs))]


def outputs(weights, inputs):
    """The values in front of each product, and the result."""
    values = [inputs]
    for layer in range(0, len(weights), 2):
        result = values[-1] @ weights[layer] + weights[layer + 1]
        values.append(numpy.maximum(result, 0) if layer + 2 < len(weights) else result)
    return values


def gradients(weights, inputs, labels):
    """Of the mean cross-entropy."""
    values = outputs(weights, inputs)
    exponentials = numpy.exp(values[-1] - values[-1].max(1, keepdims=True))
    error = exponentials / exponentials.sum(1, keepdims=True)
    error[numpy.arange(len(labels)), labels] -= 1
    error /= len(labels)
    found = []
    for layer in reversed(range(0, len(weights), 2)):
        value = values[layer // 2]
        found[:0] = [value.T @ error, error.sum(0)]
        error = (error @ weights[layer].T) * (value > 0)
    return found


def norm(arrays):
    return sum(float((array ** 2).sum()) for array in arrays) ** 0.5


def clipped(arrays):
    factor = min(1, THRESHOLD / max(norm(arrays), 1e-12))
    return [array * factor for array in arrays]


def train(samples, judged, order, rate, seed, steps):
    inputs, labels = samples
    random = numpy.random.default_rng(seed)
    weights = start(random)
    momenta = [numpy.zeros_like(array) for array in weights]
    warm_up = max(round(0.05 * steps), 1)
    cosines = []
    with numpy.errstate(all="ignore"):
        for step in range(steps):
            chosen = random.choice(len(labels), MICRO_BATCHES * SIZE, replace=False)
            parts = [gradients(weights, inputs[part], labels[part])
                     for part in chosen.reshape(MICRO_BATCHES, SIZE)]
            plain = [sum(arrays) / MICRO_BATCHES for arrays in zip(*parts)]
            used = plain
            if order == "after":
                used = clipped(plain)
            elif order == "before":
                used = [sum(arrays) / MICRO_BATCHES for arrays in zip(*map(clipped, parts))]
            product = sum(float((a * b).sum()) for a, b in zip(plain, used))
            cosines.append(product / max(norm(plain) * norm(used), 1e-30))
            now = rate * (min((step + 1) / warm_up, 1)
                          if step < warm_up
                          else 0.5 * (1 + numpy.cos(numpy.pi * (step - warm_up) / (steps - warm_up))))
            for weight, momentum, gradient in zip(weights, momenta, used):
                momentum *= MOMENTUM
                momentum += gradient
                weight -= now * momentum
        inputs, labels = judged
        result = outputs(weights, inputs)[-1]
        is_finite = bool(numpy.isfinite(result).all())
        right = (result.argmax(1) == labels).mean() if is_finite else 0
    return {"accuracy": 100 * float(right), "is_finite": is_finite,
            "cosine": statistics.mean(cosines) if is_finite else None}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    cells = [dict(clip=order, rate=rate, outliers=share, seed=seed, steps=options.steps)
             for seed, share, order, rate in itertools.product(range(options.seeds), SHARES, ORDERS, RATES)]
    folder = f"{options.models}/digits_mlp"
    files = sorted(os.listdir(f"{folder}/eval"))
    with open(f"{folder}/labels.json") as file:
        known = next(iter(json.load(file).values()))
    judged = (numpy.concatenate([numpy.load(f"{folder}/eval/{file}") for file in files]).reshape(-1, 64),
              numpy.concatenate([known[file.removesuffix(".npy")] for file in files]))
    with tempfile.TemporaryDirectory() as temporary:
        study = Study(options, temporary)
        samples = {}
        for share in SHARES:
            archive = numpy.load(study.training_set("digits_mlp", share))
            samples[share] = archive["x"].reshape(-1, 64).astype(numpy.float64), archive["labels"]
    rows = complete(options, "accumulation.jsonl", cells,
                    lambda clip, rate, outliers, seed, steps: train(
                        samples[outliers], judged, clip, rate, seed, steps))
    panels = [Panel(f"{100 * share:g} % outliers", [row for row in rows if row["outliers"] == share], "rate")
              for share in SHARES]
    with open(f"{options.out}/accumulation.svg", "w") as file:
        file.write(picture("clipping before and after accumulation", panels, "learning rate"))
    lines = ["Mean accuracy over the seeds, the least and the largest.", "",
             "| outliers | clipping | " + " | ".join(f"rate {rate:g}" for rate in RATES) + " | cosine |",
             "|---|---|" + "---|" * (len(RATES) + 1)]
    for panel, share in zip(panels, SHARES):
        for order in ORDERS:
            fields = [f"{panel.values[order, rate]:.1f} ({min(panel.seeds[order, rate]):.0f}–"
                      f"{max(panel.seeds[order, rate]):.0f})" for rate in RATES]
            cosines = [row["cosine"] for row in rows if (row["clip"], row["outliers"]) == (order, share)
                       and row["rate"] == 0.1 and row["cosine"] is not None]
            mean = f"{statistics.mean(cosines):.3f}" if cosines else "–"
            lines.append(f"| {100 * share:g} % | {order} | " + " | ".join(fields) + f" | {mean} |")
    lines += ["", "cosine: between the step's gradient with and without clipping, mean over the steps at "
              f"rate 0.1. {panels[0].seed_count} seeds, {len(rows)} runs.", ""]
    with open(f"{options.out}/accumulation.md", "w") as file:
        file.write("\n".join(lines))


if __name__ == "__main__":
    main()
