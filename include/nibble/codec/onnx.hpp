// SPDX-License-Identifier: Apache-2.0
#pragma once
// ONNX Runtime's codecs: the weights of MatMulNBits and GatherBlockQuantized (domain com.microsoft), bit-exact with the quantizers of
// onnxruntime 1.31 (onnxruntime/core/mlas/lib/q4_dq.cpp; quantization/matmul_nbits_quantizer.py), ties, NaN and infinities included.

#include <cmath>
#include <cstdint>
#include <limits>

#include "nibble/codec/affine.hpp"

namespace nibble {

namespace detail {

/// The smallest and the largest of n values. Where there are only NaNs, or none at all, the smallest is the larger one.
struct value_range {
    float low = std::numeric_limits<float>::max();
    float high = -std::numeric_limits<float>::max();

    /// The C++ quantizer's scan, which passes over NaNs.
    static constexpr value_range over_nan(const float* w, std::size_t n) {
        value_range r;
        for (std::size_t i = 0; i < n; ++i) {
            if (w[i] < r.low) r.low = w[i];
            if (w[i] > r.high) r.high = w[i];
        }
        return r;
    }
    /// numpy's, which ends in a NaN where it meets one.
    static constexpr value_range with_nan(const float* w, std::size_t n) {
        value_range r{w[0], w[0]};
        for (std::size_t i = 0; i < n; ++i) {
            if (w[i] != w[i]) return {w[i], w[i]};
            if (w[i] < r.low) r.low = w[i];
            if (w[i] > r.high) r.high = w[i];
        }
        return r;
    }
    /// The value of the largest magnitude; of two, the smallest.
    [[nodiscard]] constexpr float furthest() const { return std::fabs(high) > std::fabs(low) ? high : low; }
    [[nodiscard]] constexpr value_range with_zero() const { return {low > 0.0F ? 0.0F : low, high < 0.0F ? 0.0F : high}; }
};

/// A whole number as a code of 0 to `top`; NaN is 0, as an x86 makes it.
constexpr std::uint32_t code_within(float whole, float top) {
    if (!(whole > 0.0F)) return 0;
    return static_cast<std::uint32_t>(whole < top ? whole : top);
}

}  // namespace detail

/// MatMulNBits' own fit: the scale keeps its sign, so that the value of the largest magnitude gets the lowest code, exactly; values
/// are multiplied by the scale's reciprocal, and ties go away from zero. All codes are used.
struct signed_absmax_fit {
    template <class Packing, class Bias>
    static constexpr int max_code = static_cast<int>(Packing::mask);

    static constexpr float unrounded_scale(detail::value_range r, int zero_code) { return -r.furthest() / static_cast<float>(zero_code); }
    /// 1 / scale, or 0. The scale is taken as it is stored, but bf16's as it was before: its weights are quantized as f32.
    template <class Scale>
    static constexpr float reciprocal(float unrounded) {
        const float scale = std::is_same_v<Scale, bf16_scale_unrounded> ? unrounded : to_f32(Scale::stored(unrounded));
        return scale != 0.0F ? 1.0F / scale : 0.0F;
    }

    /// The comparison stands between product and sum, so that no compiler joins them to an FMA with one rounding. (A product in f64,
    /// rounded by a cast, is no help: gcc makes it one of f32 and joins that.) Below -1024 lie no codes; a NaN goes there too.
    static float whole(float w, float reciprocal, float zero) {
        const float product = w * reciprocal;
        return std::round((product > -1024.0F ? product : -1024.0F) + zero);
    }

    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        typename C::block b{};
        const float s = unrounded_scale(detail::value_range::over_nan(w, n), C::zero_code);
        std::get<1>(b)[0] = C::scale::stored(s);
        const float r = reciprocal<typename C::scale>(s);
        for (std::size_t i = 0; i < n; ++i)
            C::put(b, i, detail::code_within(whole(w[i], r, static_cast<float>(C::zero_code)), static_cast<float>(C::max_code)));
        return b;
    }
};

/// GatherBlockQuantized's: the same scale, but each step is rounded to the scale's type, as numpy computes in it, values are divided,
/// ties go to even, and a scale of 0 has codes of 0.
struct signed_absmax_quotient_fit {
    template <class Packing, class Bias>
    static constexpr int max_code = static_cast<int>(Packing::mask);

    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        using scale = typename C::scale;
        typename C::block b{};
        const float s = scale::round(detail::value_range::with_nan(w, n).furthest() / -static_cast<float>(C::zero_code));
        std::get<1>(b)[0] = scale::stored(s);
        for (std::size_t i = 0; i < n; ++i) {
            const float q = s == 0.0F ? 0.0F : std::nearbyint(scale::round(w[i] / s));
            // A NaN becomes the integer 0, which stands in the middle of signed codes.
            C::put(b, i, detail::code_within((q != q ? 0.0F : q) + static_cast<float>(C::zero_code), static_cast<float>(C::max_code)));
        }
        return b;
    }
};

