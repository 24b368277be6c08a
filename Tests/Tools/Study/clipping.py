#!/usr/bin/env python3
"""What gradient clipping buys: accuracy over learning rate and clipping at 32, 8, 4, 3 and 2 bits.

    Tests/Tools/Study/clipping.py MODELS OUT [--tools .build/release] [--networks digits_mlp,digits_gru]
        [--bits 32,8,4,3,2] [--clips none,norm:1,…] [--arms scratch,distilled,outliers] [--seeds 5]
        [--steps 300] [--minutes 90] [--draw]

MODELS/NAME has model.onnx, calib/, eval/ and labels.json; networks read scikit-learn's 8×8 digits. The
tools must be built: `make build`. Needs numpy, onnx and scikit-learn.

Every run is a line of OUT/runs.jsonl; runs that are there are not repeated, so that an interrupted study
goes on. The seed is the outermost loop: after each there is a whole picture. --draw only draws.
Writes OUT/study.md and OUT/NAME-ARM.svg.

scratch    weights start by He's rule and learn from labels alone. At 32 bits by --float; below, the
           network with those weights is converted, and trained without teacher and features.
distilled  the network as it is, converted; the float network teaches, on calib/.
outliers   as scratch at 32 bits, with a share of the samples multiplied by 30 and labelled at random.

The training set is scikit-learn's digits without the items of eval/. A clipping is NAME:THRESHOLD. zscore
and percentile have the threshold as a fixed norm beside them; with 1000000 they are alone.

The value of a run is the accuracy on eval/ of the state that the tool keeps, in percent. Where the tool trains
but writes no file, because the outputs are not those of the network it began with, it is 100 · exp(−loss)
for all runs of that width, with the least cross-entropy on the samples that were held out: the geometric mean
of the probabilities of the labels. A run that the tool gives up, after four divergences, counts 0.
"""
import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy
import onnx
from onnx import numpy_helper

RATES = {"scratch": [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3], "distilled": [0.01, 0.1, 1, 10],
         "outliers": [0.03, 0.1, 0.3]}
SHARES = [0, 0.005, 0.02, 0.05]
COLOURS = ["#222222", "#1f5fae", "#c2571a", "#2a8a4a", "#8a3ab9", "#b8860b", "#c0392b", "#3aa6a6", "#777777"]
KEYS = ["network", "arm", "bits", "clip", "rate", "outliers", "seed", "steps"]


class Failed(Exception):
    """A tool that ended with an error."""


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    return done.stdout


# Training


