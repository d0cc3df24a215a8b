#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes <type>.bin beside this file: blocks of each ggml type and what PyPI `gguf` decodes them to.

Layout: u32 block count, the blocks' bytes, the values as little-endian f32. NaNs are written as 7fc00000, because which of two
NaN operands survives an addition is the processor's business. Needs: pip install gguf numpy
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# offsets of the f16 numbers in a block of each type
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
SPECIAL = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01]  # 0, subnormal, max, inf, NaN


def main():
    rng = np.random.default_rng(20240607)
    for t, halves in HALVES.items():
        n_values, n_bytes = GGML_QUANT_SIZES[t]
        n_random = 24 if n_values == 32 else 3
        blocks = rng.integers(0, 256, (n_random + 2, n_bytes), dtype=np.uint8)
        for h in halves:  # sensible scales
            blocks[:, h:h + 2] = (rng.standard_normal(len(blocks)) * 0.01).astype(np.float16).view(np.uint8).reshape(-1, 2)
        blocks[-2] = 0xFF
        blocks[-1] = 0
        specials = []
        for bits in SPECIAL if n_values == 32 else SPECIAL[1::2]:
            for h in halves:
                b = blocks[0].copy()
                b[h:h + 2] = np.frombuffer(struct.pack("<H", bits), np.uint8)
                specials.append(b)
        blocks = np.concatenate([blocks, np.stack(specials)])
        with np.errstate(all="ignore"):
            values = dequantize(blocks, t).astype("<f4")
        values.view(np.uint32)[np.isnan(values)] = 0x7FC00000
        name = t.name.lower() + ".bin"
        pathlib.Path(__file__).with_name(name).write_bytes(struct.pack("<I", len(blocks)) + blocks.tobytes() + values.tobytes())
        print(name, len(blocks), "blocks,", int(np.isnan(values).sum()), "NaN")


main()
