// SPDX-License-Identifier: Apache-2.0
#pragma once
// The fp8 weights of mlc_llm's per-tensor schemes (mlc_llm/quantization/per_tensor_quantization.py) as its CPU build computes them:
// e5m2_e5m2_f16, a cast, and e4m3_e4m3_f16_max_calibrate, a cast after division by one scale for the whole tensor.

#include <array>
#include <bit>
#include <cstdint>

#include "nibble/codec/codec.hpp"

namespace nibble {

/// The cast f32 -> fp8 that TVM generates for a CPU: the mantissa is rounded to nearest even, then the exponent is rebased without
/// a look at what it means. Right where the result is a normal number, and only there (to_f8_e5m2 and to_f8_e4m3 are right
/// everywhere). With r the rounded x and 2^e the least normal number of F8:
///   |r| < 2^(e-1), both zeros among them   +0: the sign is lost
///   2^(e-1) <= |r| < 2^e                   the sign and r's mantissa as if it were a denormal's: 2^(e-1) becomes 0, 1.5 * 2^(e-1) becomes 2^(e-1)
///   exponents beyond F8's                  they wrap, into the sign too: e5m2 gets 1.0 for infinity, e4m3 gets -0 for 512
template <class F8>
[[nodiscard]] constexpr F8 tvm_cast(float x) {
    static_assert(std::is_same_v<F8, f8_e5m2> || std::is_same_v<F8, f8_e4m3>, "nibble: tvm_cast gives f8_e5m2 or f8_e4m3");
    constexpr std::uint32_t mantissa = std::is_same_v<F8, f8_e5m2> ? 2 : 3;
    constexpr std::uint32_t bias = std::is_same_v<F8, f8_e5m2> ? 15 : 7;
    constexpr std::uint32_t drop = 23 - mantissa;
    constexpr std::uint32_t rebase = (127 - bias) << mantissa;
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = u + ((u >> drop) & 1u) + ((1u << (drop - 1)) - 1);  // a NaN may carry out of the exponent: then +0
    const std::uint32_t kept = (rounded & 0x7FFFFFFFu) >> drop;
    if (kept < rebase) return F8{};
    return F8{static_cast<std::uint8_t>(((rounded >> 24) & 0x80u) | (kept - rebase))};
}

/// mlc_llm's e5m2_e5m2_f16.
struct e5m2_cast {
    using model_type = f16;
    using layout = nk;
    using block = std::tuple<std::array<f8_e5m2, 1>>;
    static constexpr std::size_t group = 1;
    static constexpr std::array<plane, 1> planes{plane{"q_weight", encoding::f8_e5m2, 1}};

    static constexpr void decode(const block& b, float* out) { out[0] = to_f32(std::get<0>(b)[0]); }
    static constexpr block encode(const float* w, std::size_t, encode_options = {}) { return block{{tvm_cast<f8_e5m2>(*w)}}; }
};

/// mlc_llm's e4m3_e4m3_f16_max_calibrate: value = code * scale, where the scale brings the tensor's largest magnitude to 448.
struct e4m3_scaled {
    using model_type = f16;
    using layout = nk;
    using block = std::tuple<std::array<f8_e4m3, 1>>;
    static constexpr std::size_t group = 1;
    static constexpr std::array<plane, 1> planes{plane{"q_weight", encoding::f8_e4m3, 1}};
    static constexpr plane tensor_plane{"q_scale", encoding::f32, 1};

    static constexpr float largest = 448.0F;              ///< of E4M3FN
    static constexpr f16 smallest_scale{0x0049};          ///< f16(1 / (448 * 512))
    static constexpr float lowest_magnitude = -65504.0F;  ///< where max_abs starts

    /// Continues max|w| over n values in the tensor's order. That order matters: a NaN replaces the maximum so far, and the value
    /// after it replaces the NaN.
    static constexpr float max_abs(const float* w, std::size_t n, float so_far = lowest_magnitude) {
        for (std::size_t i = 0; i < n; ++i) {
            const float v = std::bit_cast<float>(std::bit_cast<std::uint32_t>(w[i]) & 0x7FFFFFFFu);
            so_far = so_far > v ? so_far : v;
        }
        return so_far;
    }

    /// The scale, rounded to f16 at each step and then widened. A NaN maximum gives the smallest scale, an infinite one infinity.
    static constexpr float tensor_scale(float max_abs) {
        const float s = to_f32(to_f16(max_abs / largest));
        return s > to_f32(smallest_scale) ? s : to_f32(smallest_scale);
    }

    static constexpr block encode(const float* w, std::size_t, float scale) { return block{{tvm_cast<f8_e4m3>(quotient(*w, scale))}}; }
    static constexpr void decode(const block& b, float scale, float* out) { out[0] = to_f32(std::get<0>(b)[0]) * scale; }

private:
    /// w / scale with x86's NaNs, for the cast above takes their bits apart and other processors make others.
    static constexpr float quotient(float w, float scale) {
        const auto u = std::bit_cast<std::uint32_t>(w);
        if ((u & 0x7FFFFFFFu) > 0x7F800000u) return std::bit_cast<float>(u | 0x00400000u);
        constexpr std::uint32_t infinity = 0x7F800000u;
        if ((u & 0x7FFFFFFFu) == infinity && std::bit_cast<std::uint32_t>(scale) == infinity) return std::bit_cast<float>(0xFFC00000u);
        return w / scale;
    }
};

static_assert(encoder<e5m2_cast> && bits_per_value<e5m2_cast> == 8);
static_assert(tensor_scaled<e4m3_scaled> && bits_per_value<e4m3_scaled> == 8);

}  // namespace nibble
