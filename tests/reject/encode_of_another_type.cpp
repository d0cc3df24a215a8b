// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this codec cannot be a conversion target: it has no `static block encode(const float* w, std::size_t n, encode_options)`
#include "nibble/codec/affine.hpp"

struct mine : nibble::q4f16_1 {
    static float encode(const float* w, std::size_t, nibble::encode_options) { return *w; }
};
static_assert(nibble::check_encoder<mine>());