class Study:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.known = {}

    def once(self, key, make):
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def model(self, network):
        return f"{self.options.models}/{network}"

    def training_set(self, network, outliers):
        """An archive of the digits that are not in eval/."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        folder = f"{self.model(network)}/eval"
        judged = numpy.concatenate([numpy.load(f"{folder}/{file}") for file in sorted(os.listdir(folder))])
        # The samples may be scaled.
        scale = 16 / float(judged.max())
        known = {numpy.rint(row * scale).astype(numpy.int64).tobytes() for row in judged.reshape(-1, 64)}
        items = digits.data.astype(numpy.int64)
        chosen = [index for index, row in enumerate(items) if row.tobytes() not in known]
        if len(items) - len(chosen) < 0.9 * len(known):
            raise SystemExit("clipping.py: the samples in eval/ are not scikit-learn's digits")
        inputs = (items[chosen] / scale).astype(numpy.float32).reshape(-1, *judged.shape[1:])
        labels = digits.target[chosen].astype(numpy.int64)
        random = numpy.random.default_rng(0)
        spoilt = random.permutation(len(labels))[:round(outliers * len(labels))]
        inputs[spoilt] *= 30
        labels[spoilt] = random.integers(0, 10, len(spoilt))
        path = f"{self.folder}/{network}-{outliers}.npz"
        numpy.savez(path, x=inputs, labels=labels)
        return path

    def with_weights(self, network, archive, path):
        """The network with the arrays of an archive."""
        model = onnx.load(f"{self.model(network)}/model.onnx")
        arrays = numpy.load(archive)
        for tensor in model.graph.initializer:
            if tensor.name in arrays:
                array = arrays[tensor.name].reshape(tensor.dims)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        onnx.save(model, path)
        return path

    def start(self, network, seed):
        """The network with weights by He's rule."""
        archive = f"{self.folder}/start.npz"
        samples = self.once(("samples", network, 0), lambda: self.training_set(network, 0))
        run(f"{self.options.tools}/qtune", f"{self.model(network)}/model.onnx", archive, "--float",
            "--samples", samples, "--labels", "labels", "--start", "he", "--steps", 1, "--rate", 1e-20,
            "--seed", seed, "--quiet")
        return self.with_weights(network, archive, f"{self.folder}/{network}-{seed}.onnx")

    def accuracy(self, network, file):
        printed = run(f"{self.options.tools}/qrun", file, f"{self.model(network)}/eval", "--labels",
                      f"{self.model(network)}/labels.json", "--quiet")
        line = next(line for line in printed.splitlines() if line.startswith("accuracy"))
        return float(line.split()[1])

    def cell(self, network, arm, bits, clip, rate, outliers, seed, steps):
        kind, _, threshold = clip.partition(":")
        out, log = f"{self.folder}/out", f"{self.folder}/log"
        for path in [out + ".npz", out + ".qm", log]:
            if os.path.exists(path):
                os.remove(path)
        command = ["--steps", steps, "--rate", rate, "--optimizer", "sgd", "--clip", kind, "--seed", seed,
                   "--log", log, "--quiet", "--threads", 1]
        command += ["--clip-norm", threshold] if threshold else []
        source = f"{self.model(network)}/model.onnx"
        if arm == "distilled":
            command = [source, out + ".qm", "--bits", bits, "--samples", f"{self.model(network)}/calib",
                       *command]
        else:
            samples = self.once(
                ("samples", network, outliers), lambda: self.training_set(network, outliers))
            command += ["--samples", samples, "--labels", "labels"]
            if bits == 32:
                command = [source, out + ".npz", "--float", "--start", "he", *command]
            else:
                first = self.once(("start", network, seed), lambda: self.start(network, seed))
                command = [first, out + ".qm", "--bits", bits, "--teacher", 0, "--features", 0, *command]
        result = {"accuracy": None, "gave_up": False}
        started = time.perf_counter()
        try:
            run(f"{self.options.tools}/qtune", *command)
            file = out + ".qm"
            if bits == 32:
                file = self.with_weights(network, out + ".npz", out + ".onnx")
            result["accuracy"] = self.accuracy(network, file)
        except Failed as error:
            if "diverges" in str(error):
                result["gave_up"] = True
            elif "SQNR" not in str(error):
                raise SystemExit(f"clipping.py: {' '.join(map(str, command))}\n{error}")
        result["seconds"] = round(time.perf_counter() - started, 3)
        with open(log) as file:
            lines = [json.loads(line) for line in file]
        held_out = [line["heldOutLoss"] for line in lines if "heldOutLoss" in line]
        result["least_loss"] = min(held_out, default=None)
        result["last_loss"] = held_out[-1] if held_out else None
        result["clipped"] = sum(line["isClipped"] for line in lines) / max(len(lines), 1)
        result["divergences"] = sum("divergence" in line for line in lines)
        return result


def cells(options):
    """All runs, in the order in which they are made."""
    networks, clips = options.networks.split(","), options.clips.split(",")
    bits = [int(width) for width in options.bits.split(",")]
    for seed, arm, network in itertools.product(
            range(options.seeds), options.arms.split(","), networks):
        widths = {"scratch": bits, "distilled": [b for b in bits if b <= 8], "outliers": [32]}[arm]
        shares = SHARES if arm == "outliers" else [0]
        for width, clip, rate, share in itertools.product(widths, clips, RATES[arm], shares):
            yield dict(zip(KEYS, [network, arm, width, clip, rate, share, seed, options.steps]))


# Drawing


def value(row, is_accuracy):
    if row["gave_up"]:
        return 0.0
    return row["accuracy"] if is_accuracy else 100 * math.exp(-row["least_loss"])


