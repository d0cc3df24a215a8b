#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The nibble command from outside: exit codes, where messages go, problems listed at once, and signals at any moment.

usage: command_test.py NIBBLE [TESTS...]
"""

import json
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

NIBBLE = ""
DONE, REFUSED, USAGE = 0, 1, 2
KILLS = 30


def scratch_root():
    """In memory where there is room: a conversion syncs, and a slow disk would make that most of the time."""
    if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 512 << 20:
        return "/dev/shm"
    return None


def default_signals():
    """A shell's background jobs ignore SIGINT, and so would the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def start(*arguments, cwd=None):
    return subprocess.Popen([NIBBLE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, preexec_fn=default_signals)


def run(*arguments, cwd=None):
    return subprocess.run([NIBBLE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, timeout=120)


def weights(shape, seed):
    """bf16 values of magnitudes from 2^-9 to 2^-5, as bytes."""
    count = 1
    for dim in shape:
        count *= dim
    block = random.Random(seed).randbytes(1 << 16)
    high = bytes((b & 0x80) | 0x3B + (b & 1) for b in range(256))
    values = bytearray(block)
    values[1::2] = block[1::2].translate(high)
    return bytes(values * (2 * count // len(values) + 1))[: 2 * count]


def tensors_of(config):
    h, i, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", [v, h]
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        for name in "qkvo":
            yield f"{layer}self_attn.{name}_proj.weight", [h, h]
        yield f"{layer}mlp.gate_proj.weight", [i, h]
        yield f"{layer}mlp.up_proj.weight", [i, h]
        yield f"{layer}mlp.down_proj.weight", [h, i]
        yield f"{layer}input_layernorm.weight", [h]
        yield f"{layer}post_attention_layernorm.weight", [h]
    yield "model.norm.weight", [h]
    yield "lm_head.weight", [v, h]


def write_safetensors(path, tensors, values=weights):
    """tensors: name -> shape, all bf16."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for seed, shape in enumerate(tensors.values()):
            f.write(values(shape, seed))


def write_model(folder, hidden=64, intermediate=96, layers=1, vocab=48, **config):
    os.makedirs(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": intermediate,
              "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": vocab, "rms_norm_eps": 1e-5,
              "max_position_embeddings": 64, "tie_word_embeddings": False, **config}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    tensors = dict(tensors_of(config))
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    return tensors


def write_gguf(path, metadata, tensors):
    """metadata: str, int, float or a list of str; tensors: name -> shape, all f32."""
    def text(t):
        return struct.pack("<Q", len(t.encode())) + t.encode()

    def value(v):
        if isinstance(v, list):
            return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(text(t) for t in v)
        return struct.pack("<I", 8) + text(v) if isinstance(v, str) else struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v)

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(text(k) + value(v) for k, v in metadata.items())
    at = 0
    for name, shape in tensors.items():
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, at)
        size = 4
        for dim in shape:
            size *= dim
        at += -(-size // 32) * 32
    with open(path, "wb") as f:
        f.write(out + bytes(-len(out) % 32 + at))


def contents(folder):
    """Every file below a folder, by its relative name."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return found


class Command(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nibble-command-", dir=scratch_root())
        self.model = self.path("model")
        self.out = self.path("out")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def checkpoint(self, chat_template):
        os.makedirs(self.model, exist_ok=True)
        with open(os.path.join(self.model, "tokenizer_config.json"), "w") as f:
            json.dump({"eos_token": "<|im_end|>", "chat_template": chat_template}, f)

    def convert(self, *arguments, quantization="q4f16_1", **options):
        return run("convert", self.model, "--quantization", quantization, *arguments, **options)

    def expect(self, got, code, stdout=None, stderr=None):
        text = f"exit code {got.returncode}\nstdout: {got.stdout}\nstderr: {got.stderr}"
        self.assertEqual(got.returncode, code, text)
        for stream, wanted in ((got.stdout, stdout), (got.stderr, stderr)):
            if wanted == "":
                self.assertEqual(stream, "", text)
            elif wanted is not None:
                self.assertRegex(stream, wanted, text)
        return got

    def beside(self, *expected):
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(expected))


class Small(Command):
    def setUp(self):
        super().setUp()
        self.tensors = write_model(self.model)

    def test_done_is_0_with_a_summary_on_stdout(self):
        self.expect(self.convert("-o", self.out), DONE, stdout=r"out: q4f16_1, .* in 1 shards, \d\.\d+ bits per parameter", stderr="")
        self.assertEqual(sorted(os.listdir(self.out)), ["ndarray-cache.json", "params_shard_0.bin", "tensor-cache.json"])
        self.beside("model", "out")

    def test_refused_is_1_with_reasons_on_stderr(self):
        self.expect(self.convert("-o", self.model), REFUSED, stdout="", stderr=r"^nibble: error: .*the model's own folder; give another -o\n$")
        self.expect(run("convert", self.path("none"), "-q", "q4f16_1", "-o", self.out), REFUSED, stdout="", stderr="no such file or folder")
        self.expect(self.convert("-o", self.out, quantization="q4f16_7"), REFUSED, stdout="", stderr='unknown quantization "q4f16_7"; known are q0f16')
        self.beside("model")

    def test_a_wrong_command_line_is_2_and_writes_nothing(self):
        for wrong in ([], ["nonsense"], ["convert"], ["convert", self.model], ["convert", self.model, "-q", "q4f16_1"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--threads", "0"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--threads", "x"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--rounding", "up"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--nonfinite", "maybe"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--shard-size", "0"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--only-shards", "3-1"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--only-shards", "0-1x"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--only-shards", "0-1", "--join"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--source-format", "awq"],
                      ["convert", self.model, "-q", "q4f16_1", "-o", self.out, "--unknown"]):
            with self.subTest(wrong):
                self.expect(run(*wrong), USAGE, stdout="", stderr=r"\S")
        self.expect(run("convert", "--help"), DONE, stdout="--quantization", stderr="")
        self.expect(run("--version"), DONE, stdout=r"^\d+\.\d+\.\d+", stderr="")
        self.beside("model")

    def test_quiet_is_silent_but_for_errors(self):
        self.expect(self.convert("-o", self.out, "--quiet"), DONE, stdout="", stderr="")
        self.expect(self.convert("-o", self.out, "--quiet"), REFUSED, stdout="", stderr="already holds a finished conversion")

    def test_json_is_one_document_whatever_happens(self):
        done = json.loads(self.expect(self.convert("-o", self.out, "--json"), DONE, stderr="").stdout)
        self.assertEqual(done["done"], True)
        self.assertEqual(done["files"], ["params_shard_0.bin", "tensor-cache.json", "ndarray-cache.json"])
        self.assertEqual(done["nonfinite"], {})
        for arguments in (["-o", self.out], ["-o", self.model], ["-o", ""], ["-o", self.path("new"), "--model-type", "nothing"],
                          ["-o", self.path("new"), "--only-shards", "7"], ["-o", self.path("new"), "--join"]):
            with self.subTest(arguments):
                refusal = json.loads(self.expect(self.convert("--json", *arguments), REFUSED, stderr="").stdout)
                self.assertEqual(refusal["done"], False)
                self.assertTrue(refusal["problems"][0]["rule"])
        plan = json.loads(self.expect(self.convert("--json", "--plan"), DONE, stderr="").stdout)
        self.assertEqual(plan["shards"][0]["nbytes"], os.path.getsize(os.path.join(self.out, "params_shard_0.bin")))
        odd = self.path("odd-\udcff")  # a name that is not UTF-8
        json.loads(self.expect(run("convert", odd, "-q", "q4f16_1", "-o", self.path("new"), "--json"), REFUSED, stderr="").stdout)
        self.beside("model", "out")

    def test_mlc_llm_invocation(self):
        self.convert("-o", self.out)
        shutil.move(os.path.join(self.model, "config.json"), os.path.join(self.path(), "config.json"))
        os.makedirs(self.path("dir"))
        shutil.move(os.path.join(self.path(), "config.json"), self.path("dir", "config.json"))
        for i, source in enumerate((["--source", "model"], ["--source", "model/model.safetensors"], ["--source", "model", "--source-format", "huggingface-safetensor"])):
            got = run("convert", "./dir/config.json", "--quantization", "q4f16_1", "--model-type", "auto", "--device", "auto", *source, "--output", f"o{i}",
                      cwd=self.folder)
            self.expect(got, DONE)
            self.assertEqual(set(contents(self.path(f"o{i}"))), set(contents(self.out)))
        self.assertEqual(contents(self.path("o0")), contents(self.out))
        shutil.move(self.path("dir", "config.json"), os.path.join(self.model, "config.json"))
        for model in ("model", "model/", "model/config.json", "./model/../model"):
            self.expect(run("convert", model, "--quantization", "q4f16_1", "--output", "again", "--source", "auto", "--overwrite", cwd=self.folder), DONE)
            self.assertEqual(contents(self.path("again")), contents(self.out))
        self.expect(run("convert", "config.json", "--quantization", "q4f16_1", "--output", "../here", cwd=self.model), DONE)
        self.assertEqual(contents(self.path("here")), contents(self.out))

    def test_an_unknown_type_comes_with_the_nearest(self):
        shutil.rmtree(self.model)
        write_model(self.model, model_type="lama")
        self.expect(self.convert("-o", self.out), REFUSED, stdout="", stderr=r'"lama".*\bllama\b')
        self.expect(self.convert("-o", self.out, "--model-type", "llama"), DONE)

    def test_all_problems_are_listed_in_one_run(self):
        tensors = dict(self.tensors)
        del tensors["model.norm.weight"]
        del tensors["model.layers.0.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.o_proj.weight"] = [64, 32]
        tensors["lm_head.weight"] = [48, 65]
        tensors["model.layers.0.self_attn.q_proj.bias"] = [64]
        tensors["model.layers.0.mlp.down_proj.lora_A.weight"] = [8, 96]
        write_safetensors(os.path.join(self.model, "model.safetensors"), tensors)
        got = self.expect(self.convert("-o", self.out), REFUSED, stdout="")
        for wanted in (r"'model.norm.weight': no such tensor", r"'model.layers.0.mlp.up_proj.weight': no such tensor",
                       r"'model.layers.0.self_attn.o_proj.weight': shape \[64, 32\] where config.json makes parameter .* of shape \[64, 64\]",
                       r"'lm_head.weight': shape \[48, 65\]", r"'model.layers.0.self_attn.q_proj.bias': model type \"llama\" has no place",
                       r"'model.layers.0.mlp.down_proj.lora_A.weight': .*--allow-unexpected", r"nibble: 6 problems, nothing was written"):
            self.assertRegex(got.stderr, wanted)
        self.assertEqual(len(json.loads(self.convert("-o", self.out, "--json").stdout)["problems"]), 6)
        self.beside("model")

    def test_values_that_are_not_finite(self):
        def spoiled(shape, seed):
            values = bytearray(weights(shape, seed))
            if seed in (1, 2):
                values[10:12] = struct.pack("<H", 0x7FC0 if seed == 1 else 0xFF80)
            return bytes(values)

        write_safetensors(os.path.join(self.model, "model.safetensors"), self.tensors, spoiled)
        named = r"2 values of 2 tensors are not finite .*self_attn.q_proj.weight \(1\), .*self_attn.k_proj.weight \(1\)"
        self.expect(self.convert("-o", self.path("strict"), "--nonfinite", "error"), REFUSED, stdout="", stderr="error: " + named)
        self.assertFalse(os.path.exists(self.path("strict")))
        self.expect(self.convert("-o", self.out), DONE, stderr="note: " + named)
        self.expect(self.convert("-o", self.out, "--nonfinite", "keep", "--overwrite", "--quiet"), DONE, stdout="", stderr="")
        found = json.loads(self.convert("-o", self.path("again"), "--json").stdout)["nonfinite"]
        self.assertEqual(list(found.values()), [1, 1])

    def test_shares_and_join(self):
        small = ("--shard-size", "300B", "--quiet")
        self.expect(self.convert("-o", self.out, *small), DONE)
        last = len(os.listdir(self.out)) - 3
        self.assertGreater(last, 6)
        shares = self.path("shares")
        for share in (f"5-{last}", "0", "1-4"):
            self.expect(self.convert("-o", shares, "--only-shards", share, *small), DONE)
        self.expect(self.convert("-o", shares, "--join", *small), DONE)
        self.assertEqual(contents(shares), contents(self.out))


class GenConfig(Command):
    def setUp(self):
        super().setUp()
        write_model(self.model, max_position_embeddings=512)

    def gen_config(self, *arguments, template="LM"):
        return run("gen-config", self.model, "-q", "q4f16_1", *(["--conv-template", template] if template else []), "-o", self.out, *arguments)

    def test_done_is_0_and_the_config_is_there(self):
        self.expect(self.gen_config("--context-window-size", "128", "--disaggregation", "false"), DONE,
                    stdout="mlc-chat-config.json and 0 tokenizer files", stderr="")
        with open(os.path.join(self.out, "mlc-chat-config.json")) as f:
            config = json.load(f)
        self.assertEqual([config["context_window_size"], config["prefill_chunk_size"]], [128, 128])
        self.assertIs(config["model_config"]["disaggregation"], True)  # as for mlc_llm, any text is yes
        self.assertEqual(os.listdir(self.out), ["mlc-chat-config.json"])
        self.expect(self.gen_config("--attention-sink-size", "-1"), DONE, stderr="note: .* has no attention_sink_size: the option does nothing")
        self.expect(self.gen_config("--quiet", "--disaggregation", ""), DONE, stdout="", stderr="")

    def test_refused_is_1_and_nothing_is_written(self):
        self.expect(self.gen_config(template=None), REFUSED, stdout="", stderr="--conv-template: LM, aya-23, chatml")
        self.expect(self.gen_config("--pipeline-parallel-stages", "7"), REFUSED, stdout="", stderr="pipeline_parallel_stages")
        self.expect(self.gen_config("--model-type", "mistral3"), REFUSED, stdout="", stderr="--model-type ministral3")
        self.expect(self.gen_config("--context-window-size", "x"), USAGE, stdout="", stderr="context-window-size")
        self.expect(run("gen-config", self.model, "-o", self.out), USAGE, stdout="", stderr="quantization")
        self.beside("model")

    def config(self):
        with open(os.path.join(self.out, "mlc-chat-config.json")) as f:
            return json.load(f)

    def test_a_template_is_found_by_the_chat_template(self):
        self.checkpoint(CHATML)
        self.expect(self.gen_config(template=None), DONE, stdout="mlc-chat-config.json", stderr="note: conversation template 'chatml': it renders as")
        self.assertEqual(self.config()["conv_template"]["name"], "chatml")
        found = self.config()
        self.expect(self.gen_config(template="chatml"), DONE, stderr="")
        self.assertEqual(self.config(), found)
        self.expect(self.gen_config("--quiet", template=None), DONE, stdout="", stderr="")
        done = json.loads(self.gen_config("--json", template=None).stdout)
        self.assertEqual(done["config"]["conv_template"]["name"], "chatml")
        self.assertIn("'chatml'", done["notes"][0])

    def test_no_match_stops_and_custom_writes_what_is_derived(self):
        self.checkpoint(NEAR_CHATML)
        self.expect(self.gen_config(template=None), REFUSED, stdout="",
                    stderr=r"the nearest is 'chatml': on one question, after .* the checkpoint writes .*--conv-template custom .*--conv-template chatml")
        self.beside("model")
        self.expect(self.gen_config(template="custom"), DONE)
        template = self.config()["conv_template"]
        self.assertEqual([template["name"], template["seps"], template["stop_str"]], ["custom", ["<|im_end|>"], ["<|im_end|>"]])

    def test_doctor_finds_the_template_of_another_model(self):
        self.checkpoint(CHATML)
        words = [f"w{i}" for i in range(40)]
        with open(os.path.join(self.model, "tokenizer.json"), "w") as f:
            json.dump({"added_tokens": [{"id": 40, "content": "<|im_start|>"}, {"id": 41, "content": "<|im_end|>"}], "decoder": {"type": "ByteLevel"},
                       "model": {"type": "BPE", "vocab": dict(zip(words, range(40))), "merges": []}}, f)
        self.expect(self.convert("-o", self.out, "--quiet"), DONE)

        def findings():
            report = json.loads(run("doctor", self.out, "--json").stdout)
            return [(f["severity"], f["rule"]) for f in report["findings"] if f["code"] == "template"]

        self.expect(self.gen_config(template=None), DONE)
        self.expect(run("doctor", self.out), DONE, stdout="Good")
        self.assertEqual({severity for severity, _ in findings()}, {"note"})
        self.expect(self.gen_config(template="phi-2"), DONE)
        got = self.expect(run("doctor", self.out), REFUSED, stdout=r"error \(template\): .*its conv_template \"phi-2\" is not that of the model: on one question")
        self.assertRegex(got.stdout, "-> run nibble gen-config again, without --conv-template\n")
        self.checkpoint(NEAR_CHATML)
        self.expect(self.gen_config(template="chatml"), DONE)
        self.expect(run("doctor", self.out), DONE, stdout=r"warning \(template\): .*differs from the model's in white space")
        self.expect(self.gen_config(template="custom"), DONE)
        self.assertEqual({severity for severity, _ in findings()} | {"note"}, {"note"})

    def test_without_a_chat_template_one_is_to_be_named(self):
        for arguments in ({"template": None}, {"template": "custom"}):
            self.expect(self.gen_config(**arguments), REFUSED, stdout="", stderr="has no chat_template, .*name one with --conv-template: LM, aya-23")
        self.checkpoint("{{ messages | frobnicate }}")
        self.expect(self.gen_config(template=None), REFUSED, stdout="", stderr="the filter 'frobnicate' is not supported; name a conversation template")
        self.beside("model")

    def test_a_gguf_file(self):
        tensors = {"token_embd.weight": [4, 32], "output_norm.weight": [32]}
        for name, shape in (("attn_norm", [32]), ("attn_q", [32, 32]), ("attn_k", [32, 32]), ("attn_v", [32, 32]), ("attn_output", [32, 32]), ("ffn_norm", [32]),
                            ("ffn_gate", [64, 32]), ("ffn_up", [64, 32]), ("ffn_down", [32, 64])):
            tensors[f"blk.0.{name}.weight"] = shape
        metadata = {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 128, "llama.embedding_length": 32,
                    "llama.feed_forward_length": 64, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2,
                    "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b", "<|im_end|>", "c"],
                    "tokenizer.ggml.eos_token_id": 2}
        os.rename(self.model, self.path("source"))
        os.makedirs(self.path("g"))
        self.model = self.path("g", "model.gguf")
        write_gguf(self.model, metadata, tensors)
        self.expect(self.gen_config(template=None), REFUSED, stdout="", stderr="model.gguf: the checkpoint has no chat_template")
        write_gguf(self.model, {**metadata, "tokenizer.chat_template": CHATML}, tensors)
        self.expect(self.gen_config(template=None), DONE, stdout="0 tokenizer files", stderr="'chatml'(.|\n)*derived from the metadata .*needs a tokenizer.json too")
        config = self.config()
        self.assertEqual([config["model_type"], config["vocab_size"], config["context_window_size"], config["eos_token_id"]], ["llama", 4, 128, 2])
        self.assertEqual(config["conv_template"]["name"], "chatml")
        write_gguf(self.model, {**metadata, "tokenizer.chat_template": NEAR_CHATML}, tensors)
        self.expect(self.gen_config(template=None), REFUSED, stdout="", stderr="the nearest is 'chatml'")
        with open(self.path("g", "tokenizer.json"), "w") as f:
            json.dump({"added_tokens": [], "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}, f)
        self.expect(self.gen_config(template="custom"), DONE, stdout="1 tokenizer files")
        self.assertEqual(self.config()["conv_template"]["stop_token_ids"], [2])
        self.expect(run("chat-template", self.model, "--user", "hi"), DONE, stdout=r"^<\|im_start\|>user\nhi<\|im_end\|><\|im_start\|>assistant\n\n\nconv.*: none")
        write_gguf(self.model, {**metadata, "tokenizer.ggml.eos_token_id": "two", "tokenizer.chat_template": CHATML}, {})
        self.expect(self.gen_config(template=None), REFUSED, stdout="", stderr="holds no tensors")

    def test_json_tells_the_config_or_the_problems(self):
        done = json.loads(self.gen_config("--json").stdout)
        self.assertIs(done["done"], True)
        self.assertEqual([done["files"], done["config"]["quantization"]], [["mlc-chat-config.json"], "q4f16_1"])
        refused = json.loads(self.gen_config("--json", template="nobody").stdout)
        self.assertIs(refused["done"], False)
        self.assertIn("nobody", refused["problems"][0]["rule"])


class Onnx(Command):
    def setUp(self):
        super().setUp()
        write_model(self.model)
        self.file = os.path.join(self.out, "onnx", "model.onnx")

    def export(self, *arguments):
        return run("export-onnx", self.model, "-o", self.out, *arguments)

    def test_a_checkpoint_is_exported_inspected_verified_and_quantized(self):
        self.expect(self.export("--dtype", "fp32,q4"), DONE, stdout="onnx/model_q4.onnx: .*\nllama, 64 tokens of context", stderr="there is no tokenizer.json")
        self.assertEqual(sorted(contents(self.out)), ["config.json", "onnx/model.onnx", "onnx/model_q4.onnx"])
        self.expect(run("inspect", os.path.join(self.out, "onnx", "model_q4.onnx")), DONE, stdout="q4 in 32s", stderr="6 MatMulNBits")
        self.expect(run("verify", self.file), DONE, stdout="^Good: ")
        small = self.path("small.onnx")
        self.expect(run("quantize-onnx", self.file, "-o", small, "--symmetric", "--block", "32"), DONE, stdout="6 MatMul nodes quantized", stderr="")
        self.assertLess(os.path.getsize(small), os.path.getsize(self.file))
        done = json.loads(run("quantize-onnx", self.file, "-o", small, "--overwrite", "--json").stdout)
        self.assertEqual([done["done"], done["quantized_nodes"]], [True, 6])

    def test_refused_is_1_and_nothing_is_written(self):
        self.expect(self.export("--dtype", "q5"), REFUSED, stdout="", stderr='unknown dtype "q5"; known are fp32, fp16')
        self.expect(self.export("--model-type", "bloom"), REFUSED, stdout="", stderr="has no graph here")
        self.expect(run("quantize-onnx", self.path("none.onnx"), "-o", self.path("x.onnx")), REFUSED, stdout="", stderr="No such file")
        self.beside("model")
        self.expect(self.export(), DONE)
        self.expect(self.export(), REFUSED, stdout="", stderr="already holds a model .*--overwrite")
        with open(os.path.join(self.out, "onnx", "model_q4.onnx"), "r+b") as f:
            f.truncate(1000)
        self.expect(run("verify", f.name), REFUSED, stdout="", stderr="at byte .* longer than what is left")


class Package(Command):
    def setUp(self):
        super().setUp()
        write_model(self.model, max_position_embeddings=8192)
        with open(os.path.join(self.model, "tokenizer.json"), "w") as f:
            json.dump({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}, "added_tokens": []}, f)

    def package(self, *arguments, scheme=("-q", "q4f16_1"), template=("--conv-template", "LM")):
        return run("package", self.model, *scheme, *template, *arguments)

    def test_done_is_0_and_the_doctor_finds_nothing(self):
        got = self.expect(self.package("-o", self.out), DONE, stdout=r"out: 8 files", stderr="note: no prebuilt library is known")
        self.assertRegex(got.stdout, r"model-q4f16_1-MLC: .* in 1 shard, \d\.\d+ bits per parameter\n  GPU memory  .*\(4096 tokens\)")
        self.assertRegex(got.stdout, r'not as mlc_llm writes it: tokenizer.json: model.merges is "texts .* WebLLM 0.2.51 cannot read pairs')
        self.assertEqual(sorted(os.listdir(self.out)), ["README.md", "mlc-chat-config.json", "ndarray-cache.json", "nibble-manifest.json", "params_shard_0.bin",
                                                        "tensor-cache.json", "tokenizer.json", "webllm-record.json"])
        self.beside("model", "out")
        doctor = json.loads(self.expect(run("doctor", self.out, "--json"), DONE).stdout)
        self.assertEqual([f["code"] for f in doctor["findings"]], ["shader-f16"])
        self.expect(run("verify", self.out, "--source", self.model), DONE)
        self.expect(self.package("-o", self.out), REFUSED, stdout="", stderr="already holds a finished conversion")
        self.expect(self.package("-o", self.out, "--overwrite", "--quiet"), DONE, stdout="", stderr="")

    def test_the_layouts_and_the_pair(self):
        for layout, config, shard in (("hub", "resolve/main/mlc-chat-config.json", "resolve/main/params_shard_0.bin"),
                                      ("params", "mlc-chat-config.json", "params/params_shard_0.bin")):
            out = self.path(layout)
            self.expect(self.package("-o", out, "--layout", layout, "--pair", scheme=()), DONE, stdout="GPU memory .*\n(.*\n)*.*GPU memory")
            for scheme in ("q4f16_1", "q4f32_1"):
                home = os.path.join(out, scheme)
                files = contents(home)
                self.assertIn(config, files)
                self.assertIn(shard, files)
                self.expect(run("doctor", home, "--quiet"), DONE, stdout="", stderr="")
                self.expect(run("verify", home, "--source", self.model, "--quiet"), DONE, stdout="", stderr="")

    def test_json_tells_the_record_the_files_and_what_differs(self):
        done = json.loads(self.expect(self.package("-o", self.out, "--json"), DONE, stderr="").stdout)
        self.assertIs(done["done"], True)
        self.assertEqual(done["files"]["params_shard_0.bin"]["bytes"], os.path.getsize(os.path.join(self.out, "params_shard_0.bin")))
        self.assertEqual(set(done["files"]), set(os.listdir(self.out)))
        model = done["models"][0]
        with open(os.path.join(self.out, "webllm-record.json")) as f:
            self.assertEqual(model["record"], json.load(f))
        self.assertEqual([d["field"] for d in model["differences"]], ["tokenizer.json: model.merges"])
        plan = json.loads(self.expect(self.package("--plan", "--json"), DONE, stderr="").stdout)
        self.assertEqual(plan["models"], done["models"])
        refused = json.loads(self.expect(self.package("-o", self.path("x"), "--json", scheme=("-q", "q0bf16")), REFUSED, stderr="").stdout)
        self.assertIs(refused["done"], False)
        self.assertIn("WebGPU has neither bfloat16 nor fp8", refused["problems"][0]["rule"])
        self.beside("model", "out")

    def test_a_wrong_command_line_is_2(self):
        for arguments, scheme in (((), ("-q", "q4f16_1")), (("-o", self.out), ()), (("-o", self.out, "--pair"), ("-q", "q4f16_1")),
                                  (("-o", self.out, "--layout", "deep"), ("-q", "q4f16_1")), (("-o", self.out, "--webllm", "new"), ("-q", "q4f16_1"))):
            with self.subTest(arguments):
                self.expect(self.package(*arguments, scheme=scheme), USAGE, stdout="", stderr=r"\S")
        self.beside("model")

    def test_killed_at_any_moment_then_resumed(self):
        shutil.rmtree(self.model)
        write_model(self.model, hidden=256, intermediate=768, layers=4, vocab=6144)
        with open(os.path.join(self.model, "tokenizer.json"), "w") as f:
            json.dump({"model": {"vocab": {"a": 0}, "merges": []}}, f)
        arguments = ("package", self.model, "--pair", "--conv-template", "LM", "--shard-size", "256KiB", "--threads", "2", "--quiet", "-o")
        seconds = math.inf
        for _ in range(2):  # the first one reads the files for the first time
            began = time.monotonic()
            self.expect(run(*arguments, self.path("whole"), "--overwrite"), DONE)
            seconds = min(seconds, time.monotonic() - began)
        whole = contents(self.path("whole"))
        moments = random.Random(12)
        killed = 0
        for i in range(KILLS // 2):
            there_before = i % 3 == 0
            if there_before:
                os.makedirs(self.out)
                with open(os.path.join(self.out, "mine"), "w") as f:
                    f.write("mine")
            process = start(*arguments, self.out)
            time.sleep((i + moments.random()) / (KILLS // 2) * seconds)
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            got = run(*arguments, self.out, "--resume")
            if got.returncode == REFUSED:
                self.assertIn("already holds", got.stderr)
            else:
                self.expect(got, DONE, stdout="", stderr="")
            found = contents(self.out)
            if there_before:
                self.assertEqual(found.pop("mine"), b"mine")
            self.assertEqual(set(found), set(whole), f"kill {i}")
            self.assertTrue(found == whole, f"kill {i}: other bytes")
            self.assertFalse([name for name in os.listdir(self.out) if name.startswith(".")])
            self.beside("model", "out", "whole")
            shutil.rmtree(self.out)
        self.assertGreater(killed, KILLS // 10)  # of half as many: how fast a run is changes with the load


CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
NEAR_CHATML = CHATML.replace("+ '\\n' }}{% endfor %}", "}}{% endfor %}")


class Chat(Command):
    def chat(self, *arguments):
        return run("chat-template", self.model, *arguments)

    def test_the_prompt_and_the_template_are_printed(self):
        self.checkpoint(CHATML)
        got = self.expect(self.chat("--system", "S", "--user", "one", "--assistant", "two", "--user", "three"), DONE, stderr="^nibble: note: without a system message")
        turns = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in (("system", "S"), ("user", "one"), ("assistant", "two"), ("user", "three")))
        self.assertEqual(got.stdout, turns + "<|im_start|>assistant\n\n\nconversation template: chatml\n")
        document = json.loads(self.expect(self.chat("--json"), DONE, stderr="").stdout)
        self.assertEqual((document["matched"], document["conv_template"], document["problems"]), (True, "chatml", []))
        self.assertEqual(document["prompt"], "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual(document["custom"]["stop_str"], ["<|im_end|>"])

    def test_no_match_shows_the_difference_and_what_is_derived(self):
        self.checkpoint(NEAR_CHATML)
        self.expect(self.chat(), DONE, stdout="none of the registered ones", stderr=r"the nearest is 'chatml': on one question, after .* the checkpoint writes .*--conv-template custom")
        document = json.loads(self.chat("--json").stdout)
        self.assertEqual(document["custom"]["seps"], ["<|im_end|>"])
        self.assertIn("the nearest is 'chatml'", document["difference"]["rule"])
        self.expect(self.chat("--custom"), DONE, stdout='"name": "custom"')

    def test_what_cannot_be_rendered_is_refused(self):
        self.checkpoint("{{ messages | frobnicate }}")
        self.expect(self.chat(), REFUSED, stdout="", stderr="chat template, line 1: the filter 'frobnicate' is not supported")
        self.checkpoint(None)
        self.expect(self.chat(), REFUSED, stdout="", stderr="has no chat_template; name a conversation template with --conv-template")
        self.expect(run("chat-template", self.path("none")), REFUSED, stdout="", stderr="is no folder")
        self.expect(run("chat-template"), USAGE)


class Interrupted(Command):
    """A checkpoint of 60 MB in about twenty shards, stopped at any moment."""

    arguments = ("--shard-size", "1MiB", "--threads", "2", "--quiet")

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="nibble-command-", dir=scratch_root())
        cls.big = os.path.join(cls.shared, "model")
        write_model(cls.big, hidden=512, intermediate=1536, layers=4, vocab=16384)
        cls.whole_folder = os.path.join(cls.shared, "whole")
        began = time.monotonic()
        run("convert", cls.big, "-q", "q4f16_1", "-o", cls.whole_folder, *cls.arguments)
        cls.seconds = time.monotonic() - began
        cls.whole = contents(cls.whole_folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        super().setUp()
        self.model = self.big
        self.assertGreater(len(self.whole), 12)

    def kill_and_run_again(self, *again):
        moments = random.Random(11)
        killed = 0
        for i in range(KILLS):
            there_before = i % 3 == 0  # then the work folder lies inside
            if there_before:
                os.makedirs(self.out)
                with open(os.path.join(self.out, "tokenizer.json"), "w") as f:
                    f.write("mine")
            process = start("convert", self.model, "-q", "q4f16_1", "-o", self.out, *self.arguments)
            time.sleep((i + moments.random()) / KILLS * self.seconds)
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            finished = os.path.exists(os.path.join(self.out, "tensor-cache.json"))
            got = self.convert("-o", self.out, *self.arguments, *again)
            if got.returncode == REFUSED and finished:
                self.assertIn("already holds a finished conversion", got.stderr)
            else:
                self.expect(got, DONE, stdout="", stderr="")
            found = contents(self.out)
            if there_before:
                self.assertEqual(found.pop("tokenizer.json"), b"mine")
            self.assertEqual(set(found), set(self.whole), f"kill {i}")
            self.assertTrue(found == self.whole, f"kill {i}: other bytes")
            self.assertFalse([name for name in os.listdir(self.out) if name.startswith(".")])
            self.beside("out")
            shutil.rmtree(self.out)
        self.assertGreater(killed, KILLS // 2)

    def test_killed_at_any_moment_then_run_again(self):
        self.kill_and_run_again()

    def test_killed_at_any_moment_then_resumed(self):
        self.kill_and_run_again("--resume")

    def test_asked_to_stop(self):
        self.model = self.path("model")
        write_model(self.model, hidden=256, intermediate=768, layers=4, vocab=6144)
        slow = ("--shard-size", "64KiB", "--fit", "mse")
        self.expect(self.convert("-o", self.path("whole"), *slow), DONE)
        for number, form in ((signal.SIGINT, []), (signal.SIGTERM, ["--json"])):
            process = start("convert", self.model, "-q", "q4f16_1", "-o", self.out, *slow, "--threads", "1", *form)
            journal = self.out + ".nibble-work/journal"
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    with open(journal) as f:
                        if len(f.readlines()) > 2:
                            break
                except OSError:
                    pass
                time.sleep(0.002)
            self.assertIsNone(process.poll(), "the run was over before it could be stopped")
            began = time.monotonic()
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
            self.assertLess(time.monotonic() - began, 2)
            self.assertEqual(process.returncode, REFUSED, stderr)
            if form:
                self.assertEqual(json.loads(stdout)["problems"], [{"rule": "interrupted", "remedy": "`--resume` goes on"}])
            else:
                self.assertIn("nibble: error: interrupted; `--resume` goes on", stderr)
            self.assertFalse(os.path.exists(self.out))
            resumed = json.loads(self.expect(self.convert("-o", self.out, *slow, "--resume", "--json"), DONE).stdout)
            self.assertGreater(resumed["shards_kept"], 0)
            self.assertTrue(contents(self.out) == contents(self.path("whole")))
            self.beside("model", "out", "whole")
            shutil.rmtree(self.out)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    NIBBLE = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
