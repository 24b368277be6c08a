#!/usr/bin/env python3
"""Bytes and loss of networks by bits a weight: a table, and a picture for each network.

    Tests/Tools/Rates/rates.py MODELS OUT [--networks a,b] [--bits 8,6,4,3,2,1.5] [--grids free,fixed]

MODELS/NAME has model.onnx, calib/, eval/ and metric.py, which prints JSON for a folder of outputs, and
MODELS/bars.json says which of its numbers is the metric, what the float network gives, and whether
higher is better. The tools must be built: `make build`. Needs what the metrics need, and nothing else.
Writes OUT/rates.md and OUT/NAME.svg.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

TOOLS = ".build/release"
COLOURS = {"free": "#1f5fae", "fixed": "#c2571a"}


def measure(models, name, bar, bits, grid, folder):
    """The bytes of the file and the loss; None if the width is impossible in this grid."""
    file, results = f"{folder}/out.qm", f"{folder}/results-{name}-{bits}-{grid}"
    model = f"{models}/{name}"
    convert = subprocess.run(
        [f"{TOOLS}/qconvert", f"{model}/model.onnx", file, "--bits", bits, "--grid", grid,
         "--samples", f"{model}/calib", "--min-sqnr", "0", "--quiet"],
        capture_output=True, text=True)
    if convert.returncode == 64:
        return None
    convert.check_returncode()
    subprocess.run([f"{TOOLS}/qrun", file, f"{model}/eval", "--output", results, "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    printed = subprocess.run([sys.executable, f"{model}/metric.py", results],
                             check=True, capture_output=True, text=True).stdout
    value = json.loads(printed.strip().splitlines()[-1])[bar["metric"]]
    loss = bar["float"] - value if bar["better"] == "higher" else value - bar["float"]
    return os.path.getsize(file), loss


def picture(name, bar, rows):
    """Loss over kilobytes, one line a grid."""
    width, height, margin = 640, 400, 60
    most = max(size for _, _, size, _ in rows)
    # A grid that breaks the network must not flatten the others.
    allowed = list(bar["allowed"].values())
    ceiling = max(min(allowed), min(3 * max(allowed), 1.1 * max(loss for *_, loss in rows)))
    floor = min(0, min(loss for *_, loss in rows))

    def place(size, loss):
        x = margin + (width - 2 * margin) * size / most
        share = (min(loss, ceiling) - floor) / (ceiling - floor)
        return round(x, 1), round(height - margin - (height - 2 * margin) * share, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{margin}" y="24" font-size="16">{name}: loss of {bar["metric"]} by kB</text>',
    ]
    for loss in [0, ceiling / 3, 2 * ceiling / 3, ceiling]:
        left, y = place(0, loss)
        parts.append(f'<path d="M{left} {y}H{width - margin}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{loss:.3g}</text>')
    for step in range(5):
        size = most * step / 4
        x, _ = place(size, 0)
        parts.append(
            f'<text x="{x}" y="{height - margin + 20}" text-anchor="middle">{size / 1000:.3g}</text>')
    for index, grid in enumerate(sorted({row[1] for row in rows}, reverse=True)):
        points = [(bits, *place(size, loss)) for bits, other, size, loss in rows if other == grid]
        line = " ".join(f"{x},{y}" for _, x, y in points)
        colour = COLOURS[grid]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for bits, x, y in points:
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{x + 5}" y="{y - 6}" fill="{colour}">{bits}</text>')
        parts.append(
            f'<text x="{width - margin - 80}" y="{44 + 16 * index}" fill="{colour}">{grid}</text>')
    return "\n".join(parts + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--networks", default="")
    parser.add_argument("--bits", default="8,6,5,4,3,2.5,2,1.5")
    parser.add_argument("--grids", default="free,fixed")
    options = parser.parse_args()
    with open(f"{options.models}/bars.json") as file:
        bars = json.load(file)
    os.makedirs(options.out, exist_ok=True)
    table = ["| network | bits | grid | bytes | loss |", "|---|---|---|---|---|"]
    for name in options.networks.split(",") if options.networks else sorted(bars):
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for bits in options.bits.split(","):
                for grid in options.grids.split(","):
                    # A fixed grid has no fractions.
                    if grid == "fixed" and "." in bits:
                        continue
                    found = measure(options.models, name, bars[name], bits, grid, folder)
                    if found:
                        rows.append((bits, grid, *found))
                        row = f"| {name} | {bits} | {grid} | {found[0]:,} | {found[1]:.4f} |"
                        table.append(row)
                        print(row, flush=True)
        if rows:
            with open(f"{options.out}/{name}.svg", "w") as file:
                file.write(picture(name, bars[name], rows))
    with open(f"{options.out}/rates.md", "w") as file:
        file.write("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