/// Stored zero points: the range from the smallest to the largest value, 0 included, over all codes. MatMulNBits' steps.
struct range_fit {
    static constexpr float unrounded_scale(detail::value_range r, int top) { return (r.high - r.low) / static_cast<float>(top); }
    static std::uint8_t zero_of(detail::value_range r, float unrounded, int top) {
        return static_cast<std::uint8_t>(detail::code_within(std::round(unrounded != 0.0F ? 0.0F - r.low / unrounded : r.low), static_cast<float>(top)));
    }

    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        typename C::block b{};
        const auto range = detail::value_range::over_nan(w, n).with_zero();
        const float s = unrounded_scale(range, C::max_code);
        std::get<1>(b)[0] = C::scale::stored(s);
        std::get<2>(b)[0] = zero_of(range, s, C::max_code);
        const float r = signed_absmax_fit::reciprocal<typename C::scale>(s);
        const auto zero = static_cast<float>(std::get<2>(b)[0]);
        for (std::size_t i = 0; i < n; ++i) C::put(b, i, detail::code_within(signed_absmax_fit::whole(w[i], r, zero), static_cast<float>(C::max_code)));
        return b;
    }
};

/// The same by GatherBlockQuantized's steps, in numpy's arithmetic; a scale of 0 has zero point and codes 8.
struct range_quotient_fit {
    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        using scale = typename C::scale;
        constexpr auto top = static_cast<float>(C::max_code);
        constexpr std::uint32_t middle = (C::packing::mask + 1) / 2;
        typename C::block b{};
        const auto range = detail::value_range::with_nan(w, n).with_zero();
        const float s = scale::round(scale::round(range.high - range.low) / top);
        const std::uint32_t zero = s == 0.0F ? middle : detail::code_within(std::nearbyint(scale::round(-range.low / s)), top);
        std::get<1>(b)[0] = scale::stored(s);
        std::get<2>(b)[0] = static_cast<std::uint8_t>(zero);
        for (std::size_t i = 0; i < n; ++i) {
            const float q = s == 0.0F ? static_cast<float>(middle) : std::nearbyint(scale::round(scale::round(w[i] / s) + static_cast<float>(zero)));
            C::put(b, i, detail::code_within(q, top));
        }
        return b;
    }
};

/// The fits of ONNX Runtime's DequantizeLinear form: MatMulNBits' scales and zero points, but a quotient becomes an integer before the
/// zero point is added. NaNs, and what no 32-bit integer holds, get the lowest code, as an x86 makes it.
template <class Fit>
struct whole_quotient_fit {
    template <class Packing, class Bias>
    static constexpr int max_code = static_cast<int>(Packing::mask);

    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        typename C::block b = Fit::template encode<C>(w, n);
        std::get<0>(b) = {};
        static_assert(!std::is_same_v<typename C::scale, bf16_scale_unrounded>, "nibble: DequantizeLinear weights with bf16 scales are made by nobody");
        const float r = signed_absmax_fit::reciprocal<typename C::scale>(to_f32(std::get<1>(b)[0]));
        float zero = (C::max_code + 1) / 2;
        if constexpr (C::planes.size() == 3) zero = static_cast<float>(std::get<2>(b)[0]);
        for (std::size_t i = 0; i < n; ++i) {
            const float whole = std::round(w[i] * r);
            C::put(b, i, std::fabs(whole) < 0x1p31F ? detail::code_within(whole + zero, static_cast<float>(C::max_code)) : 0);
        }
        return b;
    }
};

/// value = (code - zero) * scale, where each group stores its zero point too: a byte here; files pack zero points as they do codes
/// (pack_zero_points). Its planes, beside those of `affine`: zero points u8 [1].
template <class Packing, class Scale, std::size_t Group, class Layout = nk, class Fit = range_fit>
struct affine_with_zero {
    using packing = Packing;
    using scale = Scale;
    using layout = Layout;
    using word = typename Packing::word;
    using model_type = typename Scale::model_type;

    static constexpr std::size_t group = Group;
    static constexpr int max_code = static_cast<int>(Packing::mask);
    static constexpr std::size_t words_per_group = (Group + Packing::per_word - 1) / Packing::per_word;

    using block = std::tuple<std::array<word, words_per_group>, std::array<typename Scale::type, 1>, std::array<std::uint8_t, 1>>;
    static constexpr std::array<plane, 3> planes{plane{"q_weight", encoding_of<word>, words_per_group}, plane{"q_scale", encoding_of<typename Scale::type>, 1},
                                                 plane{"q_zero", encoding::u8, 1}};

    /// The one formula: for float, a SIMD batch or a shader expression.
    template <class T>
    static constexpr T value(T code, T scale_value, T zero) {
        return (code - zero) * scale_value;
    }

