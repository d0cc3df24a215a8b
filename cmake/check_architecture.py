#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the shape of the source tree: which room may include which, orphans, a test for each header, and the rules of a file.

usage: check_architecture.py [ROOT]
Prints each violation as "file:line: sentence" and exits with 1 if there is one.
"""

import fnmatch
import os
import re
import subprocess
import sys

# The arrows: a room and the rooms that it may include. Headers directly in include/nibble are rooms by their own name.
ARROWS = {
    "core": set(),
    "codec": {"core"},
    "source": {"core"},
    "model": {"core"},
    "shard": {"core"},
    "onnx": {"core"},
    "chat": {"core", "model"},
    "cpu": {"core", "codec"},
    "gpu": {"core", "codec"},
    "serve": {"core"},
    "convert": {"core", "codec", "source", "model", "shard", "onnx", "cpu", "chat", "serve"},
    "nibble.hpp": {"core", "codec"},
    "convert.hpp": {"core", "codec", "source", "model", "shard", "onnx", "cpu", "chat", "serve", "convert"},
    "version.hpp": set(),
}

# A dependency, by the first part of its include path, and the one header that may include it.
DEPENDENCIES = {
    "xsimd": "cpu/simd.hpp",
    "glslang": "gpu/spirv.hpp",
    "vulkan": "gpu/vulkan_context.hpp",
    "nlohmann": "core/json.hpp",
    "tl": "core/result.hpp",
    "httplib.h": "serve/http.hpp",
    "protozero": "onnx/protobuf.hpp",
}
SYSTEM_FOLDERS = {"sys", "linux", "netinet"}

# Rooms that build without exceptions, and so must not reach these headers by any path.
LEAN_ROOMS = {"codec", "cpu", "gpu", "nibble.hpp"}
HEAVY_HEADERS = {"core/json.hpp"}

# Lists that make a header known: it is no orphan if one of them includes it, directly or not.
REGISTRIES = ("*.hpp", "*/registry.hpp", "*/kernels.hpp", "*/products.hpp", "*/architectures.hpp")

# Headers without a test of their own name, the test that covers them (it must include them, directly or not), and why.
COVERED_ELSEWHERE = [
    ("core/error.hpp", "core/result_test.cpp", "an error is tested as what a result holds"),
    ("codec/codec.hpp", "codec/hostile_test.cpp", "a concept is tested by the policies that satisfy it, and by tests/reject"),
    ("codec/quantize.hpp", "codec/hostile_test.cpp", "the verbs are tested by the codec that breaks what is assumed of codecs"),
    ("chat/jinja_*.hpp", "chat/jinja_test.cpp", "parts of one interpreter, tested by what it renders"),
    ("chat/checkpoint.hpp", "chat/detect_test.cpp", "what a checkpoint says is tested by what is found in it"),
    ("chat/detector.hpp", "chat/detect_test.cpp", "the inside of one verb"),
    ("chat/derive.hpp", "chat/detect_test.cpp", "a derived template is tested by the checkpoint that it comes from"),
    ("codec/fit.hpp", "codec/affine_test.cpp", "a fit is tested through the encoders that use it"),
    ("codec/plain.hpp", "codec/registry_test.cpp", "a cast is tested by number_test.cpp; that each type has its codec, by the registry"),
    ("model/*.hpp", "model/mappings_test.cpp", "rows of one table are tested by a loop over the table"),
    ("model/chat_config.hpp", "convert/gen_config_test.cpp", "fields are tested by the configs that are made of them"),
    ("convert/onnx_*.hpp", "convert/onnx_export_test.cpp", "what is written is read back and compared with the law"),
    ("convert/*.hpp", "convert/golden_test.cpp", "a conversion is tested whole, by its bytes"),
    ("shard/*.hpp", "convert/golden_test.cpp", "what is written is compared with whole folders of mlc_llm, byte by byte"),
    ("onnx/protobuf.hpp", "onnx/reader_test.cpp", "the wire format is tested by the files that break it"),
    ("onnx/check.hpp", "onnx/reader_test.cpp", "rules of a model that has been read"),
    ("onnx/assembly.hpp", "onnx/graph_test.cpp", "pieces are tested by the files that they make"),
    ("serve/http.hpp", "serve/server_test.cpp", "the door to cpp-httplib holds no code of its own"),
    ("serve/local.hpp", "convert/doctor_test.cpp", "the doctor's way to a folder"),
    ("convert/template_check.hpp", "convert/doctor_test.cpp", "one of the doctor's findings"),
    ("convert/webllm_config.hpp", "convert/package_test.cpp", "what is changed for WebLLM is seen in packages"),
    ("convert/model_record.hpp", "convert/package_test.cpp", "a record is tested by the packages that it describes"),
    ("convert/model_card.hpp", "convert/package_test.cpp", "a card is tested by the packages that it describes"),
    ("serve/client.hpp", "serve/server_test.cpp", "a client is tested against our server"),
    ("source/source.hpp", "source/gguf_test.cpp", "an interface, tested by the formats behind it"),
    ("source/gguf_*.hpp", "source/gguf_test.cpp", "parts of one format"),
    ("source/open.hpp", "convert/golden_test.cpp", "chooses between formats, which have tests of their own"),
    ("gpu/vulkan_context.hpp", "gpu/vulkan_test.cpp", "the lower half of one runner"),
    ("cpu/nbits.hpp", "native/nbits_test.cpp", "compared with the law on two architectures: the compiler's own, and the one that all have"),
    ("cpu/simd.hpp", "cpu/encode_test.cpp", "the door to xsimd holds no code of its own worth a file"),
    ("cpu/matrix.hpp", "cpu/products_test.cpp", "what products are given, tested through them"),
    ("cpu/activations*.hpp", "cpu/products_test.cpp", "prepared activations mean nothing without the product that reads them"),
    ("cpu/gemv*.hpp", "cpu/products_test.cpp", "one loop over codecs, arithmetics and architectures tests all products"),
    ("cpu/gemm*.hpp", "cpu/products_test.cpp", "one loop over codecs, arithmetics and architectures tests all products"),
    ("cpu/encode_*.hpp", "cpu/encode_test.cpp", "one verb's ways on different machines, all compared with the scalar law"),
    ("cpu/thresholds.hpp", "cpu/encode_test.cpp", "a step of one encoder, seen in its bytes"),
    ("gpu/tree.hpp", "gpu/ir_test.cpp", "what the typed description builds, seen in the texts"),
    ("gpu/print.hpp", "gpu/ir_test.cpp", "what both printers share, seen in the texts of both"),
    ("gpu/wgsl.hpp", "gpu/ir_test.cpp", "a printer is tested with the other one"),
    ("gpu/glsl.hpp", "gpu/ir_test.cpp", "a printer is tested with the other one"),
    ("gpu/*.hpp", "gpu/kernels_test.cpp", "kernels and what they share are tested by loops over their list, on devices by gpu/trials_test.py"),
]

SOURCE_SUFFIXES = (".hpp", ".cpp", ".py", ".sh", ".cmake", ".txt", ".in", ".md")
OWNED_FOLDERS = ("include", "tests", "bench", "examples", "cmake", ".ci")
MAX_LINES = 1000
SPDX = "SPDX-License-Identifier: Apache-2.0"
BANNED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def tree_files(root):
    """Paths of the project's files relative to root: git's view where there is one, else everything but build folders."""
    if os.path.exists(os.path.join(root, ".git")):
        listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], check=True, capture_output=True).stdout
        paths = [p for p in listed.decode().split("\0") if p]
    else:
        paths = []
        for folder, folders, names in os.walk(root):
            folders[:] = [f for f in folders if f not in ("build", "out", "__pycache__", "node_modules", "python_modules")]
            paths += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return sorted(p for p in set(paths) if os.path.isfile(os.path.join(root, p)))


class Tree:
    def __init__(self, root):
        self.root = root
        self.violations = []
        self.lines = {}
        for path in tree_files(root):
            name = os.path.basename(path)
            owned = path.split("/")[0] in OWNED_FOLDERS or "/" not in path
            if not owned or "data" in path.split("/")[:-1]:
                continue
            if name.endswith(SOURCE_SUFFIXES) or path == ".ci/run":
                with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
                    self.lines[path] = f.read().splitlines()
        # Headers by their name below include/nibble: "core/bytes.hpp".
        self.headers = {p[len("include/nibble/"):]: p for p in self.lines if p.startswith("include/nibble/") and p.endswith(".hpp")}
        self.includes = {}  # path -> [(line, bracket, target)]
        for path, lines in self.lines.items():
            if path.endswith((".hpp", ".cpp", ".in")):
                found = ((i, INCLUDE.match(text)) for i, text in enumerate(lines, 1))
                self.includes[path] = [(i, m.group(1), m.group(2)) for i, m in found if m]

    def report(self, path, line, sentence):
        self.violations.append((path, line, sentence))

    def own_includes(self, path):
        """Headers of ours that a file includes directly, as (line, name)."""
        return [(i, t[len("nibble/"):]) for i, _, t in self.includes.get(path, []) if t.startswith("nibble/")]

    def reachable(self, paths):
        """Names of all headers that the files include, directly or not."""
        seen = set()
        waiting = [name for p in paths for _, name in self.own_includes(p)]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.headers:
                continue
            seen.add(name)
            waiting += [n for _, n in self.own_includes(self.headers[name])]
        return seen


def room_of(name):
    return name.split("/")[0]


def check_arrows(tree):
    for name, path in tree.headers.items():
        room = room_of(name)
        if room not in ARROWS:
            tree.report(path, 1, f"the room '{room}' is not one of the design's: {', '.join(ARROWS)}")
            continue
        for line, bracket, target in tree.includes[path]:
            if target.startswith("nibble/"):
                to = target[len("nibble/"):]
                if bracket == "<":
                    tree.report(path, line, f"our own header {target} is included with quotes")
                if to not in tree.headers:
                    tree.report(path, line, f"{target} does not exist")
                elif room_of(to) != room and to != "version.hpp" and room_of(to) not in ARROWS[room]:
                    tree.report(path, line, f"'{room}' must not include '{room_of(to)}': no arrow leads there")
            elif bracket == '"':
                tree.report(path, line, f'"{target}" is included by its full path, as in "nibble/core/bytes.hpp"')
            else:
                check_dependency(tree, path, name, line, target)
        if room in LEAN_ROOMS:
            for heavy in sorted(HEAVY_HEADERS & tree.reachable([path])):
                line = next((i for i, n in tree.own_includes(path) if n == heavy or heavy in tree.reachable([tree.headers.get(n, "")])), 1)
                tree.report(path, line, f"'{room}' is used without exceptions and must not reach {heavy}")
    check_cycles(tree)


def check_dependency(tree, path, name, line, target):
    first = target.split("/")[0]
    if first in DEPENDENCIES:
        if name != DEPENDENCIES[first]:
            tree.report(path, line, f"{first} is included only by {DEPENDENCIES[first]}")
    elif ("/" in target or target.endswith(".hpp")) and first not in SYSTEM_FOLDERS:
        tree.report(path, line, f"<{target}> belongs to no dependency that this script knows; add it with the one header that may include it")


def check_cycles(tree):
    done, on_path = set(), []

    def visit(name):
        if name in done or name not in tree.headers:
            return
        on_path.append(name)
        for line, to in tree.own_includes(tree.headers[name]):
            if to in on_path:
                tree.report(tree.headers[name], line, f"including {to} closes a circle: {' -> '.join(on_path[on_path.index(to):] + [to])}")
            else:
                visit(to)
        on_path.pop()
        done.add(name)

    for name in sorted(tree.headers):
        visit(name)


def check_orphans(tree):
    roots = [p for n, p in tree.headers.items() if any(n == r or ("/" in n) == ("/" in r) and fnmatch.fnmatch(n, r) for r in REGISTRIES)]
    known = tree.reachable(roots) | {p[len("include/nibble/"):] for p in roots}
    known |= tree.reachable([p for p in tree.includes if p.split("/")[0] in ("tests", "examples", "bench")])
    for name, path in tree.headers.items():
        if name not in known:
            tree.report(path, 1, "no registry, test or example includes this header: it is an orphan")


def check_tests(tree):
    for name, path in tree.headers.items():
        if "/" not in name:
            continue  # umbrellas and version.hpp: the example, the command and the packages use them
        own = "tests/" + name[: -len(".hpp")] + "_test.cpp"
        if own in tree.lines:
            if name not in tree.reachable([own]):
                tree.report(own, 1, f"this test does not include nibble/{name}, which it is named after")
            continue
        covers = ["tests/" + test for pattern, test, _ in COVERED_ELSEWHERE if fnmatch.fnmatch(name, pattern)]
        if not any(test in tree.lines and name in tree.reachable([test]) for test in covers):
            where = f"{own} does not exist" + "".join(f", nor does {test} include it" for test in covers)
            tree.report(path, 1, f"this header has no test: {where}")


def check_files(tree):
    macros = {}
    for path, lines in tree.lines.items():
        if len(lines) > MAX_LINES:
            tree.report(path, MAX_LINES + 1, f"the file has {len(lines)} lines; past {MAX_LINES} it is two")
        if not path.endswith((".md", ".in")) and not any(SPDX in text for text in lines[:2]):
            tree.report(path, 1, f"the file must begin with its licence line, {SPDX}")
        for i, text in enumerate(lines, 1):
            if m := BANNED.search(text):
                tree.report(path, i, f"'{m.group(1)}' is not left in the tree: do it, or file an issue")
        if path.endswith(".hpp"):
            check_header(tree, path, lines, macros)
    if len(macros) > 1:
        for name, (path, line) in macros.items():
            tree.report(path, line, f"macro {name}: there is one macro at most, for force-inline ({', '.join(sorted(macros))} are defined)")


def check_header(tree, path, lines, macros):
    if len(lines) < 2 or lines[1] != "#pragma once":
        tree.report(path, 2, "the second line of a header is #pragma once")
    if len(lines) < 3 or not lines[2].startswith("// "):
        tree.report(path, 3, "the third line of a header says what it is, in a comment")
    undefined = {m.group(1): i for i, text in enumerate(lines, 1) if (m := re.match(r"\s*#\s*undef\s+(\w+)", text))}
    for i, text in enumerate(lines, 1):
        if re.match(r"\s*using\s+namespace\b", text):
            tree.report(path, i, "a header must not say `using namespace`: every file that includes it would say it too")
        define = re.match(r"\s*#\s*define\s+(\w+)", text)
        taken_back = define is not None and undefined.get(define.group(1), 0) > i  # no includer sees it
        if define and not taken_back and path.startswith("include/") and not path.endswith("/version.hpp"):
            macros.setdefault(define.group(1), (path, i))


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    tree = Tree(root)
    if not tree.headers:
        print(f"{root}: there are no headers in include/nibble")
        return 2
    for check in (check_arrows, check_orphans, check_tests, check_files):
        check(tree)
    for path, line, sentence in sorted(set(tree.violations)):
        print(f"{path}:{line}: {sentence}")
    print(f"architecture: {len(tree.headers)} headers, {len(set(tree.violations))} violations")
    return 1 if tree.violations else 0


if __name__ == "__main__":
    sys.exit(main())
