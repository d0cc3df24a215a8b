// SPDX-License-Identifier: Apache-2.0
#include "nibble/nibble.hpp"
#ifdef CONSUME_FORMATS
#include "nibble/core/json.hpp"
#endif
#ifdef CONSUME_SPIRV
#include "nibble/gpu/spirv.hpp"
#endif

int main() {
#ifdef CONSUME_SPIRV
    if (!nibble::gpu::compile_glsl("#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n")) return 2;
#endif
    const auto q = nibble::quantize<nibble::q4f16_1>(std::vector<float>(64, 1.0F), {1, 64});
    return q && q->n_bytes() == 36 ? 0 : 1;
}