    static constexpr void decode(const block& b, float* out) {
        const float s = to_f32(std::get<1>(b)[0]);
        const auto zero = static_cast<float>(std::get<2>(b)[0]);
        for (std::size_t i = 0; i < Group; ++i)
            out[i] = value(static_cast<float>(Packing::get(std::get<0>(b)[i / Packing::per_word], i % Packing::per_word)), s, zero);
    }

    /// ONNX Runtime has one fit and one rounding; the options of other encoders are not looked at.
    static block encode(const float* w, std::size_t n, encode_options = {}) { return Fit::template encode<affine_with_zero>(w, n); }

    static constexpr void put(block& b, std::size_t i, std::uint32_t code) {
        auto& w = std::get<0>(b)[i / Packing::per_word];
        w = static_cast<word>(w | Packing::put(code, i % Packing::per_word));
    }
};

/// Codes in two's complement: as many as in `low_first`, with the highest bit of each turned over.
template <unsigned Bits, class Word>
struct signed_low_first : low_first<Bits, Word> {
    static constexpr std::uint32_t turned = 1u << (Bits - 1);
    static constexpr Word put(std::uint32_t code, std::size_t i) { return low_first<Bits, Word>::put(code ^ turned, i); }
    static constexpr std::uint32_t get(Word w, std::size_t i) { return low_first<Bits, Word>::get(w, i) ^ turned; }
    template <class T>
    static constexpr T code(const T& w, std::size_t i) {
        return low_first<Bits, Word>::code(w, i) ^ T(turned);
    }
};

/// MatMulNBits' B [N, KB, block * bits / 8] and scales [N, KB]. Row n is output n: a Linear's weight [N, K] as it is.
template <unsigned Bits, class Scale, std::size_t Block>
using nbits = affine<low_first<Bits, std::uint8_t>, Scale, bias<1 << (Bits - 1)>, Block, nk, signed_absmax_fit>;
/// The same with zero_points. bf16 scales are bf16_scale_unrounded.
template <unsigned Bits, class Scale, std::size_t Block>
using nbits_with_zero = affine_with_zero<low_first<Bits, std::uint8_t>, Scale, Block>;

/// GatherBlockQuantized's data INT4 [V, H] and scales [V, H / block]; H is a multiple of the block.
template <class Scale, std::size_t Block>
using gather_int4 = affine<signed_low_first<4, std::uint8_t>, Scale, bias<8>, Block, nk, signed_absmax_quotient_fit>;
/// Its data UINT4 with zero_points.
template <class Scale, std::size_t Block>
using gather_uint4 = affine_with_zero<low_first<4, std::uint8_t>, Scale, Block, nk, range_quotient_fit>;

/// DequantizeLinear's INT4 and UINT4 weights, a code a byte: files pack those of all [K, N] one after another (pack_nibbles).
template <class Scale, std::size_t Block>
using dequantize_int4 = affine<low_first<4, std::uint8_t, 1>, Scale, bias<8>, Block, nk, whole_quotient_fit<signed_absmax_fit>>;
/// The same with stored zero points.
template <class Scale, std::size_t Block>
using dequantize_uint4 = affine_with_zero<low_first<4, std::uint8_t, 1>, Scale, Block, nk, whole_quotient_fit<range_fit>>;

static_assert(bits_per_value<nbits<4, f32_scale, 32>> == 5.0);
static_assert(bits_per_value<nbits<4, f16_scale, 32>> == 4.5);
static_assert(bits_per_value<nbits<8, f32_scale, 32>> == 9.0);

/// Bytes of n zero points of `bits` bits in a file.
[[nodiscard]] constexpr std::uint64_t packed_zero_points(std::uint64_t n, unsigned bits) { return ceil_div(n, 8 / bits); }

/// Packs the zero points of one row, a byte each, the first in the lowest bits; what is left of the last byte is filled with the
/// symmetric zero point, as the quantizer leaves it. `out` has packed_zero_points(n, bits) bytes.
constexpr void pack_zero_points(const std::uint8_t* zeros, std::uint64_t n, unsigned bits, std::uint8_t* out) {
    const std::uint64_t per_byte = 8 / bits;
    for (std::uint64_t at = 0; at < n; at += per_byte) {
        unsigned byte = 0;
        for (std::uint64_t i = 0; i < per_byte; ++i) byte |= (at + i < n ? unsigned{zeros[at + i]} : 1u << (bits - 1)) << (i * bits);
        *out++ = static_cast<std::uint8_t>(byte);
    }
}

/// Packs n numbers of four bits, a byte each, two to a byte, the first in the low half; `out` has (n + 1) / 2 bytes.
constexpr void pack_nibbles(const std::uint8_t* codes, std::uint64_t n, std::uint8_t* out) {
    for (std::uint64_t i = 0; i < n; i += 2) *out++ = static_cast<std::uint8_t>((codes[i] & 15u) | (i + 1 < n ? (codes[i + 1] & 15u) << 4 : 0u));
}

}  // namespace nibble
