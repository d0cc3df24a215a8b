#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes nibble as one header, for those who copy a file into their project.

usage: amalgamate.py [-o FILE] [--root ROOT] [--expected FILE]
It holds the rooms codec, cpu and gpu, and what they reach of core; what needs more than headers is left out. Each header stands in it once,
after those that it includes. Of tl::expected a copy is embedded, for where there is none: FILE, or the one that $CXX (c++) finds.
The same tree gives the same bytes. Prints to standard output without -o, and refuses a tree that does not fit into one file.
"""

import argparse
import os
import re
import subprocess
import sys

ROOMS = ("core", "codec", "cpu", "gpu")
# Headers of these rooms that are not in it, and what they need.
LEFT_OUT = {
    "core/json.hpp": "nlohmann_json",
    "cpu/thread_pool.hpp": "a library of threads",
    "gpu/spirv.hpp": "glslang",
    "gpu/vulkan.hpp": "Vulkan",
    "gpu/vulkan_context.hpp": "Vulkan",
}
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
EXPECTED = "tl/expected.hpp"
THIRD_PARTIES = {EXPECTED: "core", "xsimd/xsimd.hpp": "cpu"}  # and the room that includes it
DEDICATED = re.compile(r"dedicated all\s*//\s*copyright")  # CC0's words, in tl::expected's comment

HEAD = """\
// SPDX-License-Identifier: Apache-2.0 AND CC0-1.0
// nibble {version}, quantized tensors, as one header. Written by cmake/amalgamate.py of nibble's source tree: change it there.
//
//     #include "nibble.hpp"
//     const auto q = nibble::quantize<nibble::q4f16_1>(weights, {{n, k}});  // result<quantized<q4f16_1>>
//
// What is in it, and what decides that (define it before the first include, or for all files by a flag of the compiler):
//   codecs       always: number formats, tensors, errors, every codec, whole tensors through them.
//   nibble::cpu  SIMD encoders, decoders and products, where xsimd 8.1 or newer is found (https://github.com/xtensor-stack/xsimd) and the
//                flags have its instructions. NIBBLE_NO_SIMD leaves it out; where it is left out, NIBBLE_NO_SIMD is defined.
//   nibble::gpu  WGSL and GLSL of kernels, where NIBBLE_GPU is defined: it needs nothing, but takes longest to compile.
// Left out: {left_out}.
//
// It needs C++20, a little-endian machine and no library; exceptions and RTTI may be off. Errors are tl::expected {expected_version}, by Simon Brand
// and others, in the public domain (CC0-1.0): the program's own copy where <tl/expected.hpp> is found, else the one embedded here.
// All else is licensed under the Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""

EXPECTED_OPEN = """\
#if __has_include(<tl/expected.hpp>)
#include <tl/expected.hpp>
#else
// ==== tl/expected.hpp, as it is ====
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#endif
"""
EXPECTED_CLOSE = """\
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif
"""


class Refused(Exception):
    pass


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


class Header:
    """A header of ours: its text, and the includes that were taken out of it."""

    def __init__(self, root, name):
        self.name = name
        self.room = name.split("/")[0]
        self.own, self.system, self.body = [], [], []
        depth = 0
        lines = read(os.path.join(root, "include/nibble", name)).splitlines()
        for i, text in enumerate(lines, 1):
            where = f"include/nibble/{name}:{i}"
            if re.match(r"\s*#\s*if", text):
                depth += 1
            elif re.match(r"\s*#\s*endif", text):
                depth -= 1
            include = INCLUDE.match(text)
            if i <= 2 and (text.startswith("// SPDX-") or text == "#pragma once"):
                continue
            if include and include.group(2).startswith("nibble/"):
                if depth:
                    raise Refused(f"{where}: a header of ours is included under a condition, but in one file it is there or not for all")
                self.own.append((where, include.group(2)[len("nibble/"):]))
                continue
            if include:
                self.check_system(where, include.group(2))
                if depth == 0 and include.group(2) not in THIRD_PARTIES:
                    self.system.append(include.group(2))
                    continue
            self.body.append(text)

    def check_system(self, where, target):
        if target in THIRD_PARTIES and THIRD_PARTIES[target] != self.room:
            raise Refused(f"{where}: <{target}> is included by the room {THIRD_PARTIES[target]} alone")
        if target not in THIRD_PARTIES and ("/" in target or target.endswith(".hpp")):
            raise Refused(f"{where}: <{target}> is neither the standard library's nor one of {', '.join(THIRD_PARTIES)}, which the one header may include")

    def text(self):
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(self.body)).strip("\n")
        return f"// ==== nibble/{self.name} ====\n{body}\n\n"


