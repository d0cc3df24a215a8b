#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an include costs: a Markdown table of CPU seconds and preprocessed lines.

usage: compile_time.py [--compiler COMPILER] [--runs N] [--include FOLDER]... [--lines]
       compile_time.py --check [--compiler COMPILER] [--include FOLDER]...
A file with nothing but the include is compiled with -O0 -c; the seconds are user and system time of the compiler, the median of 5 runs.
They are those of this machine and what else it does; --lines leaves them out. --check compiles nothing, and fails if a row has more lines
than it may, or reaches a header that it may not. Exits with 77 where a library's header is not found.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What no header of the lean rooms reaches; xsimd reaches <sstream>, by <complex>.
HEAVY = ("nlohmann/", "glslang/", "vulkan/", "protozero/", "iostream", "fstream", "filesystem", "regex", "thread")
NO_SIMD = (*HEAVY, "xsimd/", "immintrin.h", "sstream")

# What lines are compared with: they differ between standard libraries, and versions of xsimd.
STANDARD = "string, vector, span, functional, cmath, algorithm"
SIMD = f"xsimd/xsimd.hpp, {STANDARD}"

# A row: what is included, what its lines are compared with and how many times as many it may have, and what it may not reach.
ROWS = [
    ("nibble/codec/affine.hpp", STANDARD, 1.0, (*NO_SIMD, "tl/")),
    ("nibble/codec/registry.hpp", STANDARD, 1.0, (*NO_SIMD, "tl/")),
    ("nibble/nibble.hpp", STANDARD, 1.25, NO_SIMD),
    ("nibble/cpu/kernels.hpp", SIMD, 1.05, HEAVY),
    ("nibble/cpu/products.hpp", SIMD, 1.1, HEAVY),
    ("nibble/gpu/gemv.hpp", STANDARD, 1.45, NO_SIMD),
    ("nibble/gpu/kernels.hpp", STANDARD, 1.5, NO_SIMD),
    ("nibble.hpp, NIBBLE_NO_SIMD", STANDARD, 1.25, NO_SIMD),
    ("nibble.hpp", SIMD, 1.2, HEAVY),
    ("nibble.hpp, NIBBLE_GPU", SIMD, 1.4, HEAVY),
]
YARDSTICKS = ["nibble/convert.hpp", "xsimd/xsimd.hpp", "tl/expected.hpp", "nlohmann/json.hpp", "string, vector, span"]


def source_of(row):
    """The file that is compiled for a row, whose name is what it includes, with what it defines or includes further."""
    first, *more = row.split(", ")
    defines = "".join(f"#define {word}\n" for word in more if word.startswith("NIBBLE_"))
    return defines + "".join(f"#include <{word}>\n" for word in [first, *more] if not word.startswith("NIBBLE_"))


class Compiler:
    def __init__(self, command, folders, work):
        self.command = [*command.split(), "-std=c++20", *(f"-I{f}" for f in folders)]
        self.source = os.path.join(work, "row.cpp")

    def preprocess(self, row):
        """Lines, and the paths of the headers that are reached."""
        self.write(row)
        done = subprocess.run([*self.command, "-E", self.source], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            missing = re.search(r"fatal error: '?([^:']+)'?: No such file|'([^']+)' file not found", done.stderr)
            if missing:
                print(f"compile time: skipped, {missing.group(1) or missing.group(2)} is not found; --include FOLDER names where it is")
                sys.exit(77)
            sys.exit(done.stderr)
        return done.stdout.count("\n"), set(re.findall(r'^# \d+ "([^"<]+)"', done.stdout, re.MULTILINE))

    def seconds(self, row, runs):
        self.write(row)
        times = []
        for _ in range(runs):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*self.command, "-O0", "-c", self.source, "-o", self.source + ".o"], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return statistics.median(times)

    def write(self, row):
        with open(self.source, "w", encoding="utf-8") as f:
            f.write(source_of(row))


def reached(path, name):
    """Whether a path is of a header: "xsimd/" is any of that folder, "regex" the standard library's header of that name."""
    if name.endswith("/"):
        return f"/{name}" in path
    return re.search(rf"/(c\+\+(/v?\d+)?|include)/{re.escape(name)}$", path) is not None


def check(compiler):
    """The sentences about what is wrong."""
    wrong = []
    for row, yardstick, times, never in ROWS:
        lines, paths = compiler.preprocess(row)
        most = int(times * compiler.preprocess(yardstick)[0])
        print(f"{row}: {lines} lines of {most}")
        if lines > most:
            wrong.append(f"{row}: {lines} lines, at most {most} are allowed ({times} times those of {yardstick}); -H tells who includes what")
        for name in never:
            found = sorted(path for path in paths if reached(path, name))
            if found:
                wrong.append(f"{row}: reaches {found[0]}, which it must not")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--include", action="append", default=[], metavar="FOLDER", help="where libraries' headers are")
    parser.add_argument("--root", default=ROOT, help="the source tree")
    parser.add_argument("--lines", action="store_true", help="no seconds")
    parser.add_argument("--check", action="store_true", help="compare with what is allowed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nibble_compile_time_") as work:
        folders = [os.path.join(arguments.root, "include"), *(f for f in arguments.include if f and os.path.realpath(f) != "/usr/include")]
        compiler = Compiler(arguments.compiler, [*folders, work], work)
        os.environ["CXX"] = " ".join([arguments.compiler, *(f"-I{f}" for f in folders[1:])])
        amalgamate = os.path.join(os.path.dirname(os.path.abspath(__file__)), "amalgamate.py")
        subprocess.run([sys.executable, amalgamate, "--root", arguments.root, "-o", os.path.join(work, "nibble.hpp")], check=True)
        if arguments.check:
            wrong = check(compiler)
            for sentence in wrong:
                print(f"compile time: {sentence}")
            print(f"compile time: {len(ROWS)} includes, {len(wrong)} violations")
            return 1 if wrong else 0
        print("| include | seconds | lines |\n|---|---:|---:|")
        for row in [row for row, *_ in ROWS] + YARDSTICKS:
            lines, _ = compiler.preprocess(row)
            seconds = "" if arguments.lines else f"{compiler.seconds(row, arguments.runs):.2f}"
            print(f"| `{row}` | {seconds} | {lines} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
