"""Compares the interpreter of this folder with the package, bit for bit.

    check.py TOOLS [--only REGEX] [--drawn NUMBER] [--models FOLDER]

TOOLS is the folder of qconvert and qrun. Checked are the dump in schema/qm-format.md, the files of
fixtures/qm, the networks of fixtures/onnx, fixtures/differences and fixtures/models at 8, 4 and 2 bits
with samples and without, and programs that are drawn at random (--drawn of each operation). --models
adds the networks of a folder, of which the first sample is run. Fails on a difference.
"""

import argparse
import collections
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import drawn
from dump import check_dump
from reference import Malformed, Model, RunError, Unsupported, descriptions
from reference.arithmetic import without_warnings
from reference.container import METADATA, NAMES
from reference.probes import digest, read_probes
from reference.types import BOOL
from reference.writer import write

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / 'fixtures'
EQUAL, DIFFERENT, UNSUPPORTED, REFUSED, NOT_RUN = 'equal', 'different', 'unsupported', 'refused by both', 'not run'
OUTCOMES = [EQUAL, DIFFERENT, UNSUPPORTED, REFUSED, NOT_RUN]
MALFORMED_DATA = 65   # the tools' exit status
SAMPLE_COUNT = 3
PROBE_COUNT = 2


def key(name):
    """The name of an input or output in file names of samples."""
    return re.sub('[^A-Za-z0-9_]', '_', name)


def array_of(folder, stem, name):
    path = folder / f'{stem}.{key(name)}.npy'
    array = np.load(path if path.exists() else folder / f'{stem}.npy')
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def tool(arguments):
    return subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)


def compared(tools, file, samples, stems, work):
    """Runs a file on samples with both interpreters: an outcome, and what there is to say about it."""
    try:
        model, refusal = Model(file.read_bytes()), None
    except (Malformed, Unsupported, RunError) as error:
        model, refusal = None, error
    results = work / 'results'
    run = tool([tools / 'qrun', file, samples, '--output', results, '--quiet', '--limit-samples', len(stems)])
    if run.returncode not in (0, MALFORMED_DATA):
        return DIFFERENT, f'qrun ends with status {run.returncode}: {run.stderr.strip()}'
    if run.returncode and 'must be finite' in run.stderr:
        return NOT_RUN, 'a sample is not finite'
    if model is not None and refusal is None and run.returncode == 0:
        try:
            if refuted := refuted_probes(model):
                return DIFFERENT, refuted
        except NotImplementedError as error:
            return UNSUPPORTED, str(error)
    for stem in stems:
        if model is not None:
            inputs = {name: array_of(samples, stem, name) for name in model.inputs}
            try:
                outputs = model.run(inputs)
            except RunError as error:
                refusal = error
            except NotImplementedError as error:
                return UNSUPPORTED, str(error)
        if run.returncode and refusal is not None:
            return REFUSED, str(refusal)
        if run.returncode:
            return DIFFERENT, f'qrun refuses: {run.stderr.strip()}'
        if refusal is not None:
            return DIFFERENT, f'only qrun accepts: {refusal}'
        for name, output in outputs.items():
            expected = array_of(results, stem, name)
            if (expected.shape, expected.dtype) != (output.shape, output.dtype):
                return DIFFERENT, (f'sample {stem}, output {name}: {output.dtype}{list(output.shape)}, '
                                   f'qrun {expected.dtype}{list(expected.shape)}')
            if expected.tobytes() != output.tobytes():
                flat = [np.ascontiguousarray(array).reshape(-1) for array in (output, expected)]
                places = np.nonzero(flat[0].view(f'u{output.itemsize}') != flat[1].view(f'u{output.itemsize}'))[0]
                return DIFFERENT, (f'sample {stem}, output {name}: {len(places)} of {output.size} elements, at '
                                   f'{places[0]} {flat[0][places[0]]!r}, qrun {flat[1][places[0]]!r}')
    return EQUAL, ''


def refuted_probes(model):
    """What there is to say of probes of the file whose outputs have another digest; empty if none have."""
    _, probes = read_probes(model.container, model.program)
    other = [number for number, probe in enumerate(probes, 1)
             if digest(model.run(probe.inputs).values()) != probe.digest]
    return f'the outputs for the probes {other} have other digests' if other else ''


# fixtures/qm

def check_file(path):
    """A file to accept or to reject."""
    accepted = path.parent.name == 'accept'
    try:
        model = Model(path.read_bytes())
        model.container.check_digest()
        for kind, read in (NAMES, descriptions.read_names), (METADATA, descriptions.read_metadata):
            for section in model.container.of(kind):
                read(section.content(), model.program)
        if refuted := refuted_probes(model):
            return DIFFERENT, refuted
    except (Malformed, Unsupported) as error:
        return DIFFERENT if accepted else EQUAL, str(error)
    return EQUAL if accepted else DIFFERENT, 'accepted'