def ordered_headers(root):
    """The headers, each after those that it includes; rooms one after another."""
    folder = os.path.join(root, "include/nibble")
    headers, done, order = {}, set(), []

    def visit(name, where):
        if name in done:
            return
        if name in LEFT_OUT:
            raise Refused(f"{where}: {name} is left out of the one header, as it needs {LEFT_OUT[name]}")
        if name.split("/")[0] not in ROOMS and name != "version.hpp":
            raise Refused(f"{where}: {name} is of the room '{name.split('/')[0]}', which is not in the one header; that has {', '.join(ROOMS)}")
        done.add(name)
        if not os.path.isfile(os.path.join(folder, name)):
            raise Refused(f"{where}: {name} does not exist")
        headers[name] = Header(root, name)
        for line, own in headers[name].own:
            visit(own, line)
        order.append(name)

    for room in ROOMS[1:]:  # of core, what the others reach
        path = os.path.join(folder, room)
        for file in sorted(os.listdir(path) if os.path.isdir(path) else []):
            if file.endswith(".hpp") and f"{room}/{file}" not in LEFT_OUT:
                visit(f"{room}/{file}", "")
    if not order:
        raise Refused(f"{root}: there are no headers in include/nibble")
    return [headers[name] for name in sorted(order, key=lambda n: ROOMS.index(n.split("/")[0]) if "/" in n else -1)]


def find_expected():
    """The tl/expected.hpp that the compiler finds."""
    compiler = os.environ.get("CXX", "c++").split()
    try:
        listed = subprocess.run([*compiler, "-x", "c++", "-M", "-"], input=f"#include <{EXPECTED}>\n", capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise Refused(f"{' '.join(compiler)} does not find <{EXPECTED}>; name it by --expected FILE") from e
    return next(path for path in listed.replace("\\\n", " ").split() if path.endswith(EXPECTED))


def read_expected(path):
    """Its text and version."""
    text = read(path)
    version = re.findall(r"#define TL_EXPECTED_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text)
    if not DEDICATED.search(text) or len(version) != 3:
        raise Refused(f"{path}: this is not tl::expected with its notice of CC0 and its version, and is not embedded")
    return text.rstrip("\n") + "\n", ".".join(version)


def includes(headers, known):
    """Lines for what these headers include of the standard library and `known` has not."""
    new = sorted({target for h in headers for target in h.system} - known)
    known.update(new)
    return "".join(f"#include <{target}>\n" for target in new) + ("\n" if new else "")


def amalgamate(root, expected_path):
    version_text = read(os.path.join(root, "include/nibble/version.hpp"))
    version = re.search(r'#define NIBBLE_VERSION "([^"]+)"', version_text).group(1)
    version_body = "".join(line for line in version_text.splitlines(keepends=True) if line.startswith("#define"))
    different = " || ".join(f"{name} != {number}" for name, number in re.findall(r"#define (NIBBLE_VERSION_\w+) (\d+)", version_text))
    expected, expected_version = read_expected(expected_path or find_expected())
    headers = [h for h in ordered_headers(root) if h.name != "version.hpp"]
    rooms = {room: [h for h in headers if h.room == room] for room in ROOMS}
    known = set()
    base = rooms["core"] + rooms["codec"]
    left_out = ", ".join(f"{name} (needs {what})" for name, what in LEFT_OUT.items() if name in ("cpu/thread_pool.hpp", "gpu/spirv.hpp", "gpu/vulkan.hpp"))

    out = HEAD.format(version=version, expected_version=expected_version, left_out=left_out)
    out += f"""
#if !defined(NIBBLE_SINGLE_HEADER)
#if defined(NIBBLE_VERSION)
#error "nibble: a file includes the one header, or those of include/nibble, not both"
#endif
#define NIBBLE_SINGLE_HEADER
{version_body}
{includes(base, known)}"""
    for h in base:
        out += h.text()
    out += f"""#elif {different}
#error "nibble: this file includes the one header of two versions of nibble"
#endif  // NIBBLE_SINGLE_HEADER

#if !defined(NIBBLE_SINGLE_HEADER_CPU) && !defined(NIBBLE_NO_SIMD)
#if __has_include(<xsimd/xsimd.hpp>) && (defined(__SSE2__) || defined(__aarch64__) || defined(__wasm_simd128__))
#define NIBBLE_SINGLE_HEADER_CPU
{includes(rooms["cpu"], known)}"""
    for h in rooms["cpu"]:
        out += h.text()
    # What only cpu has included so far may be missing where it is left out.
    base_known = {target for h in base for target in h.system}
    out += f"""#else
#define NIBBLE_NO_SIMD
#endif
#endif  // NIBBLE_SINGLE_HEADER_CPU

#if !defined(NIBBLE_SINGLE_HEADER_GPU) && defined(NIBBLE_GPU)
#define NIBBLE_SINGLE_HEADER_GPU
{includes(rooms["gpu"], base_known)}"""
    for h in rooms["gpu"]:
        out += h.text()
    out += "#endif  // NIBBLE_SINGLE_HEADER_GPU\n"
    if out.count(f"#include <{EXPECTED}>\n") != 1:
        raise Refused(f"<{EXPECTED}> is to be included once, in the open")
    return out.replace(f"#include <{EXPECTED}>\n", EXPECTED_OPEN + expected + EXPECTED_CLOSE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", metavar="FILE", help="write here, and not to standard output")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))), help="the source tree")
    parser.add_argument("--expected", metavar="FILE", help="the tl/expected.hpp to embed")
    arguments = parser.parse_args()
    try:
        text = amalgamate(arguments.root, arguments.expected)
    except (Refused, OSError) as e:
        print(f"amalgamate: {e}", file=sys.stderr)
        return 1
    if arguments.o is None:
        sys.stdout.write(text)
    else:
        with open(arguments.o, "w", encoding="utf-8", newline="\n") as f:
            f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
