// SPDX-License-Identifier: Apache-2.0
// expect: nibble: both operands must have one type, or be a vector and its scalar; convert one of them: convert<f32>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto a = s.input<f32x4>("a", 4);
    auto b = s.input<f32x2>("b", 4);
    (void)(a[0u] * b[0u]);
}