class Panel:
    """Values over clipping and rate, or share of outliers; means over the seeds."""

    def __init__(self, title, rows, key):
        self.title = title
        # A seed of which only a part was run would favour some fields.
        counts = Counter(row["seed"] for row in rows)
        rows = [row for row in rows if counts[row["seed"]] == max(counts.values())]
        self.clips = list(dict.fromkeys(row["clip"] for row in rows))
        self.places = sorted({row[key] for row in rows})
        self.is_accuracy = all(row["gave_up"] or row["accuracy"] is not None for row in rows)
        self.seed_count = len({row["seed"] for row in rows})
        self.points = 1 if self.is_accuracy else 5
        self.seeds = {}
        for row in rows:
            self.seeds.setdefault((row["clip"], row[key]), []).append(value(row, self.is_accuracy))
        self.values = {cell: statistics.mean(found) for cell, found in self.seeds.items()}
        self.best = max(self.values.values())
        self.losses = {}
        for row in rows:
            if row["arm"] == "distilled" and not row["gave_up"] and row["least_loss"] is not None:
                self.losses.setdefault((row["clip"], row[key]), []).append(row["least_loss"])

    def row(self, clip):
        return [self.values.get((clip, place)) for place in self.places]

    def field(self, clip):
        """A field of the table."""
        best = max((v for v in self.row(clip) if v is not None), default=None)
        if best is None:
            return "–"
        text = f"{best:.1f} ({self.share([clip]):.0f} %)"
        losses = [statistics.mean(found) for (other, _), found in self.losses.items() if other == clip]
        return f"{text}, {min(losses):.2g}" if losses else text

    def share(self, clips):
        """The share of the grid within 1 point of the best; 5 for probabilities, which differ more."""
        found = [v for clip in clips for v in self.row(clip) if v is not None]
        return 100 * sum(v >= self.best - self.points for v in found) / max(len(found), 1)

    def spread(self):
        """The largest difference between seeds where the mean is within 1 point of the best."""
        return max(max(found) - min(found) for cell, found in self.seeds.items()
                   if self.values[cell] >= self.best - self.points)


def picture(title, panels, axis):
    """Above the values as lines, below as heat maps; one column a panel."""
    column, top, chart, cell = 230, 60, 190, 20
    clips = panels[0].clips
    left = 130
    height = top + chart + 70 + cell * len(clips) + 40
    width = left + column * len(panels) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="15">{title}</text>',
    ]
    for index, clip in enumerate(clips):
        parts.append(f'<text x="10" y="{top + 20 + 16 * index}" fill="{COLOURS[index]}">{clip}</text>')
    for number, panel in enumerate(panels):
        x0 = left + column * number
        step = (column - 30) / len(panel.places)
        parts.append(f'<text x="{x0}" y="{top - 12}" font-size="12">{panel.title}</text>')
        for mark in [0, 25, 50, 75, 100]:
            y = top + chart * (1 - mark / 100)
            parts.append(f'<path d="M{x0} {y}h{column - 30}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 4}" y="{y + 4}" text-anchor="end" fill="#777">{mark}</text>')
        for index, clip in enumerate(clips):
            points = [
                f"{x0 + (place + 0.5) * step:.1f},{top + chart * (1 - v / 100):.1f}"
                for place, v in enumerate(panel.row(clip)) if v is not None]
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" '
                         f'stroke="{COLOURS[index]}" stroke-width="1.6"/>')
        for place, at in enumerate(panel.places):
            x = x0 + (place + 0.5) * step
            parts.append(f'<text x="{x:.1f}" y="{top + chart + 16}" text-anchor="middle">{at:g}</text>')
        y0 = top + chart + 50
        parts.append(f'<text x="{x0}" y="{y0 - 10}">{panel.share(clips):.0f} % of the grid within '
                     f"{panel.points} of the best</text>")
        for index, clip in enumerate(clips):
            y = y0 + cell * index
            if number == 0:
                parts.append(f'<text x="10" y="{y + 14}">{clip}</text>')
            for place, v in enumerate(panel.row(clip)):
                if v is None:
                    continue
                # From the best, 0 to 30 points lower: green to white.
                lost = min(max((panel.best - v) / 30, 0), 1)
                colour = "#" + "".join(
                    f"{round(least + (255 - least) * lost):02x}" for least in (60, 160, 90))
                x = x0 + place * step
                parts.append(f'<rect x="{x:.1f}" y="{y}" width="{step - 1:.1f}" height="{cell - 1}" '
                             f'fill="{colour}"/>')
                weight = ' font-weight="bold"' if v >= panel.best - panel.points else ""
                parts.append(f'<text x="{x + step / 2:.1f}" y="{y + 14}" text-anchor="middle" '
                             f'font-size="9"{weight}>{v:.0f}</text>')
            if any(v is not None for v in panel.row(clip)):
                parts.append(f'<text x="{x0 + column - 30:.0f}" y="{y + 14}" font-size="9" fill="#777">'
                             f"{panel.share([clip]):.0f}%</text>")
        parts.append(f'<text x="{x0}" y="{y0 + cell * len(clips) + 16}" fill="#777">{axis}</text>')
    return "\n".join(parts + ["</svg>", ""])


