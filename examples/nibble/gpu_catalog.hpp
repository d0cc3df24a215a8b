// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every GPU kernel for every codec, compiled once: the templates of nibble/gpu take a while, and command and tests use the same.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

/// Something that is to be tried: a kernel, a codec (empty where no weights are read), sizes and options.
struct catalog_entry {
    std::string kernel, codec;
    gpu::trial trial;
    std::function<program(const kernel_spec&)> build_as;
    std::function<example(const gpu::trial&)> example_of;

    [[nodiscard]] program build() const { return build_as(trial.spec); }
    [[nodiscard]] example make_example() const { return example_of(trial); }
    /// "gemv q4f16_1 (f16, bias)".
    [[nodiscard]] std::string text() const { return kernel + (codec.empty() ? "" : " " + codec) + " (" + trial.label + ")"; }
};
[[nodiscard]] const std::vector<catalog_entry>& catalog();

struct kernel_line {
    std::string name, purpose;
    bool reads_weights;
};
[[nodiscard]] const std::vector<kernel_line>& catalog_kernels();
[[nodiscard]] std::vector<std::string> catalog_codecs();

/// build_kernel() of nibble/gpu/kernels.hpp.
[[nodiscard]] result<program> catalog_build(std::string_view kernel, std::string_view codec, const kernel_spec& spec);

}  // namespace nibble::gpu
