"""The Python package as it is installed: models, sessions, tools, errors.

Reads the folder of fixtures from the environment variable QM_FIXTURES.
"""

import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import numpy as np

import swift_qm as qm

FIXTURES = Path(os.environ["QM_FIXTURES"])
NETWORK = FIXTURES / "models" / "digits_mlp"


class PackageTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.file = Path(cls.folder.name) / "out.qm"
        cls.report = qm.convert(NETWORK / "model.onnx", cls.file, bits=4, samples=NETWORK / "calib",
                                probes=3)
        cls.samples = [np.load(path) for path in sorted((NETWORK / "eval").glob("*.npy"))[:20]]
        cls.name = qm.Model(cls.file).inputs[0].name

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_outputs_are_those_of_qrun(self):
        with tempfile.TemporaryDirectory() as results:
            tool = Path(sys.executable).parent / "qrun"
            subprocess.run([tool, self.file, NETWORK / "eval", "--output", results, "--quiet"],
                           check=True, stdout=subprocess.DEVNULL)
            model = qm.Model(self.file)
            for path in sorted((NETWORK / "eval").glob("*.npy"))[:20]:
                outputs = model.run({self.name: np.load(path)})
                for name, array in outputs.items():
                    expected = np.load(Path(results) / f"{path.stem}.{name}.npy")
                    np.testing.assert_array_equal(array, expected)
                    self.assertEqual(array.dtype, expected.dtype)

    def test_every_option_gives_the_same_bits(self):
        expected = qm.Model(self.file).run({self.name: self.samples[0]})
        for options in [{"threads": 3}, {"memory": "compact"}] + [
                {"kernels": kernels} for kernels in qm.kernel_sets()]:
            found = qm.Model(self.file.read_bytes(), **options).run({self.name: self.samples[0]})
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])

    def test_ports_and_metadata_describe_the_network(self):
        model = qm.Model(self.file)
        port = model.inputs[0]
        self.assertEqual(port.dtype, np.float32)
        self.assertEqual(port.shape[1:], self.samples[0].shape[1:])
        self.assertEqual(model.metadata["recipe.bits"], "4")
        self.assertLessEqual(model.weight_bytes, qm.memory_needed(self.file))
        self.assertEqual(qm.memory_needed(self.file), qm.memory_needed(self.file.read_bytes()))

    def test_runs_in_place_copy_nothing(self):
        model = qm.Model(self.file)
        output = model.outputs[0].name
        expected = [model.run({self.name: sample})[output] for sample in self.samples]
        session = model.session()
        session.prepare({self.name: self.samples[0].shape})
        memory = session.input(self.name)
        addresses = set()
        for sample, right in zip(self.samples, expected):
            memory[...] = sample
            session.run_in_place()
            found = session.output(output)
            np.testing.assert_array_equal(found, right)
            addresses.add(found.ctypes.data)
            self.assertFalse(found.flags.writeable)
        self.assertEqual(len(addresses), 1)
        self.assertEqual(session.memory_needed({self.name: self.samples[0].shape}),
                         model.session().memory_needed({self.name: self.samples[0].shape}))

    def test_the_memory_of_a_run_is_the_sessions(self):
        session = qm.Model(self.file).session()
        session.run({self.name: self.samples[0]})
        np.testing.assert_array_equal(session.input(self.name), self.samples[0])

    def test_an_array_keeps_its_memory(self):
        session = qm.Model(self.file).session()
        session.prepare({self.name: self.samples[0].shape})
        memory = session.input(self.name)
        del session
        memory[...] = self.samples[0]
        np.testing.assert_array_equal(memory, self.samples[0])

    def test_outputs_of_a_run_outlive_the_model(self):
        with qm.Model(self.file) as model:
            first = model.run({self.name: self.samples[0]})
            copy = {name: array.copy() for name, array in first.items()}
            model.run({self.name: self.samples[1]})
        for name in first:
            np.testing.assert_array_equal(first[name], copy[name])

    def test_threads_share_a_model(self):
        model = qm.Model(self.file)
        output = model.outputs[0].name
        expected = [model.run({self.name: sample})[output] for sample in self.samples]
        wrong = []

        def work():
            for _ in range(20):
                for sample, right in zip(self.samples, expected):
                    if not np.array_equal(model.run({self.name: sample})[output], right):
                        wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_reports_are_dictionaries(self):
        self.assertEqual(self.report["bits"], 4)
        self.assertGreater(self.report["outputs"][0]["sqnr_db"], 10)
        verdict = qm.verify(self.file, NETWORK / "eval", reference=NETWORK / "model.onnx")
        self.assertIs(verdict["passed"], True)

    def test_probes_pass(self):
        content = self.file.read_bytes()
        found = qm.Model(self.file, threads=2).self_test()
        self.assertEqual((found.probes, found.agreeing, found.made_inputs), (3, 3, False))
        self.assertTrue(found.passed)
        self.assertTrue(10 < found.worst_sqnr <= found.median_sqnr < 100, found)
        model = qm.Model(content)
        self.assertEqual(model.self_test(content), found)
        with self.assertRaises(qm.QMError) as raised:
            model.self_test()
        self.assertEqual(raised.exception.code, "usage")
        bare = Path(self.folder.name) / "bare.qm"
        qm.convert(NETWORK / "model.onnx", bare, bits=4, effort="fast")
        with self.assertRaises(qm.QMError) as raised:
            qm.Model(bare).self_test()
        self.assertEqual(raised.exception.code, "usage")
        self.assertIn("probes", raised.exception.remedy)
        with self.assertRaises(qm.QMError) as raised:
            model.self_test(bare.read_bytes())
        self.assertEqual(raised.exception.code, "invalid_input")

    def test_errors_have_a_code_and_a_remedy(self):
        model = qm.Model(self.file)
        sample = self.samples[0]
        for code, call in [
            ("cannot_open", lambda: qm.Model("missing.qm")),
            ("malformed", lambda: qm.Model(self.file.read_bytes()[:-7])),
            ("usage", lambda: qm.Model(self.file, kernels="fastest")),
            ("usage", lambda: qm.Model(self.file, memory="none")),
            ("invalid_input", lambda: model.run({})),
            ("invalid_input", lambda: model.run({self.name: sample, "other": sample})),
            ("invalid_input", lambda: model.run({self.name: sample.astype(np.float64)})),
            ("invalid_input", lambda: model.run({self.name: sample[:, 1:]})),
            ("usage", lambda: model.session().output("other")),
            ("usage", lambda: model.session().input(self.name)),
            ("64", lambda: qm.convert(NETWORK / "model.onnx", self.file, bits=11)),
        ]:
            with self.subTest(code=code), self.assertRaises(qm.QMError) as raised:
                call()
            self.assertEqual(raised.exception.code, code, str(raised.exception))
            self.assertNotIn("\n", str(raised.exception))
        closed = qm.Model(self.file)
        closed.close()
        with self.assertRaises(qm.QMError):
            closed.run({self.name: sample})

    def test_scripts_are_the_tools(self):
        script = Path(sys.executable).parent / "qinspect"
        done = subprocess.run([script, self.file], capture_output=True, text=True, check=True)
        self.assertIn("float32", done.stdout)


if __name__ == "__main__":
    unittest.main()
