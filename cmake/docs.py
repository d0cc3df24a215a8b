#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the Markdown pages true: code in them is a region of a file that is compiled and run, tables are what a program prints, links
lead somewhere, and commands in them exist.

usage: docs.py check [ROOT] [--printed PROGRAM] [--command NIBBLE]    exit status 1 if something is wrong, each as "file:line: sentence"
       docs.py fix [ROOT] [--printed PROGRAM]                         writes the code and the tables into the pages
       docs.py api [ROOT] [-o FOLDER]                                 the reference as HTML, by Doxygen (status 77 where there is none)

In a page, a comment right above a fence says where its code is from:
    <!-- snippet: examples/my_codec.cpp#declaration -->   the lines between `// [declaration]` and `// [/declaration]`
    <!-- snippet: examples/hello.cpp -->                  the whole file, without its licence line
    <!-- snippet: include/nibble/codec/affine.hpp@using q4f16_1 -->   the one line that begins so
and what lies between <!-- printed: NAME --> and <!-- /printed --> is what `PROGRAM NAME` prints.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_architecture import tree_files  # noqa: E402

TESTED_LANGUAGES = {"cpp", "c++", "wgsl", "glsl", "cmake", "json", "python", "js", "ini"}
OTHER_LANGUAGES = {"sh", "text"}
SNIPPET = re.compile(r"<!-- snippet: ([^#@ ]+)(?:([#@])(.+?))? -->$")
PRINTED = re.compile(r"<!-- printed: ([\w-]+) -->$")
MARKER = re.compile(r"^\s*(?://|#|<!--) \[(/?)([\w-]+)\](?: -->)?$")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
CODE = re.compile(r"`[^`\n]*(?:\n[^`\n]+)*`")
HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$")
OWN_FILE = re.compile(r"^(?:\./)?((?:cmake|tests|examples|bench)/[\w./-]+\.(?:py|sh|cpp|mjs|md|txt|cmake|dict)|\.ci/\w+)$")


class Wrong(Exception):
    """A sentence for the reader of the page."""


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        return f.read().split("\n")


def dedented(lines):
    while lines and not lines[0].strip():
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    indent = min((len(text) - len(text.lstrip()) for text in lines if text.strip()), default=0)
    return [text[indent:].rstrip() for text in lines]


def region(root, path, kind, name):
    """The lines that a snippet comment asks for."""
    full = os.path.join(root, path)
    if not os.path.isfile(full):
        raise Wrong(f"{path} does not exist")
    lines = read_lines(full)
    if kind == "@":
        found = [text.strip() for text in lines if text.strip().startswith(name)]
        if len(found) != 1:
            raise Wrong(f"{len(found)} lines of {path} begin with '{name}', and one should")
        return found
    kept, inside = [], kind != "#"
    starts = ends = 0
    for text in lines:
        marker = MARKER.match(text)
        if marker:
            if kind == "#" and marker.group(2) == name:
                inside = not marker.group(1)
                starts, ends = starts + inside, ends + (not inside)
        elif inside and "SPDX-License-Identifier" not in text:
            kept.append(text)
    if kind == "#" and (starts, ends) != (1, 1):
        raise Wrong(f"{path} has {starts} lines `// [{name}]` and {ends} lines `// [/{name}]`, and one of each is needed")
    kept = dedented(kept)
    if not kept:
        raise Wrong(f"the region '{name}' of {path} is empty")
    return kept


def anchor_of(heading, seen):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.replace("`", "").lower()).replace(" ", "-")
    count = seen[text] = seen.get(text, -1) + 1
    return text if count == 0 else f"{text}-{count}"


class Page:
    """A Markdown file, taken apart line by line."""

    def __init__(self, root, path):
        self.root, self.path = root, path
        self.lines = read_lines(os.path.join(root, path))
        self.fences = []   # (line of the fence, language, first and last line of the code)
        self.prose = []    # (index, text) of lines outside fences
        self.anchors = []
        opened = None
        seen = {}
        for i, text in enumerate(self.lines):
            if text.lstrip().startswith("```"):
                if opened is None:
                    opened = i
                else:
                    self.fences.append((opened, self.lines[opened].strip()[3:].strip(), opened + 1, i))
                    opened = None
            elif opened is None:
                self.prose.append((i, text))
                heading = HEADING.match(text)
                if heading:
                    self.anchors.append(anchor_of(heading.group(2), seen))
        self.unclosed = opened

    def prose_text(self):
        """The page with empty lines in place of its fences, so that what goes on over two lines is found."""
        kept = dict(self.prose)
        return "\n".join(kept.get(i, "") for i in range(len(self.lines)))


