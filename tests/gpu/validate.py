#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the validators what they think of shaders: spirv-val of .spv, naga of .wgsl (the command, or inside PyPI's wgpu).

usage: validate.py [--wgsl naga|wgpu] PATH...
A path is a file or a folder of them. WGSL is to be in naga's flavour (it takes no `enable subgroups`). Prints each refused file with the
validator's words and ends with 1 if there is one, with 77 and the reason where no validator is there for any of the files.
"""

import concurrent.futures
import os
import shutil
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENTS = {0x10300: "vulkan1.1", 0x10500: "vulkan1.2", 0x10600: "vulkan1.3"}  # by the version in the module's header


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
    return None if done.returncode == 0 else done.stdout.strip() or f"{command[0]} ended with {done.returncode}"


def each(judge, paths):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(zip(paths, pool.map(judge, paths)))


def spirv_val(path):
    with open(path, "rb") as f:
        header = f.read(8)
    if len(header) < 8 or struct.unpack("<I", header[:4])[0] != 0x07230203:
        return "no SPIR-V: it does not begin with the magic number"
    version = struct.unpack("<I", header[4:])[0]
    return run("spirv-val", "--target-env", ENVIRONMENTS.get(version, "vulkan1.3"), path)


def judge_spirv(paths):
    if not shutil.which("spirv-val"):
        return None, "spirv-val is not installed (cmake/setup.sh --dev installs it)"
    return each(spirv_val, paths), "spirv-val"


def judge_by_naga(paths):
    if not shutil.which("naga"):
        return None, "the command naga is not installed"
    return each(lambda path: run("naga", path), paths), "naga"


def judge_by_wgpu(paths):
    sys.path.insert(0, os.path.join(HERE, "python_modules"))
    try:
        import wgpu  # pylint: disable=import-outside-toplevel
    except ImportError as e:
        return None, f"the Python package wgpu is not installed in tests/gpu (cmake/setup.sh --dev does it): {e}"
    adapters = wgpu.gpu.enumerate_adapters_sync()
    if not adapters:
        return None, "wgpu finds no adapter"
    adapter = max(adapters, key=lambda a: len(set(a.features) & {"shader-f16", "subgroup"}))
    device = adapter.request_device_sync(required_features=set(adapter.features) & {"shader-f16", "subgroup"})

    def judge(path):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        try:
            device.create_shader_module(code=text)
        except (wgpu.GPUError, RuntimeError) as e:
            return str(e)
        return None

    return [(path, judge(path)) for path in paths], f"wgpu {wgpu.__version__}"


def judge_wgsl(paths, which):
    judges = {"naga": [judge_by_naga], "wgpu": [judge_by_wgpu], None: [judge_by_naga, judge_by_wgpu]}[which]
    reasons = []
    for judge in judges:
        verdicts, name = judge(paths)
        if verdicts is not None:
            return verdicts, name
        reasons.append(name)
    return None, "; ".join(reasons)


def files_of(paths, suffix):
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name.endswith(suffix)]
        elif path.endswith(suffix):
            found.append(path)
    return sorted(found)


def main(arguments):
    which = None
    if arguments[:1] == ["--wgsl"]:
        which, arguments = (arguments[1:2] or [""])[0], arguments[2:]
    if which not in (None, "naga", "wgpu") or not arguments or any(not os.path.exists(path) for path in arguments):
        print(__doc__.strip().splitlines()[2], file=sys.stderr)
        return 64
    kinds = [("SPIR-V modules", files_of(arguments, ".spv"), judge_spirv), ("WGSL texts", files_of(arguments, ".wgsl"), lambda paths: judge_wgsl(paths, which))]
    judged = refused = 0
    for kind, paths, judge in kinds:
        if not paths:
            continue
        verdicts, name = judge(paths)
        if verdicts is None:
            print(f"validate: {len(paths)} {kind} are skipped: {name}")
            continue
        bad = [(path, words) for path, words in verdicts if words]
        for path, words in bad:
            print(f"{path}: refused by {name}:\n{words}")
        print(f"validate: {len(paths)} {kind} read by {name}, {len(bad)} refused")
        judged += len(paths)
        refused += len(bad)
    if not any(paths for _, paths, _ in kinds):
        print("validate: there are no .spv and no .wgsl files", file=sys.stderr)
        return 1
    return 1 if refused else 0 if judged else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
