// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/spirv.hpp"

#include <algorithm>
#include <string>
#include <thread>

#include "nibble/core/file.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;
using namespace std::string_literals;

namespace {

std::string shader(const char* name) {
    const auto bytes = read_file(NIBBLE_TEST_DATA "/gpu/kernels/"s + name, 1 << 20);
    REQUIRE(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

}  // namespace

TEST_CASE("spirv: GLSL becomes a module of the version that was asked for") {
    for (const char* name : {"add.comp", "scale.comp", "row_sum.comp"}) {
        INFO(name);
        const std::string text = shader(name);
        for (const auto& [target, version] :
             {std::pair(vulkan_version::v1_1, 0x10300u), std::pair(vulkan_version::v1_2, 0x10500u), std::pair(vulkan_version::v1_3, 0x10600u)}) {
            const auto words = compile_glsl(text, name, target);
            INFO((words ? "" : words.error().message()));
            REQUIRE(words);
            REQUIRE(words->size() > 100);
            CHECK((*words)[0] == 0x07230203u);
            CHECK((*words)[1] == version);
            CHECK(compile_glsl(text, name, target) == *words);
        }
    }
}

TEST_CASE("spirv: an error has the line and the compiler's words") {
    const auto wrong = compile_glsl("#version 450\nlayout(local_size_x = 1) in;\nvoid main() {\n    uint x = y;\n}\n", "wrong.comp");
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == errc::malformed);
    CHECK(wrong.error().message() == "wrong.comp: line 4, `uint x = y;`: 'y' : undeclared identifier");

    const auto no_body = compile_glsl("#version 450\nvoid main();\n");
    REQUIRE_FALSE(no_body);
    CHECK(no_body.error().rule.find("entry point") != std::string::npos);

    const auto directive = compile_glsl("#version 450\n#error no\nvoid main() {}\n");
    REQUIRE_FALSE(directive);
    CHECK(directive.error().rule.find("line 2, `#error no`: ") == 0);

    CHECK_FALSE(compile_glsl(""));
    CHECK_FALSE(compile_glsl("no shader at all"));
}

TEST_CASE("spirv: an extension that this glslang does not know is unsupported") {
    const auto unknown = compile_glsl("#version 450\n#extension GL_KHR_teapot : require\nlayout(local_size_x = 1) in;\nvoid main() {}\n");
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().code == errc::unsupported);
    CHECK(unknown.error().rule.find("GL_KHR_teapot") != std::string::npos);
    CHECK(unknown.error().remedy.find("glslang") != std::string::npos);
}

TEST_CASE("spirv: threads compile at once") {
    const std::string text = shader("row_sum.comp");
    const auto alone = compile_glsl(text);
    REQUIRE(alone);
    std::vector<std::vector<std::uint32_t>> made(4);
    std::vector<std::thread> threads;
    for (auto& words : made) {
        threads.emplace_back([&words, &text] {
            for (int i = 0; i < 5; ++i) {
                if (auto r = compile_glsl(text)) words = std::move(*r);
            }
        });
    }
    for (auto& t : threads) t.join();
    CHECK(std::all_of(made.begin(), made.end(), [&](const auto& words) { return words == *alone; }));
}
