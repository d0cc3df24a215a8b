// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/ir.hpp"

#include <string>

#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "support/catch.hpp"

using namespace nibble::gpu;

namespace {

/// The text of what `write` stores to y[0], in both languages.
template <shader_value T, class F>
std::pair<std::string, std::string> stored(F&& write) {
    shader s("one");
    auto y = s.output<T>("y", 1);
    y[0u] = write(s);
    const auto p = s.finish();
    const auto line = [](const std::string& text) {
        const auto at = text.find("    y[0u] = ") + 12;
        return text.substr(at, text.find(";\n", at) - at);
    };
    return {line(to_wgsl(p)), line(to_glsl(p))};
}
template <shader_value T, class F>
std::string same_text(F&& write) {
    const auto [wgsl, glsl] = stored<T>(write);
    CHECK(wgsl == glsl);
    return wgsl;
}

}  // namespace

TEST_CASE("ir: parentheses stand where they are needed, and where a language or a reader wants them") {
    const auto text = [](auto&& f) {
        return same_text<u32>([&](shader& s) {
            const auto a = s.size("a"), b = s.size("b"), c = s.size("c");
            return f(a, b, c);
        });
    };
    CHECK(text([](auto a, auto b, auto c) { return a + b * c; }) == "params.a + params.b * params.c");
    CHECK(text([](auto a, auto b, auto c) { return (a + b) * c; }) == "(params.a + params.b) * params.c");
    CHECK(text([](auto a, auto b, auto c) { return a - (b - c); }) == "params.a - (params.b - params.c)");
    CHECK(text([](auto a, auto b, auto c) { return a - b - c; }) == "params.a - params.b - params.c");
    CHECK(text([](auto a, auto b, auto c) { return a / (b * c); }) == "params.a / (params.b * params.c)");
    CHECK(text([](auto a, auto b, auto c) { return a / b % c; }) == "params.a / params.b % params.c");
    CHECK(text([](auto a, auto b, auto c) { return (a >> b) & c; }) == "(params.a >> params.b) & params.c");
    CHECK(text([](auto a, auto b, auto c) { return a << (b + c); }) == "params.a << (params.b + params.c)");
    CHECK(text([](auto a, auto b, auto c) { return (a << b) + c; }) == "(params.a << params.b) + params.c");
    CHECK(text([](auto a, auto b, auto c) { return a | b | c; }) == "params.a | params.b | params.c");
    CHECK(text([](auto a, auto b, auto c) { return a | (b & c); }) == "params.a | (params.b & params.c)");
    CHECK(text([](auto a, auto b, auto c) { return min(a + b, c) * 2u; }) == "min(params.a + params.b, params.c) * 2u");
}

TEST_CASE("ir: numbers of C++ are folded, and what changes nothing is left out") {
    const auto text = [](auto&& f) { return same_text<u32>([&](shader& s) { return f(s.size("a"), s.size("k", 32)); }); };
    CHECK(text([](auto a, auto k) { return a * (k * 4u + 1u); }) == "params.a * 129u");
    CHECK(text([](auto a, auto) { return (a >> 0u) + 0u; }) == "params.a");
    CHECK(text([](auto a, auto) { return expr<u32>(1u) * a / 1u; }) == "params.a");
    CHECK(text([](auto a, auto) { return a * 0u; }) == "params.a * 0u");  // no rule is worth more than being plain
    CHECK(same_text<f32>([](shader& s) { return (s.scalar<f32>("x") - 7.0F) * 1.0F; }) == "params.x - 7.0");
}

TEST_CASE("ir: numbers read back as they were") {
    const auto text = [](float x) { return same_text<f32>([&](shader& s) { return s.scalar<f32>("a") * x; }); };
    CHECK(text(0.1F) == "params.a * 0.1");
    CHECK(text(-2.0F) == "params.a * -2.0");
    CHECK(text(3.4028235e38F) == "params.a * 3.4028235e+38");
    CHECK(text(16777216.0F) == "params.a * 16777216.0");
    CHECK(same_text<i32>([](shader& s) { return s.scalar<i32>("a") + -3; }) == "params.a + -3");
    CHECK(stored<f16>([](shader&) { return expr<f16>(0.5F); }) == std::pair<std::string, std::string>("0.5h", "float16_t(0.5)"));
}

