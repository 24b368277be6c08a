#!/usr/bin/env python3
"""What gradient clipping buys: accuracy over learning rate and clipping at 32 bits and fewer.

    Tests/Tools/Study/clipping.py MODELS OUT [--tools .build/release] [--networks digits_mlp,digits_gru]
        [--bits 32,8,4] [--clips none,norm:1,…] [--arms gradients,outliers,scratch,distilled] [--seeds 3]
        [--steps 300] [--minutes 90] [--draw]

MODELS/NAME has model.onnx, calib/, eval/ and labels.json; networks read scikit-learn's 8×8 digits. The
tools must be built: `make build`. Needs numpy, onnx and scikit-learn.

Every run is a line of OUT/runs.jsonl; runs that are there are not repeated, so that an interrupted study
goes on. The seed is the outermost loop: after each there is a whole picture. --draw only draws.
Writes OUT/study.md and OUT/NAME-ARM.svg.

scratch    weights start by He's rule and learn from labels alone. At 32 bits by --float; below, the
           network with those weights is converted, and trained without teacher and features.
distilled  the network as it is, converted; the float network teaches, on calib/.
outliers   a share of the samples is multiplied by 30 and labelled at random. At 32 bits as scratch; at
           4 bits the network as it is, converted, learns from labels and the float network.
gradients  as scratch at 4 bits, with gradients of 32 bits, of 8, and of 8 without scaling.

The training set is scikit-learn's digits without the items of eval/. A clipping is NAME:THRESHOLD; zscore
and percentile have the threshold as a fixed norm beside them; with 1000000 they are alone.

The value of a run is the accuracy on eval/ of the state that the tool keeps, in percent. Below 32 bits with
outliers that state is often the one that training began with; there it is the accuracy after the last
step, on the samples that were held out, without the runs that the tool gives up after four divergences,
which are counted.
"""
import argparse
import itertools
import json
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

ARMS = ["scratch", "distilled", "outliers", "gradients"]
FORMS = {"32": [], "8 bits": ["--gradient-bits", 8],
         "8 unscaled": ["--gradient-bits", 8, "--no-gradient-scaling"]}
SHARES = [0, 0.005, 0.02, 0.05]
COLOURS = ["#222222", "#1f5fae", "#c2571a", "#2a8a4a", "#8a3ab9", "#b8860b", "#c0392b", "#3aa6a6", "#777777",
           "#e377c2"]
KEYS = ["network", "arm", "bits", "clip", "rate", "outliers", "gradients", "seed", "steps"]


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"clipping.py: {' '.join(map(str, command))}\n{done.stderr.strip()}")
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

    def cell(self, network, arm, bits, clip, rate, outliers, gradients, seed, steps):
        kind, _, threshold = clip.partition(":")
        out, log = f"{self.folder}/out", f"{self.folder}/log"
        for path in [out + ".npz", out + ".qm", log]:
            if os.path.exists(path):
                os.remove(path)
        command = ["--steps", steps, "--rate", rate, "--optimizer", "sgd", "--clip", kind, "--seed", seed,
                   "--log", log, "--quiet", "--threads", 1, *FORMS[gradients]]
        command += ["--clip-norm", threshold] if threshold else []
        source = f"{self.model(network)}/model.onnx"
        file = out + (".npz" if bits == 32 else ".qm")
        if bits < 32:
            # Outputs that differ from those of the network it began with are what training is for.
            command += ["--bits", bits, "--min-sqnr", 0]
        if arm == "distilled":
            command += ["--samples", f"{self.model(network)}/calib"]
        else:
            samples = self.once(
                ("samples", network, outliers), lambda: self.training_set(network, outliers))
            command += ["--samples", samples, "--labels", "labels"]
            if bits == 32:
                command += ["--float", "--start", "he"]
            elif arm != "outliers":
                source = self.once(("start", network, seed), lambda: self.start(network, seed))
                command += ["--teacher", 0, "--features", 0]
        started = time.perf_counter()
        run(f"{self.options.tools}/qtune", source, file, *command)
        if bits == 32:
            file = self.with_weights(network, file, out + ".onnx")
        result = {"accuracy": self.accuracy(network, file)}
        result["seconds"] = round(time.perf_counter() - started, 3)
        with open(log) as file:
            lines = [json.loads(line) for line in file]
        held_out = [line for line in lines if "heldOutLoss" in line]
        result["least_loss"] = min((line["heldOutLoss"] for line in held_out), default=None)
        result["divergences"] = sum("divergence" in line for line in lines)
        result["gave_up"] = result["divergences"] == 4
        result["last_accuracy"] = 100 * held_out[-1]["metric"]["value"] if held_out else None
        result["clipped"] = sum(line["isClipped"] for line in lines) / max(len(lines), 1)
        return result


