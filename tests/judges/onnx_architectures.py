#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports tiny random checkpoints of every architecture with `nibble export-onnx` and compares what ONNX Runtime computes with a forward
pass in numpy that knows nothing of ONNX: all positions at once, then token by token with the cache.

    onnx_architectures.py --nibble PROGRAM [--only NAME] [--keep FOLDER]

Exit status 77 with a reason: skipped.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime
except ImportError as e:
    print(f"skipped: {e} (pip install numpy onnx onnxruntime)")
    sys.exit(77)

BASE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 120, "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": None, "tie_word_embeddings": True, "head_dim": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"type": "yarn", "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 0.5, "original_max_position_embeddings": 32}
MODELS = {
    "llama2": {"model_type": "llama"},
    "llama3": {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": LLAMA3, "tie_word_embeddings": True},
    "llama3_v5": {"model_type": "llama", "rope_parameters": {"rope_theta": 5e5, **LLAMA3}},
    "llama_biased": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 32},
    "llama_linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 7},
    "mistral_full": {"model_type": "mistral", "sliding_window": None, "head_dim": 48},
    "ministral3": {"model_type": "ministral3", "head_dim": 32, "rope_parameters": YARN, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 8, "tie_word_embeddings": True},
    "qwen2_window": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": {"model_type": "qwen3", "head_dim": 32, "rope_theta": 1e6, "tie_word_embeddings": True},
    "gemma": {"model_type": "gemma", **GEMMA},
    "gemma2": {"model_type": "gemma2", **GEMMA, "sliding_window": 6, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"model_type": "gemma3_text", **GEMMA, "sliding_window": 6, "sliding_window_pattern": 3, "query_pre_attn_scalar": 32, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "gemma3": {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **GEMMA, "sliding_window": 6, "query_pre_attn_scalar": 32, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}},
    "phi3": {"model_type": "phi3", "sliding_window": 9},
    "phi3_long": {"model_type": "phi3", "sliding_window": None, "original_max_position_embeddings": 64, "rope_scaling": {"type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [2.0 + i for i in range(8)]}},
    "phi4_mini": {"model_type": "phi3", "sliding_window": None, "partial_rotary_factor": 0.5, "head_dim": 32, "tie_word_embeddings": True},
}


def settings(config):
    c = {**BASE, **config}
    if "text_config" in config:
        c = {**BASE, **config["text_config"], "prefix": "language_model."}
    c.setdefault("prefix", "")
    c.setdefault("head_dim", c["hidden_size"] // c["num_attention_heads"])
    return c


def random_weights(c, rng):
    """Every tensor that the checkpoint must have, by name."""
    h, f, d, q, kv = c["hidden_size"], c["intermediate_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    kind, w = c["model_type"], {}

    def add(name, *dims, around=0.0):
        w[c["prefix"] + name] = (around + rng.normal(0, 0.4 if len(dims) == 1 else 1.5 / np.sqrt(dims[-1]), dims)).astype(np.float32)

    gemma = kind.startswith("gemma")
    norm = lambda name, n: add(name, n, around=0.0 if gemma else 1.0)
    add("model.embed_tokens.weight", c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        if kind == "phi3":
            add(p + "self_attn.qkv_proj.weight", (q + 2 * kv) * d, h)
            add(p + "mlp.gate_up_proj.weight", 2 * f, h)
        else:
            for name, n in (("q", q), ("k", kv), ("v", kv)):
                add(p + f"self_attn.{name}_proj.weight", n * d, h)
                if kind == "qwen2" or c.get("attention_bias"):
                    add(p + f"self_attn.{name}_proj.bias", n * d)
            for name in ("gate", "up"):
                add(p + f"mlp.{name}_proj.weight", f, h)
                if c.get("mlp_bias"):
                    add(p + f"mlp.{name}_proj.bias", f)
        add(p + "self_attn.o_proj.weight", h, q * d)
        if c.get("attention_bias"):
            add(p + "self_attn.o_proj.bias", h)
        add(p + "mlp.down_proj.weight", h, f)
        if c.get("mlp_bias"):
            add(p + "mlp.down_proj.bias", h)
        names = ["input_layernorm", "post_attention_layernorm"]
        if kind in ("gemma2", "gemma3_text"):
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in names:
            norm(p + name + ".weight", h)
        if kind in ("qwen3", "gemma3_text"):
            for name in ("q", "k"):
                norm(p + f"self_attn.{name}_norm.weight", d)
    norm("model.norm.weight", h)
    if not c["tie_word_embeddings"]:
        add("lm_head.weight", c["vocab_size"], h)
    return w


def save(folder, config, weights):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({**config, "text_config": {**BASE, **config["text_config"]}} if "text_config" in config else {**BASE, **config}, f)
    header, data = {}, b""
    for name, w in weights.items():
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [len(data), len(data) + w.nbytes]}
        data += w.tobytes()
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def rope_angles(c, sliding, turned, n):
    """cos and sin [n, turned / 2]."""
    p = c.get("rope_parameters") or {}
    if "full_attention" in p:
        p = p["sliding_attention" if sliding else "full_attention"]
    elif c["model_type"] == "gemma3_text":
        p = {"rope_theta": c["rope_local_base_freq"]} if sliding else {"rope_theta": c["rope_theta"], **(c.get("rope_scaling") or {})}
    elif not p:
        p = {"rope_theta": c.get("rope_theta", 1e4), **(c.get("rope_scaling") or {})}
    kind, theta = p.get("rope_type", p.get("type", "default")), p.get("rope_theta", 1e4)
    i = np.arange(turned // 2)
    freq, grown = theta ** (-2.0 * i / turned), 1.0
    original = p.get("original_max_position_embeddings", c.get("original_max_position_embeddings"))
    if kind == "linear":
        freq = freq / p["factor"]
    elif kind == "llama3":
        turns = original * freq / (2 * np.pi)  # in the original context
        part = np.clip((turns - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"]), 0, 1)
        freq = freq * (part + (1 - part) / p["factor"])
    elif kind == "yarn":
        pair = lambda turns: turned * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta))
        low, high = max(np.floor(pair(p["beta_fast"])), 0), min(np.ceil(pair(p["beta_slow"])), turned - 1)
        part = np.clip((i - low) / max(high - low, 0.001), 0, 1)
        freq = freq * ((1 - part) + part / p["factor"])
        m = lambda s: 0.1 * s * np.log(p["factor"]) + 1
        grown = m(p["mscale"]) / m(p["mscale_all_dim"])
    elif kind == "longrope":
        ratio = c["max_position_embeddings"] / original
        freq = freq / np.array(p["short_factor"])
        grown = np.sqrt(1 + np.log(ratio) / np.log(original))
    angle = np.arange(n)[:, None] * freq
    return np.cos(angle) * grown, np.sin(angle) * grown


def sliding(c, i):
    kind, window = c["model_type"], c.get("sliding_window")
    if not window:
        return False
    if "layer_types" in c:
        return c["layer_types"][i] == "sliding_attention"
    return {"gemma2": i % 2 == 0, "gemma3_text": (i + 1) % c.get("sliding_window_pattern", 6) != 0, "mistral": True, "phi3": True, "qwen2": bool(c.get("use_sliding_window")) and i >= c.get("max_window_layers", 99)}.get(kind, False)


def forward(c, w, ids, embedding=None):
    """Logits [n, V] in f64."""
    kind, d, nq, nkv = c["model_type"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    gemma = kind.startswith("gemma")
    get = lambda name: w[c["prefix"] + name].astype(np.float64)
    has = lambda name: c["prefix"] + name in w
    table = get("model.embed_tokens.weight")
    x = (table if embedding is None else embedding)[ids]
    if gemma:
        x = x * np.sqrt(c["hidden_size"])
    n = len(ids)

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * (get(name) + (1 if gemma else 0))

    def linear(x, name):
        y = x @ get(name + ".weight").T
        return y + get(name + ".bias") if has(name + ".bias") else y

    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, p + "input_layernorm.weight")
        if kind == "phi3":
            q, k, v = np.split(linear(h, p + "self_attn.qkv_proj"), [nq * d, (nq + nkv) * d], -1)
        else:
            q, k, v = (linear(h, p + f"self_attn.{t}_proj") for t in "qkv")
        q, k, v = q.reshape(n, nq, d), k.reshape(n, nkv, d), v.reshape(n, nkv, d)
        if kind in ("qwen3", "gemma3_text"):
            q, k = norm(q, p + "self_attn.q_norm.weight"), norm(k, p + "self_attn.k_norm.weight")
        turned = int(d * c.get("partial_rotary_factor", 1.0))
        cos, sin = (t[:, None] for t in rope_angles(c, sliding(c, i), turned, n))

        def turn(t):
            a, b, rest = t[..., : turned // 2], t[..., turned // 2 : turned], t[..., turned:]
            return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)

        q, k = turn(q), np.repeat(turn(k), nq // nkv, 1)
        v = np.repeat(v, nq // nkv, 1)
        scale = c["query_pre_attn_scalar"] ** -0.5 if kind in ("gemma2", "gemma3_text") else d**-0.5
        s = np.einsum("qhd,khd->hqk", q, k) * scale
        if kind == "gemma2":
            s = c["attn_logit_softcapping"] * np.tanh(s / c["attn_logit_softcapping"])
        far = np.arange(n)[:, None] - np.arange(n)[None]
        allowed = (far >= 0) & (far < c["sliding_window"] if sliding(c, i) else True)
        s = np.where(allowed, s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        a = linear(np.einsum("hqk,khd->qhd", s / s.sum(-1, keepdims=True), v).reshape(n, -1), p + "self_attn.o_proj")
        sandwich = kind in ("gemma2", "gemma3_text")
        if sandwich:
            a = norm(a, p + "post_attention_layernorm.weight")
        x = x + a
        h = norm(x, p + ("pre_feedforward_layernorm.weight" if sandwich else "post_attention_layernorm.weight"))
        gate, up = np.split(linear(h, p + "mlp.gate_up_proj"), 2, -1) if kind == "phi3" else (linear(h, p + "mlp.gate_proj"), linear(h, p + "mlp.up_proj"))
        gate = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) if gemma else gate / (1 + np.exp(-gate))
        f = linear(gate * up, p + "mlp.down_proj")
        x = x + (norm(f, p + "post_feedforward_layernorm.weight") if sandwich else f)
    head = get("lm_head.weight") if has("lm_head.weight") else table
    y = norm(x, "model.norm.weight") @ head.T
    return c["final_logit_softcapping"] * np.tanh(y / c["final_logit_softcapping"]) if c.get("final_logit_softcapping") else y


def dequantized(c, weights, path):
    """The checkpoint with its linear weights as the exported file has them, and the embedding that its graph looks up."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    w, rows_of = dict(weights), {}
    for name in constants:
        if not name.endswith(("_Q4", "_Q8", "_Q2")):
            continue
        base, bits = name[:-3], int(name[-1])
        codes = constants[name].reshape(constants[name].shape[0], -1)
        codes = np.stack([(codes >> (bits * i)) & ((1 << bits) - 1) for i in range(8 // bits)], -1).reshape(codes.shape[0], -1)
        scales = constants[base + "_scales"].astype(np.float32)
        block = codes.shape[1] // scales.shape[1]
        zero = np.full(scales.shape, 1 << (bits - 1))
        if base + "_zero_points" in constants:
            z = constants[base + "_zero_points"]
            zero = np.stack([(z >> (bits * i)) & ((1 << bits) - 1) for i in range(8 // bits)], -1).reshape(z.shape[0], -1)[:, : scales.shape[1]]
        rows_of[base] = (codes.astype(np.float32) - np.repeat(zero, block, 1)) * np.repeat(scales, block, 1)
    embedding = None
    for base, rows in rows_of.items():
        if base == "lm_head.weight":
            target = c["prefix"] + ("model.embed_tokens.weight" if c["tie_word_embeddings"] else base)
            w[target] = rows[:, : w[target].shape[1]]
            continue
        layer, part = base.rsplit(".", 2)[0], base.split(".")[-2]
        names = [f"{layer}.{t}_proj.weight" for t in "qkv"] if part == "qkv_proj" and c["model_type"] != "phi3" else [base]
        at = 0
        for name in names:
            shape = w[c["prefix"] + name].shape
            w[c["prefix"] + name] = rows[at : at + shape[0], : shape[1]]
            at += shape[0]
    return w, embedding


def run(path, c, ids, half):
    """Logits of all positions at once, and one after another."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kind = np.float16 if half else np.float32
    empty = lambda: {i.name: np.zeros((1, c["num_key_value_heads"], 0, c["head_dim"]), kind) for i in session.get_inputs() if i.name.startswith("past")}
    feed = lambda part, total, past, keep: {"input_ids": np.array([part], np.int64), "attention_mask": np.ones((1, total), np.int64), "num_logits_to_keep": np.array(keep, np.int64), **past}
    names = [o.name for o in session.get_outputs()]
    whole = session.run(None, feed(ids, len(ids), empty(), 0))[0][0]
    steps, past = [], empty()
    for at in [slice(0, 5)] + [slice(i, i + 1) for i in range(5, len(ids))]:
        out = dict(zip(names, session.run(None, feed(ids[at], at.stop, past, 1))))
        assert out["logits"].shape[1] == 1
        steps.append(out["logits"][0, 0])
        past = {k.replace("present", "past_key_values"): v for k, v in out.items() if k.startswith("present")}
    return whole.astype(np.float64), np.array(steps, np.float64)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nibble", required=True)
    parser.add_argument("--only")
    parser.add_argument("--keep")
    a = parser.parse_args()
    wrong = count = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name, config in MODELS.items():
            if a.only and a.only != name:
                continue
            rng = np.random.default_rng(len(name))
            c = settings(config)
            weights = random_weights(c, rng)
            folder, out = (os.path.join(a.keep or temporary, name + end) for end in ("", "_onnx"))
            save(folder, config, weights)
            ids = rng.integers(0, c["vocab_size"], 24)
            for dtype, suffix, bound, further in (("fp32", "", 3e-5, []), ("q4", "_q4", 1e-4, []), ("q8", "_quantized", 1e-4, []), ("q4", "_q4", 1e-4, ["--asymmetric", "--block", "16"]), ("q2", "_q2", 1e-4, ["--asymmetric"]), ("fp16", "_fp16", 6e-2, []), ("q4f16", "_q4f16", 6e-2, [])):
                count += 1
                subprocess.run([a.nibble, "export-onnx", folder, "-o", out, "--dtype", dtype, "--overwrite", "--quiet", *further], check=True, stderr=subprocess.DEVNULL)
                path = os.path.join(out, "onnx", f"model{suffix}.onnx")
                onnx.checker.check_model(path)
                w, embedding = dequantized(c, weights, path)
                want = forward(c, w, ids, embedding)
                whole, steps = run(path, c, ids, dtype.endswith("16"))
                size = np.abs(want).max()
                far = max(np.abs(whole - want).max(), np.abs(steps - want[4:]).max()) / size
                good = far < bound
                wrong += not good
                if not good or a.only:
                    print(f"{name} {dtype} {' '.join(further)}: {far:.2g} of the largest logit{'' if good else ', too far'}")
    print(f"{count} graphs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
