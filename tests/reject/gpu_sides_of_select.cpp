// SPDX-License-Identifier: Apache-2.0
// expect: nibble: both sides of select must have one type; convert one of them: convert<f32>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    (void)select(s.local_index() < 4u, x[0u], 0u);
}