def rates(arm, bits):
    if arm == "scratch":
        return [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3][0 if bits == 32 else 1:]
    if arm == "outliers":
        return [0.03, 0.1, 0.3] if bits == 32 else [0.01, 0.1]
    return {"distilled": [0.01, 0.1, 1, 10], "gradients": [0.01, 0.03, 0.1, 0.3, 1, 3]}[arm]


def cells(options):
    """All runs, in the order in which they are made."""
    networks, clips = options.networks.split(","), options.clips.split(",")
    bits = [int(width) for width in options.bits.split(",")]
    for seed, arm, network in itertools.product(
            range(options.seeds), options.arms.split(","), networks):
        widths = {"scratch": bits, "distilled": [b for b in bits if b <= 8], "outliers": [32, 4],
                  "gradients": [4]}[arm]
        shares = SHARES if arm == "outliers" else [0]
        forms = FORMS if arm == "gradients" else ["32"]
        kinds = ["none", "norm:1"] if arm == "gradients" else clips
        for width, clip, form, share in itertools.product(widths, kinds, forms, shares):
            for rate in rates(arm, width):
                yield dict(zip(KEYS, [network, arm, width, clip, rate, share, form, seed, options.steps]))


def complete(options, name, cells, measure):
    """The rows of OUT/NAME, after those that are missing were run, as long as the time lasts."""
    os.makedirs(options.out, exist_ok=True)
    cells = list(cells)
    record = f"{options.out}/{name}"
    rows = []
    if os.path.exists(record):
        with open(record) as file:
            rows = [json.loads(line) for line in file]
    done = {tuple(row[key] for key in cells[0]) for row in rows}
    pending = [cell for cell in cells if tuple(cell.values()) not in done]
    end = time.monotonic() + 60 * options.minutes
    with open(record, "a") as file:
        for number, cell in enumerate([] if options.draw else pending):
            if time.monotonic() > end:
                print(f"{len(pending) - number} runs are left", file=sys.stderr)
                break
            rows.append({**cell, **measure(**cell)})
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            if number % 50 == 0:
                print(f"{number} of {len(pending)} runs", file=sys.stderr, flush=True)
    return rows


# Drawing


def is_judged_at_the_end(row):
    return row.get("arm") == "outliers" and row["bits"] < 32


def value(row):
    return row["last_accuracy" if is_judged_at_the_end(row) else "accuracy"]


def label(row):
    return row["clip"] if row.get("gradients", "32") == "32" else f"{row['clip']}, {row['gradients']}"


