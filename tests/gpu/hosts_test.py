#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests the hosts in other languages and the validators with the kernels of tests/data/gpu.

usage: hosts_test.py plans|dawn|null|chromium|validate
Ends with 77 and the reason where a tool is not there.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS = os.path.join(os.path.dirname(HERE), "data", "gpu", "kernels")


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 77:
        raise unittest.SkipTest(done.stderr.strip() or done.stdout.strip())
    return done


def node(*arguments):
    if not shutil.which("node"):
        raise unittest.SkipTest("node is not installed")
    return run("node", *arguments)


def read(name):
    with open(os.path.join(KERNELS, name), encoding="utf-8") as f:
        return f.read()


class Temporary(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, content):
        with open(os.path.join(self.folder, name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return name


class Wgsl(Temporary):
    options = ()

    def run_jobs(self, jobs, *options):
        self.write("jobs.json", json.dumps(jobs))
        done = node(os.path.join(HERE, "run_wgsl.mjs"), *self.options, *options, os.path.join(self.folder, "jobs.json"))
        self.assertIn(done.returncode, (0, 1), done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(len(report["jobs"]), len(jobs))
        return done.returncode, report["jobs"]

    def job(self, kernel, name, **members):
        return {"name": name, "manifest": os.path.join(KERNELS, kernel + ".json"), "wgsl": os.path.join(KERNELS, kernel + ".wgsl"), **members}


def misfits(test):
    """Jobs that each host must refuse with a sentence: (job, a part of the sentence)."""
    test.write("wrong.wgsl", read("add.wgsl").replace("a[i] + b[i]", "a[i] + missing_name"))
    test.write("writes.wgsl", read("add.wgsl").replace("sum[i] = a[i]", "a[i] = a[i]").replace("<storage, read> a", "<storage, read_write> a"))
    good = {"manifest": os.path.join(KERNELS, "add.json"), "sizes": {"n": 4}}
    return [
        ({**good, "wgsl": "wrong.wgsl"}, "missing_name"),
        ({**good, "wgsl": "writes.wgsl"}, "ReadOnlyStorage"),  # the manifest says that it is only read
        ({**good, "wgsl": os.path.join(KERNELS, "add.wgsl"), "constants": {"teapot": 1}}, "teapot"),
    ]


class Running(Wgsl):
    def test_results(self):
        jobs, expected = [], {}

        def add(n, **members):
            a, b = [float(i) for i in range(n)], [0.5 * (i % 7) for i in range(n)]
            name = f"add {n} {members}"
            inputs = {"a": self.write(name + ".a", struct.pack(f"<{n}f", *a)), "b": self.write(name + ".b", struct.pack(f"<{n}f", *b))}
            jobs.append(self.job("add", name, sizes={"n": n}, inputs=inputs, outputs={"sum": name + ".sum"}, **members))
            expected[name] = (name + ".sum", struct.pack(f"<{n}f", *(x + y for x, y in zip(a, b))))

        def scale(n, offset, **members):
            x = [float(i % 512) for i in range(n)]
            name = f"scale {n} {offset}"
            inputs = {"x": self.write(name + ".x", struct.pack(f"<{n}e", *x))}
            jobs.append(self.job("scale", name, sizes={"n": n}, host={"factor": 0.5}, inputs=inputs, outputs={"y": name + ".y"}, **members))
            expected[name] = (name + ".y", struct.pack(f"<{n}e", *(0.5 * v + offset for v in x)))

        def row_sum(n, k, **members):
            w = [i * 2654435761 % 2**32 for i in range(n * k)]
            bias = [i * 1000003 % 2**32 for i in range(n)]
            name = f"row_sum {n} {k} {members}"
            inputs = {"w": self.write(name + ".w", struct.pack(f"<{n * k}I", *w)), "bias": self.write(name + ".bias", struct.pack(f"<{n}I", *bias))}
            jobs.append(self.job("row_sum", name, sizes={"n": n, "k": k}, inputs=inputs, outputs={"y": name + ".y"}, **members))
            expected[name] = (name + ".y", struct.pack(f"<{n}I", *((bias[r] + sum(w[r * k:(r + 1) * k])) % 2**32 for r in range(n))))

        for n in (1, 63, 64, 65, 10001):
            add(n)
        for n in (448, 449, 10001):
            add(n, limits={"max_workgroups": 7})
        for n in (1, 2, 3, 1001):
            scale(n, 1)
        scale(33, 20, constants={"offset": 20})
        row_sum(1, 4)
        row_sum(33, 132)
        row_sum(517, 100, limits={"max_binding_bytes": 30000, "max_workgroups": 5})

        status, results = self.run_jobs(jobs)
        self.assertEqual(status, 0, results)
        for result in results:
            with self.subTest(result["name"]):
                if result.get("lacks"):
                    print(f"skipped: {result['name']} needs {result['lacks']}")
                    continue
                self.assertTrue(result["ok"], result)
                file, content = expected[result["name"]]
                with open(os.path.join(self.folder, file), "rb") as f:
                    got = f.read()
                self.assertEqual(got[:len(content)], content)
                self.assertLess(len(got) - len(content), 4)
        if not results[-1].get("lacks"):
            self.assertEqual(results[-1]["dispatches"], 9)  # 64 rows of 400 bytes at a time
        self.assertFalse(results[0].get("lacks"))

    def test_what_does_not_fit_is_refused_with_a_sentence(self):
        cases = misfits(self) + [
            (self.job("add", "no size", sizes={}), "needs the size 'n'"),
            (self.job("add", "host", sizes={"n": 4}, host={"eps": 1}), "takes no parameter 'eps'"),
            (self.job("add", "buffer", sizes={"n": 4}, outputs={"teapot": "x"}), "has no buffer 'teapot'"),
            (self.job("add", "too long", sizes={"n": 4}, inputs={"a": self.write("long", bytes(20))}), "reads 16 bytes of its buffer 'a', 20 are given"),
            (self.job("add", "limits", sizes={"n": 400}, limits={"max_binding_bytes": 1024}), "1600 bytes as buffer 'a'"),
        ]
        status, results = self.run_jobs([job for job, _ in cases])
        self.assertEqual(status, 1)
        for result, (_, says) in zip(results, cases):
            with self.subTest(says):
                self.assertFalse(result["ok"])
                self.assertIn(says, result["error"])


class Chromium(Running):
    options = ("--chromium",)


class Null(Wgsl):
    """Compiling needs no driver, and no sizes."""

    def test_pipelines(self):
        status, results = self.run_jobs([self.job(kernel, kernel) for kernel in ("add", "scale", "row_sum")], "--validate-only", "--null")
        self.assertEqual(status, 0, results)
        self.assertTrue(all(r["ok"] for r in results), results)

    def test_what_does_not_fit_is_refused_with_a_sentence(self):
        cases = misfits(self)
        status, results = self.run_jobs([job for job, _ in cases], "--validate-only", "--null")
        self.assertEqual(status, 1)
        for result, (_, says) in zip(results, cases):
            with self.subTest(says):
                self.assertFalse(result["ok"])
                self.assertIn(says, result["error"])


class Plans(unittest.TestCase):
    def test_plans(self):
        done = node(os.path.join(HERE, "plan_test.mjs"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Validate(Temporary):
    def validate(self, *arguments):
        return run(sys.executable, os.path.join(HERE, "validate.py"), *arguments, self.folder)

    def judge(self, judge):
        for kernel in ("add", "scale", "row_sum"):
            text = read(kernel + ".wgsl").replace("enable subgroups;\n", "").replace("requires subgroup_id;\n", "")
            self.write(kernel + ".wgsl", text)
        done = self.validate("--wgsl", judge)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("3 WGSL texts read by " + judge, done.stdout)
        self.write("wrong.wgsl", read("scale.wgsl").replace(": u32 = 1u", ": u32 = 1.0"))
        done = self.validate("--wgsl", judge)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("wrong.wgsl: refused by " + judge, done.stdout)
        self.assertIn("expected to be `u32`", done.stdout)

    def test_naga(self):
        if not shutil.which("naga"):
            self.skipTest("the command naga is not installed")
        self.judge("naga")

    def test_wgpu(self):
        self.judge("wgpu")

    def test_spirv(self):
        if not shutil.which("glslangValidator"):
            self.skipTest("glslangValidator is not installed")
        for target in ("1.1", "1.2", "1.3"):
            spv = os.path.join(self.folder, f"row_sum{target}.spv")
            made = run("glslangValidator", "-V", "--target-env", "vulkan" + target, os.path.join(KERNELS, "row_sum.comp"), "-o", spv)
            self.assertEqual(made.returncode, 0, made.stdout)
        done = self.validate()
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("3 SPIR-V modules read by spirv-val, 0 refused", done.stdout)
        with open(os.path.join(self.folder, "row_sum1.1.spv"), "rb") as f:
            self.write("cut.spv", f.read()[:400])
        self.write("empty.spv", b"")
        done = self.validate()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("5 SPIR-V modules read by spirv-val, 2 refused", done.stdout)

    def test_usage(self):
        self.assertEqual(run(sys.executable, os.path.join(HERE, "validate.py")).returncode, 64)
        self.assertEqual(self.validate("--wgsl", "teapot").returncode, 64)
        self.assertEqual(self.validate().returncode, 1)  # nothing to read is no success


MODES = {"plans": Plans, "dawn": Running, "null": Null, "chromium": Chromium, "validate": Validate}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:
        print(__doc__.strip().splitlines()[2], file=sys.stderr)
        sys.exit(64)
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(MODES[sys.argv[1]])
    done = unittest.TextTestRunner(verbosity=2).run(tests)
    if done.testsRun == len(done.skipped):
        sys.exit(77)
    sys.exit(0 if done.wasSuccessful() else 1)
