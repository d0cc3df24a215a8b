// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the code of w / scale changes, derived from the scalar law at compile time. Encoders whose scale has few bits need neither an
// exact division nor the law's chain of roundings: all of its steps are monotone, so a code is a count of constants below w / scale.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nibble/codec/affine.hpp"

namespace nibble::cpu::detail {

/// Nearest integer of x >= 0, as the law rounds it.
constexpr int whole_of(float x, rounding r) {
    const int down = static_cast<int>(x);
    const float rest = x - static_cast<float>(down);
    if (rest != 0.5F) return down + (rest > 0.5F ? 1 : 0);
    return r == rounding::half_away || down % 2 != 0 ? down + 1 : down;
}

/// The f16 numbers in order: 0 is 0, negative keys are negative numbers.
constexpr float f16_of_key(int key) { return to_f32(f16{static_cast<std::uint16_t>(key < 0 ? 0x8000 - key : key)}); }

/// Entry c, for quotients with c <= w / scale + bias < c + 1 (the lowest for less, too): the code is c + 1 above it, else c.
///
/// f16: a quotient rounds to f16 before the bias is added. It reaches code c + 1 when it rounds to the smallest f16 number whose code is
/// that, so above the middle between that number and the one before. The middle is odd in 12 bits; no w / s of two f16
/// numbers equals it, because then w = middle * s would have 12 significant bits, and with w - middle * s a multiple of their
/// last places w / s stays 2^-23 / (1 - 2^-11) away, relatively. Multiplying with the f32 reciprocal errs by less than
/// 2^-23 + 2^-48, and so falls on the same side. tests/cpu/thresholds_test.cpp tries all mantissas.
///
/// bf16 (codes from the stored scale): the law's f32 roundings are finer than a quotient of two 8-bit mantissas, which is either a half
/// exactly or more than 2^-11 away. So the half is moved by 2^-13 towards the code that does not get the ties.
template <class C>
constexpr std::array<float, 16> thresholds(rounding r) {
    static_assert(C::max_code < 16);
    constexpr auto bias = static_cast<float>(C::zero_code);
    std::array<float, 16> t{};
    for (int c = 0; c < 16; ++c) {
        auto& at = t[static_cast<std::size_t>(c)];
        if (c >= C::max_code) {
            at = 3e38F;  // never above
        } else if constexpr (std::is_same_v<typename C::scale, f16_scale>) {
            int low = -0x4C00;  // -16: code 0
            int high = 0x4C00;  // 16: the highest
            while (high - low > 1) {
                const int middle = (low + high) / 2;
                const float shifted = C::scale::round(f16_of_key(middle) + bias);
                (shifted > 0 && whole_of(shifted, r) > c ? high : low) = middle;
            }
            at = (f16_of_key(low) + f16_of_key(high)) / 2;
        } else {
            const float half = static_cast<float>(c) + 0.5F - bias;
            at = whole_of(half + bias, r) > c ? half - 0x1p-13F : half + 0x1p-13F;
        }
    }
    return t;
}

/// Both roundings' tables, the one of half_even first.
template <class C>
struct threshold_tables {
    alignas(64) static constexpr std::array<std::array<float, 16>, 2> of{thresholds<C>(rounding::half_even), thresholds<C>(rounding::half_away)};
};

/// Whether codes come from thresholds; else from an exact f32 division.
template <class C>
inline constexpr bool by_thresholds = std::is_same_v<typename C::scale, f16_scale> || std::is_same_v<typename C::scale, bf16_scale>;

}  // namespace nibble::cpu::detail
