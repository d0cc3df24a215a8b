#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what nibble reads from GGUF files with PyPI `gguf` (llama.cpp's own Python reader), value for value and bit for bit.

    gguf_equal.py [--dump PROGRAM] FILE.gguf...     files to compare
    gguf_equal.py [--dump PROGRAM] --made           a file of every type, made here

PROGRAM is tests/judges/gguf_dump.cpp, compiled; without --dump it is compiled with $CXX or c++. Names come from gguf-py's own table
of tensor names, rows of q and k from the inverse of convert_hf_to_gguf's permute(). Exit status 77 with a reason: skipped.
"""
import argparse
import pathlib
import os
import re
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    from gguf.quants import dequantize
except ImportError as e:
    print(f"skipped: {e} (pip install gguf numpy)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
# gguf-py's name of an architecture, and a module's name in HF's model where the table has several
SPECIAL = {"phi3": {"ffn_up": "mlp.gate_up_proj"}}
PREFERRED = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head", "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm",
}
FOUR_NORMS = {"ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}


def hf_name(arch, name):
    table = PREFERRED | (FOUR_NORMS if arch in ("gemma2", "gemma3") else {}) | SPECIAL.get(arch, {})
    stem, suffix = name.rsplit(".", 1)
    block = re.fullmatch(r"blk\.(\d+)\.(.*)", stem)
    hf = f"model.layers.{block[1]}.{table[block[2]]}" if block else table[stem]
    # gguf-py must map it back to the stored name, by what it knows of the architecture
    n_blocks = int(block[1]) + 1 if block else 1
    ids = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}
    back = gguf.get_tensor_name_map(ids[arch], n_blocks).get_name(hf)
    assert back == stem, f"{hf}: gguf-py calls it {back}, the file {stem}"
    return f"{hf}.{suffix}"


def permute(weights, n_head, n_head_kv):  # convert_hf_to_gguf.py, LlamaModel.permute
    if n_head_kv is not None and n_head != n_head_kv:
        n_head = n_head_kv
    return weights.reshape(n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def compare(dump, path):
    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()
    number = lambda key: int(reader.get_field(f"{arch}.{key}").contents())
    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    for mode in ("map", "read"):
        with subprocess.Popen([dump, path, mode], stdout=subprocess.PIPE) as ours:
            line = ours.stdout.readline()
            while line.startswith(b"# "):
                if mode == "map":
                    print(line.decode().strip())
                assert not line.startswith(b"# problem")
                line = ours.stdout.readline()
            n = n_values = 0
            types = {}
            for t in reader.tensors:
                if t.name.startswith("rope_f"):
                    continue
                name, shape, one_added = line.decode().rstrip("\n").split("\t")
                want = dequantize(t.data, t.tensor_type).astype(np.float32, copy=False)
                assert name == hf_name(arch, t.name), (name, t.name)
                assert shape == str(list(want.shape)), (name, shape, want.shape)
                assert one_added == str(int(arch.startswith("gemma") and "norm" in t.name)), name
                got = np.frombuffer(ours.stdout.read(want.nbytes), np.float32).reshape(want.shape)
                if arch == "llama" and ".attn_q." in t.name:
                    got = permute(got, heads, heads)
                if arch == "llama" and ".attn_k." in t.name:
                    got = permute(got, heads, kv_heads)
                nan = np.isnan(want)
                same = (got.view(np.uint32) == np.ascontiguousarray(want).view(np.uint32)) | (nan & np.isnan(got))
                assert same.all(), f"{name} ({t.tensor_type.name}): {np.count_nonzero(~same)} of {same.size} values differ"
                n, n_values = n + 1, n_values + want.size
                types[t.tensor_type.name] = types.get(t.tensor_type.name, 0) + 1
                line = ours.stdout.readline()
            assert line == b"", line
        assert ours.returncode == 0
        print(f"{path} ({mode}): {n} tensors, {n_values} values equal bit for bit; {types}")


def make(path, arch):
    """A tiny model whose tensors are of every type, with random bytes as blocks."""
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(10)
    w.add_context_length(128)
    w.add_embedding_length(512)
    w.add_feed_forward_length(512)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    T = gguf.GGMLQuantizationType
    types = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.F16, T.BF16, T.F32]

    def add(name, rows, t):
        values, size = gguf.GGML_QUANT_SIZES[t]
        raw = rng.integers(0, 256, (rows, 512 // values * size), dtype=np.uint8)
        if t == T.F32:
            w.add_tensor(name, rng.standard_normal((rows, 512)).astype(np.float32))
        elif t == T.F16:
            w.add_tensor(name, rng.standard_normal((rows, 512)).astype(np.float16))
        else:
            w.add_tensor(name, raw, raw_dtype=t)

    add("token_embd.weight", 40, T.Q6_K)
    w.add_tensor("output_norm.weight", rng.standard_normal(512).astype(np.float32))
    for i in range(10):
        for j, (part, rows) in enumerate([("attn_q", 512), ("attn_k", 256), ("attn_v", 256), ("attn_output", 512), ("ffn_gate", 512), ("ffn_up", 512),
                                          ("ffn_down", 512)]):
            add(f"blk.{i}.{part}.weight", rows, types[(i * 7 + j) % len(types)])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dump")
    parser.add_argument("--made", action="store_true")
    parser.add_argument("files", nargs="*")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dump = a.dump
        if dump is None:
            dump = os.path.join(folder, "gguf_dump")
            source = ROOT / "tests/judges/gguf_dump.cpp"
            subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O2", f"-I{ROOT}/include", str(source), "-o", dump], check=True)
        if a.made or not a.files:
            for arch in ("llama", "qwen2"):
                path = os.path.join(folder, arch + ".gguf")
                make(path, arch)
                with np.errstate(all="ignore"):
                    compare(dump, path)
        for path in a.files:
            compare(dump, path)


main()
