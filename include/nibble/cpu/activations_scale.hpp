// SPDX-License-Identifier: Apache-2.0
#pragma once
// What one signed byte, or three of them, of a group of activations are worth. Included by the headers that make such bytes.

#include <bit>

#include "nibble/cpu/matrix.hpp"

namespace nibble::cpu::detail {

/// What x is multiplied by before it is rounded, in two steps (the first a power of two that lifts small numbers), and what one is worth.
struct byte_scale {
    float lift;
    float inverse;
    float unit;
};
/// For three bytes, the unit is a power of two where the largest magnitude has few bits, as numbers have that come from bf16, f16 or small
/// integers: they stay exact. Else the largest uses up the range, and the unit is 2^-23 of it.
template <class Arch, std::size_t digits>
NIBBLE_INLINE byte_scale scale_for(float top) {
    if (!(top <= 3.4028234663852886e38F)) return {0.0F, 0.0F, std::bit_cast<float>(0x7FC00000u)};
    if constexpr (digits == 1) return {1.0F, top > 0x1p-100F ? 127.0F / top : 0.0F, top / 127.0F};
    constexpr float largest = 127.0F * 65793.0F;  // of three signed bytes: 2^22 * 1.992
    const bool tiny = top < 0x1p-90F;             // its unit would not be a normal number
    const float lift = tiny ? 0x1p80F : 1.0F;
    top *= lift;
    if (!(top >= 0x1p-80F)) return {0.0F, 0.0F, 0.0F};
    const auto bits = std::bit_cast<std::uint32_t>(top);
    if ((bits & 0xFFFu) != 0 && !tiny) {
        const float inverse = (largest - 4.0F) / top;  // whichever way the division rounds
        return {1.0F, inverse, static_cast<float>(1.0 / static_cast<double>(inverse))};
    }
    auto exponent = static_cast<std::int32_t>(bits >> 23) - 127 - 22;
    if ((bits & 0x007FFFFFu) > (std::bit_cast<std::uint32_t>(largest) & 0x007FFFFFu)) ++exponent;
    const auto power = [](std::int32_t e) __attribute__((always_inline)) { return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23); };
    return {lift, power(-exponent), power(exponent) / lift};
}

}  // namespace nibble::cpu::detail
