// SPDX-License-Identifier: Apache-2.0
// expect: nibble: conditions are combined by &&, || and !, not by arithmetic
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) {
    const auto c = s.local_index() < 4u;
    (void)(c + c);
}
