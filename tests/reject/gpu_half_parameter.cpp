// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a parameter is a u32, i32 or f32
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) { (void)s.scalar<f16>("eps"); }
