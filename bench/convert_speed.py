#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of a whole conversion, as ratios measured in one run on one machine.

Makes a random bf16 checkpoint of Qwen2-0.5B's shapes (1 GB, kept for the next run), converts it with the page cache warm, and
prints wall time, CPU time and memory beside what no converter can do without: reading the input and `md5sum` of the output.

    python3 bench/convert_speed.py build/release/nibble [--quantization q4f16_1] [--folder DIR] [--rounds 3]
"""
import argparse
import array
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import tempfile
import threading
import time

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}
MLC_LLM = {"wall_s": 34.0, "cpu_s": 33.0, "memory_mb": 2400}  # the genuine mlc_llm with TVM on this class of machine


def tensors():
    h, i, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], 128
    yield "model.embed_tokens.weight", [CONFIG["vocab_size"], h]
    for n in range(CONFIG["num_hidden_layers"]):
        p = f"model.layers.{n}."
        yield p + "input_layernorm.weight", [h]
        yield p + "mlp.down_proj.weight", [h, i]
        yield p + "mlp.gate_proj.weight", [i, h]
        yield p + "mlp.up_proj.weight", [i, h]
        yield p + "post_attention_layernorm.weight", [h]
        for name, rows in (("k", kv), ("q", h), ("v", kv)):
            yield p + f"self_attn.{name}_proj.bias", [rows]
            yield p + f"self_attn.{name}_proj.weight", [rows, h]
        yield p + "self_attn.o_proj.weight", [h, h]
    yield "model.norm.weight", [h]


def make_checkpoint(folder):
    path = os.path.join(folder, "model.safetensors")
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    generator = random.Random(0)
    values = array.array("f", (generator.gauss(0, 0.02) for _ in range(1 << 20)))
    halves = array.array("H", (bits >> 16 for bits in array.array("I", values.tobytes())))
    pool = halves.tobytes() * 2
    header, at = {}, 0
    for name, shape in tensors():
        n = 2 * (shape[0] if len(shape) == 1 else shape[0] * shape[1])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        left = at
        while left:
            start = 2 * generator.randrange(1 << 20)
            n = min(left, 1 << 21)
            f.write(pool[start:start + n])
            left -= n
    os.rename(path + ".part", path)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f)
    return path


def timed(command):
    """Wall seconds, CPU seconds and the peak of anonymous resident memory (file pages do not count) of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as f:
                    for line in f:
                        if line.startswith("RssAnon:"):
                            peak = max(peak, int(line.split()[1]) // 1024)
            except OSError:
                return
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    wall = time.monotonic() - start
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        raise SystemExit(f"{command[0]} failed with exit code {code}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("nibble")
    parser.add_argument("--quantization", default="q4f16_1")
    parser.add_argument("--folder", default=os.path.join(tempfile.gettempdir(), "nibble-speed"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="0", help="0: one for each core")
    arguments = parser.parse_args()

    source = make_checkpoint(os.path.join(arguments.folder, "qwen2-0.5b-random"))
    output = os.path.join(arguments.folder, "out")
    command = [arguments.nibble, "convert", os.path.dirname(source), "-q", arguments.quantization, "-o", output, "--overwrite", "--quiet"]
    if arguments.threads != "0":
        command += ["--threads", arguments.threads]
    best = {}

    def keep(name, measured):
        best[name] = measured if name not in best else tuple(map(min, best[name], measured))

    subprocess.run(["cat", source], stdout=subprocess.DEVNULL, check=True)  # warms the page cache
    for _ in range(arguments.rounds):  # interleaved, so that a busy machine is unfair to nobody
        shutil.rmtree(output, ignore_errors=True)
        keep("nibble convert", timed(command))
        shards = sorted(os.path.join(output, f) for f in os.listdir(output) if f.endswith(".bin"))
        keep("md5sum of the output", timed(["md5sum", *shards]))
        keep("read of the input (cat)", timed(["cat", source]))
    written = sum(map(os.path.getsize, shards))

    print(f"{arguments.quantization}: {os.path.getsize(source) / 1e9:.3f} GB read, {written / 1e6:.1f} MB written, best of {arguments.rounds}\n")
    print(f"{'':26}{'wall s':>8}{'CPU s':>8}{'memory MB':>11}")
    for name, (wall, cpu, peak) in best.items():
        print(f"{name:26}{wall:8.3f}{cpu:8.3f}{peak:11}")
    wall, cpu, peak = best["nibble convert"]
    md5 = best["md5sum of the output"][0]
    print(f"\nwall: {wall / md5:.2f} x md5sum of the output (goal: at most 1.5)")
    print(f"CPU:  {cpu:.2f} s, {MLC_LLM['cpu_s'] / cpu:.0f} x less than mlc_llm's {MLC_LLM['cpu_s']:.0f} s (goal: at most 0.8 s, 40 x)")
    print(f"memory besides mapped file pages: {peak} MB (goal: at most 300; mlc_llm {MLC_LLM['memory_mb']})")


if __name__ == "__main__":
    main()
