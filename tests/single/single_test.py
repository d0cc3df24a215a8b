#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the one header, and compares what a program computes with it and with the headers in include/.

usage: single_test.py [--all] [--include FOLDER]... COMPILER...
The first compiler is the build's own; of the others those that are not there are named and skipped. Each takes the header as C++20 and
C++23, with and without xsimd and tl::expected, with or without exceptions and RTTI; with --all, in all combinations of these.
All warnings are errors. With each compiler one program is of two files, which both include the header.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "tests/single/program.cpp")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
LEAN = ["-fno-exceptions", "-fno-rtti"]
# (standard, without exceptions, with the libraries): every pair of choices is among these four.
PAIRS = [(20, True, True), (23, True, False), (20, False, False), (23, False, True)]
FEW = [(20, False, True), (23, True, False)]  # of one compiler that was asked for alone
ALL = list(itertools.product((20, 23), (True, False), (True, False)))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"single: failed ({done.returncode}): {' '.join(command)}\n{done.stdout[:5000]}")
    return done.stdout


def write_headers(work):
    """The one header in full/ and, in bare/, as it is read where neither library is found; each with a copy of it below."""
    header = os.path.join(work, "nibble.hpp")
    amalgamate = [sys.executable, os.path.join(ROOT, "cmake/amalgamate.py"), "--root", ROOT]
    run([*amalgamate, "-o", header])
    with open(header, encoding="utf-8") as f:
        text = f.read()
    if run(amalgamate) != text:
        sys.exit("single: two runs of amalgamate.py have not written the same bytes")
    bare = text
    for library in ("<tl/expected.hpp>", "<xsimd/xsimd.hpp>"):
        if library not in text:
            sys.exit(f"single: the one header does not include {library}")
        bare = bare.replace(library, "<absent/absent.hpp>")
    for name, content in (("full", text), ("bare", bare)):
        for folder in (os.path.join(work, name), os.path.join(work, name, "copy")):
            os.makedirs(folder)
            with open(os.path.join(folder, "nibble.hpp"), "w", encoding="utf-8") as f:
                f.write(content)


def takes(compiler, flag):
    return subprocess.run([*compiler, flag, "-fsyntax-only", "-x", "c++", os.devnull], capture_output=True, check=False).returncode == 0


def version_of(compiler):
    macros = run([*compiler, "-dM", "-E", "-x", "c++", os.devnull]).splitlines()
    return [line for line in macros if line.startswith("#define __VERSION__ ")][0]


def output_of(compiler, flags, work, alone):
    """What the program prints, of two files or of one."""
    objects = []
    for name, file in (("alone", ["-DTEST_ALONE"]),) if alone else (("main", []), ("other", ["-DTEST_OTHER"])):
        objects.append(os.path.join(work, name + ".o"))
        run([*compiler, "-O0", "-g0", *WARNINGS, *flags, *file, "-c", PROGRAM, "-o", objects[-1]])
    program = os.path.join(work, "program")
    run([*compiler, *objects, "-o", program])
    return run([program])


def refuses(compiler, flags, includes, sentence):
    """Whether the first error of a file with these includes is our sentence."""
    text = "".join(f'#include "{name}"\n' for name in includes)
    done = subprocess.run([*compiler, "-std=c++20", *flags, "-fsyntax-only", "-x", "c++", "-"], input=text, capture_output=True, text=True, check=False)
    first = next((line for line in done.stderr.splitlines() if "error: " in line), "no error")
    if done.returncode == 0 or sentence not in first:
        sys.exit(f"single: including {', '.join(includes)} must be refused with: {sentence}\nbut the first error is: {first}")


def check_refusals(compiler, libraries, ours, work):
    full = os.path.join(work, "full")
    os.makedirs(os.path.join(full, "older"))
    with open(os.path.join(full, "nibble.hpp"), encoding="utf-8") as f:
        older = f.read().replace("#define NIBBLE_VERSION_MAJOR ", "#define NIBBLE_VERSION_MAJOR 9").replace("NIBBLE_VERSION_MAJOR != ", "NIBBLE_VERSION_MAJOR != 9")
    with open(os.path.join(full, "older/nibble.hpp"), "w", encoding="utf-8") as f:
        f.write(older)
    flags = ["-I" + full, "-I" + ours, *libraries]
    refuses(compiler, flags, ["nibble/nibble.hpp", "nibble.hpp"], "nibble: a file includes the one header, or those of include/nibble, not both")
    for two in (["nibble.hpp", "older/nibble.hpp"], ["older/nibble.hpp", "nibble.hpp"]):
        refuses(compiler, flags, two, "nibble: this file includes the one header of two versions of nibble")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every combination with every compiler")
    parser.add_argument("--include", action="append", default=[], metavar="FOLDER", help="where libraries' headers are")
    parser.add_argument("compilers", nargs="+")
    arguments = parser.parse_args()
    ours = os.path.realpath(os.path.join(ROOT, "include"))
    folders = [f for f in arguments.include if f and os.path.realpath(f) not in (ours, "/usr/include")]
    libraries = [flag for folder in folders for flag in ("-isystem", folder)]
    own = arguments.compilers[0].split()
    os.environ["CXX"] = " ".join(own + libraries)

    work = tempfile.mkdtemp(prefix="nibble_single_")
    try:
        write_headers(work)
        law = output_of(own, ["-std=c++20", "-I" + ours, *libraries], work, True)
        law_without_cpu = "".join(line for line in law.splitlines(keepends=True) if not line.startswith("cpu"))
        if law == law_without_cpu or law.count("\n") < 10:
            sys.exit(f"single: the program of include/ prints too little:\n{law}")
        check_refusals(own, libraries, ours, work)
        if arguments.all and takes(own, "-march=native"):
            native = ["-std=c++20", "-march=native", "-O1", *libraries]  # without -O, xsimd 8 does not compile for AVX-512
            if output_of(own, [*native, "-I" + ours], work, True) != output_of(own, [*native, "-DTEST_SINGLE", "-I" + os.path.join(work, "full")], work, True):
                sys.exit("single: with -march=native the one header gives other results than include/")
            print("single: with -march=native too: the same results")
        here = {}  # by what they are: c++ and g++-12 may be the same
        for name in arguments.compilers:
            if shutil.which(name.split()[-1]) is None:
                print(f"single: {name} is not here, and is skipped")
            else:
                here.setdefault(version_of(name.split()), name)
        for i, name in enumerate(here.values()):
            compiler = name.split()
            choices = ALL if arguments.all else FEW if len(arguments.compilers) == 1 else PAIRS if len(here) == 1 else PAIRS[2 * (i % 2):][:2]
            for standard, lean, full in choices:
                flag = next((f for f in (f"-std=c++{standard}", "-std=c++2b") if takes(compiler, f)), None)
                flags = [flag, "-DTEST_SINGLE", "-I" + os.path.join(work, "full" if full else "bare"), *libraries, *(LEAN if lean else [])]
                printed = output_of(compiler, flags, work, (standard, lean, full) != choices[0])
                words = f"{name} {flag}{' without exceptions and RTTI' if lean else ''}, {'with' if full else 'without'} xsimd and tl::expected"
                if printed != (law if full else law_without_cpu):
                    sys.exit(f"single: {words}: the one header gives\n{printed}and include/ gives\n{law}")
                print(f"single: {words}: the same results", flush=True)
    finally:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
