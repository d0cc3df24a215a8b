// SPDX-License-Identifier: Apache-2.0
// expect: nibble: both operands must have one type, or be a vector and its scalar; convert one of them: convert<f32>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    (void)(x[0u] + s.local_index());
}
