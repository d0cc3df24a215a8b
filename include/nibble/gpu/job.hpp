// SPDX-License-Identifier: Apache-2.0
#pragma once
// A kernel and one call of it as files, for a host in another language: its texts, its manifest, what it reads and what it must give.
// tests/gpu/run_wgsl.mjs is such a host.

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/gpu/example.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/wgsl.hpp"

namespace nibble::gpu::detail {

/// The shortest decimal that is read as this number, which must be finite.
[[nodiscard]] inline std::string number_text(double x) {
    std::array<char, 32> digits{};
    return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), x).ptr};
}

}  // namespace nibble::gpu::detail

namespace nibble::gpu {

/// Files of one job, and the JSON object that says what they are: "name", "manifest", texts by "wgsl", "wgsl_wgpu" and "glsl", and for a
/// call "sizes", "host", "tolerance" and, by the names of buffers, "inputs", "outputs" (to be written) and "expected" (as f64).
struct job {
    std::string json;
    std::vector<std::pair<std::string, std::string>> files;  ///< names and contents
};

/// `base` begins the names of files. Without an example there are texts alone.
[[nodiscard]] inline job make_job(std::string_view name, const std::string& base, const program& p, const example* call = nullptr) {
    job made;
    detail::json_list object('{');
    object.add("name", detail::json_string(name)).add("manifest", p.manifest.json());
    const auto add_text = [&](std::string_view kind, const std::string& file, std::string text) {
        object.add(kind, detail::json_string(file));
        made.files.emplace_back(file, std::move(text));
    };
    add_text("wgsl", base + ".wgsl", to_wgsl(p));
    add_text("wgsl_wgpu", base + ".wgpu.wgsl", to_wgsl(p, wgsl_flavour::wgpu));
    add_text("glsl", base + ".comp", to_glsl(p));
    if (call != nullptr) {
        detail::json_list sizes('{'), host('{'), inputs('{'), outputs('{'), expected('{');
        for (const auto& [size, value] : call->sizes) sizes.add(size, value);
        for (const auto& [parameter, value] : call->host) host.add(parameter, std::string_view(detail::number_text(value)));
        const auto name_file = [&](detail::json_list& to, std::size_t binding, const char* ending) {
            const auto& buffer = p.manifest.bindings[binding].name;
            auto file = base + "." + buffer + ending;
            to.add(buffer, detail::json_string(file));
            return file;
        };
        for (std::size_t b = 0; b < call->buffers.size(); ++b) {
            const auto& bytes = call->buffers[b];
            made.files.emplace_back(name_file(inputs, b, ".bin"), std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
        }
        for (const auto& [b, numbers] : call->expected) {
            made.files.emplace_back(name_file(expected, b, ".f64"),
                                    std::string(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double)));
            (void)name_file(outputs, b, ".out");
        }
        object.add("tolerance", std::string_view(detail::number_text(call->tolerance))).add("sizes", sizes.close()).add("host", host.close());
        object.add("inputs", inputs.close()).add("expected", expected.close()).add("outputs", outputs.close());
    }
    made.json = object.close();
    return made;
}

}  // namespace nibble::gpu
