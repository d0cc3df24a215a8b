// SPDX-License-Identifier: Apache-2.0
#pragma once
// Encoders of the affine codecs for whole rows, equal to the scalar law of codec/affine.hpp bit for bit. Sixteen groups are taken
// at a time: their maxima, then their scales in one vector, then their codes. Groups that hold NaN or infinities, or whose scale is
// too small for the shortcuts, go through the law itself.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "nibble/codec/affine.hpp"
#include "nibble/cpu/cast.hpp"
#include "nibble/cpu/encode_avx512.hpp"
#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

namespace detail {

/// What a codec is to an encoder: its layout does not matter, rows are written densely.
template <class C>
struct dense;
template <class P, class S, class B, std::size_t G, class L>
struct dense<affine<P, S, B, G, L>> {
    using type = affine<P, S, B, G, nk>;
};

/// One group by the law: T is cast to the codec's model type first.
template <class Arch, class C, class T>
void encode_group_by_law(const std::byte* row, std::size_t count, rounding ties, std::byte* codes, std::byte* scale) {
    float w[C::group];
    for (std::size_t i = 0; i < count; ++i) w[i] = to_f32(number_cast<typename C::model_type>(load<T>(row + i * sizeof(T))));
    const auto block = C::encode(w, count, {.rounding = ties});
    if (codes != nullptr) std::memcpy(codes, std::get<0>(block).data(), sizeof(std::get<0>(block)));
    if (scale != nullptr) std::memcpy(scale, std::get<1>(block).data(), sizeof(std::get<1>(block)));
}

/// The law's scale of a finite maximum, as f32.
template <class Arch, class C>
float scale_of_maximum(float top) {
    return C::scale::round(top / static_cast<float>(C::zero_code));
}

/// Scales that allow the shortcuts: normal f16 numbers, so that |w / scale| stays near the bias; for f32 arithmetic normal f32
/// numbers. Zero, denormals, infinities and NaN do not.
template <class Arch, class C>
bool is_plain_scale(float s) {
    constexpr float least = std::is_same_v<typename C::model_type, f16> ? 0x1p-14F : 0x1p-120F;
    return s >= least && s <= 3.0e38F && (!std::is_same_v<typename C::model_type, f16> || s <= 65504.0F);
}

/// An f32 of f16's normal range, rounded to f16's 11 bits.
template <class Arch>
float round_to_11_bits(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    return std::bit_cast<float>((u + 0xFFFu + ((u >> 13) & 1u)) & ~0x1FFFu);
}

/// Codes of one group of finite values w, of the model's type widened to f32, under a plain scale; one byte each. Written so that
/// compilers vectorise it for any architecture.
template <class Arch, class C, rounding Ties>
void codes_of_group(const float* w, float divisor, std::uint8_t* codes) {
    constexpr auto shift = static_cast<float>(C::zero_code);
    std::uint32_t whole[C::group];
    [[maybe_unused]] const float reciprocal = 1.0F / divisor;
    for (std::size_t i = 0; i < C::group; ++i) {
        float shifted = 0;
        // For f16 weights and scales the exact quotient is never halfway between two f16 numbers, and no nearer to a midpoint than
        // 2^-23 of itself (an odd 12-bit integer times an 11-bit one misses an 11-bit one by 1 at least). So the product with the
        // rounded reciprocal rounds as the quotient does. A quotient below f16's normal range vanishes in the sum.
        if constexpr (std::is_same_v<typename C::model_type, f16>)
            shifted = round_to_11_bits<Arch>(round_to_11_bits<Arch>(w[i] * reciprocal) + shift);
        else
            shifted = w[i] / divisor + shift;
        if constexpr (Ties == rounding::half_even) {
            whole[i] = std::bit_cast<std::uint32_t>(shifted + 0x1.8p23F) & 0x1Fu;  // the last bit of the sum is worth 1
        } else {
            whole[i] = static_cast<std::uint32_t>(static_cast<std::int32_t>(shifted + 0.49999997F));
        }
    }
    for (std::size_t i = 0; i < C::group; ++i) codes[i] = static_cast<std::uint8_t>(whole[i]);
}

/// Codes of one byte each to words of 4-bit or 3-bit codes, lowest first.
template <class Arch, class C>
void pack_bytes(const std::uint8_t* codes, std::byte* words) {
    for (std::size_t i = 0; i < C::words_per_group; ++i) {
        std::uint32_t word = 0;
        constexpr std::size_t n = C::packing::per_word;
        for (std::size_t j = 0; j < n && i * n + j < C::group; ++j) word |= C::packing::put(codes[i * n + j], j);
        std::memcpy(words + 4 * i, &word, 4);
    }
}

/// `count` values of a full or partial group through the portable path.
template <class Arch, class C, class T, rounding Ties>
void encode_group(const std::byte* values, std::size_t count, std::byte* codes, std::byte* scale) {
    using model = typename C::model_type;
    if (count < C::group) return encode_group_by_law<Arch, C, T>(values, count, Ties, codes, scale);
    alignas(64) float w[C::group + 16];
    if constexpr (std::is_same_v<model, T> || std::is_same_v<model, float>) {
        cast_values<Arch, float, T>(values, C::group, reinterpret_cast<std::byte*>(w));
    } else {
        std::byte narrow[C::group * 2];
        cast_values<Arch, model, T>(values, C::group, narrow);
        cast_values<Arch, float, model>(narrow, C::group, reinterpret_cast<std::byte*>(w));
    }
    std::uint32_t top = 0;
    for (std::size_t i = 0; i < C::group; ++i) top = std::max(top, std::bit_cast<std::uint32_t>(w[i]) & 0x7FFFFFFFu);
    const float s = scale_of_maximum<Arch, C>(std::bit_cast<float>(top));
    if (top >= 0x7F800000u || !is_plain_scale<Arch, C>(s)) return encode_group_by_law<Arch, C, T>(values, count, Ties, codes, scale);
    const auto stored = C::scale::stored(s);
    if (scale != nullptr) std::memcpy(scale, &stored, sizeof stored);
    if (codes == nullptr) return;
    std::uint8_t bytes[C::group];
    codes_of_group<Arch, C, Ties>(w, C::scale::divisor(s), bytes);
    pack_bytes<Arch, C>(bytes, codes);
}

}  // namespace detail

