// SPDX-License-Identifier: Apache-2.0
// expect: nibble: dot takes two vectors of one type
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    (void)dot(x[0u], x[1u]);
}
