#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint with the shapes of Qwen2-0.5B-Instruct and random weights (bf16, 1 GB), for tests that need sizes for which a model
library exists, and no sense in the answers. The tokenizer is made up too, unless one is given: byte-level BPE with Qwen2's ids of the special
tokens, whose merges join pairs of letters and pairs of such pairs.

usage: random_qwen2.py OUT [--seed N] [--tokenizer FILE]
"""

import argparse
import json
import os
import struct

import numpy as np

SPECIAL = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16", "hidden_act": "silu", "tie_word_embeddings": True,
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": False,
    "bos_token_id": 151643, "eos_token_id": 151645,
}
CHAT_TEMPLATE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                 "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
                 "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def tensors(c):
    """(name, shape, deviation, mean) of every tensor. Queries, keys and their biases are large enough for positions to matter."""
    hidden, inner, kv = c["hidden_size"], c["intermediate_size"], c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"]
    yield "model.embed_tokens.weight", (c["vocab_size"], hidden), 0.02, 0
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (hidden,), 0.1, 1
        yield at + "mlp.down_proj.weight", (hidden, inner), 0.02, 0
        yield at + "mlp.gate_proj.weight", (inner, hidden), 0.02, 0
        yield at + "mlp.up_proj.weight", (inner, hidden), 0.02, 0
        yield at + "post_attention_layernorm.weight", (hidden,), 0.1, 1
        for name, rows, weight, bias in (("q", hidden, 0.04, 0.5), ("k", kv, 0.04, 0.5), ("v", kv, 0.02, 0.05)):
            yield at + f"self_attn.{name}_proj.bias", (rows,), bias, 0
            yield at + f"self_attn.{name}_proj.weight", (rows, hidden), weight, 0
        yield at + "self_attn.o_proj.weight", (hidden, hidden), 0.02, 0
    yield "model.norm.weight", (hidden,), 0.1, 1


def bf16(x):
    """To the nearest; ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_weights(path, seed):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in tensors(CONFIG):
        end = at + 2 * int(np.prod(shape))
        header[name], at = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}, end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation, mean in tensors(CONFIG):
            out.write(bf16(random.standard_normal(shape, dtype=np.float32) * np.float32(deviation) + np.float32(mean)).tobytes())


def made_up_tokenizer():
    """As many tokens as Qwen2's has before its special ones."""
    # The letters that stand for the 256 bytes in byte-level BPE: printable ones for themselves, the others from U+0100 on.
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(b) for b in plain] + [chr(0x100 + i) for i in range(256 - len(plain))]
    vocab = {letter: i for i, letter in enumerate(letters)}
    merges = []
    common = ["\u0120", *"etaoinshrdlcumwfgypbvkjxqzTHESAIONR"]  # U+0120 is the blank

    def join(parts):
        for a in parts:
            for b in parts:
                if len(vocab) == min(SPECIAL.values()):
                    return
                if a + b not in vocab:
                    vocab[a + b] = len(vocab)
                    merges.append(f"{a} {b}")

    join(common)
    join([m.replace(" ", "") for m in merges])
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "NFC"},
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for t, i in SPECIAL.items()],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocab, "merges": merges},
    }


def given_tokenizer(path):
    """Another's tokenizer with Qwen2's special tokens only, and its merges in the form that WebLLM before 0.2.79 can read."""
    with open(path, encoding="utf-8") as f:
        t = json.load(f)
    t["added_tokens"] = [token for token in t["added_tokens"] if token["id"] in SPECIAL.values()]
    t["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in t["model"]["merges"]]
    return t


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tokenizer", help="a tokenizer.json of the Qwen2 family instead of a made-up one")
    a = parser.parse_args()
    os.makedirs(a.out, exist_ok=True)
    tokenizer = given_tokenizer(a.tokenizer) if a.tokenizer else made_up_tokenizer()
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokenizer["added_tokens"]}
    files = {
        "config.json": CONFIG,
        "generation_config.json": {"bos_token_id": 151643, "pad_token_id": 151643, "eos_token_id": [151645, 151643], "do_sample": True,
                                   "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": decoder, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
                                  "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "model_max_length": 32768,
                                  "chat_template": CHAT_TEMPLATE},
    }
    for name, value in files.items():
        with open(os.path.join(a.out, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False)
    write_weights(os.path.join(a.out, "model.safetensors"), a.seed)


if __name__ == "__main__":
    main()