class Panel:
    """Values over clipping and rate, or share of outliers; means over the seeds."""

    def __init__(self, title, rows, key):
        self.title, self.key = title, key
        # A seed of which only a part was run would favour some fields.
        counts = Counter(row["seed"] for row in rows)
        rows = [row for row in rows if counts[row["seed"]] == max(counts.values())]
        self.clips = list(dict.fromkeys(label(row) for row in rows))
        self.places = sorted({row[key] for row in rows})
        self.seed_count = len({row["seed"] for row in rows})
        self.run_counts = Counter(label(row) for row in rows)
        self.given_up = Counter(label(row) for row in rows if is_judged_at_the_end(row) and row["gave_up"])
        self.seeds = {}
        for row in rows:
            if is_judged_at_the_end(row) and row["gave_up"]:
                continue
            self.seeds.setdefault((label(row), row[key]), []).append(value(row))
        self.values = {cell: statistics.mean(found) for cell, found in self.seeds.items()}
        self.best = max(self.values.values())
        self.losses = {}
        for row in rows:
            if row.get("arm") == "distilled" and row["least_loss"] is not None:
                self.losses.setdefault((row["clip"], row[key]), []).append(row["least_loss"])

    def row(self, clip):
        return [self.values.get((clip, place)) for place in self.places]

    def field(self, clip):
        """A field of the table."""
        found = self.row(clip)
        if self.key == "outliers":
            text = " / ".join("–" if v is None else f"{v:.0f}" for v in found)
            if self.given_up:
                text += f", gave up {self.given_up[clip]} of {self.run_counts[clip]}"
            return text
        if all(v is None for v in found):
            return "–"
        text = f"{max(v for v in found if v is not None):.1f} ({self.share([clip]):.0f} %)"
        losses = [statistics.mean(found) for (other, _), found in self.losses.items() if other == clip]
        return f"{text}, {min(losses):.2g}" if losses else text

    def share(self, clips):
        """The share of the grid within 1 point of the best."""
        found = [v for clip in clips for v in self.row(clip) if v is not None]
        return 100 * sum(v >= self.best - 1 for v in found) / max(len(found), 1)

    def spread(self):
        """The largest difference between seeds where the mean is within 1 point of the best."""
        return max(max(found) - min(found) for cell, found in self.seeds.items()
                   if self.values[cell] >= self.best - 1)


def picture(title, panels, axis):
    """Above the values as lines, below as heat maps; one column a panel."""
    column, top, chart, cell = 230, 60, 190, 20
    clips = panels[0].clips
    left = 145
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
                     "1 of the best</text>")
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
                weight = ' font-weight="bold"' if v >= panel.best - 1 else ""
                parts.append(f'<text x="{x + step / 2:.1f}" y="{y + 14}" text-anchor="middle" '
                             f'font-size="9"{weight}>{v:.0f}</text>')
            if any(v is not None for v in panel.row(clip)):
                parts.append(f'<text x="{x0 + column - 30:.0f}" y="{y + 14}" font-size="9" fill="#777">'
                             f"{panel.share([clip]):.0f}%</text>")
        parts.append(f'<text x="{x0}" y="{y0 + cell * len(clips) + 16}" fill="#777">{axis}</text>')
    return "\n".join(parts + ["</svg>", ""])


def draw(options, rows):
    lines = [
        f"{len(rows)} runs. Each field: the best mean over the seeds, and the share of the rates within 1 "
        "point of the best field of its row. With distillation, behind the comma, the least loss on samples held "
        f"out, at the best rate. With outliers, the means at {', '.join(f'{100 * s:g}' for s in SHARES)} % of "
        "them, and the runs given up. The last column is the largest difference between seeds among the "
        "fields within 1 point of the best, and their number.", ""]
    names = {}
    for row in rows:
        names.setdefault((row["arm"], row["network"]), []).append(row)
    for arm in ARMS:
        panels = {}
        for (other, network), found in names.items():
            if other != arm:
                continue
            if arm == "outliers":
                panels[network] = [
                    Panel(f"{bits} bits, rate {rate:g}",
                          [row for row in found if (row["bits"], row["rate"]) == (bits, rate)], "outliers")
                    for bits, rate in sorted({(row["bits"], row["rate"]) for row in found},
                                             key=lambda pair: (-pair[0], pair[1]))]
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
                lines.append(f"| {network}, {panel.title} | " + " | ".join(fields)
                             + f" | {panel.spread():.1f} of {panel.seed_count} |")
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
    parser.add_argument("--bits", default="32,8,4")
    parser.add_argument("--clips", default="none,value:0.05,norm:1,norm:0.1,agc:0.02,greedy:1")
    parser.add_argument("--arms", default="gradients,outliers,scratch,distilled")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(options, folder)
        draw(options, complete(options, "runs.jsonl", cells(options), study.cell))


if __name__ == "__main__":
    main()
