// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the code of w / scale changes, derived from the scalar law at compile time. Encoders whose scale has few bits need neither an
// exact division nor the law's chain of roundings: all of its steps are monotone, so a code is a count of constants below w / scale.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

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

/// The law's code of one value, for numbers of which no step leaves the normal range.
template <class C>
constexpr int code_by_law(float w, float divisor, rounding r) {
    const float shifted = C::scale::round(C::scale::round(w / divisor) + static_cast<float>(C::zero_code));
    if (!(shifted > 0)) return 0;
    const int c = whole_of(shifted, r);
    return c < C::max_code ? c : C::max_code;
}

/// Codes of values of 16 bits looked up, without arithmetic on them: for each mantissa that the largest magnitude of a group can have, a
/// row of 64 numbers. All that counts lies in the four binades up to that magnitude. They are cut in 32 steps, eight in a binade, so narrow that
/// each has a change of code at most once, and a number of the row, added to the place of a value, carries into its code there.
///
/// With v the bits of |w| above the lowest of these binades (0 where there are none), as steps of `step`, and y = v or, for negative w, -1 - v:
/// number (y / step) % 64 plus y is the code times `step`, and something below `step`. For f16 the bits are doubled first, so that a step is 256:
/// the code is a byte of its own.
template <class C, class T>
struct code_rows {
    static constexpr unsigned mantissa_bits = std::is_same_v<T, bf16> ? 7 : 10;
    static constexpr int unit = std::is_same_v<T, bf16> ? 1 : 2;
    static constexpr int step = unit << (mantissa_bits - 3);
    static constexpr int n_places = 32 * step;
    static constexpr std::size_t n_rows = 128;  ///< of a part: compilers bound the steps of one evaluation
    static constexpr std::size_t n_parts = (std::size_t{1} << mantissa_bits) / n_rows;

    std::uint16_t row[n_rows][64]{};

    /// T's bits of f32 in [2^-4, 2), rounded down.
    static constexpr int bits_of(float x) {
        const auto u = std::bit_cast<std::uint32_t>(x);
        return static_cast<int>(std::is_same_v<T, bf16> ? u >> 16 : (u >> 13) - (112u << 10));
    }
    static constexpr float value_of(int bits) {
        const auto u = static_cast<std::uint32_t>(bits);
        return std::bit_cast<float>(std::is_same_v<T, bf16> ? u << 16 : (u << 13) + (112u << 23));
    }
    /// The place from which on codes are above c, or below it where `sign` is -1.
    static constexpr int change(int c, int sign, float divisor, int lowest, const std::array<float, 16>& table, rounding r) {
        if constexpr (std::is_same_v<typename C::scale, f16_scale> || std::is_same_v<typename C::scale, bf16_scale>) {
            const float at = table[static_cast<std::size_t>(sign > 0 ? c : c - 1)] * divisor;  // exact, and no number of T
            return (bits_of(sign > 0 ? at : -at) + 1 - lowest) * unit;
        } else {
            int low = 0;
            int high = n_places / unit;
            while (high - low > 1) {
                const int middle = (low + high) / 2;
                const int code = code_by_law<C>(static_cast<float>(sign) * value_of(lowest + middle), divisor, r);
                ((sign > 0 ? code > c : code < c) ? high : low) = middle;
            }
            return high * unit;
        }
    }

    constexpr code_rows(rounding r, std::size_t part) {
        const auto table = thresholds<C>(r);
        const int one = bits_of(1.0F) + static_cast<int>(part * n_rows);
        for (int m = 0; m < static_cast<int>(n_rows); ++m) {
            const float divisor = C::scale::divisor(C::scale::round(value_of(one + m) / static_cast<float>(C::zero_code)));
            const int lowest = one + m - (n_places / unit - 1);
            auto* numbers = row[m];
            for (const int sign : {1, -1}) {
                int c = C::zero_code;
                int next = change(c, sign, divisor, lowest, table, r);
                for (int j = 0; j < 32; ++j) {
                    const int begin = j * step;
                    int place = step;  // of the change in this step
                    if (next < begin + step) {
                        place = next - begin;
                        c += sign;
                        next = c == 0 || c == C::max_code ? n_places : change(c, sign, divisor, lowest, table, r);
                    }
                    const int before = place < step ? c - sign : c;
                    if (sign > 0) {
                        numbers[j] = static_cast<std::uint16_t>(before * step + step - place - begin);
                    } else {
                        numbers[63 - j] = static_cast<std::uint16_t>((before - 1) * step + place + begin + step);
                    }
                }
            }
        }
    }
};
template <class C, class T, rounding r, std::size_t part>
struct code_rows_part {
    alignas(64) static constexpr code_rows<C, T> rows{r, part};
};

/// The parts of both roundings' rows, those of half_even first.
template <class C, class T, class Parts = std::make_index_sequence<code_rows<C, T>::n_parts>>
struct code_tables;
template <class C, class T, std::size_t... part>
struct code_tables<C, T, std::index_sequence<part...>> {
    using parts = std::array<const code_rows<C, T>*, sizeof...(part)>;
    static constexpr std::array<parts, 2> of{parts{&code_rows_part<C, T, rounding::half_even, part>::rows...},
                                             parts{&code_rows_part<C, T, rounding::half_away, part>::rows...}};
};

/// Bits that values of T lose when they are cast to the model type: none, 13 for f32 to f16, 16 for f32 or f16 to bf16.
template <class Model, class T>
inline constexpr unsigned lost_bits = std::is_same_v<Model, T> || std::is_same_v<Model, float> || (std::is_same_v<T, bf16> && std::is_same_v<Model, f16>) ? 0
                                      : std::is_same_v<Model, f16>                                                                                        ? 13
                                                                                                                                                          : 16;

/// Whether codes come from thresholds; else from an exact f32 division.
template <class C>
inline constexpr bool by_thresholds = C::max_code < 16 && (std::is_same_v<typename C::scale, f16_scale> || std::is_same_v<typename C::scale, bf16_scale>);

}  // namespace nibble::cpu::detail
