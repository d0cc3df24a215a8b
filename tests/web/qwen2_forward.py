# SPDX-License-Identifier: Apache-2.0
"""Qwen2 in numpy, straight from an MLC folder: what its shards hold, decoded by the rules of the format and not by nibble."""

import json
import os

import numpy as np

STORED = {"float32": np.float32, "float16": np.float16, "uint32": np.uint32}


def read_tensors(folder, index="ndarray-cache.json"):
    """Every record of the index by name, as it is stored; f32 that is stored as bf16 as f32."""
    with open(os.path.join(folder, index), encoding="utf-8") as f:
        shards = json.load(f)["records"]
    tensors = {}
    for shard in shards:
        data = np.fromfile(os.path.join(folder, shard["dataPath"]), np.uint8)
        assert data.size == shard["nbytes"], f"{shard['dataPath']} has {data.size} bytes instead of {shard['nbytes']}"
        for r in shard["records"]:
            raw = data[r["byteOffset"]:r["byteOffset"] + r["nbytes"]]
            if r["format"] == "f32-to-bf16" and r["dtype"] == "float32":
                value = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                value = raw.view(STORED[r["dtype"]])
            tensors[r["name"]] = value.reshape(r["shape"])
    return tensors


class Qwen2:
    """Logits of one sequence; keys and values are kept from call to call."""

    def __init__(self, folder):
        with open(os.path.join(folder, "mlc-chat-config.json"), encoding="utf-8") as f:
            c = json.load(f)["model_config"]
        self.stored = read_tensors(folder)
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.width = c["hidden_size"] // self.heads
        self.epsilon = c["rms_norm_eps"]
        self.frequencies = c["rope_theta"] ** (-np.arange(0, self.width, 2) / self.width)
        self.embedding = self.matrix("model.embed_tokens")
        self.head = self.embedding if c["tie_word_embeddings"] else self.matrix("lm_head")
        names = {"qkv": "self_attn.c_attn", "out": "self_attn.o_proj", "gate_up": "mlp.gate_up_proj", "down": "mlp.down_proj"}
        self.layers = []
        for i in range(c["num_hidden_layers"]):
            at = f"model.layers.{i}."
            layer = {key: self.matrix(at + name) for key, name in names.items()}
            layer["bias"] = self.vector(at + "self_attn.c_attn.bias")
            layer["norm_1"] = self.vector(at + "input_layernorm.weight")
            layer["norm_2"] = self.vector(at + "post_attention_layernorm.weight")
            self.layers.append(layer)
        self.norm = self.vector("model.norm.weight")
        self.cache = [None] * len(self.layers)
        self.n_seen = 0
        del self.stored

    def vector(self, name):
        return self.stored[name].astype(np.float32)

    def matrix(self, name):
        """[out, in]. Codes are 4 bits, low first, less 7; a scale for every 32."""
        if name + ".weight" in self.stored:
            return self.vector(name + ".weight")
        words, scales = self.stored[name + ".q_weight"], self.vector(name + ".q_scale")
        codes = np.stack([(words >> (4 * i)) & 15 for i in range(8)], axis=-1).reshape(len(words), -1, 32)
        return ((codes.astype(np.float32) - 7) * scales[:, :, None]).reshape(len(words), -1)

    def normed(self, x, weight):
        return x * (1 / np.sqrt(np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True) + self.epsilon)).astype(np.float32) * weight

    def turned(self, x, positions):
        """Rotary embedding of [tokens, heads, width], the two halves of the width as pairs."""
        angle = (positions[:, None] * self.frequencies)[:, None, :]
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(self, i, x, positions):
        layer, n = self.layers[i], len(x)
        q, k, v = np.split((x @ layer["qkv"].T + layer["bias"]).reshape(n, -1, self.width), [self.heads, self.heads + self.kv_heads], axis=1)
        q, k = self.turned(q, positions), self.turned(k, positions)
        if self.cache[i] is not None:
            k, v = (np.concatenate(pair) for pair in zip(self.cache[i], (k, v)))
        self.cache[i] = k, v
        group = self.heads // self.kv_heads
        result = np.empty_like(q)
        hidden = np.arange(len(k))[None, :] > positions[:, None]
        for h in range(self.heads):
            scores = q[:, h] @ k[:, h // group].T / np.float32(np.sqrt(self.width))
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            result[:, h] = weights / weights.sum(axis=-1, keepdims=True) @ v[:, h // group]
        return result.reshape(n, -1) @ layer["out"].T

    def logits(self, ids):
        """Those after the last of `ids`, which follow what was given before."""
        positions = np.arange(self.n_seen, self.n_seen + len(ids))
        self.n_seen += len(ids)
        x = self.embedding[ids]
        for i, layer in enumerate(self.layers):
            x = x + self.attention(i, self.normed(x, layer["norm_1"]), positions)
            gate, up = np.split(self.normed(x, layer["norm_2"]) @ layer["gate_up"].T, 2, axis=-1)
            x = x + (gate / (1 + np.exp(-gate)) * up) @ layer["down"].T
        return self.head @ self.normed(x[-1], self.norm)


def prompt_of(folder, text):
    """What a conversation that begins with `text` looks like to the model."""
    with open(os.path.join(folder, "mlc-chat-config.json"), encoding="utf-8") as f:
        t = json.load(f)["conv_template"]
    system = t["system_template"].replace("{system_message}", t["system_message"])
    user = t["role_templates"]["user"].replace("{user_message}", text)
    return system + t["roles"]["user"] + t["role_content_sep"] + user + t["seps"][0] + t["roles"]["assistant"] + t["role_empty_sep"]
