// SPDX-License-Identifier: Apache-2.0
#pragma once
// Prints a program as WGSL (https://www.w3.org/TR/WGSL).

#include "nibble/gpu/print.hpp"

namespace nibble::gpu {

/// For whom the text is. Tint, in browsers and Dawn, wants `enable subgroups;`; naga 30, in wgpu, refuses that line and has the functions
/// without it (wgpu issue 5555).
enum class wgsl_flavour : std::uint8_t { web, wgpu };

namespace detail {

struct wgsl_dialect {
    [[nodiscard]] static std::string type(shader_type t) {
        const std::string scalar(name_of(t.of));
        return t.width == 1 ? scalar : "vec" + std::to_string(t.width) + "<" + scalar + ">";
    }
    [[nodiscard]] static std::string literal(shader_type t, std::uint32_t bits) {
        switch (t.of) {
            case scalar::u32:
                return std::to_string(bits) + "u";
            case scalar::i32:
                return std::to_string(static_cast<std::int32_t>(bits));
            case scalar::boolean:
                return bits != 0 ? "true" : "false";
            case scalar::f16:
                return float_text(std::bit_cast<float>(bits)) + "h";
            case scalar::f32:
                break;
        }
        return float_text(std::bit_cast<float>(bits));
    }
    [[nodiscard]] static std::string call(const node& n, const std::string& arguments) {
        constexpr std::array<std::string_view, 21> names{
            "dot",   "fma", "min", "max", "clamp",           "abs",          "exp",         "log",         "tanh",       "sqrt", "inverseSqrt", "floor",
            "round", "pow", "sin", "cos", "unpack2x16float", "dot4I8Packed", "subgroupAdd", "subgroupMax", "subgroupMin"};
        return std::string(names[static_cast<std::size_t>(n.function)]) + "(" + arguments + ")";
    }
    [[nodiscard]] static std::string bitcast(shader_type to, shader_type, const std::string& argument) { return "bitcast<" + type(to) + ">(" + argument + ")"; }
    [[nodiscard]] static std::string select(shader_type, const std::string& condition, const std::string& a, const std::string& b) {
        return "select(" + b + ", " + a + ", " + condition + ")";
    }
    [[nodiscard]] static std::string let(shader_type, const std::string& name) { return "let " + name; }
    [[nodiscard]] static std::string variable(shader_type t, const std::string& name) { return "var " + name + ": " + type(t); }
    [[nodiscard]] static std::string array(shader_type t, const std::string& name, std::uint32_t count) {
        // With a value: without one, naga 30 zeroes an array that is declared in a loop only once.
        return "var " + name + " = array<" + type(t) + ", " + std::to_string(count) + ">()";
    }
    [[nodiscard]] static std::string counter(const std::string& name) { return "var " + name; }
    [[nodiscard]] static std::string barrier() { return "workgroupBarrier();"; }
};

}  // namespace detail

/// The text of a program. Buffers are `@binding(0)` on, in `@group(0)`, in the manifest's order; a struct of the parameters follows them as a
/// uniform buffer.
[[nodiscard]] inline std::string to_wgsl(const program& p, wgsl_flavour flavour = wgsl_flavour::web) {
    using dialect = detail::wgsl_dialect;
    const auto& m = p.manifest;
    std::string text = detail::comment_lines(p.about);
    if (m.features.f16) text += "enable f16;\n";
    if (m.features.subgroups && flavour == wgsl_flavour::web) text += "enable subgroups;\n";
    if (m.features.subgroup_id && flavour == wgsl_flavour::web) text += "requires subgroup_id;\n";
    if (m.features.int8_dot) text += "requires packed_4x8_integer_dot_product;\n";
    text += "\n";
    std::size_t at = 0;
    for (const auto& b : m.bindings) {
        const shader_type type{b.type, static_cast<std::uint8_t>(b.width)};
        text += "@group(0) @binding(" + std::to_string(at++) + ") var<storage, " + (b.access == access::read ? "read" : "read_write") + "> " + b.name +
                ": array<" + dialect::type(type) + ">;\n";
    }
    if (!m.parameters.empty()) {
        text += "struct parameters {\n";
        for (const auto& parameter : m.parameters) text += "    " + parameter.name + ": " + std::string(name_of(parameter.type)) + ",\n";
        text += "}\n@group(0) @binding(" + std::to_string(at) + ") var<uniform> params: parameters;\n";
    }
    for (const auto& c : m.constants) text += "override " + c.name + ": u32 = " + std::to_string(c.value) + "u;\n";
    for (const auto& s : p.shared) {
        text += "var<workgroup> " + s.name + ": array<" + dialect::type(s.type) + ", " + std::to_string(s.count) + ">;\n";
    }
    text += "\n@compute @workgroup_size(" + std::to_string(m.workgroup[0]) + ")\nfn " + m.entry + "(";
    constexpr std::array<std::string_view, n_builtins> builtins{
        "@builtin(workgroup_id) workgroup_id: vec3<u32>",      "@builtin(num_workgroups) num_workgroups: vec3<u32>",
        "@builtin(local_invocation_index) local_index: u32",   "@builtin(subgroup_id) subgroup_id: u32",
        "@builtin(subgroup_invocation_id) subgroup_lane: u32", "@builtin(subgroup_size) subgroup_size: u32",
        "@builtin(num_subgroups) num_subgroups: u32"};
    bool first = true;
    for (std::size_t i = 0; i < n_builtins; ++i) {
        if (!p.uses[i]) continue;
        text += (first ? "" : ",\n        ") + std::string(builtins[i]);
        first = false;
    }
    text += ") {\n";
    return text + detail::body_printer<dialect>(p, dialect{}).text() + "}\n";
}

}  // namespace nibble::gpu
