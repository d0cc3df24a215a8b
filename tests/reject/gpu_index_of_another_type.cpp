// SPDX-License-Identifier: Apache-2.0
// expect: nibble: an index is a u32
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    (void)x[x[0u]];
}
