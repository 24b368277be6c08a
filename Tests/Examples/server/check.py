#!/usr/bin/env python3
"""Loads the server with wrk, compares its answers with qrun's, and provokes each of its limits.

    Tests/Examples/server/check.py

Needs `make build`, the server (`swift build -c release` here), wrk, and NumPy.
"""
import http.client
import io
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NETWORK = ROOT / "fixtures/models/digits_cnn"
PORT = 8391
SERVER = HERE / ".build/release/PredictionServer"


def archive(**arrays):
    file = io.BytesIO()
    numpy.savez(file, **arrays)
    return file.getvalue()


def post(body, path="/predict"):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


class Server:
    """A server that runs while the block does."""

    def __init__(self, file, *options):
        self.command = [SERVER, file, "--port", PORT, *options]

    def __enter__(self):
        self.process = subprocess.Popen([str(word) for word in self.command],
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", PORT)
                connection.request("GET", "/model")
                self.model = json.load(connection.getresponse())
                return self
            except OSError:
                time.sleep(0.05)
        raise SystemExit("check.py: the server does not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def processor_seconds(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        total = 0
        for task in tasks.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                pass
        return total / 1e9


def load(body_path, connections):
    """Requests a second, latencies and errors, as wrk prints them."""
    script = body_path.with_suffix(".lua")
    script.write_text(f"""
wrk.method = "POST"
local file = io.open("{body_path}", "rb")
wrk.body = file:read("*a")
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format("requests/s %.0f, p50 %.2f ms, p99 %.2f ms, errors %d",
    1e6 * summary.requests / summary.duration, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
""")
    printed = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", "-d3s", "-s", script, f"http://127.0.0.1:{PORT}/predict"],
        check=True, capture_output=True, text=True).stdout
    return next(line for line in printed.splitlines() if line.startswith("requests/s"))


def main():
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        tools = ROOT / ".build/release"
        file, samples, results = work / "out.qm", work / "samples", work / "results"
        subprocess.run([tools / "qconvert", NETWORK / "model.onnx", file, "--samples", NETWORK / "calib",
                        "--quiet"], check=True, stdout=subprocess.DEVNULL)
        samples.mkdir()
        image = numpy.load(sorted((NETWORK / "eval").glob("*.npy"))[0])[:1]
        numpy.save(samples / "0.npy", image)
        subprocess.run([tools / "qrun", file, samples, "--output", results, "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        expected = numpy.load(next(results.glob("*.npy")))
        many = archive(x=numpy.repeat(image, 40000, axis=0))
        body = work / "body.npz"

        for options in [[], ["--keep-alive"]]:
            with Server(file, *options) as server:
                name = server.model["inputs"][0]["name"]
                assert name == "x", server.model
                one = archive(x=image)
                body.write_bytes(one)
                for connections in [1, 8, 32]:
                    print(f"{' '.join(options) or 'default'}, {connections} connections:",
                          load(body, connections), flush=True)
                status, answer = post(one)
                outputs = numpy.load(io.BytesIO(answer))
                assert status == 200 and outputs[outputs.files[0]].tobytes() == expected.tobytes()
        print("answers equal qrun's")

        with Server(file, "--request", 1) as server:
            assert post(many)[0] == 413
            assert post(b"no archive")[0] == 400
            assert post(archive(z=image))[0] == 400
        with Server(file, "--memory", 1) as server:
            assert post(many)[0] == 413
        with Server(file, "--time", 20, "--memory", 8192) as server:
            assert post(many)[0] == 504
        with Server(file, "--concurrency", 1, "--waiting", 0, "--time", 60000, "--memory", 8192) as server:
            start = server.processor_seconds()
            assert post(many)[0] == 200
            whole = server.processor_seconds() - start
            connection = http.client.HTTPConnection("127.0.0.1", PORT)
            start = server.processor_seconds()
            connection.request("POST", "/predict", many)
            while server.processor_seconds() - start < whole / 2:
                time.sleep(0.001)
            assert post(archive(x=image))[0] == 503
            connection.sock.close()
            left = server.processor_seconds()
            time.sleep(0.5 + whole)
            rest = server.processor_seconds() - left
            assert post(archive(x=image))[0] == 200
            print(f"a run of {1e3 * whole:.0f} ms of processor time, left by its client at half: "
                  f"{1e3 * rest:.1f} ms more")
            assert rest < max(0.05, whole / 4)
        print("limits of size, memory, time and waiting answered with 413, 413, 504, 503")


if __name__ == "__main__":
    main()
