#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads folders that nibble wrote with tvm.contrib.tvmjs.load_tensor_cache (PyPI apache-tvm), mlc_llm's own reader, and compares every tensor
with what nibble's reader makes of the same folder.

    tvm_equal.py --nibble NIBBLE --dump PROGRAM MODEL...    converts each MODEL to every scheme, and compares
    tvm_equal.py --dump PROGRAM FOLDER...                   compares folders that are there

PROGRAM is tests/judges/shard_dump.cpp, compiled. Where this interpreter has no tvm, the one that $NIBBLE_TVM_PYTHON names is taken. Exit
status 77 with a reason: skipped.
"""
import argparse
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import tvm
    from tvm.contrib.tvmjs import load_tensor_cache
except ImportError as e:
    other = os.environ.get("NIBBLE_TVM_PYTHON")
    if other and not os.environ.get("NIBBLE_TVM_TRIED"):
        os.environ["NIBBLE_TVM_TRIED"] = "1"
        os.execv(other, [other, *sys.argv])
    print(f"skipped: {e} (pip install apache-tvm, in a virtual environment whose python NIBBLE_TVM_PYTHON names)")
    sys.exit(77)

WIDENED = ("float32", "float16", "bfloat16")


def compare(dump, folder):
    """Returns the number of tensors; raises where one differs."""
    caches = [load_tensor_cache(os.path.join(folder, name), tvm.cpu())[0] for name in ("tensor-cache.json", "ndarray-cache.json")]
    seen = set()
    with subprocess.Popen([dump, folder], stdout=subprocess.PIPE) as ours:
        for line in iter(ours.stdout.readline, b""):
            name, dtype, shape = line.decode().rstrip("\n").split("\t")
            wants = []
            for cache in caches:
                tensor = cache[name]
                assert str(tensor.dtype) == dtype, f"{name}: tvm reads {tensor.dtype}, nibble {dtype}"
                array = tensor.numpy()
                assert str(list(array.shape)) == shape, f"{name}: tvm reads {array.shape}, nibble {shape}"
                wants.append(array.astype(np.float32) if dtype in WIDENED else array)
            for want in wants:
                assert want.tobytes() == wants[0].tobytes(), f"{name}: the two indexes differ"
            want = np.ascontiguousarray(wants[0])
            raw = ours.stdout.read(want.nbytes)
            assert len(raw) == want.nbytes, f"{name}: {len(raw)} bytes instead of {want.nbytes}"
            bits = np.dtype(f"u{want.itemsize}")
            same = np.frombuffer(raw, bits) == want.reshape(-1).view(bits)
            if dtype in WIDENED:  # a NaN's other bits are nobody's business
                same |= np.isnan(np.frombuffer(raw, np.float32)) & np.isnan(want.reshape(-1))
            assert same.all(), f"{name} ({dtype}): {np.count_nonzero(~same)} of {same.size} values differ"
            seen.add(name)
    assert ours.returncode == 0, f"{dump} {folder}: exit status {ours.returncode}"
    assert seen == set(caches[0]), f"tvm reads also {sorted(set(caches[0]) - seen)}"
    return len(seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble")
    parser.add_argument("--dump", required=True)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    total = 0
    if options.nibble is None:
        for folder in options.paths:
            n = compare(options.dump, folder)
            print(f"{folder}: {n} tensors are the same")
            total += n
    else:
        schemes = subprocess.run([options.dump, "--schemes"], check=True, capture_output=True, text=True).stdout.split()
        left = set(schemes)
        for model in options.paths:
            for scheme in schemes:
                with tempfile.TemporaryDirectory(prefix="nibble-tvm-") as scratch:
                    out = os.path.join(scratch, "out")
                    made = subprocess.run([options.nibble, "convert", model, "-q", scheme, "-o", out, "--shard-size", "20KB", "--quiet"],
                                          stderr=subprocess.PIPE, text=True)
                    # experts in transposed layouts, fp8 of a model that mlc_llm has none for
                    if made.returncode == 1 and ("have no layout in" in made.stderr or "is not defined for model type" in made.stderr):
                        print(f"{os.path.basename(model)} {scheme}: refused")
                        continue
                    assert made.returncode == 0, made.stderr
                    n = compare(options.dump, out)
                    assert n > 0
                    print(f"{os.path.basename(model)} {scheme}: {n} tensors are the same, in {len(os.listdir(out)) - 2} shards")
                    total += n
                    left.discard(scheme)
        assert not left, f"not compared at all: {sorted(left)}"
    assert total > 0
    print(f"{total} tensors, tvm {tvm.__version__}")


main()
