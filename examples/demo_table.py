#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table at the end of demo.sh and real-model.sh, from the JSON that `nibble convert` and `nibble verify` printed.

    demo_table.py MODEL FOLDER NAME...      reads FOLDER/NAME.convert.json and FOLDER/NAME.verify.json
"""
import json
import os
import sys


def source_bytes(model):
    if os.path.isfile(model):
        return os.path.getsize(model)
    return sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model) if f.endswith(".safetensors"))


def main():
    model, folder, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    rows = [("conversion", "size", "bits a value", "RMS error", "largest, in scales", "cosine", "seconds", "verified")]
    for name in names:
        with open(os.path.join(folder, name + ".convert.json"), encoding="utf-8") as f:
            made = json.load(f)
        with open(os.path.join(folder, name + ".verify.json"), encoding="utf-8") as f:
            seen = json.load(f)
        q = seen["source"]["quantized"]
        lossy = q["values"] != 0
        rows.append((name, f"{made['bytes'] / 1e6:.3f} MB", f"{made['bits_per_parameter']:.2f}",
                     f"{100 * q['relative_rms']:.2f} %" if lossy else "-", f"{q['max_error_scales']:.2f}" if lossy else "-",
                     f"{q['cosine']:.5f}" if lossy else "1", f"{made['seconds']:.3f}", "yes" if seen["good"] else "NO"))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    print(f"\n{model}: {source_bytes(model) / 1e6:.3f} MB of weights\n")
    for i, row in enumerate(rows):
        print("  ".join(c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths))).rstrip())
        if i == 0:
            print("  ".join("-" * w for w in widths))
    print(f"""
RMS error is relative to the quantized weights; the largest error of round-to-nearest is half a scale.
q4f16_1-mse is the same format as q4f16_1, read by the same programs, with scales chosen for the least squared error.

What next:
  build/demo/nibble inspect {folder}/{names[0]}
  build/demo/nibble diff {folder}/{names[0]} {folder}/{names[1]}
  build/demo/nibble package YOUR-MODEL -q q4f16_1 -o YOUR-OUTPUT       a Hugging Face folder: all that WebLLM loads
  build/demo/nibble convert YOUR-MODEL -q q4f16_1 -o YOUR-OUTPUT       the same or a .gguf file: the weights alone""")
    return 0 if all(r[-1] == "yes" for r in rows[1:]) else 1


if __name__ == "__main__":
    sys.exit(main())