TEST_CASE("ir: what the languages spell differently") {
    using pair = std::pair<std::string, std::string>;
    CHECK(stored<f32>([](shader& s) { return select(s.local_index() < 4u, s.scalar<f32>("x"), 0.0F); }) ==
          pair("select(0.0, params.x, local_index < 4u)", "(local_index < 4u ? params.x : 0.0)"));
    CHECK(stored<f32x4>([](shader& s) { return splat<f32x4>(convert<f32>(s.size("n"))) * 2.0F; }) ==
          pair("vec4<f32>(f32(params.n)) * 2.0", "vec4(float(params.n)) * 2.0"));
    CHECK(stored<f32>([](shader& s) { return bitcast<f32>(s.size("n") << 16u); }) == pair("bitcast<f32>(params.n << 16u)", "uintBitsToFloat(params.n << 16u)"));
    CHECK(stored<i32>([](shader& s) { return bitcast<i32>(s.size("n")); }) == pair("bitcast<i32>(params.n)", "int(params.n)"));
    CHECK(stored<f32>([](shader& s) { return inverse_sqrt(s.scalar<f32>("x")); }) == pair("inverseSqrt(params.x)", "inversesqrt(params.x)"));
    CHECK(stored<f32>([](shader& s) { return round_even(s.scalar<f32>("x")); }) == pair("round(params.x)", "roundEven(params.x)"));
    CHECK(stored<f32>([](shader& s) { return unpack_half2(s.size("n")).y(); }) == pair("unpack2x16float(params.n).y", "unpackHalf2x16(params.n).y"));
    CHECK(stored<i32>([](shader& s) { return dot_packed_i8(s.size("n"), s.size("n")); }) ==
          pair("dot4I8Packed(params.n, params.n)", "dot_packed_i8(params.n, params.n, 0)"));
}

TEST_CASE("ir: names are unique, scopes and comments are kept, sums in place are written so") {
    shader s("scopes");
    s.about("a kernel that shows its text");
    auto x = s.input<f32>("x", 4);
    auto y = s.output<f32>("y", 4);
    auto tile = s.shared<f32>("tile", 64);
    const auto i = s.let("i", s.workgroup_index() * 64u + s.local_index());
    auto sum = s.var<f32>("sum", 0.0F);
    s.for_("i", 0u, 4u, 1u, [&](const expr<u32>& j) {
        s.comment("each of them");
        sum += x[j];
        s.if_(
            j > 2u && !(i == 0u), [&] { sum *= 2.0F; }, [&] { sum = -sum; });
    });
    tile[s.local_index()] = sum;
    s.barrier();
    s.if_(i >= 4u, [&] { s.return_(); });
    y[i] = tile[0u];
    s.grid(64, 1);
    const auto p = s.finish();
    CHECK(to_wgsl(p) == R"(// a kernel that shows its text

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<workgroup> tile: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let i = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 64u + local_index;
    var sum: f32 = 0.0;
    for (var i_1 = 0u; i_1 < 4u; i_1++) {
        // each of them
        sum += x[i_1];
        if (i_1 > 2u && !(i == 0u)) {
            sum = sum * 2.0;
        } else {
            sum = -sum;
        }
    }
    tile[local_index] = sum;
    workgroupBarrier();
    if (i >= 4u) {
        return;
    }
    y[i] = tile[0u];
}
)");
}

TEST_CASE("ir: the manifest says what the text declares") {
    shader s("declares", "q4f16_1");
    s.sizes({"n"});
    auto x = s.input<f16x4>("x", formula::size("n"));
    auto y = s.output<f32>("y", formula::size("n") * 4);
    (void)s.shared<f32x4>("tile", 16);
    const auto wide = s.constant("wide", 8);
    const auto eps = s.scalar<f32>("eps");
    const auto n = s.size("n");
    CHECK(to_wgsl([] {
              shader other("no parameter twice");
              auto z = other.output<u32>("z", 1);
              z[0u] = other.size("n") + other.size("n");
              return other.finish();
          }())
              .find("n: u32,\n}") != std::string::npos);
    s.if_(s.local_index() < n * wide, [&] { y[0u] = convert<f32>(x[0u].x()) + eps; });
    s.grid(32, formula::size("n"));
    const auto m = s.finish().manifest;
    CHECK(m.kernel == "declares");
    CHECK(m.codec == "q4f16_1");
    REQUIRE(m.bindings.size() == 2);
    CHECK(m.bindings[0].element_bytes() == 8);
    CHECK(m.bindings[0].access == access::read);
    CHECK(m.bindings[1].access == access::read_write);
    REQUIRE(m.parameters.size() == 2);
    CHECK(m.parameters[0].name == "eps");
    CHECK(!m.parameters[0].value);
    CHECK(m.parameters[1].value);
    REQUIRE(m.constants.size() == 1);
    CHECK(m.constants[0].value == 8);
    CHECK(m.features.f16);
    CHECK(!m.features.subgroups);
    CHECK(m.workgroup_bytes == 256);
    CHECK(m.workgroup == std::array<std::uint32_t, 3>{32, 1, 1});
}
