// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a conversion keeps the number of components
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f16x4>("x", 4);
    (void)convert<f32>(x[0u]);
}
