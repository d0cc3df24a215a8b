#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings the peers of nibble_peers_bench to build/peers, with pip: ggml's sources and ONNX Runtime's library.

usage: fetch.py [FOLDER]
Versions are pinned and checked. A peer that cannot be had is skipped, with the reason; the build then leaves it out.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

# ggml lies in the source distribution of llama-cpp-python.
GGML = ("llama-cpp-python==0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")
# The same wheel for any Python: the library in it is a C library.
ONNXRUNTIME = "onnxruntime==1.31.1"
ONNXRUNTIME_SHA256 = {
    "aarch64": "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
    "x86_64": "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
}


def download(requirement, sha256, folder, *options):
    """The path of what pip brings for the requirement; raises RuntimeError with one line of reason."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = os.listdir(folder)
    if done.returncode != 0 or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["no reason given"]
        raise RuntimeError(f"pip cannot download {requirement}: {lines[-1]}")
    path = os.path.join(folder, files[0])
    with open(path, "rb") as f:
        found = hashlib.sha256(f.read()).hexdigest()
    if found != sha256:
        raise RuntimeError(f"{files[0]} has SHA-256 {found}, not {sha256}")
    return path


def fetch_ggml(folder, out):
    requirement, sha256 = GGML
    path = download(requirement, sha256, folder, "--no-binary", requirement.split("==")[0])
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.partition("/vendor/llama.cpp/ggml/")[2]
            # The core and the CPU backend, without those of other devices.
            wanted = name.startswith(("include/", "src/ggml-cpu/")) or (name.startswith("src/") and name.count("/") == 1)
            if not member.isfile() or not wanted:
                continue
            target = os.path.normpath(os.path.join(out, name))
            if not target.startswith(out + os.sep):
                raise RuntimeError(f"{os.path.basename(path)} has a file outside of its folder: {member.name}")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.extractfile(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)


def fetch_onnxruntime(folder, out):
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in ONNXRUNTIME_SHA256:
        raise RuntimeError(f"no wheel is pinned for {platform.system()} on {machine}")
    options = ("--only-binary", ":all:", "--python-version", "3.11", "--abi", "cp311", "--platform", f"manylinux_2_28_{machine}")
    path = download(ONNXRUNTIME, ONNXRUNTIME_SHA256[machine], folder, *options)
    os.makedirs(out)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith("onnxruntime/capi/libonnxruntime.so"):
                with archive.open(name) as source, open(os.path.join(out, "libonnxruntime.so"), "wb") as copy:
                    shutil.copyfileobj(source, copy)


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] == ["--help"]:
        print(__doc__.strip())
        return 64
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "peers")
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else default)
    os.makedirs(root, exist_ok=True)
    for name, fetch, version in (("ggml", fetch_ggml, GGML[0]), ("onnxruntime", fetch_onnxruntime, ONNXRUNTIME)):
        out = os.path.join(root, name)
        stamp = os.path.join(out, "VERSION")
        if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == version:
            print(f"{name}: {version} is there")
            continue
        shutil.rmtree(out, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                fetch(folder, out)
            with open(stamp, "w", encoding="utf-8") as f:
                f.write(version)
            print(f"{name}: {version} is in {out}")
        except (RuntimeError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            shutil.rmtree(out, ignore_errors=True)
            print(f"{name}: skipped: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
