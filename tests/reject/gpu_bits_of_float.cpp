// SPDX-License-Identifier: Apache-2.0
// expect: nibble: bits, shifts and remainders need u32 or i32 operands
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    (void)(x[0u] % x[1u]);
}
