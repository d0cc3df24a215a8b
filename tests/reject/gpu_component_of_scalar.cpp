// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a scalar has no components
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) { (void)s.local_index().x(); }
