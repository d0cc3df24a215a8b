// SPDX-License-Identifier: Apache-2.0
#pragma once
// GLSL to SPIR-V in process, by Khronos' glslang (its C interface, versions 12 to 15). Optional: the target nibble::spirv brings
// glslang, and nothing else of nibble includes this header.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <glslang/Include/glslang_c_interface.h>
#include <glslang/Public/resource_limits_c.h>

#include "nibble/core/result.hpp"

namespace nibble::gpu {

/// The environment that SPIR-V is made for: the oldest Vulkan that runs it. 1.1 takes SPIR-V 1.3, 1.2 SPIR-V 1.5, 1.3 SPIR-V 1.6.
enum class vulkan_version : std::uint8_t { v1_1, v1_2, v1_3 };

/// The SPIR-V module of a compute shader whose entry point is `main`; names are kept, nothing is optimised: drivers do that. `name` is
/// the text's name in errors. Errors: malformed, with the line of the text and what the compiler says of it; unsupported where the
/// text asks for an extension that this glslang does not know (version 12 has no cooperative matrices). Threads may compile at once.
[[nodiscard]] result<std::vector<std::uint32_t>> compile_glsl(std::string_view glsl, std::string_view name = {}, vulkan_version target = vulkan_version::v1_1);

}  // namespace nibble::gpu

namespace nibble::gpu::detail {

/// glslang's tables, which take a tenth of a second to build: once in a process, at the first use, and freed at its end.
struct glslang_process {
    glslang_process() : ready(glslang_initialize_process() != 0) {}
    ~glslang_process() { glslang_finalize_process(); }
    glslang_process(const glslang_process&) = delete;
    glslang_process& operator=(const glslang_process&) = delete;
    bool ready;
};

struct glslang_shader_owner {
    glslang_shader_t* shader;
    explicit glslang_shader_owner(const glslang_input_t& input) : shader(glslang_shader_create(&input)) {}
    ~glslang_shader_owner() { glslang_shader_delete(shader); }
    glslang_shader_owner(const glslang_shader_owner&) = delete;
    glslang_shader_owner& operator=(const glslang_shader_owner&) = delete;
};

struct glslang_program_owner {
    glslang_program_t* program = glslang_program_create();
    glslang_program_owner() = default;
    ~glslang_program_owner() { glslang_program_delete(program); }
    glslang_program_owner(const glslang_program_owner&) = delete;
    glslang_program_owner& operator=(const glslang_program_owner&) = delete;
};

[[nodiscard]] inline std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

[[nodiscard]] inline std::string_view line_of(std::string_view text, std::size_t number) {
    for (std::size_t i = 1; i < number && !text.empty(); ++i) {
        const auto end = text.find('\n');
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    return trimmed(text.substr(0, text.find('\n')));
}

/// The first error of a log of lines like "ERROR: 0:12: 'y' : undeclared identifier", with the line of the text that it speaks of.
[[nodiscard]] inline error glslang_error(const char* log, std::string_view glsl, std::string_view name) {
    constexpr std::string_view mark = "ERROR: ";
    std::string_view message = log == nullptr ? std::string_view{} : std::string_view(log);
    if (const auto at = message.find(mark); at != message.npos) message.remove_prefix(at + mark.size());
    message = trimmed(message.substr(0, message.find('\n')));
    error e;
    e.code = message.find("extension not supported") != message.npos ? errc::unsupported : errc::malformed;
    e.file = name;
    std::size_t line = 0;
    if (const auto colon = message.find(':'); colon != message.npos) {
        const auto [end, status] = std::from_chars(message.data() + colon + 1, message.data() + message.size(), line);
        if (status == std::errc{} && end != message.data() + message.size() && *end == ':') {
            message = trimmed(message.substr(static_cast<std::size_t>(end - message.data()) + 1));
            e.rule = "line " + std::to_string(line) + ", `" + std::string(line_of(glsl, line)) + "`: ";
        }
    }
    e.rule += message.empty() ? std::string_view("glslang refuses the shader and does not say why") : message;
    if (e.code == errc::unsupported) e.remedy = "build with a newer glslang";
    return e;
}

}  // namespace nibble::gpu::detail

namespace nibble::gpu {

inline result<std::vector<std::uint32_t>> compile_glsl(std::string_view glsl, std::string_view name, vulkan_version target) {
    static const detail::glslang_process process;
    if (!process.ready) return fail(errc::io, "glslang does not start");

    const std::string text(glsl);
    glslang_input_t input{};
    input.language = GLSLANG_SOURCE_GLSL;
    input.stage = GLSLANG_STAGE_COMPUTE;
    input.client = GLSLANG_CLIENT_VULKAN;
    input.target_language = GLSLANG_TARGET_SPV;
    switch (target) {
        case vulkan_version::v1_1:
            input.client_version = GLSLANG_TARGET_VULKAN_1_1;
            input.target_language_version = GLSLANG_TARGET_SPV_1_3;
            break;
        case vulkan_version::v1_2:
            input.client_version = GLSLANG_TARGET_VULKAN_1_2;
            input.target_language_version = GLSLANG_TARGET_SPV_1_5;
            break;
        case vulkan_version::v1_3:
            input.client_version = GLSLANG_TARGET_VULKAN_1_3;
            input.target_language_version = GLSLANG_TARGET_SPV_1_6;
            break;
    }
    input.code = text.c_str();
    input.default_version = 450;
    input.default_profile = GLSLANG_NO_PROFILE;
    input.messages = static_cast<glslang_messages_t>(GLSLANG_MSG_SPV_RULES_BIT | GLSLANG_MSG_VULKAN_RULES_BIT);
    input.resource = glslang_default_resource();

    // A program refers to its shaders, and goes first.
    const detail::glslang_shader_owner shader(input);
    const detail::glslang_program_owner owner;
    if (shader.shader == nullptr || owner.program == nullptr) return fail(errc::io, "glslang makes no shader");
    if (glslang_shader_preprocess(shader.shader, &input) == 0 || glslang_shader_parse(shader.shader, &input) == 0) {
        return fail(detail::glslang_error(glslang_shader_get_info_log(shader.shader), glsl, name));
    }
    glslang_program_add_shader(owner.program, shader.shader);
    if (glslang_program_link(owner.program, input.messages) == 0) {
        return fail(detail::glslang_error(glslang_program_get_info_log(owner.program), glsl, name));
    }
    glslang_spv_options_t options{};  // later versions have more members
    options.disable_optimizer = true;
    glslang_program_SPIRV_generate_with_options(owner.program, input.stage, &options);
    std::vector<std::uint32_t> words(glslang_program_SPIRV_get_size(owner.program));
    if (words.empty()) return fail(detail::glslang_error(glslang_program_SPIRV_get_messages(owner.program), glsl, name));
    glslang_program_SPIRV_get(owner.program, words.data());
    return words;
}

}  // namespace nibble::gpu
