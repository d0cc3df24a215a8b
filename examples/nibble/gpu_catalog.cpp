// SPDX-License-Identifier: Apache-2.0
#include "gpu_catalog.hpp"

#include "nibble/gpu/kernels.hpp"

namespace nibble::gpu {

const std::vector<catalog_entry>& catalog() {
    static const auto all = [] {
        std::vector<catalog_entry> entries;
        for_each_trial([&](std::string_view kernel, std::string_view codec, const trial& t, const auto& build, const auto& make_example) {
            entries.push_back({std::string(kernel), std::string(codec), t, build, make_example});
        });
        return entries;
    }();
    return all;
}

const std::vector<kernel_line>& catalog_kernels() {
    static const auto all = [] {
        std::vector<kernel_line> lines;
        for_each_kernel([&]<class K>() { lines.push_back({std::string(K::name), std::string(K::purpose), K::reads_weights}); });
        return lines;
    }();
    return all;
}

std::vector<std::string> catalog_codecs() {
    std::vector<std::string> names;
    for_each_shader_codec([&]<class C>(std::string_view name) { names.emplace_back(name); });
    return names;
}

result<program> catalog_build(std::string_view kernel, std::string_view codec, const kernel_spec& spec) { return build_kernel(kernel, codec, spec); }

}  // namespace nibble::gpu
