// SPDX-License-Identifier: Apache-2.0
// One use of each part that the package was made with.
#include <cstdio>
#include <vector>

#include "nibble/nibble.hpp"
#ifdef TEST_FORMATS
#include "nibble/convert.hpp"
#endif
#ifdef TEST_SPIRV
#include "nibble/gpu/spirv.hpp"
#endif
#ifdef TEST_VULKAN
#include "nibble/gpu/vulkan.hpp"
#endif
#ifdef TEST_KERNELS
#include "nibble/cpu/products.hpp"
#endif

int main() {
    const auto q = nibble::quantize<nibble::q4f16_1>(std::vector<float>(32, 1.0F), {1, 32});
    if (!q || q->n_bytes() != 18) return 1;
    std::printf("nibble %s: 32 numbers are %zu bytes", NIBBLE_VERSION, q->n_bytes());
#ifdef TEST_FORMATS
    if (nibble::source::open_checkpoint("no such model")) return 2;
    std::printf(", formats");
#endif
#ifdef TEST_SPIRV
    if (!nibble::gpu::compile_glsl("#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n")) return 3;
    std::printf(", spirv");
#endif
#ifdef TEST_VULKAN
    std::printf(", vulkan %s", nibble::gpu::vulkan_device::open() ? "with a device" : "without a device");
#endif
#ifdef TEST_KERNELS
    std::printf(", kernels for %s", nibble::cpu::products().arch);
#endif
    std::puts("");
    return 0;
}
