// SPDX-License-Identifier: Apache-2.0
#pragma once
// Affine codecs: value = (code - bias) * scale, codes packed in words, one scale for each group along K. MLC's q3*/q4* family
// (mlc_llm/quantization/group_quantization.py), bit-exact, rounding and NaN included.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "nibble/codec/codec.hpp"
#include "nibble/codec/fit.hpp"

namespace nibble {

/// `PerWord` codes of `Bits` bits in a Word, the first in the lowest bits; bits that remain are zero.
template <unsigned Bits, class Word, std::size_t PerWord = sizeof(Word) * 8 / Bits>
struct low_first {
    static_assert(Bits * PerWord <= sizeof(Word) * 8, "nibble: these codes do not fit in a word");
    using word = Word;
    static constexpr unsigned bits = Bits;
    static constexpr std::size_t per_word = PerWord;
    static constexpr std::uint32_t mask = (1u << Bits) - 1;
    static constexpr Word put(std::uint32_t code, std::size_t i) { return static_cast<Word>(code << (i * Bits)); }
    static constexpr std::uint32_t get(Word w, std::size_t i) { return code(static_cast<std::uint32_t>(w), i); }
    /// The same for any type that has shifts and masks: a shader expression too.
    template <class T>
    static constexpr T code(const T& w, std::size_t i) {
        return (w >> T(static_cast<std::uint32_t>(i * Bits))) & T(mask);
    }
};

/// The code that means 0 is a constant of the format.
template <int Code>
struct bias {
    static constexpr int code = Code;
};

/// Scales stored as f16; each step of the encoder rounds to f16.
struct f16_scale {
    using type = f16;
    using model_type = f16;
    static constexpr float lowest = -65504.0F;
    static constexpr float round(float x) { return to_f32(to_f16(x)); }
    static constexpr type stored(float scale) { return to_f16(scale); }
    static constexpr float divisor(float scale) { return scale; }
};
/// Scales stored as f32; plain f32 arithmetic.
struct f32_scale {
    using type = float;
    using model_type = float;
    static constexpr float lowest = -std::numeric_limits<float>::max();
    static constexpr float round(float x) { return x; }
    static constexpr type stored(float scale) { return scale; }
    static constexpr float divisor(float scale) { return scale; }
};
/// Scales stored as bf16; f32 arithmetic, in which codes are divided by the stored scale.
struct bf16_scale {
    using type = bf16;
    using model_type = bf16;
    static constexpr float lowest = -std::numeric_limits<float>::max();
    static constexpr float round(float x) { return x; }
    static constexpr type stored(float scale) {  // no care for NaN: its mantissa is rounded like any other
        const auto u = std::bit_cast<std::uint32_t>(scale);
        return bf16{static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
    }
    static constexpr float divisor(float scale) { return to_f32(stored(scale)); }
};
/// The same, but codes are divided by the scale as it was before rounding (MLC's transposed layout computes it so).
struct bf16_scale_unrounded : bf16_scale {
    static constexpr float divisor(float scale) { return scale; }
};

/// MLC's fit: absmax over a symmetric range of codes, although more codes may fit in a word. A fit with an `encode` of its own takes
/// its place (codec/onnx.hpp).
struct absmax_fit {
    template <class Packing, class Bias>
    static constexpr int max_code = 2 * Bias::code;
};

/// A codec of codes in words and one scale for each group: planes `q_weight`, words [N, G * words_per_group], and `q_scale` [N, G], G groups a row.
template <class Packing, class Scale, class Bias, std::size_t Group, class Layout = nk, class Fit = absmax_fit>
struct affine {
    using packing = Packing;
    using scale = Scale;
    using layout = Layout;
    using word = typename Packing::word;
    using model_type = typename Scale::model_type;

    static constexpr std::size_t group = Group;
    static constexpr int zero_code = Bias::code;
    static constexpr int max_code = Fit::template max_code<Packing, Bias>;  ///< of those that an encoder makes
    static constexpr std::size_t words_per_group = (Group + Packing::per_word - 1) / Packing::per_word;
    static_assert(max_code <= static_cast<int>(Packing::mask), "nibble: the bias does not fit in the codes");

    using block = std::tuple<std::array<word, words_per_group>, std::array<typename Scale::type, 1>>;
    static constexpr std::array<plane, 2> planes{plane{"q_weight", encoding_of<word>, words_per_group}, plane{"q_scale", encoding_of<typename Scale::type>, 1}};

    /// The one formula: for float, a SIMD batch or a shader expression.
    template <class T>
    static constexpr T value(T code, T scale_value) {
        return (code - T(static_cast<float>(Bias::code))) * scale_value;
    }

    static constexpr std::uint32_t code(const block& b, std::size_t i) { return Packing::get(std::get<0>(b)[i / Packing::per_word], i % Packing::per_word); }
    static constexpr float scale_of(const block& b) { return to_f32(std::get<1>(b)[0]); }

