#!/usr/bin/env python3
"""A large set of samples observed and verified in parts by a Ray cluster, with the file of one machine.

    cluster.py in.onnx out.qm --samples calib/ --work /shared/tmp [--verify eval/] [--parts 8] [-- --bits 4]

What follows -- are options of qconvert. --work is a folder that all machines see under the same path, as
they do the network, the samples and the tools. The samples are divided by links, not copied.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
import ray.exceptions

TRIES = 4
NO_OTHER_TRY_HELPS = {64, 65}  # usage, malformed data


class Refused(Exception):
    """A tool says what is wrong with its options or its files."""


class Failed(Exception):
    """A tool failed; another try, on another machine, may succeed."""


def run(*command, accepted=(0,)):
    """The standard output of a tool, or its lines of errors as an exception."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode in accepted:
        return done.stdout
    lines = done.stderr.strip() or f"{command[0]} ended with status {done.returncode}"
    raise (Refused if done.returncode in NO_OTHER_TRY_HELPS else Failed)(lines)


@ray.remote(max_retries=TRIES - 1, retry_exceptions=[Failed])
def part_of(title, *command, accepted=(0,)):
    """One tool on one part of the samples. Its output appears whole or not at all, so it can run again."""
    print(f"{title} begins on {ray.util.get_node_ip_address()}", flush=True)
    started = time.monotonic()
    return run(*command, accepted=accepted), time.monotonic() - started


def divide(samples, parts, folder):
    """Folders of links that have the samples in turn; files of one sample stay together."""
    files = sorted(file for file in Path(samples).resolve().iterdir() if file.suffix in (".npy", ".npz", ".safetensors"))
    stems = sorted({file.name.split(".")[0] for file in files})
    if not stems:
        raise Refused(f"{samples}: no samples; expected a folder of .npy, .npz or .safetensors files")
    parts = max(1, min(parts, len(stems)))
    place = {stem: folder / f"part{index % parts}" for index, stem in enumerate(stems)}
    for stem in stems[:parts]:
        place[stem].mkdir(parents=True)
    for file in files:
        (place[file.name.split(".")[0]] / file.name).symlink_to(file)
    return [folder / f"part{index}" for index in range(parts)]


def gather(tasks):
    """The results of tasks in their order. The first one that has failed for good ends the others."""
    waiting = list(tasks)
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
    except ray.exceptions.RayTaskError as error:
        for task in waiting:
            ray.cancel(task, force=True)
        raise error.cause
    return ray.get(tasks)


def merged(reports):
    """One report of the reports of parts: medians over all samples, of the worst part of each output."""
    outputs = []
    for same in zip(*(report["outputs"] for report in reports)):
        # Of each part of the output, the figure and the name of each sample. float() reads "Infinity" too.
        figures = {}
        for output in same:
            parts = [part["name"] for part in output["parts"]] or [output["name"]]
            for sample in output["each_sample"]:
                for part, decibels in zip(parts, sample["sqnr_db"]):
                    if decibels is not None:
                        figures.setdefault(part, []).append((float(decibels), sample["name"]))
        # Without elements to compare there are no figures.
        worst = min(figures.values(), key=median, default=[(float("inf"), None)])
        outputs.append({
            "name": same[0]["name"],
            "samples": sum(output["samples"] for output in same),
            "sqnr_db": median(worst)[0],
            "largest_difference": max(float(output["largest_difference"]) for output in same),
            "worst_sample": min(worst)[1],
            "worst_sample_sqnr_db": min(worst)[0],
        })
    return {"passed": all(report["passed"] for report in reports), "outputs": outputs}


def median(figures):
    """As the tools take it: the lower of the two middle ones where their number is even."""
    return sorted(figures)[(len(figures) - 1) // 2]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("network", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--samples", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--verify")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="processors that a part takes")
    parser.add_argument("--tools", type=Path, help="folder of qconvert and qverify; default: the PATH")
    own = sys.argv[1:]
    given = own[own.index("--") + 1:] if "--" in own else []
    options = parser.parse_args(own[: len(own) - len(given) - ("--" in own)])
    network, file = options.network.resolve(), options.file.resolve()
    qconvert, qverify = ((options.tools.resolve() / name if options.tools else name)
                         for name in ("qconvert", "qverify"))
    common = ["--threads", options.threads, "--quiet"]
    ray.init(address="auto", logging_level="warning")
    if not any(node["Resources"].get("CPU", 0) >= options.threads for node in ray.nodes() if node["Alive"]):
        raise Refused(f"no node of the cluster offers {options.threads} processors; give fewer --threads")
    task = part_of.options(num_cpus=options.threads)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        started = time.monotonic()
        parts = divide(options.samples, options.parts, Path(work, "observed"))
        seen = [part.with_suffix(".qstats") for part in parts]
        times = [seconds for _, seconds in gather([
            task.remote(f"observing {part.name}", qconvert, network, "--observe-only", statistics,
                        "--samples", part, *given, *common)
            for part, statistics in zip(parts, seen)])]
        print(f"observed {len(parts)} parts in {time.monotonic() - started:.1f} s, "
              f"{sum(times):.1f} s of all machines together")
        print(run(qconvert, network, file, "--statistics", *seen, *given, "--quiet"), end="")
        if not options.verify:
            return 0
        reports = [json.loads(text) for text, _ in gather([
            task.remote(f"verifying {part.name}", qverify, file, part, "--reference", network, "--json",
                        *common, accepted=(0, 1))
            for part in divide(options.verify, options.parts, Path(work, "verified"))])]
        report = merged(reports)
        print(json.dumps(report, indent=2))
        return 0 if report["passed"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, Failed, OSError, ConnectionError, ray.exceptions.RayError) as error:
        sys.exit(f"cluster.py: {error}")