def draw(options, rows):
    lines = [
        "Each field: the best mean over the seeds, and the share of the rates (or of the shares of outliers) "
        "within 1 point of the best field of its row. `p`: 100 · exp(−cross-entropy) on samples held out, "
        "not accuracy, as the tool wrote no file; there, within 5 points. With distillation, behind the "
        "comma, the least loss on samples held out, at the best rate. The last column is the largest "
        "difference between seeds among the best, and their number.", ""]
    names = {}
    for row in rows:
        names.setdefault((row["arm"], row["network"]), []).append(row)
    for arm in RATES:
        panels = {}
        for (other, network), found in names.items():
            if other != arm:
                continue
            if arm == "outliers":
                panels[network] = [
                    Panel(f"rate {rate:g}", [row for row in found if row["rate"] == rate], "outliers")
                    for rate in sorted({row["rate"] for row in found})]
            else:
                panels[network] = [
                    Panel(f"{bits} bits", [row for row in found if row["bits"] == bits], "rate")
                    for bits in sorted({row["bits"] for row in found}, reverse=True)]
        if not panels:
            continue
        clips = next(iter(panels.values()))[0].clips
        lines += [f"## {arm}", "", "| | " + " | ".join(clips) + " | seeds |",
                  "|---|" + "---|" * (len(clips) + 1)]
        for network, list_of_panels in panels.items():
            for panel in list_of_panels:
                fields = [panel.field(clip) for clip in clips]
                unit = "" if panel.is_accuracy else ", p"
                lines.append(f"| {network}, {panel.title}{unit} | " + " | ".join(fields)
                             + f" | {panel.spread():.1f} of {panel.seed_count} |")
                if not panel.is_accuracy:
                    panel.title += ", held-out probability"
            axis = "share of outliers" if arm == "outliers" else "learning rate"
            with open(f"{options.out}/{network}-{arm}.svg", "w") as file:
                file.write(picture(f"{network}, {arm}", list_of_panels, axis))
        lines.append("")
    with open(f"{options.out}/study.md", "w") as file:
        file.write("\n".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--tools", default=".build/release")
    parser.add_argument("--networks", default="digits_mlp,digits_gru")
    parser.add_argument("--bits", default="32,8,4,3,2")
    parser.add_argument("--clips", default="none,value:0.05,norm:1,norm:0.1,agc:0.02,zscore:1,percentile:1,"
                                           "zscore:1000000,percentile:1000000")
    parser.add_argument("--arms", default="scratch,distilled,outliers")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    record = f"{options.out}/runs.jsonl"
    rows = []
    if os.path.exists(record):
        with open(record) as file:
            rows = [json.loads(line) for line in file]
    done = {tuple(row[key] for key in KEYS) for row in rows}
    end = time.monotonic() + 60 * options.minutes
    if not options.draw:
        todo = [cell for cell in cells(options) if tuple(cell.values()) not in done]
        with tempfile.TemporaryDirectory() as folder, open(record, "a") as file:
            study = Study(options, folder)
            for number, cell in enumerate(todo):
                if time.monotonic() > end:
                    print(f"{len(todo) - number} runs are left", file=sys.stderr)
                    break
                row = {**cell, **study.cell(**cell)}
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                if number % 50 == 0:
                    print(f"{number} of {len(todo)} runs", file=sys.stderr, flush=True)
    draw(options, rows)


if __name__ == "__main__":
    main()
