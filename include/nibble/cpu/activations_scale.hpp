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
/// For three bytes the unit is a power of two, so that numbers of few bits stay exact.
template <class Arch, std::size_t digits>
NIBBLE_INLINE byte_scale scale_for(float top) {
    if (!(top <= 3.4028234663852886e38F)) return {0.0F, 0.0F, std::bit_cast<float>(0x7FC00000u)};
    if constexpr (digits == 1) return {1.0F, top > 0x1p-100F ? 127.0F / top : 0.0F, top / 127.0F};
    const float lift = top < 0x1p-40F ? 0x1p80F : 1.0F;
    top *= lift;
    if (!(top >= 0x1p-80F)) return {0.0F, 0.0F, 0.0F};
    // The largest number of three signed bytes is 127 * 65793 = 2^22 * 1.992.
    auto exponent = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(top) >> 23) - 127 - 22;
    if ((std::bit_cast<std::uint32_t>(top) & 0x007FFFFFu) > 0x007EFEFEu) ++exponent;
    const auto power = [](std::int32_t e) __attribute__((always_inline)) { return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23); };
    return {lift, power(-exponent), power(exponent) / lift};
}

}  // namespace nibble::cpu::detail
