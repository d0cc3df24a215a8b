#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs another compiler over a configured build tree, for its diagnostics alone.

usage: check_syntax.py BUILD_FOLDER COMPILER
Takes the commands of BUILD_FOLDER/compile_commands.json (all but the headers alone) and repeats them with COMPILER, all warnings as errors
and -fsyntax-only. Flags for one architecture (-m...) are kept.
"""

import concurrent.futures
import json
import os
import shlex
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZERS = ("-fsanitize", "-fno-sanitize")


def command_of(entry, compiler):
    words = shlex.split(entry["command"]) if "command" in entry else list(entry["arguments"])
    while words and os.path.basename(words[0]).startswith(("ccache", "sccache")):
        words.pop(0)
    kept, skip = [], False
    for word in words[1:]:
        if skip or word in ("-o", "-MF", "-MT"):
            skip = not skip
        elif word not in ("-c", "-MD") and not word.startswith(SANITIZERS):
            kept.append(word)
    return [compiler, *kept, *WARNINGS, "-fsyntax-only"]


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip().splitlines()[2], file=sys.stderr)
        return 64
    folder, compiler = sys.argv[1:]
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    # The test `headers` compiles these with the same warnings; here each header is read by the tests that include it.
    entries = [e for e in entries if "/tests/headers/" not in e["file"]]

    def check(entry):
        done = subprocess.run(command_of(entry, compiler), cwd=entry["directory"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, check=False)
        return entry["file"], done.returncode, done.stdout

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, status, output in pool.map(check, entries):
            if status != 0:
                failed += 1
                print(f"{file}: refused by {compiler}\n{output}")
    print(f"syntax: {compiler} read {len(entries)} files, {failed} failed")
    return 1 if failed or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
