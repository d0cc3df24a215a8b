// SPDX-License-Identifier: Apache-2.0
// One use of each part that is asked for. (tests/consume builds it too.)
#include <cstdio>
#include <vector>

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
    const auto q = nibble::quantize<nibble::q4f16_1>(std::vector<float>(32, 1.0F), {1, 32});
    if (!q || q->n_bytes() != 18) return 1;
    std::printf("nibble %s: 32 numbers are %zu bytes", NIBBLE_VERSION, q->n_bytes());
#ifdef USE_FORMATS
    if (nibble::parse_json({})) return 2;  // no text is no JSON
    std::printf(", formats");
#endif
#ifdef USE_SPIRV
    if (!nibble::gpu::compile_glsl("#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n")) return 3;
    std::printf(", spirv");
#endif
#ifdef USE_VULKAN
    std::printf(", vulkan %s", nibble::gpu::vulkan_device::open() ? "with a device" : "without a device");
#endif
#ifdef USE_KERNELS
    std::printf(", kernels for %s", nibble::cpu::products().arch);
#endif
    std::puts("");
    return 0;
}
