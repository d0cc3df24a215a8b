#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The commands serve, doctor and check from outside: a folder that is served, looked at, and compared with a library.

usage: serve_test.py NIBBLE [TESTS...]
"""

import functools
import hashlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
import unittest
import urllib.request

import command_test
from command_test import DONE, REFUSED, USAGE, Command, run, write_model
from serve_load import ATTACKS, Server, load

NIBBLE = ""


def leb(n):
    out = b""
    while True:
        low, n = n & 0x7F, n >> 7
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def counted(data):
    return leb(len(data)) + data


def library(metadata, calls="TVMFFIWasmSafeCall"):
    """A WebAssembly module with the metadata of a model library."""
    imports = leb(1) + counted(b"env") + counted(calls.encode()) + b"\0\0"
    data = leb(1) + b"\0\x41\0\x0b" + counted(b"\0" + json.dumps(metadata).encode() + b"\0")
    return b"\0asm\1\0\0\0" + b"\2" + counted(imports) + b"\x0b" + counted(data)


class PlainHandler(http.server.SimpleHTTPRequestHandler):
    """A server as people have one at hand: no CORS, no ranges."""

    def log_message(self, *_):
        pass


class Serve(Command):
    def setUp(self):
        super().setUp()
        write_model(self.model)
        self.expect(self.convert("-o", self.out), DONE)
        self.config = {"model_type": "llama", "quantization": "q4f16_1", "vocab_size": 48, "context_window_size": 64, "sliding_window_size": -1,
                       "attention_sink_size": -1, "prefill_chunk_size": 64, "tokenizer_files": ["tokenizer.json"],
                       "model_config": {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 48},
                       "conv_template": {"name": "LM", "system_template": "{system_message}", "roles": {"user": "", "assistant": ""}, "seps": [""],
                                         "stop_str": [], "stop_token_ids": [2]}}
        self.write("mlc-chat-config.json", json.dumps(self.config))
        self.write("tokenizer.json", json.dumps({"added_tokens": [], "model": {"vocab": {"a": 0}, "merges": []}}))

    def write(self, name, text):
        with open(os.path.join(self.out, name), "w" if isinstance(text, str) else "wb") as f:
            f.write(text)

    def metadata(self):
        with open(os.path.join(self.out, "tensor-cache.json")) as f:
            index = json.load(f)
        params = [{"name": r["name"], "shape": r["shape"], "dtype": r["dtype"]} for s in index["records"] for r in s["records"]]
        return {"model_type": "llama", "quantization": "q4f16_1", "context_window_size": 64, "sliding_window_size": -1, "prefill_chunk_size": 64, "params": params}

    def findings(self, *arguments):
        got = run("doctor", *arguments, "--json")
        report = json.loads(got.stdout)
        self.assertEqual(got.returncode, DONE if report["good"] else REFUSED, got.stderr)
        for f in report["findings"]:
            if f["severity"] == "error":
                self.assertTrue(f["remedy"], f)
                self.assertIn(f["rule"], got.stderr)
        return [f["code"] for f in report["findings"] if f["severity"] == "error"]

    def test_load(self):
        wrong, measured = load(command_test.NIBBLE, 400, 16)
        self.assertEqual(wrong, [])
        if not os.environ.get("NIBBLE_SANITIZED"):
            self.assertLess(measured["idle_before"], 20e6)
            self.assertLess(measured["idle_after"], 20e6)
        self.assertGreater(len(ATTACKS), 20)

    def test_the_page_and_the_record(self):
        with Server(command_test.NIBBLE, self.out) as server:
            with urllib.request.urlopen(urllib.request.Request(server.url + "/", headers={"Accept": "application/json"})) as answer:
                front = json.load(answer)
            self.assertEqual(front["record"]["model"], server.url)
            self.assertEqual(front["record"]["required_features"], ["shader-f16"])
            hashes = {f["name"]: f["hash"] for f in front["files"]}
            with open(os.path.join(self.out, "params_shard_0.bin"), "rb") as f:
                self.assertEqual(hashes["params_shard_0.bin"], "md5 " + hashlib.md5(f.read()).hexdigest())
            with open(os.path.join(self.out, "tokenizer.json"), "rb") as f:
                self.assertEqual(hashes["tokenizer.json"], "sha256 " + hashlib.sha256(f.read()).hexdigest())
            with urllib.request.urlopen(server.url + "/") as answer:
                page = answer.read().decode()
            self.assertIn("CreateMLCEngine", page)
            self.assertIn("params_shard_0.bin", page)
            self.assertIn("no prebuilt library is known", page)
        self.write("webllm-record.json", json.dumps({"model": "https://elsewhere", "model_id": "mine", "model_lib": "lib"}))
        with Server(command_test.NIBBLE, self.out, "--cross-origin-isolate") as server:
            with urllib.request.urlopen(urllib.request.Request(server.url + "/", headers={"Accept": "application/json"})) as answer:
                self.assertEqual(json.load(answer)["record"], {"model": server.url, "model_id": "mine", "model_lib": "lib"})
                self.assertEqual(answer.headers["Cross-Origin-Embedder-Policy"], "require-corp")

    def test_ends_by_signals_and_refuses_what_it_cannot_serve(self):
        for how in (signal.SIGINT, signal.SIGTERM):
            with Server(command_test.NIBBLE, self.out) as server:
                with socket.create_connection(("127.0.0.1", server.port)):  # one that says nothing
                    time.sleep(0.2)
                    begin = time.monotonic()
                    self.assertEqual(server.stop(how), 0)
                    self.assertLess(time.monotonic() - begin, 3)
        self.expect(run("serve", self.path("nowhere")), REFUSED, "", "no such folder")
        self.expect(run("serve", self.out, "--port", "65536"), USAGE)
        with Server(command_test.NIBBLE, self.out) as server:
            self.expect(run("serve", self.out, "--port", str(server.port)), REFUSED, "", f"port {server.port}.*--port 0")

    def test_doctor_of_a_folder_and_of_a_server(self):
        self.assertEqual(self.findings(self.out), [])
        with Server(command_test.NIBBLE, self.out) as server:
            self.assertEqual(self.findings(server.url), [])
            self.assertEqual(self.findings(server.url + "/me/model/resolve/main/", "--quick"), [])
            self.assertEqual(self.findings(server.url, "--webllm", "0.2.79"), [])
            shard = os.path.join(self.out, "params_shard_0.bin")
            with open(shard, "rb") as f:
                data = f.read()
            self.write("params_shard_0.bin", data[:-1])
            self.assertEqual(self.findings(server.url), ["shard-truncated"])
            self.assertEqual(self.findings(server.url, "--quick"), ["shard-truncated"])
            self.write("params_shard_0.bin", data + b"x")
            self.assertEqual(self.findings(server.url), ["shard-length"])
            self.write("params_shard_0.bin", data[:100] + bytes([data[100] ^ 1]) + data[101:])
            self.assertEqual(self.findings(server.url), ["hash"])
            self.assertEqual(self.findings(server.url, "--quick"), [])
            os.remove(shard)
            self.assertEqual(self.findings(server.url), ["shard-missing"])
            self.write("params_shard_0.bin", data)
            os.remove(os.path.join(self.out, "ndarray-cache.json"))
            self.assertEqual(self.findings(server.url, "--webllm", "0.2.79"), ["index-name"])
            os.remove(os.path.join(self.out, "tokenizer.json"))
            self.assertEqual(self.findings(server.url), ["tokenizer-missing"])
        self.assertEqual(self.findings(server.url), ["no-answer"])
        self.expect(run("doctor", self.out, "--webllm", "latest"), USAGE, "", "no version of WebLLM")
        self.expect(run("doctor", self.path("nowhere")), REFUSED, "", "no such folder")
        got = self.expect(run("doctor", self.out), REFUSED, "tokenizer-missing")
        self.assertIn("-> ", got.stdout)

    def test_doctor_of_a_server_without_cors(self):
        handler = functools.partial(PlainHandler, directory=self.out)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as plain:
            thread = threading.Thread(target=plain.serve_forever)
            thread.start()
            try:
                url = f"http://127.0.0.1:{plain.server_port}"
                self.assertEqual(self.findings(url), ["resolve-path", "cors"])
                report = json.loads(run("doctor", url, "--json").stdout)
                self.assertIn("ranges", [f["code"] for f in report["findings"]])
            finally:
                plain.shutdown()
                thread.join()

    def test_check(self):
        lib = self.path("lib.wasm")

        def write(data):
            with open(lib, "wb") as f:
                f.write(data)

        write(library(self.metadata()))
        self.expect(run("check", self.out, "--lib", lib, "--webllm", "0.2.86"), DONE, "Good: the library runs this folder")
        report = json.loads(self.expect(run("check", self.out, "--lib", lib, "--json"), DONE).stdout)
        self.assertEqual((report["good"], report["matching"]), (True, report["library"]["parameters"]))
        self.expect(run("check", self.out, "--lib", lib, "--webllm", "0.2.79"), REFUSED, "NOT GOOD", "another line.*v0_2_48")
        self.assertEqual(self.findings(self.out, "--lib", lib, "--webllm", "0.2.79"), ["library"])
        write(library(self.metadata(), "TVMWasmPackedCFunc"))
        self.expect(run("check", self.out, "--lib", lib, "--webllm", "0.2.79"), DONE)
        other = self.metadata()
        other["params"][0]["shape"][-1] += 1
        other["params"][1]["dtype"] = "float32"
        other["params"].append({"name": "extra", "shape": ["vocab_size"], "dtype": "float16"})
        other["quantization"] = "q4f32_1"
        write(library(other))
        got = self.expect(run("check", self.out, "--lib", lib), REFUSED)
        for part in ("wants the shape", "wants float32", "'extra'", "for q4f32_1"):
            self.assertIn(part, got.stderr)
        write(b"<html>")
        self.expect(run("check", self.out, "--lib", lib), REFUSED, "", "not a WebAssembly module")
        self.expect(run("check", self.out), USAGE)
        with Server(command_test.NIBBLE, self.out) as server:
            self.write("lib.wasm", library(self.metadata()))
            self.assertEqual(self.findings(server.url, "--lib", server.url + "/lib.wasm", "--webllm", "0.2.86"), [])
            self.assertEqual(self.findings(self.out, "--lib", server.url + "/none.wasm"), ["library-missing"])


if __name__ == "__main__":
    command_test.NIBBLE = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
