// SPDX-License-Identifier: Apache-2.0
// expect: nibble: what is stored must have the type of its place; convert it: convert<f16>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto y = s.output<f16>("y", 4);
    auto x = s.input<f32>("x", 4);
    y[0u] = x[0u];
}
