#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares nibble's MatMulNBits and GatherBlockQuantized codecs with PyPI `onnxruntime`, bit for bit, on random and odd matrices.

    onnx_quantize_equal.py [--program PROGRAM] [--cases 1000] [--seed 1]

PROGRAM is tests/judges/onnx_quantize.cpp, compiled; without it, it is compiled with $CXX or c++ for this machine and for a plain one.
Padding that no kernel reads is not compared. Exit status 77 with a reason: skipped.
"""
import argparse
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer
except ImportError as e:
    print(f"skipped: {e} (pip install onnxruntime onnx onnx-ir)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def matrix(rng, k, n, dtype):
    """[k, n]: plain weights, ties, zeros of both signs, denormals, any bits at all, and single odd values among plain ones."""
    kind = rng.integers(0, 8)
    if kind == 0:
        w = rng.integers(0, 1 << 32, (k, n), dtype=np.uint64).astype(np.uint32).view(np.float32)
    elif kind == 1:
        w = rng.integers(-16, 17, (k, n)).astype(np.float32) / 2
    elif kind == 2:
        w = np.where(rng.integers(0, 2, (k, n)) == 1, np.float32(0), np.float32(-0.0))
    elif kind == 3:
        w = rng.integers(0, 1 << 23, (k, n)).astype(np.uint32).view(np.float32) * rng.choice([-1, 1], (k, n)).astype(np.float32)
    else:
        w = rng.normal(0.3 if kind == 4 else 0, 10.0 ** rng.integers(-6, 3), (k, n)).astype(np.float32)
    if kind >= 6:
        for odd in (np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 65504, -0.0, 1e-45):
            if rng.integers(0, 4) == 0:
                w[rng.integers(0, k), rng.integers(0, n)] = odd
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(w.astype(dtype))


def expected(kind, w, bits, block, symmetric):
    with np.errstate(all="ignore"):
        if kind == 1:
            q, s, z = DefaultWeightOnlyQuantizer.quantize_ndarray(w, 1, block, symmetric)
        else:
            quantizer = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=symmetric, bits=bits))
            q, s, z = quantizer.qbits_block_quant(w)
    return q, s, None if symmetric else z


def used(q, k, bits):
    """Codes of rows [N, bytes], those of the padding cut off."""
    q = q.reshape(q.shape[0], -1)
    per = 8 // bits
    return np.stack([(q >> (bits * i)) & ((1 << bits) - 1) for i in range(per)], -1).reshape(q.shape[0], -1)[:, :k]


def compile_program(folder, flags):
    program = os.path.join(folder, "onnx_quantize" + "".join(flags))
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", *flags, f"-I{ROOT}/include", str(ROOT / "tests/judges/onnx_quantize.cpp"), "-o", program]
    subprocess.run(command, check=True)
    return program


def run(program, cases):
    sent = b"".join(struct.pack("<10I", c["kind"], c["bits"], c["block"], c["symmetric"], c["half"], c["n"], c["k"], 0, 0, 0) + c["sent"] for c in cases)
    got = subprocess.run([program], input=sent, stdout=subprocess.PIPE, check=True).stdout
    at, parts = 0, []
    while at < len(got):
        (size,) = struct.unpack_from("<I", got, at)
        parts.append(got[at + 4 : at + 4 + size])
        at += 4 + size
    return [parts[i : i + 3] for i in range(0, len(parts), 3)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    rng = np.random.default_rng(a.seed)
    cases = []
    for _ in range(a.cases):
        c = {"kind": int(rng.integers(0, 5) == 0), "bits": int(rng.choice([4, 4, 2, 8])), "block": int(rng.choice([16, 32, 64, 128, 256])), "symmetric": int(rng.integers(0, 2)), "half": int(rng.integers(0, 2))}
        c["n"], c["k"] = int(rng.integers(1, 8)), int(rng.integers(1, 400))
        if c["kind"] == 1:
            c["bits"], c["k"] = 4, c["block"] * int(rng.integers(1, 4))
        w = matrix(rng, c["k"], c["n"], np.float16 if c["half"] else np.float32)
        if c["kind"] == 1:
            w = np.ascontiguousarray(w.T)
        rows = w if c["kind"] == 1 else w.T
        c["sent"] = np.ascontiguousarray(rows).astype(np.float32).tobytes()
        c["want"] = expected(c["kind"], w, c["bits"], c["block"], bool(c["symmetric"]))
        cases.append(c)
    with tempfile.TemporaryDirectory() as folder:
        programs = [a.program] if a.program else [compile_program(folder, []), compile_program(folder, ["-march=native"])]
        different = 0
        for program in programs:
            for number, (c, got) in enumerate(zip(cases, run(program, cases))):
                q, s, z = c["want"]
                codes = np.frombuffer(got[0], np.uint8)
                if c["kind"] == 1:
                    same = codes.tobytes() == q.tobytes()
                else:
                    same = np.array_equal(used(codes.reshape(c["n"], -1), c["k"], c["bits"]), used(q, c["k"], c["bits"]))
                scales = np.frombuffer(got[1], s.dtype).reshape(s.shape)
                plain = ~np.isnan(s)
                if c["kind"] == 1:  # which of two zeros is numpy's least depends on its vectors
                    plain &= s != 0
                same = same and np.array_equal(scales, s, equal_nan=True) and scales[plain].tobytes() == s[plain].tobytes()
                same = same and (z is None or got[2] == z.tobytes())
                if not same:
                    different += 1
                    if different <= 5:
                        print("differs:", number, {k: v for k, v in c.items() if k not in ("sent", "want")})
    print(f"{len(cases)} tensors, {len(programs)} programs, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
