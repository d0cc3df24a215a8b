// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this buffer is only read; declare it with output<T> to store to it
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    auto x = s.input<f32>("x", 4);
    x[0u] = x[1u];
}
