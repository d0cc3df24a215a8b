// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a variable starts with a value of its type; convert it: convert<f32>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) { (void)s.var<f32>("sum", 0u); }