def check_files():
    for path in sorted(FIXTURES.glob('qm/*/*.qm')):
        yield f'qm/{path.parent.name}', path.name, *check_file(path)


# Networks

def check_network(tools, group, folder, count):
    """A network at several widths: rows of group, name, outcome, remark."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        if (folder / 'io.npz').exists():
            calibration = samples = work / 'samples'
            samples.mkdir()
            archive = np.load(folder / 'io.npz')
            for name in archive.files:
                if name.startswith('in:'):
                    np.save(samples / f'io.{key(name[3:])}.npy', archive[name])
        else:
            calibration, samples = folder / 'calib', work / 'samples'
            samples.mkdir()
            stems = sorted({path.name.split('.')[0] for path in (folder / 'eval').glob('*.npy')})[:count]
            for path in (folder / 'eval').glob('*.npy'):
                if path.name.split('.')[0] in stems:
                    (samples / path.name).symlink_to(path)
        stems = sorted({path.name.split('.')[0] for path in samples.iterdir()})
        for bits in 8, 4, 2:
            for has_samples in True, False:
                name = f'{folder.name} {bits} bits' + (', samples' if has_samples else '')
                file = work / 'network.qm'
                converted = tool([tools / 'qconvert', folder / 'model.onnx', file, '--bits', bits, '--min-sqnr', 0,
                                  '--threads', 1, '--effort', 'fast', '--quiet']
                                 + (['--samples', calibration, '--probes', PROBE_COUNT] if has_samples else []))
                if converted.returncode:
                    rows.append((group, name, NOT_RUN, converted.stderr.strip()))
                else:
                    rows.append((group, name, *compared(tools, file, samples, stems, work)))
    return rows


# Programs of one operation

def check_drawn(tools, operation, number):
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        file, samples = work / 'drawn.qm', work / 'samples'
        samples.mkdir()
        program, inputs = without_warnings(drawn.draw)(operation, number)
        file.write_bytes(write(program))
        for (name, array), type in zip(inputs.items(), program.types):
            np.save(samples / f'0.{name}.npy', array.view(np.bool_) if type.element == BOOL else array)
        return [('drawn', f'{operation} {number}', *compared(tools, file, samples, ['0'], work))]


def attempt(job):
    """The rows of a job; a fault of this interpreter is a difference."""
    function, *arguments = job
    try:
        return function(*arguments)
    except Exception as error:
        return [('faults', ' '.join(map(str, arguments[1:])), DIFFERENT, repr(error))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('tools', type=Path)
    parser.add_argument('--only', default='', type=re.compile)
    parser.add_argument('--drawn', default=10, type=int)
    parser.add_argument('--models', type=Path)
    options = parser.parse_args()

    start, tools = time.monotonic(), options.tools.resolve()
    jobs = []
    for group, folder, count in [('models', FIXTURES / 'models', SAMPLE_COUNT), ('onnx', FIXTURES / 'onnx', 1),
                                 ('differences', FIXTURES / 'differences', 1), ('more models', options.models, 1)]:
        for path in sorted(folder.glob('*/model.onnx')) if folder else []:
            if options.only.search(f'{group}/{path.parent.name}'):
                jobs.append((check_network, tools, group, path.parent, count))
    for operation in drawn.OPERATIONS:
        if options.only.search(f'drawn/{operation}'):
            jobs += [(check_drawn, tools, operation, number) for number in range(options.drawn)]

    rows = [('schema', 'dump of qm-format.md', *check_dump(ROOT / 'schema/qm-format.md', FIXTURES))]
    rows += check_files()
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(attempt, jobs, chunksize=2):
            rows += result

    counts = collections.defaultdict(collections.Counter)
    for group, name, outcome, remark in rows:
        counts[group][outcome] += 1
        if outcome in (DIFFERENT, UNSUPPORTED):
            print(f'{outcome}: {group}/{name}: {remark}')
    print(f'{"":14}' + ''.join(f'{outcome:>17}' for outcome in OUTCOMES))
    for group, counter in counts.items():
        print(f'{group:14}' + ''.join(f'{counter[outcome]:17}' for outcome in OUTCOMES))
    print(f'{time.monotonic() - start:.0f} seconds')
    return 1 if any(counter[DIFFERENT] for counter in counts.values()) else 0


if __name__ == '__main__':
    sys.exit(main())
