// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a loop counts in u32
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    s.for_("i", 0u, 4.0F, 1u, [](const expr<u32>&) {});
}
