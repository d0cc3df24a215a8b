// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a GPU reads scales that are f32, f16 or bf16
#include "nibble/codec/affine.hpp"
#include "nibble/gpu/dequantize.hpp"

using namespace nibble;

/// Scales of one byte each.
struct small_scale : f32_scale {
    using type = f8_e5m2;
    static constexpr type stored(float scale) { return to_f8_e5m2(scale); }
};
using codec_of_bytes = affine<low_first<4, std::uint32_t>, small_scale, bias<7>, 32>;

gpu::program kernel() { return gpu::dequantize::build<codec_of_bytes>({}, "codec_of_bytes"); }
