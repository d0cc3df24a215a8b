#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that the checks find what they look for: each test plants one violation in a temporary tree."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADER = "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n// What this is.\n\n"
SOURCE = "// SPDX-License-Identifier: Apache-2.0\n"


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, **options)
    return done.returncode, done.stdout


class Temporary(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix="nibble_checks_")
        self.addCleanup(shutil.rmtree, self.tree)

    def write(self, path, text):
        path = os.path.join(self.tree, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def append(self, path, text):
        with open(os.path.join(self.tree, path), "a", encoding="utf-8") as f:
            f.write(text)


class Architecture(Temporary):
    def setUp(self):
        super().setUp()
        self.header("nibble.hpp", "codec/codec.hpp")
        self.header("convert.hpp", "convert/plan.hpp")
        self.header("core/bytes.hpp")
        self.header("core/json.hpp", "core/bytes.hpp", extra="#include <nlohmann/json.hpp>\n")
        self.header("codec/codec.hpp", "core/bytes.hpp")
        self.header("source/gguf.hpp", "core/json.hpp")
        self.header("cpu/simd.hpp", "codec/codec.hpp", extra="#include <xsimd/xsimd.hpp>\n")
        self.header("cpu/kernels.hpp", "cpu/simd.hpp")
        self.header("convert/plan.hpp", "source/gguf.hpp", "codec/codec.hpp")
        for name in ("core/bytes", "core/json", "codec/codec", "source/gguf", "cpu/simd", "cpu/kernels", "convert/plan"):
            self.write(f"tests/{name}_test.cpp", SOURCE + f'#include "nibble/{name}.hpp"\n')

    def header(self, name, *includes, extra=""):
        self.write("include/nibble/" + name, HEADER + extra + "".join(f'#include "nibble/{i}"\n' for i in includes))

    def check(self):
        return run(sys.executable, os.path.join(ROOT, "cmake/check_architecture.py"), self.tree)

    def finds(self, where, sentence, count=1):
        status, output = self.check()
        lines = output.splitlines()
        self.assertEqual(status, 1, output)
        self.assertTrue(any(line.startswith(where + ": ") and sentence in line for line in lines), f"no '{where}: ..{sentence}..' in\n{output}")
        self.assertEqual(len(lines) - 1, count, output)

    def test_clean_tree(self):
        status, output = self.check()
        self.assertEqual((status, output), (0, "architecture: 9 headers, 0 violations\n"))

    def test_empty_tree(self):
        shutil.rmtree(os.path.join(self.tree, "include"))
        self.assertEqual(self.check()[0], 2)

    def test_forbidden_arrows(self):
        for name, to in (("core/bytes", "codec/codec"), ("codec/codec", "source/gguf"), ("source/gguf", "codec/codec"), ("cpu/simd", "convert/plan")):
            with self.subTest(name):
                self.setUp()
                path = f"include/nibble/{name}.hpp"
                self.append(path, f'#include "nibble/{to}.hpp"\n')
                _, output = self.check()
                self.assertIn(f"'{name.split('/')[0]}' must not include '{to.split('/')[0]}'", output)

    def test_convert_does_not_see_gpu(self):
        self.header("gpu/kernels.hpp")
        self.write("tests/gpu/kernels_test.cpp", SOURCE + '#include "nibble/gpu/kernels.hpp"\n')
        self.append("include/nibble/convert/plan.hpp", '#include "nibble/gpu/kernels.hpp"\n')
        self.finds("include/nibble/convert/plan.hpp:7", "'convert' must not include 'gpu'")

    def test_unknown_room(self):
        self.header("misc/x.hpp")
        self.write("tests/misc/x_test.cpp", SOURCE + '#include "nibble/misc/x.hpp"\n')
        self.finds("include/nibble/misc/x.hpp:1", "room 'misc'")

    def test_circle(self):
        self.header("core/a.hpp", "core/b.hpp")
        self.header("core/b.hpp", "core/a.hpp")
        for n in "ab":
            self.write(f"tests/core/{n}_test.cpp", SOURCE + f'#include "nibble/core/{n}.hpp"\n')
        self.finds("include/nibble/core/b.hpp:5", "closes a circle: core/a.hpp -> core/b.hpp -> core/a.hpp")

    def test_dependencies_have_one_door(self):
        for include in ("nlohmann/json.hpp", "xsimd/xsimd.hpp", "tl/expected.hpp", "glslang/Public/ShaderLang.h"):
            with self.subTest(include):
                self.setUp()
                self.append("include/nibble/core/bytes.hpp", f"#include <{include}>\n")
                self.finds("include/nibble/core/bytes.hpp:5", "is included only by")

    def test_unknown_dependency(self):
        self.append("include/nibble/core/bytes.hpp", "#include <boost/any.hpp>\n#include <sys/mman.h>\n#include <vector>\n")
        self.finds("include/nibble/core/bytes.hpp:5", "no dependency that this script knows")

    def test_json_is_kept_from_codecs(self):
        self.append("include/nibble/codec/codec.hpp", '#include "nibble/core/json.hpp"\n')
        self.finds("include/nibble/codec/codec.hpp:6", "must not reach core/json.hpp", count=4)  # and cpu's two and nibble.hpp through it

    def test_includes_by_full_path_and_in_quotes(self):
        self.append("include/nibble/core/json.hpp", '#include "bytes.hpp"\n')
        self.finds("include/nibble/core/json.hpp:7", "full path")
        self.setUp()
        self.append("include/nibble/core/json.hpp", "#include <nibble/core/bytes.hpp>\n")
        self.finds("include/nibble/core/json.hpp:7", "with quotes")

    def test_missing_header(self):
        self.append("include/nibble/core/json.hpp", '#include "nibble/core/gone.hpp"\n')
        self.finds("include/nibble/core/json.hpp:7", "does not exist")

    def test_orphan_without_test(self):
        self.header("core/lonely.hpp")
        self.finds("include/nibble/core/lonely.hpp:1", "orphan", count=2)
        self.finds("include/nibble/core/lonely.hpp:1", "tests/core/lonely_test.cpp does not exist", count=2)

    def test_test_that_does_not_include_its_header(self):
        self.write("tests/source/gguf_test.cpp", SOURCE)
        self.finds("tests/source/gguf_test.cpp:1", "does not include nibble/source/gguf.hpp")

    def test_exemption_needs_its_cover(self):
        os.remove(os.path.join(self.tree, "tests/codec/codec_test.cpp"))
        self.finds("include/nibble/codec/codec.hpp:1", "nor does tests/codec/hostile_test.cpp include it")
        self.write("tests/codec/hostile_test.cpp", SOURCE + '#include "nibble/codec/codec.hpp"\n')
        self.assertEqual(self.check()[0], 0)

    def test_long_file(self):
        self.append("include/nibble/core/bytes.hpp", "\n" * 996)
        self.assertEqual(self.check()[0], 0)
        self.append("include/nibble/core/bytes.hpp", "\n")
        self.finds("include/nibble/core/bytes.hpp:1001", "1001 lines")

    def test_first_lines(self):
        self.write("include/nibble/core/bytes.hpp", HEADER.split("\n", 1)[1])
        self.finds("include/nibble/core/bytes.hpp:1", "licence line", count=3)
        self.write("include/nibble/core/bytes.hpp", HEADER.replace("#pragma once\n", ""))
        self.finds("include/nibble/core/bytes.hpp:2", "#pragma once", count=2)
        self.write("include/nibble/core/bytes.hpp", HEADER.replace("// What this is.\n", ""))
        self.finds("include/nibble/core/bytes.hpp:3", "says what it is")

    def test_licence_of_scripts(self):
        self.write("cmake/x.py", "#!/usr/bin/env python3\nprint()\n")
        self.finds("cmake/x.py:1", "licence line")

    def test_banned_words(self):
        for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
            with self.subTest(word):
                self.setUp()
                self.append("tests/core/bytes_test.cpp", f"// {word}: later\n// mkstemp wants XX{'X' * 4}\n")
                self.finds("tests/core/bytes_test.cpp:3", f"'{word}'")

    def test_using_namespace(self):
        self.append("tests/core/bytes_test.cpp", "using namespace nibble;\n")
        self.assertEqual(self.check()[0], 0)
        self.append("include/nibble/core/bytes.hpp", "using namespace std;\n")
        self.finds("include/nibble/core/bytes.hpp:5", "using namespace")

    def test_second_macro(self):
        self.append("include/nibble/core/bytes.hpp", "#define NIBBLE_INLINE inline\n")
        self.assertEqual(self.check()[0], 0)
        self.append("include/nibble/core/bytes.hpp", "#define NIBBLE_BRIEF 1\n#undef NIBBLE_BRIEF\n")
        self.assertEqual(self.check()[0], 0)
        self.append("include/nibble/core/json.hpp", "#undef NIBBLE_MORE\n#define NIBBLE_MORE 1\n")
        self.finds("include/nibble/core/json.hpp:8", "macro NIBBLE_MORE", count=2)


class Docs(Temporary):
    PAGE = """# A page

## One thing

<!-- snippet: examples/a.cpp#part -->
```cpp
int one = 1;
```

[itself](#one-thing), [the other](docs/b.md#two-things--more), [a file](examples/a.cpp), [outside](https://example.org/x)

<!-- printed: sum -->
2
<!-- /printed -->

```sh
nibble convert MODEL -q q4f16_1 --fit mse   # not --a-word-of-a-comment
examples/run.sh && nibble gpu emit gemv \\
    --to wgsl
```
"""

    def setUp(self):
        super().setUp()
        self.write("README.md", self.PAGE)
        self.write("docs/b.md", "# B\n\n## Two `things` & more\n\n[back](../README.md)\n")
        self.write("examples/a.cpp", SOURCE + "    // [part]\n    int one = 1;\n    // [/part]\nint two = 2;\n")
        self.write("examples/run.sh", "# SPDX-License-Identifier: Apache-2.0\n")
        self.printer = self.program("printer", '[ "$1" = sum ] && echo 2')
        self.command = self.program("nibble", """case "$*" in
    --help) printf 'Usage\\n\\nSubcommands:\\n  convert   x\\n  gpu   y\\n' ;;
    'gpu --help') printf 'Usage\\n\\nSubcommands:\\n  emit   x\\n' ;;
    'gpu emit --help') printf '  -h,--help\\n  --to TEXT\\n' ;;
    'convert --help') printf '  -q,--quantization TEXT\\n  --fit TEXT\\n' ;;
esac""")

    def program(self, name, text):
        self.write("bin/" + name, "#!/bin/sh\n" + text + "\n")
        path = os.path.join(self.tree, "bin", name)
        os.chmod(path, 0o755)
        return path

    def run_docs(self, what):
        return run(sys.executable, os.path.join(ROOT, "cmake/docs.py"), what, self.tree, "--printed", self.printer, *(["--command", self.command] if what == "check" else []))

    def finds(self, where, sentence, count=1):
        status, output = self.run_docs("check")
        lines = output.splitlines()
        self.assertEqual(status, 1, output)
        self.assertTrue(any(line.startswith(where + ": ") and sentence in line for line in lines), f"no '{where}: ..{sentence}..' in\n{output}")
        self.assertEqual(len(lines) - 1, count, output)

    def changed(self, old, new, path="README.md"):
        """The clean tree with one text in a file replaced."""
        self.setUp()
        with open(os.path.join(self.tree, path), encoding="utf-8") as f:
            text = f.read()
        self.assertIn(old, text)
        self.write(path, text.replace(old, new))

    def test_clean_pages(self):
        self.assertEqual(self.run_docs("check"), (0, "docs: 2 pages, 1 snippets, 4 links, 0 violations\n"))

    def test_no_pages(self):
        os.remove(os.path.join(self.tree, "README.md"))
        shutil.rmtree(os.path.join(self.tree, "docs"))
        self.assertEqual(self.run_docs("check")[0], 2)

    def test_code_must_be_that_of_its_file(self):
        self.changed("int one = 1;\n```", "int one = 3;\n```")
        self.finds("README.md:7", "its file says 'int one = 1;' here")
        self.changed("    int one = 1;", "    int one = 1;\n    int more;", "examples/a.cpp")
        self.finds("README.md:8", "its file says 'int more;' here")
        self.assertEqual(self.run_docs("fix")[0], 0)
        self.assertEqual(self.run_docs("check")[0], 0)

    def test_code_without_a_file(self):
        self.changed("<!-- snippet: examples/a.cpp#part -->\n", "")
        self.finds("README.md:5", "a block of cpp needs a line")
        self.changed("```cpp", "```cobol")
        self.changed("<!-- snippet: examples/a.cpp#part -->\n```cpp", "```cobol")
        self.finds("README.md:5", "'cobol' is no language of these pages")

    def test_snippets_that_cannot_be_had(self):
        for new, sentence in (
            ("examples/gone.cpp#part", "examples/gone.cpp does not exist"),
            ("examples/a.cpp#other", "has 0 lines `// [other]`"),
            ("examples/a.cpp@int", "2 lines of examples/a.cpp begin with 'int'"),
        ):
            with self.subTest(new):
                self.changed("examples/a.cpp#part -->", new + " -->")
                self.finds("README.md:5", sentence)
        self.changed("// [/part]", "// part", "examples/a.cpp")
        self.finds("README.md:5", "0 lines `// [/part]`")

    def test_a_snippet_line_without_its_block(self):
        self.changed("```cpp\nint one", "\n```cpp\nint one")
        self.finds("README.md:5", "with its block right below it", count=2)

    def test_a_block_that_is_not_closed(self):
        self.changed("    --to wgsl\n```\n", "    --to wgsl\n")
        self.finds("README.md:16", "not closed")

    def test_tables_must_be_what_is_printed(self):
        self.changed("-->\n2\n<!--", "-->\n3\n<!--")
        self.finds("README.md:13", "the program prints '2' here")
        self.assertEqual(self.run_docs("fix")[0], 0)
        self.assertEqual(self.run_docs("check")[0], 0)
        self.changed("<!-- printed: sum -->", "<!-- printed: product -->")
        self.finds("README.md:12", "ended with status 1")
        self.changed("<!-- /printed -->", "")
        self.finds("README.md:12", "this has no end")

    def test_dead_links(self):
        self.changed("(examples/a.cpp)", "(examples/b.cpp)")
        self.finds("README.md:10", "the link to examples/b.cpp leads nowhere")
        self.changed("#two-things--more", "#three-things")
        self.finds("README.md:10", "docs/b.md has no heading with the anchor #three-things")
        self.changed("## One thing", "## Another thing")
        self.finds("README.md:10", "README.md has no heading with the anchor #one-thing")

    def test_commands_that_do_not_exist(self):
        self.changed("nibble convert", "nibble invert")
        self.finds("README.md:17", "`nibble invert` does not exist")
        self.changed("--fit mse", "--fits mse")
        self.finds("README.md:17", "`nibble convert` has no option --fits")
        self.changed("--to wgsl", "--into wgsl")
        self.finds("README.md:18", "`nibble gpu emit` has no option --into")
        self.changed("examples/run.sh", "examples/walk.sh")
        self.finds("README.md:18", "examples/walk.sh does not exist")


class Reference(Temporary):
    def setUp(self):
        super().setUp()
        if shutil.which("doxygen") is None:
            self.skipTest("doxygen is not installed")
        for path in ("docs/Doxyfile", "docs/roofline.svg"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                self.write(path, f.read())
        self.write("docs/rooms.dox", "/// \\namespace nibble\n/// All.\n/// \\namespace nibble::gpu\n/// Shaders.\n")
        self.write("README.md", "# Page\n\n[down](#there)\n\n## There\n\nText of `code`.\n")
        self.write("include/nibble/version.hpp", HEADER + '#define NIBBLE_VERSION "1.2.3"\n')
        self.header("/// A type.\nstruct known {\n    int member = 0;\n};\n")

    def header(self, text, name="nibble"):
        self.write("include/nibble/a.hpp", HEADER + f"namespace {name} {{\n{text}}}\n")

    def check(self):
        return run(sys.executable, os.path.join(ROOT, "cmake/docs.py"), "api", self.tree, "-o", os.path.join(self.tree, "out"))

    def test_comments(self):
        for text, name, sentence in (
            ("/// A type.\nstruct known {\n    int member = 0;\n};\n", "nibble", None),
            ("struct unknown {\n    int member = 0;\n};\n", "nibble", "Compound nibble::unknown is not documented"),
            ("enum class unknown { one };\n", "nibble::gpu", "unknown (enumeration) of namespace nibble::gpu is not documented"),
            ("void unknown(int x);\n", "nibble", "unknown(int x) (function) of namespace nibble is not documented"),
            ("void unknown(int x);\n", "nibble::gpu", None),
            ("/// A function.\nvoid known(int x);\nvoid known(float x);\n", "nibble", None),
            ("/// A \\nonsense.\nstruct known {};\n", "nibble", "Found unknown command"),
        ):
            with self.subTest(text):
                self.header(text, name)
                status, output = self.check()
                self.assertEqual(status, 0 if sentence is None else 1, output)
                self.assertIn(sentence or "0 lines of warnings", output)

    def test_without_doxygen(self):
        folder = os.path.join(self.tree, "bin")
        os.mkdir(folder)
        for name in ("git", "python3"):
            os.symlink(shutil.which(name), os.path.join(folder, name))
        status, output = run(sys.executable, os.path.join(ROOT, "cmake/docs.py"), "api", self.tree, env={"PATH": folder})
        self.assertEqual(status, 77, output)
        self.assertIn("not installed", output)


class Format(Temporary):
    def setUp(self):
        super().setUp()
        os.mkdir(os.path.join(self.tree, "cmake"))
        shutil.copy(os.path.join(ROOT, "cmake/check_format.sh"), os.path.join(self.tree, "cmake"))
        shutil.copy(os.path.join(ROOT, ".clang-format"), self.tree)
        run("git", "init", "-q", self.tree)

    def check(self, *arguments, **options):
        return run("bash", os.path.join(self.tree, "cmake/check_format.sh"), *arguments, **options)

    def test_finds_and_mends(self):
        self.write("a.cpp", "int  main( ) { return 0 ; }\n")
        status, output = self.check()
        if status == 77:
            self.skipTest(output)
        self.assertEqual(status, 1, output)
        self.assertIn("a.cpp:1", output)
        self.assertEqual(self.check("--fix")[0], 0)
        self.assertEqual(self.check()[0], 0)

    def test_no_files_is_a_failure(self):
        status, output = self.check()
        if status == 77:
            self.skipTest(output)
        self.assertEqual(status, 1, output)

    def test_skips_with_a_reason(self):
        status, output = self.check(env={"PATH": "/nowhere:" + self.tools("bash", "git", "dirname", "grep")})
        self.assertEqual(status, 77, output)
        self.assertIn("not installed", output)

    def tools(self, *names):
        """A folder with only these programs."""
        folder = os.path.join(self.tree, "bin")
        os.mkdir(folder)
        for name in names:
            os.symlink(shutil.which(name), os.path.join(folder, name))
        return folder


class Reject(Temporary):
    def check(self, text):
        self.write("case.cpp", text)
        command = f"-DCOMMAND={os.environ.get('CXX', 'c++')};-std=c++20"
        return run(os.environ.get("CMAKE", "cmake"), command, f"-DSOURCE={self.tree}/case.cpp", "-P", os.path.join(ROOT, "tests/reject/reject.cmake"))

    def test_driver(self):
        refused = 'static_assert(sizeof(int) == 0, "nibble: our sentence");\n'
        for name, text, good in (
            ("right sentence", "// expect: nibble: our sentence\n" + refused, True),
            ("other sentence", "// expect: nibble: another sentence\n" + refused, False),
            ("sentence too late", "// expect: nibble: our sentence\nint x = y;\n" + refused, False),
            ("compiles by mistake", "// expect: nibble: our sentence\nint x;\n", False),
            ("control", "// expect: compiles\nint x;\n", True),
            ("control that fails", "// expect: compiles\n" + refused, False),
            ("no expectation", refused, False),
        ):
            with self.subTest(name):
                status, output = self.check(text)
                self.assertEqual(status == 0, good, output)


class OneHeader(Temporary):
    def setUp(self):
        super().setUp()
        self.write("include/nibble/version.hpp", HEADER + '#define NIBBLE_VERSION_MAJOR 1\n#define NIBBLE_VERSION "1.2.3"\n')
        self.header("core/result.hpp", "#include <tl/expected.hpp>")
        self.header("core/json.hpp", "#include <nlohmann/json.hpp>")
        self.header("codec/affine.hpp", '#include <cmath>\n#include "nibble/codec/codec.hpp"')
        self.header("codec/codec.hpp", '#include <cmath>\n#include "nibble/core/result.hpp"')
        self.header("cpu/simd.hpp", '#include "nibble/codec/codec.hpp"')
        self.header("source/gguf.hpp", '#include "nibble/core/json.hpp"')
        notice = "// dedicated all\n// copyright and related rights\n"
        self.write("expected.hpp", notice + "".join(f"#define TL_EXPECTED_VERSION_{part} 7\n" for part in ("MAJOR", "MINOR", "PATCH")))

    def header(self, name, includes):
        self.write("include/nibble/" + name, HEADER + includes + f"\nint {name[:-4].replace('/', '_')};\n")

    def make(self):
        tool = os.path.join(ROOT, "cmake/amalgamate.py")
        return run(sys.executable, tool, "--root", self.tree, "--expected", os.path.join(self.tree, "expected.hpp"), "-o", self.tree + "/one.hpp")

    def refuses(self, sentence):
        status, output = self.make()
        self.assertEqual((status, output.count("\n")), (1, 1), output)
        self.assertIn(sentence, output)
        self.assertFalse(os.path.exists(self.tree + "/one.hpp"))

    def test_order(self):
        self.assertEqual(self.make(), (0, ""))
        with open(self.tree + "/one.hpp", encoding="utf-8") as f:
            text = f.read()
        names = [line.split()[2] for line in text.splitlines() if line.startswith("// ==== nibble/")]
        self.assertEqual(names, ["nibble/core/result.hpp", "nibble/codec/codec.hpp", "nibble/codec/affine.hpp", "nibble/cpu/simd.hpp"])
        self.assertEqual(text.count("#include <cmath>"), 1)
        self.assertNotIn('#include "', text.split("#if", 1)[1])
        self.assertIn("tl::expected 7.7.7", text)

    def test_foreign_room(self):
        self.header("codec/affine.hpp", '#include "nibble/source/gguf.hpp"')
        self.refuses("include/nibble/codec/affine.hpp:5: source/gguf.hpp is of the room 'source', which is not in the one header")

    def test_left_out(self):
        self.header("cpu/simd.hpp", '#include "nibble/core/json.hpp"')
        self.refuses("core/json.hpp is left out of the one header, as it needs nlohmann_json")

    def test_missing(self):
        self.header("cpu/simd.hpp", '#include "nibble/codec/none.hpp"')
        self.refuses("include/nibble/cpu/simd.hpp:5: codec/none.hpp does not exist")

    def test_condition(self):
        self.header("codec/affine.hpp", '#if 1\n#include "nibble/codec/codec.hpp"\n#endif')
        self.refuses("include/nibble/codec/affine.hpp:6: a header of ours is included under a condition")

    def test_other_libraries(self):
        self.header("codec/affine.hpp", "#include <glslang/x.h>")
        self.refuses("<glslang/x.h> is neither the standard library's nor one of")
        self.header("codec/affine.hpp", "#include <xsimd/xsimd.hpp>")
        self.refuses("<xsimd/xsimd.hpp> is included by the room cpu alone")

    def test_expected_without_its_notice(self):
        self.write("expected.hpp", "#define TL_EXPECTED_VERSION_MAJOR 1\n")
        self.refuses("this is not tl::expected with its notice")


class CompileTime(Temporary):
    def check(self):
        return run(sys.executable, os.path.join(ROOT, "cmake/compile_time.py"), "--check", "--root", self.tree, "--compiler", os.environ.get("CXX", "c++"))

    def test_heavy_header_and_lines(self):
        shutil.copytree(os.path.join(ROOT, "include"), os.path.join(self.tree, "include"))
        self.append("include/nibble/cpu/cast.hpp", "#include <regex>\n")
        self.append("include/nibble/codec/registry.hpp", "int declared();\n" * 20000)
        status, output = self.check()
        if status == 77:
            self.skipTest(output)
        self.assertEqual(status, 1, output)
        self.assertRegex(output, r"compile time: nibble/cpu/kernels.hpp: reaches .*/regex, which it must not")
        self.assertRegex(output, r"compile time: nibble/codec/registry.hpp: \d+ lines, at most")
        self.assertNotRegex(output, "compile time: nibble/codec/affine.hpp")


class Setup(Temporary):
    def check(self, release):
        self.write("os-release", release)
        return run("bash", os.path.join(ROOT, "cmake/setup.sh"), "--list", env=dict(os.environ, NIBBLE_OS_RELEASE=os.path.join(self.tree, "os-release")))

    def test_unknown_systems_are_told_what_is_needed(self):
        for release in ("ID=fedora\nVERSION_ID=40\n", "ID=ubuntu\nVERSION_ID=22.04\n", "ID=arch\n"):
            with self.subTest(release):
                status, output = self.check(release)
                self.assertEqual(status, 2, output)
                self.assertIn("CMake 3.22", output)

    def test_unknown_argument(self):
        self.assertEqual(run("bash", os.path.join(ROOT, "cmake/setup.sh"), "--frobnicate")[0], 64)


if __name__ == "__main__":
    unittest.main()
