// SPDX-License-Identifier: Apache-2.0
// expect: nibble: both operands must have one type, or be a vector and its scalar; convert one of them: convert<f32>(x)
#include "nibble/gpu/ir.hpp"

using namespace nibble::gpu;

void kernel(shader& s) { (void)(s.local_index() * 4); }
