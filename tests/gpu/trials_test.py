#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All GPU kernels, as `nibble gpu trials` writes them, before the judges: validators, compilers, and software devices that run them.

usage: trials_test.py NIBBLE validate|null|vulkan|dawn|chromium [--all]
       trials_test.py FOLDER jobs
  validate   every kernel, codec and variant: SPIR-V by spirv-val, WGSL by naga
  null       every one in Dawn without a driver
  vulkan     on a Vulkan device, as `nibble gpu check`: lavapipe, or what VK_DRIVER_FILES names. One trial of each kernel with one codec;
             with --all every trial, with a codec of each kind
  dawn       the same as WGSL in Dawn, with one codec
  chromium   the same, what is f32, in a headless browser
  jobs       the kernels of a folder that another program has written (gpu/job.hpp), in Dawn
Ends with 77 and the reason where a judge is not installed.
"""

import array
import json
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# A codec of each kind of packing, layout and scale; the others differ from one of them in a number.
REPRESENTATIVE = ["q4f16_1", "q3f16_0", "q0bf16", "nbits4f32_zero"]
LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.json"


def run(*command, env=None):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)


def skip(reason):
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def fail(reason):
    print(reason, file=sys.stderr)
    sys.exit(1)


def device():
    """A CPU's driver, unless the caller has chosen: what a machine's own GPU does is not the subject of a test."""
    env = dict(os.environ)
    if "VK_DRIVER_FILES" not in env and os.path.exists(LAVAPIPE):
        env["VK_DRIVER_FILES"] = env["VK_ICD_FILENAMES"] = LAVAPIPE
    return env


def write_trials(nibble, folder, *options):
    done = run(nibble, "gpu", "trials", "-o", folder, "--quiet", *options)
    if done.returncode != 0:
        fail(done.stderr)
    with open(os.path.join(folder, "jobs.json"), encoding="utf-8") as f:
        return json.load(f)


def chosen(everything, codecs):
    """A software device compiles a kernel in a second or two: all of them are for CI."""
    return [word for c in (codecs if everything else codecs[:1]) for word in ("--codec", c)] + ([] if everything else ["--quick"])


def validate(nibble, folder, _):
    jobs = write_trials(nibble, folder, "--texts-only")
    files = [os.path.join(folder, job[kind]) for job in jobs for kind in ("wgsl_wgpu", "spirv") if kind in job]
    done = run(sys.executable, os.path.join(HERE, "validate.py"), *files)
    print(done.stdout[-4000:], done.stderr[-4000:])
    print(f"{len(jobs)} kernels, {len(files)} files")
    sys.exit(done.returncode)


def run_wgsl(folder, *options):
    done = run("node", os.path.join(HERE, "run_wgsl.mjs"), *options, os.path.join(folder, "jobs.json"), env=device())
    if done.returncode == 77:
        skip(done.stderr.strip())
    try:
        return json.loads(done.stdout)
    except ValueError:
        fail(f"run_wgsl.mjs ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def null(nibble, folder, _):
    write_trials(nibble, folder, "--texts-only")
    report = run_wgsl(folder, "--validate-only", "--null")
    wrong = [job for job in report["jobs"] if not job["ok"] and "lacks" not in job]
    lacking = [job for job in report["jobs"] if "lacks" in job]
    for job in wrong[:10]:
        print(job)
    print(f"{len(report['jobs'])} kernels, {len(wrong)} refused, {len(lacking)} need what {report['device']} lacks")
    if wrong or len(lacking) == len(report["jobs"]):
        fail("Dawn refuses kernels")


def half(bits):
    sign = -1.0 if bits & 0x8000 else 1.0
    exponent, mantissa = bits >> 10 & 31, bits & 1023
    if exponent == 31:
        return sign * math.inf if mantissa == 0 else math.nan
    return sign * (mantissa * 2.0**-24 if exponent == 0 else (1024 + mantissa) * 2.0 ** (exponent - 25))


def numbers(path, scalar):
    with open(path, "rb") as f:
        content = f.read()
    if scalar == "f16":
        return [half(b) for b in array.array("H", content)]
    return array.array({"f32": "f", "u32": "I", "i32": "i"}[scalar], content[: len(content) // 4 * 4])


def error_of(job, folder):
    """max |y - expected| / max |expected| of the worst output."""
    worst = 0.0
    for name, file in job["expected"].items():
        with open(os.path.join(folder, file), "rb") as f:
            expected = array.array("d", f.read())
        binding = next(b for b in job["manifest"]["bindings"] if b["name"] == name)
        got = numbers(os.path.join(folder, job["outputs"][name]), binding["type"])
        largest = max(max(abs(x) for x in expected), 1e-30)
        distances = [abs(a - b) for a, b in zip(got, expected)]
        if len(distances) < len(expected) or any(math.isnan(d) for d in distances):
            return math.inf
        worst = max(worst, max(distances) / largest)
    return worst


def compare(jobs, folder, report):
    errors = {}
    wrong = []
    ran = lacking = 0
    for job, result in zip(jobs, report["jobs"]):
        if "lacks" in result:
            lacking += 1
            continue
        ran += 1
        error = error_of(job, folder) if result["ok"] else math.inf
        kernel = job["manifest"]["kernel"], job["tolerance"]
        errors[kernel] = max(errors.get(kernel, 0.0), error)
        if not error <= job["tolerance"]:
            wrong.append(f"{job['name']}: {result.get('error') or error}")
    for (kernel, bound), error in sorted(errors.items()):
        print(f"{kernel:22} {error:.1e} ({bound:.0e})")
    print(f"{report['device']}: {ran} ran, {lacking} need what it lacks, {len(wrong)} wrong")
    if wrong or ran == 0:
        fail("\n".join(wrong[:20]) or "nothing ran")


def dawn(nibble, folder, everything):
    jobs = write_trials(nibble, folder, *chosen(everything, REPRESENTATIVE[:1]))
    compare(jobs, folder, run_wgsl(folder))


def chromium(nibble, folder, everything):
    jobs = write_trials(nibble, folder, *chosen(everything, REPRESENTATIVE[:1]))
    compare(jobs, folder, run_wgsl(folder, "--chromium"))


def jobs_of_another(folder, *_):
    with open(os.path.join(folder, "jobs.json"), encoding="utf-8") as f:
        compare(json.load(f), folder, run_wgsl(folder))


def vulkan(nibble, _, everything):
    listed = json.loads(run(nibble, "gpu", "list", "--json", env=device()).stdout)
    if not listed["devices"]:
        skip(listed.get("devices_problem", "there is no Vulkan device"))
    done = run(nibble, "gpu", "check", *chosen(everything, REPRESENTATIVE), env=device())
    print(listed["devices"][0]["name"], done.stdout, done.stderr[-4000:], sep="\n")
    sys.exit(done.returncode)


def main():
    nibble, mode, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        {"validate": validate, "null": null, "vulkan": vulkan, "dawn": dawn, "chromium": chromium, "jobs": jobs_of_another}[mode](nibble, folder, options == ["--all"])


main()
