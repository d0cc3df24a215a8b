// SPDX-License-Identifier: Apache-2.0
#pragma once
// Prints a program as GLSL 4.50 for Vulkan 1.1 and later (https://registry.khronos.org/OpenGL/specs/gl/GLSLangSpec.4.60.pdf): what glslang turns into
// SPIR-V.

#include "nibble/gpu/print.hpp"

namespace nibble::gpu {

namespace detail {

struct glsl_dialect {
    [[nodiscard]] static std::string type(shader_type t) {
        constexpr std::array<std::string_view, 5> scalars{"uint", "int", "float", "float16_t", "bool"};
        constexpr std::array<std::string_view, 5> vectors{"uvec", "ivec", "vec", "f16vec", "bvec"};
        const auto i = static_cast<std::size_t>(t.of);
        return t.width == 1 ? std::string(scalars[i]) : std::string(vectors[i]) + std::to_string(t.width);
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
                return "float16_t(" + float_text(std::bit_cast<float>(bits)) + ")";
            case scalar::f32:
                break;
        }
        return float_text(std::bit_cast<float>(bits));
    }
    [[nodiscard]] static std::string call(const node& n, const std::string& arguments) {
        constexpr std::array<std::string_view, 21> names{
            "dot",       "fma", "min", "max", "clamp",          "abs",           "exp",         "log",         "tanh",       "sqrt", "inversesqrt", "floor",
            "roundEven", "pow", "sin", "cos", "unpackHalf2x16", "dot_packed_i8", "subgroupAdd", "subgroupMax", "subgroupMin"};
        // An instruction that glslang 12 has no function for is declared with its literal last.
        const bool instruction = n.function == function::dot_packed_i8;
        return std::string(names[static_cast<std::size_t>(n.function)]) + "(" + arguments + (instruction ? ", 0)" : ")");
    }
    [[nodiscard]] static std::string bitcast(shader_type to, shader_type from, const std::string& argument) {
        if (from.of == scalar::f32) return (to.of == scalar::u32 ? "floatBitsToUint(" : "floatBitsToInt(") + argument + ")";
        if (to.of == scalar::f32) return (from.of == scalar::u32 ? "uintBitsToFloat(" : "intBitsToFloat(") + argument + ")";
        return type(to) + "(" + argument + ")";
    }
    [[nodiscard]] static std::string select(shader_type t, const std::string& condition, const std::string& a, const std::string& b) {
        if (t.width == 1) return "(" + condition + " ? " + a + " : " + b + ")";
        return "mix(" + b + ", " + a + ", bvec" + std::to_string(t.width) + "(" + condition + "))";
    }
    [[nodiscard]] static std::string let(shader_type t, const std::string& name) { return "const " + type(t) + " " + name; }
    [[nodiscard]] static std::string variable(shader_type t, const std::string& name) { return type(t) + " " + name; }
    [[nodiscard]] static std::string array(shader_type t, const std::string& name, std::uint32_t count) {
        std::string zeros;
        for (std::uint32_t i = 0; i < count; ++i) zeros += (i == 0 ? "" : ", ") + type(t) + "(0)";
        return type(t) + " " + name + "[" + std::to_string(count) + "] = " + type(t) + "[](" + zeros + ")";
    }
    [[nodiscard]] static std::string counter(const std::string& name) { return "uint " + name; }
    [[nodiscard]] static std::string barrier() { return "barrier();"; }
};

}  // namespace detail

/// The text of a program. Buffers are bindings 0 on of set 0, in the manifest's order; the parameters are push constants.
[[nodiscard]] inline std::string to_glsl(const program& p) {
    using dialect = detail::glsl_dialect;
    const auto& m = p.manifest;
    std::string text = "#version 450\n" + detail::comment_lines(p.about);
    const auto extension = [&](std::string_view name) { text += "#extension " + std::string(name) + " : require\n"; };
    if (m.features.f16) {
        extension("GL_EXT_shader_explicit_arithmetic_types_float16");
        extension("GL_EXT_shader_16bit_storage");
    }
    if (m.features.subgroups) {
        extension("GL_KHR_shader_subgroup_basic");
        extension("GL_KHR_shader_subgroup_arithmetic");
    }
    if (m.features.int8_dot) {
        // glslang 12 does not know the extension for integer dot products, but every version knows how to declare the instruction.
        extension("GL_EXT_spirv_intrinsics");
        text +=
            "spirv_instruction(extensions = [\"SPV_KHR_integer_dot_product\"], capabilities = [6019, 6018], id = 4450)\n"
            "int dot_packed_i8(uint a, uint b, spirv_literal int format);\n";
    }
    text += "\nlayout(local_size_x = " + std::to_string(m.workgroup[0]) + ") in;\n";
    std::size_t at = 0;
    for (const auto& b : m.bindings) {
        const shader_type type{b.type, static_cast<std::uint8_t>(b.width)};
        text += "layout(set = 0, binding = " + std::to_string(at++) + ", std430) " + (b.access == access::read ? "readonly " : "") + "buffer " + b.name +
                "_buffer { " + dialect::type(type) + " " + b.name + "[]; };\n";
    }
    if (!m.parameters.empty()) {
        text += "layout(push_constant) uniform parameters {\n";
        for (const auto& parameter : m.parameters) text += "    " + dialect::type({parameter.type, 1}) + " " + parameter.name + ";\n";
        text += "} params;\n";
    }
    for (const auto& c : m.constants) {
        text += "layout(constant_id = " + std::to_string(c.id) + ") const uint " + c.name + " = " + std::to_string(c.value) + "u;\n";
    }
    for (const auto& s : p.shared) text += "shared " + dialect::type(s.type) + " " + s.name + "[" + std::to_string(s.count) + "];\n";
    constexpr std::array<std::string_view, n_builtins> builtins{"uvec3 workgroup_id = gl_WorkGroupID",          "uvec3 num_workgroups = gl_NumWorkGroups",
                                                                "uint local_index = gl_LocalInvocationIndex",   "uint subgroup_id = gl_SubgroupID",
                                                                "uint subgroup_lane = gl_SubgroupInvocationID", "uint subgroup_size = gl_SubgroupSize",
                                                                "uint num_subgroups = gl_NumSubgroups"};
    text += "\nvoid " + m.entry + "() {\n";
    for (std::size_t i = 0; i < n_builtins; ++i) {
        if (p.uses[i]) text += "    const " + std::string(builtins[i]) + ";\n";
    }
    return text + detail::body_printer<dialect>(p, dialect{}).text() + "}\n";
}

}  // namespace nibble::gpu