    static constexpr void decode(const block& b, float* out) {
        const float s = scale_of(b);
        for (std::size_t i = 0; i < Group; ++i) out[i] = value(static_cast<float>(code(b, i)), s);
    }

    static block encode(const float* w, std::size_t n, encode_options options = {}) {
        if constexpr (requires { Fit::template encode<affine>(w, n); }) {
            return Fit::template encode<affine>(w, n);
        } else {
            return encode_absmax(w, n, options);
        }
    }

    static constexpr void put(block& b, std::size_t i, std::uint32_t c) {
        auto& w = std::get<0>(b)[i / Packing::per_word];
        w = static_cast<word>(w | Packing::put(c, i % Packing::per_word));
    }

private:
    static block encode_absmax(const float* w, std::size_t n, encode_options options) {
        if (options.fit == fit::mse) {
            if (const auto best = detail::least_squares_scale<affine>(w, n)) return encode_nearest(w, n, *best);
        }
        const float s = absmax_scale(w, n);
        const float divisor = Scale::divisor(s);
        block b{};
        std::get<1>(b)[0] = Scale::stored(s);
        for (std::size_t i = 0; i < n; ++i) {
            const float shifted = Scale::round(Scale::round(w[i] / divisor) + static_cast<float>(Bias::code));
            const float whole = options.rounding == rounding::half_even ? std::nearbyint(shifted) : std::round(shifted);
            put(b, i, clamp_code(whole));
        }
        return b;
    }

public:
    /// The scale that absmax chooses, before it is stored: RND(max|w| / bias), where the maximum is taken as MLC's fold takes it
    /// (a NaN replaces the maximum, and the next value replaces the NaN).
    static constexpr float absmax_scale(const float* w, std::size_t n) {
        float top = Scale::lowest;
        for (std::size_t i = 0; i < Group; ++i) {
            const float v = i < n ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(w[i]) & 0x7FFFFFFFu) : Scale::lowest;
            top = top > v ? top : v;
        }
        const auto u = std::bit_cast<std::uint32_t>(top);
        if ((u & 0x7FFFFFFFu) > 0x7F800000u) return std::bit_cast<float>(u | 0x00400000u);  // NaN: quieted on every machine
        return Scale::round(top / static_cast<float>(Bias::code));
    }

    /// Codes nearest to w / scale for a given scale; values beyond the range are clamped.
    static block encode_nearest(const float* w, std::size_t n, typename Scale::type stored_scale) {
        block b{};
        std::get<1>(b)[0] = stored_scale;
        const float s = to_f32(stored_scale);
        for (std::size_t i = 0; i < n; ++i) put(b, i, clamp_code(std::nearbyint(w[i] / s + static_cast<float>(Bias::code))));
        return b;
    }

private:
    static constexpr std::uint32_t clamp_code(float whole) {
        whole = whole > 0.0F ? whole : 0.0F;  // NaN becomes 0
        return static_cast<std::uint32_t>(whole < static_cast<float>(max_code) ? whole : static_cast<float>(max_code));
    }
};

/// 4-bit codes, groups of 32, f16 scales, layout [N, K/8]: 4.5 bits a value.
using q4f16_1 = affine<low_first<4, std::uint32_t>, f16_scale, bias<7>, 32, nk>;
/// The same, transposed: [K/8, N].
using q4f16_0 = affine<low_first<4, std::uint32_t>, f16_scale, bias<7>, 32, kn>;
/// As q4f16_1 with f32 arithmetic and f32 scales, which shards keep as bf16.
using q4f32_1 = affine<low_first<4, std::uint32_t>, f32_scale, bias<7>, 32, nk>;
/// As q4f16_1 with bf16 scales and f32 arithmetic.
using q4bf16_1 = affine<low_first<4, std::uint32_t>, bf16_scale, bias<7>, 32, nk>;
/// The same, transposed, its codes by the scale as it was before rounding.
using q4bf16_0 = affine<low_first<4, std::uint32_t>, bf16_scale_unrounded, bias<7>, 32, kn>;
/// 3-bit codes, ten a word, groups of 40, f16 scales, layout [N, K/10]: 3.6 bits a value.
using q3f16_1 = affine<low_first<3, std::uint32_t>, f16_scale, bias<3>, 40, nk>;
/// The same, transposed: [K/10, N].
using q3f16_0 = affine<low_first<3, std::uint32_t>, f16_scale, bias<3>, 40, kn>;
/// 8-bit codes, groups of 32, f16 scales: 8.5 bits a value.
using q8f16_1 = affine<low_first<8, std::uint32_t>, f16_scale, bias<127>, 32, nk>;  // no scheme of mlc_llm's, but its layout and rules for int8

static_assert(bits_per_value<q8f16_1> == 8.5);
static_assert(bits_per_value<q4f16_1> == 4.5);
static_assert(bits_per_value<q4f32_1> == 5.0);  // in memory; shards keep the f32 scale as bf16: 4.5 there
static_assert(bits_per_value<q3f16_1> == 3.6);

}  // namespace nibble