/// Encodes n_rows rows of k values of type T, one after another, to dense planes: words [n_rows, words], scales [n_rows, groups].
/// Either may be null, then only the other is written. Pointers need no alignment.
template <class Arch, class C, class T>
void encode_rows(const std::byte* rows, std::uint64_t n_rows, std::uint64_t k, rounding ties, std::byte* codes, std::byte* scales) {
    using dense = typename detail::dense<C>::type;
    constexpr std::size_t code_bytes = sizeof(typename dense::word) * dense::words_per_group;
    constexpr std::size_t scale_bytes = sizeof(typename dense::scale::type);
    const auto with = [&]<rounding Ties>() {
        for (std::uint64_t n = 0; n < n_rows; ++n) {
            for (std::uint64_t begin = 0; begin < k;) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
                if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
                    if (k - begin >= 16 * dense::group) {
                        if (!detail::encode_16_groups<Arch, dense, T, Ties>(rows, codes, scales)) {
                            for (std::size_t g = 0; g < 16; ++g) {
                                detail::encode_group<Arch, dense, T, Ties>(rows + g * dense::group * sizeof(T), dense::group,
                                                                           codes == nullptr ? nullptr : codes + g * code_bytes,
                                                                           scales == nullptr ? nullptr : scales + g * scale_bytes);
                            }
                        }
                        begin += 16 * dense::group;
                        rows += 16 * dense::group * sizeof(T);
                        if (codes != nullptr) codes += 16 * code_bytes;
                        if (scales != nullptr) scales += 16 * scale_bytes;
                        continue;
                    }
                }
#endif
                const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(dense::group, k - begin));
                detail::encode_group<Arch, dense, T, Ties>(rows, count, codes, scales);
                begin += count;
                rows += count * sizeof(T);
                if (codes != nullptr) codes += code_bytes;
                if (scales != nullptr) scales += scale_bytes;
            }
        }
    };
    if (ties == rounding::half_even)
        with.template operator()<rounding::half_even>();
    else
        with.template operator()<rounding::half_away>();
}

}  // namespace nibble::cpu
