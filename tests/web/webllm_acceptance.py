#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real WebLLM runs what nibble made: a random checkpoint with the sizes of Qwen2-0.5B is packaged, served by `nibble serve`, loaded by WebLLM in
Chromium with a prebuilt model library, and every logit of every step is compared with a forward pass in numpy. By hand: the library belongs to
others, and comes from the repository mlc-ai/binary-mlc-llm-libs. Where a tool is missing the test is skipped (exit status 77) and says which.

usage: webllm_acceptance.py NIBBLE --lib FILE.wasm [--webllm 0.2.79] [--quantization Q] [--tokens 8] [--tolerance X] [--work FOLDER]

Needs Node.js with npm and playwright-core, Chromium ($CHROMIUM, or where it usually is) with a WebGPU adapter in software that has
shader-f16 where the quantization has f16 (tests/web/README.md), and Python's numpy and tokenizers. 4 GB of memory, 2 GB of disk.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# Largest difference of a logit that correct folders showed: 8e-6 and 0.08 with Mesa's software adapter, 8e-4 with SwiftShader.
TOLERANCE = {"q4f32_1": 2e-3, "q0f32": 2e-3, "q4f16_1": 0.15, "q0f16": 0.15}


def skip(reason):
    print("skipped:", reason)
    sys.exit(77)


def run(*command, **options):
    print("+", " ".join(command[:1] + command[1:]), flush=True)
    return subprocess.run(command, check=True, **options)


def webllm_folder(version, work):
    """WebLLM's npm package, unpacked."""
    if os.path.isdir(version):
        return version
    folder = os.path.join(work, "webllm-" + version)
    if not os.path.exists(os.path.join(folder, "package", "lib", "index.js")):
        os.makedirs(folder, exist_ok=True)
        try:
            run("npm", "pack", "--silent", "@mlc-ai/web-llm@" + version, cwd=folder, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            skip(f"npm did not bring @mlc-ai/web-llm {version}")
        archive = next(name for name in os.listdir(folder) if name.endswith(".tgz"))
        shutil.unpack_archive(os.path.join(folder, archive), folder, "gztar")
    return os.path.join(folder, "package")


def make_folder(a, work):
    checkpoint, out = os.path.join(work, "checkpoint"), os.path.join(work, "random-qwen2-" + a.quantization)
    if not os.path.exists(os.path.join(checkpoint, "model.safetensors")):
        partly = checkpoint + ".part"
        run(sys.executable, os.path.join(HERE, "random_qwen2.py"), partly, *(["--tokenizer", a.tokenizer] if a.tokenizer else []))
        os.rename(partly, checkpoint)
    shutil.rmtree(out, ignore_errors=True)
    run(a.nibble, "convert", checkpoint, "-q", a.quantization, "-o", out)
    run(a.nibble, "gen-config", checkpoint, "-q", a.quantization, "--conv-template", "qwen2", "--context-window-size", "1024", "--prefill-chunk-size", "1024", "-o", out)
    run(a.nibble, "check", out, "--lib", a.lib)
    return out


def compare(folder, result, tolerance):
    """The differences between what WebLLM computed and numpy, as a list of what is wrong."""
    import numpy as np
    import tokenizers

    from qwen2_forward import Qwen2, prompt_of

    with open(os.path.join(result, "run.json"), encoding="utf-8") as f:
        got = json.load(f)
    theirs = np.fromfile(os.path.join(result, "logits.f32"), np.float32).reshape(-1, got["n_logits"])
    ids = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(prompt_of(folder, got["prompt"]), add_special_tokens=False).ids
    wrong = []
    if got["gpu_errors"]:
        wrong.append("the GPU complained: " + got["gpu_errors"][0])
    if len(theirs) != len(got["tokens"]) or not got["tokens"]:
        wrong.append(f"{len(got['tokens'])} tokens and {len(theirs)} rows of logits")
    if got["prompt_tokens"] != len(ids):
        wrong.append(f"WebLLM's prompt has {got['prompt_tokens']} tokens, the template {len(ids)}")
    model = Qwen2(folder)
    next_ids, n_equal, worst = ids, 0, 0.0
    for token, row in zip(got["tokens"], theirs):
        ours = model.logits(next_ids)
        error = float(np.max(np.abs(ours - row))) if row.shape == ours.shape and np.isfinite(row).all() else float("inf")
        order = np.argsort(ours)
        gap = float(ours[order[-1]] - ours[order[-2]])
        worst, n_equal = max(worst, error), n_equal + int(order[-1] == token)
        # Two tokens that are nearer to each other than the error may change places.
        if order[-1] != token and gap > 2 * tolerance:
            wrong.append(f"token {token} instead of {order[-1]}, which leads by {gap:.3g}")
        print(f"  token {token:6}  numpy's {order[-1]:6}  ahead by {gap:.4f}  largest error of a logit {error:.2e}")
        next_ids = [token]
    if worst > tolerance:
        wrong.append(f"a logit differs by {worst:.3g}, more than {tolerance:g}")
    if not got["page"]["status"].startswith("Stopped") or not got["page"]["text"]:
        wrong.append(f"the page of examples/web said {got['page']}")
    adapter = got["adapter"]
    print(f"WebLLM {got['webllm']}, {os.path.basename(folder)}, {adapter['vendor']} {adapter['architecture']}: {n_equal} of {len(theirs)} tokens are numpy's, "
          f"largest error of {theirs.size} logits {worst:.2e}; loaded in {got['load_s']:.0f} s, {got['generate_s']:.0f} s for the answer")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("nibble")
    parser.add_argument("--lib", help="a prebuilt library for Qwen2-0.5B")
    parser.add_argument("--webllm", default="0.2.79", help="a version, or the folder of an unpacked npm package")
    parser.add_argument("--quantization", help="from the library's name, unless given")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--tokenizer", help="a tokenizer.json of the Qwen2 family instead of a made-up one")
    parser.add_argument("--work", help="keeps the checkpoint and the folders there, for the next run")
    a = parser.parse_args()
    if not a.lib:
        skip("no model library: give a Qwen2-0.5B one of mlc-ai/binary-mlc-llm-libs with --lib")
    for module in ("numpy", "tokenizers"):
        try:
            __import__(module)
        except ImportError:
            skip(f"no {module}; pip brings it")
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            skip(f"no {tool}")
    named = re.search(r"q\d(?:b?f16|f32)(?:_\d)?", os.path.basename(a.lib))
    a.quantization = a.quantization or (named[0] if named else parser.error("the library's name tells no quantization: give --quantization"))
    tolerance = a.tolerance or TOLERANCE.get(a.quantization) or parser.error(f"give --tolerance for {a.quantization}")
    a.nibble, a.lib = os.path.abspath(a.nibble), os.path.abspath(a.lib)
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(a.work or temporary)
        os.makedirs(work, exist_ok=True)
        webllm = webllm_folder(a.webllm, work)
        folder = make_folder(a, work)
        result = os.path.join(work, "run")
        shutil.rmtree(result, ignore_errors=True)
        os.makedirs(result)
        ran = subprocess.run(["node", os.path.join(HERE, "webllm_run.mjs"), a.nibble, "--model", folder, "--lib", a.lib, "--webllm", webllm, "--out", result,
                              "--tokens", str(a.tokens)], check=False)
        if ran.returncode == 77:
            sys.exit(77)
        if ran.returncode != 0:
            sys.exit("not accepted: WebLLM did not run it")
        wrong = compare(folder, result, tolerance)
    for line in wrong:
        print("wrong:", line)
    print("not accepted" if wrong else "accepted")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