class Docs:
    def __init__(self, root):
        self.root = root
        paths = [p for p in tree_files(root) if p.endswith(".md") and "data" not in p.split("/")[:-1]]
        self.pages = {p: Page(root, p) for p in paths}
        self.violations = []
        self.n_snippets = self.n_links = 0

    def report(self, path, index, sentence):
        self.violations.append((path, index + 1, sentence))

    # ---- code

    def wanted(self, page):
        """(first, last, lines) of each fence that has a snippet comment; what cannot be had is reported."""
        for fence, language, first, last in page.fences:
            above = page.lines[fence - 1] if fence > 0 else ""
            snippet = SNIPPET.match(above.strip())
            if snippet is None:
                if language in TESTED_LANGUAGES:
                    self.report(page.path, fence, f"a block of {language} needs a line <!-- snippet: FILE#region --> right above it: code in the pages is tested")
                elif language not in OTHER_LANGUAGES:
                    self.report(page.path, fence, f"'{language}' is no language of these pages; commands are sh, and what is no code is text")
                continue
            self.n_snippets += 1
            try:
                yield first, last, region(self.root, *snippet.groups())
            except Wrong as wrong:
                self.report(page.path, fence - 1, str(wrong))
        fences = {fence - 1 for fence, *_ in page.fences}
        for i, text in page.prose:
            if text.strip().startswith("<!-- snippet:") and (i not in fences or not SNIPPET.match(text.strip())):
                self.report(page.path, i, "a snippet line is <!-- snippet: FILE#region -->, with its block right below it")
        if page.unclosed is not None:
            self.report(page.path, page.unclosed, "this block is not closed")

    def printed(self, page, program):
        """(first, last, lines) of each place for what the program prints."""
        for i, text in page.prose:
            name = PRINTED.match(text.strip())
            if name is None:
                continue
            last = next((j for j in range(i + 1, len(page.lines)) if page.lines[j].strip() == "<!-- /printed -->"), None)
            if last is None:
                self.report(page.path, i, "this has no end: <!-- /printed -->")
                continue
            if program is None:
                continue
            done = subprocess.run([program, name.group(1)], capture_output=True, text=True, encoding="utf-8")
            if done.returncode != 0 or not done.stdout:
                self.report(page.path, i, f"{os.path.basename(program)} {name.group(1)} ended with status {done.returncode}: {done.stderr.strip()}")
                continue
            yield i + 1, last, done.stdout.rstrip("\n").split("\n")

    def check_text(self, program):
        for page in self.pages.values():
            for what, replacements in (("its file says", self.wanted(page)), ("the program prints", self.printed(page, program))):
                for first, last, lines in replacements:
                    have = page.lines[first:last]
                    if have != lines:
                        at = next((i for i, (a, b) in enumerate(zip(have, lines)) if a != b), min(len(have), len(lines)))
                        wanted = lines[at] if at < len(lines) else "nothing more"
                        self.report(page.path, first + at, f"{what} '{wanted.strip()}' here; cmake/docs.py fix writes it")

    def fix(self, program):
        for page in self.pages.values():
            changes = [*self.wanted(page), *self.printed(page, program)]
            before = list(page.lines)
            for first, last, lines in sorted(changes, key=lambda change: change[0], reverse=True):
                page.lines[first:last] = lines
            if page.lines != before:
                with open(os.path.join(self.root, page.path), "w", encoding="utf-8") as f:
                    f.write("\n".join(page.lines))
                print(f"{page.path}: written")

    # ---- links and commands

    def check_links(self):
        for page in self.pages.values():
            text = CODE.sub(lambda code: re.sub(r"[^\n`]", ".", code.group()), page.prose_text())
            for found in LINK.finditer(text):
                target = found.group(1)
                if re.match(r"[a-z]+:", target):
                    continue
                self.n_links += 1
                self.check_link(page, text.count("\n", 0, found.start(1)), *(target.split("#", 1) + [None])[:2])

    def check_link(self, page, i, path, anchor):
        to = os.path.normpath(os.path.join(os.path.dirname(page.path), path)) if path else page.path
        if to.startswith("..") or not os.path.exists(os.path.join(self.root, to)):
            self.report(page.path, i, f"the link to {path} leads nowhere")
        elif anchor is not None and (to not in self.pages or anchor not in self.pages[to].anchors):
            self.report(page.path, i, f"{to} has no heading with the anchor #{anchor}")

    def shell_lines(self):
        """(page, index, words of one command) of all sh blocks, comments left out and continued lines joined."""
        for page in self.pages.values():
            for _, language, first, last in page.fences:
                if language != "sh":
                    continue
                text, start = "", first
                for i in range(first, last):
                    text += re.sub(r"(^|\s)#.*", "", page.lines[i])
                    if text.endswith("\\"):
                        text = text[:-1] + " "
                        continue
                    for command in re.split(r"&&|\|\||[|;]", text):
                        if command.split():
                            yield page, start, command.split()
                    text, start = "", i + 1

    def check_paths(self):
        for page, i, words in self.shell_lines():
            for word in words:
                path = OWN_FILE.match(word)
                if path and not os.path.exists(os.path.join(self.root, path.group(1))):
                    self.report(page.path, i, f"{path.group(1)} does not exist")

    def check_commands(self, command):
        """Subcommands and options of `nibble` in sh blocks, against what its own help lists."""
        helps = {}

        def help_of(*words):
            if words not in helps:
                done = subprocess.run([command, *words, "--help"], capture_output=True, text=True)
                listed = done.stdout.split("\nSubcommands:", 1)
                names = re.findall(r"^  (\S+)", listed[1], re.M) if len(listed) == 2 else []
                helps[words] = (done.returncode, names, set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", done.stdout)))
            return helps[words]

        for page, i, words in self.shell_lines():
            if os.path.basename(words[0]) != "nibble":
                continue
            subcommands, rest = (), words[1:]
            while rest and help_of(*subcommands)[1] and not rest[0].startswith("-"):
                if rest[0] not in help_of(*subcommands)[1]:
                    self.report(page.path, i, f"`{' '.join(['nibble', *subcommands, rest[0]])}` does not exist")
                    rest = []
                    break
                subcommands, rest = (*subcommands, rest[0]), rest[1:]
            for word in rest:
                option = re.match(r"--?[A-Za-z][\w-]*", word)
                if option and option.group() not in help_of(*subcommands)[2]:
                    self.report(page.path, i, f"`{' '.join(['nibble', *subcommands])}` has no option {option.group()}")

    def end(self):
        for path, line, sentence in sorted(set(self.violations)):
            print(f"{path}:{line}: {sentence}")
        print(f"docs: {len(self.pages)} pages, {self.n_snippets} snippets, {self.n_links} links, {len(set(self.violations))} violations")
        return 1 if self.violations else 0


# ---- reference


def page_name(path):
    return "page_" + re.sub(r"\W", "_", os.path.splitext(path)[0].lower())


def for_doxygen(page, published):
    """A page's text with links, anchors and code as Doxygen wants them."""

    def link(m):
        target, label = m.group(1), m.group(0)[1:m.group(0).rindex("](")]
        if re.match(r"[a-z]+:", target):
            return m.group(0)
        if target.endswith((".svg", ".png")):
            return f"[{label}]({os.path.basename(target)})"
        path, anchor = (target.split("#", 1) + [None])[:2]
        to = os.path.normpath(os.path.join(os.path.dirname(page.path), path)) if path else page.path
        if to not in published:
            return label if "`" in label else f"{label} (`{to}`)"
        where = "index" if to == "README.md" and anchor is None else page_name(to) + ("_" + anchor.replace("-", "_") if anchor else "")
        return f'@ref {where} "{" ".join(label.replace("`", "").split())}"'

    seen = {}
    kept = []
    prose = LINK.sub(lambda m: link(m) + "\n" * m.group(0).count("\n"), page.prose_text()).split("\n")
    in_prose = {i for i, _ in page.prose}
    for i, text in enumerate(page.lines):
        if i not in in_prose:
            kept.append(re.sub(r"^```(\w+)$", lambda m: {"cpp": "```cpp", "json": "```js", "python": "```py"}.get(m.group(1), "```"), text))
        elif SNIPPET.match(text.strip()) or PRINTED.match(text.strip()) or text.strip() == "<!-- /printed -->":
            continue
        elif heading := HEADING.match(text):
            name = page_name(page.path) + ("" if heading.group(1) == "#" else "_" + anchor_of(heading.group(2), seen).replace("-", "_"))
            kept.append(f"{heading.group(1)} {heading.group(2).replace('`', '')} {{#{name}}}")
        else:
            kept.append(prose[i])
    return "\n".join(kept)


def api(root, folder):
    doxygen = shutil.which("doxygen")
    if doxygen is None:
        print("docs: doxygen is not installed; `apt-get install doxygen` and the like bring it")
        return 77
    docs = Docs(root)
    published = {p for p in docs.pages if "/" not in p or p.startswith("docs/")}
    pages = os.path.join(folder, "pages")
    shutil.rmtree(pages, ignore_errors=True)
    os.makedirs(pages)
    for path in sorted(published):
        with open(os.path.join(pages, page_name(path) + ".md"), "w", encoding="utf-8") as f:
            f.write(for_doxygen(docs.pages[path], published))
    with open(os.path.join(root, "include/nibble/version.hpp"), encoding="utf-8") as f:
        version = re.search(r'NIBBLE_VERSION "(.+)"', f.read()).group(1)
    with open(os.path.join(root, "docs/Doxyfile"), encoding="utf-8") as f:
        settings = f.read()
    for name, value in (("ROOT", root), ("PAGES", pages), ("OUTPUT", folder), ("VERSION", version)):
        settings = settings.replace(f"@{name}@", value)
    done = subprocess.run([doxygen, "-"], input=settings, capture_output=True, text=True, cwd=folder)
    lines = [text.replace(root + "/", "") for text in done.stderr.splitlines() if text.strip()]
    lines = sorted({text for text in lines if not is_tolerated(root, text)})
    for text in lines:
        print(text)
    n_pages = sum(name.endswith(".html") for _, _, names in os.walk(os.path.join(folder, "html")) for name in names)
    print(f"docs: {n_pages} pages of HTML in {os.path.join(folder, 'html')}, {len(lines)} lines of warnings")
    return 1 if done.returncode != 0 or lines or n_pages == 0 else 0


def is_tolerated(root, text):
    """Whether a warning is one of Doxygen's about what has no comment of its own and needs none: members whose names say it, functions of
    the rooms above codec and cpu, and overloads below a comment that speaks for all of them. Types and enumerations all have a comment."""
    found = re.match(r"(include/nibble/[\w/.]+):\d+: \w+: Member (.+) \((\w+)\) of (\w+) (.+) is not documented", text)
    if found is None:
        return False
    path, member, kind, of, name = found.groups()
    if of != "namespace":
        return True
    if kind == "enumeration":
        return False
    if name not in ("nibble", "nibble::cpu", "nibble::cpu::header_only", "nibble::ggml"):
        return True
    member = re.escape(re.match(r"[^<(=]+", member).group().split()[-1])
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return re.search(rf"^ *///.*\n(?: *template <.*\n)?.*\b{member}\b", f.read(), re.M) is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("check", "fix", "api"))
    parser.add_argument("root", nargs="?", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--printed", metavar="PROGRAM", help="the program that prints the tables (nibble_docs_printed)")
    parser.add_argument("--command", metavar="NIBBLE", help="the nibble command, to compare the pages with its help")
    parser.add_argument("-o", metavar="FOLDER", default="build/docs")
    given = parser.parse_args()
    root = os.path.abspath(given.root)
    if given.what == "api":
        return api(root, os.path.abspath(given.o))
    docs = Docs(root)
    if not docs.pages:
        print(f"{root}: there are no Markdown pages")
        return 2
    if given.what == "fix":
        docs.fix(given.printed)
        docs.violations = []
        docs = Docs(root)
    docs.check_text(given.printed)
    docs.check_links()
    docs.check_paths()
    if given.command:
        docs.check_commands(given.command)
    return docs.end()


if __name__ == "__main__":
    sys.exit(main())
