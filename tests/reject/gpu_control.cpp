// SPDX-License-Identifier: Apache-2.0
// expect: compiles
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    auto y = s.output<f32>("y", 4);
    const auto i = s.local_index();
    s.if_(i < 4u, [&] { y[i] = x[i] * 2.0F; });
}
