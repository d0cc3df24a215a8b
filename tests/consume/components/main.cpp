// SPDX-License-Identifier: Apache-2.0
// A use of each component that CMakeLists.txt found.
#include <cstdio>

#include "nibble/nibble.hpp"
#ifdef USE_FORMATS
#include "nibble/core/json.hpp"
#include "nibble/onnx/reader.hpp"
#endif
#ifdef USE_SPIRV
#include "nibble/gpu/spirv.hpp"
#endif
#ifdef USE_VULKAN
#include "nibble/gpu/vulkan.hpp"
#endif
#ifdef USE_KERNELS
#include "nibble/cpu/products.hpp"
#endif

int main() {
    std::printf("nibble %s", NIBBLE_VERSION);
#ifdef USE_FORMATS
    if (nibble::parse_json({})) return 3;  // no text is no JSON
    std::printf(", formats");
#endif
#ifdef USE_SPIRV
    if (!nibble::gpu::compile_glsl("#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n")) return 2;
    std::printf(", spirv");
#endif
#ifdef USE_VULKAN
    std::printf(", vulkan %s", nibble::gpu::vulkan_device::open() ? "with a device" : "without a device");
#endif
#ifdef USE_KERNELS
    std::printf(", kernels for %s", nibble::cpu::products().arch);
#endif
    std::puts("");
}
