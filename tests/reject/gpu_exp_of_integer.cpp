// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this function takes f32 or f16
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) { (void)exp(s.local_index()); }
