// SPDX-License-Identifier: Apache-2.0
// What docs/gpu.md shows: a shader described in C++, and its text.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "nibble/gpu/ir.hpp"
#include "nibble/gpu/wgsl.hpp"

using namespace nibble::gpu;

namespace {

std::string described() {
    // [describe]
    shader s("scale");
    auto x = s.input<f32>("x", formula::size("n"));
    auto y = s.output<f32>("y", formula::size("n"));
    auto i = s.let("i", s.workgroup_index() * 64u + s.local_index());
    s.if_(i < s.size("n"), [&] { y[i] = x[i] * 2.0F; });
    s.grid(64, ceil_div(formula::size("n"), formula(64)));
    std::string wgsl = to_wgsl(s.finish());
    // [/describe]
    return wgsl;
}

std::string file_text(const char* path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

/// In the folder of scale.wgsl; with an argument it prints what it compares with that file.
int main(int argc, char**) {
    const auto wgsl = described();
    if (argc > 1) return std::fputs(wgsl.c_str(), stdout), 0;
    if (wgsl.empty() || file_text("scale.wgsl") != wgsl) return std::puts("scale.wgsl is not what the description gives:"), std::puts(wgsl.c_str()), 1;
    return 0;
}
