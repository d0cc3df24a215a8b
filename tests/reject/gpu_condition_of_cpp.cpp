// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a shader's condition is not known in C++; write if_(condition, [&] { ... }) or select(condition, a, b)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    if (s.local_index() < 4u) s.barrier();
}
