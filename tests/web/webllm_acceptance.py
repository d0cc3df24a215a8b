#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real WebLLM runs what nibble made: a random checkpoint with the sizes of Qwen2-0.5B is packaged, served by `nibble serve`, loaded by WebLLM in
Chromium with a prebuilt model library, and every logit of every step is compared with a forward pass in numpy. By hand: the library belongs to
others, and comes from the repository mlc-ai/binary-mlc-llm-libs. Where it or a tool is missing the test is skipped (exit status 77) and says so.

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
# Largest difference of a logit that is accepted. Correct folders showed 1.7e-5 (f32) and 0.11 (f16) with Mesa's software adapter, and 8e-4 (f32) with
# SwiftShader, which is the adapter without shader-f16. One changed scale among 15 million showed 3e-3.
def tolerance_of(quantization, adapter):
    if "f16" in quantization:
        return 0.15
    return 2e-4 if adapter["shader_f16"] else 2e-3


def skip(reason):
    print("skipped:", reason)
    sys.exit(77)


def run(*command, **options):
    print("+", " ".join(command), flush=True)
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


def make_folder(a, version, work):
    checkpoint, out = os.path.join(work, "checkpoint"), os.path.join(work, "random-qwen2-" + a.quantization)
    if not os.path.exists(os.path.join(checkpoint, "model.safetensors")):
        partly = checkpoint + ".part"
        run(sys.executable, os.path.join(HERE, "random_qwen2.py"), partly, *(["--tokenizer", a.tokenizer] if a.tokenizer else []))
        os.rename(partly, checkpoint)
    shutil.rmtree(out, ignore_errors=True)
    run(a.nibble, "package", checkpoint, "-q", a.quantization, "--conv-template", "qwen2", "--lib", a.lib, "--webllm", version, "-o", out)
    run(a.nibble, "doctor", out, "--webllm", version)
    return out


def compare(folder, result, quantization, tolerance=None):
    """Compares what WebLLM computed with numpy; gives a list of what is wrong."""
    import numpy as np
    import tokenizers

    from qwen2_forward import Qwen2, prompt_of

    with open(os.path.join(result, "run.json"), encoding="utf-8") as f:
        got = json.load(f)
    tolerance = tolerance or tolerance_of(quantization, got["adapter"])
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
        # WebLLM's own tokens are followed, so that every step is compared, also after one where two tokens are as good as equal.
        ours = model.logits(next_ids)
        if row.shape != ours.shape or not np.isfinite(row).all():
            return wrong + [f"{row.size} logits instead of {ours.size}, {np.count_nonzero(~np.isfinite(row))} of them not finite"]
        error, best = float(np.max(np.abs(ours - row))), int(np.argmax(ours))
        worst, n_equal = max(worst, error), n_equal + int(best == token)
        if token != int(np.argmax(row)):
            wrong.append(f"at temperature 0 WebLLM took token {token}, and {np.argmax(row)} has its largest logit")
        print(f"  token {token:6}  numpy's {best:6}, ahead of the next by {np.diff(np.partition(ours, -2)[-2:])[0]:.4f}  largest error of a logit {error:.2e}")
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
    parser.add_argument("--lib", default=os.environ.get("NIBBLE_MODEL_LIBRARY"), help="a prebuilt library for Qwen2-0.5B; else $NIBBLE_MODEL_LIBRARY")
    parser.add_argument("--webllm", default="0.2.79", help="a version, or the folder of an unpacked npm package")
    parser.add_argument("--quantization", help="from the library's name, unless given")
    parser.add_argument("--tokens", type=int, default=8)
    # After this one no two tokens are nearly as good as each other (the nearest by 0.07), so that the errors of f16 do not choose between them.
    parser.add_argument("--prompt", default="Tell me of a bird.")
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
    a.nibble, a.lib = os.path.abspath(a.nibble), os.path.abspath(a.lib)
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(a.work or temporary)
        os.makedirs(work, exist_ok=True)
        webllm = webllm_folder(a.webllm, work)
        with open(os.path.join(webllm, "package.json"), encoding="utf-8") as f:
            version = json.load(f)["version"]
        folder = make_folder(a, version, work)
        result = os.path.join(work, "run")
        shutil.rmtree(result, ignore_errors=True)
        os.makedirs(result)
        ran = subprocess.run(["node", os.path.join(HERE, "webllm_run.mjs"), a.nibble, "--model", folder, "--webllm", webllm, "--out", result,
                              "--tokens", str(a.tokens), "--prompt", a.prompt], check=False)
        if ran.returncode == 77:
            sys.exit(77)
        if ran.returncode != 0:
            sys.exit("not accepted: WebLLM did not run it")
        wrong = compare(folder, result, a.quantization, a.tolerance)
    for line in wrong:
        print("wrong:", line)
    print("not accepted" if wrong else "accepted")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
