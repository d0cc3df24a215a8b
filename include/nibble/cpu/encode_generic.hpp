// SPDX-License-Identifier: Apache-2.0
#pragma once
// The encoder of the affine codecs for any architecture that xsimd knows: the law's own steps, a vector at a time. Included by
// encode.hpp.

#include "nibble/cpu/cast.hpp"
#include "nibble/cpu/thresholds.hpp"

namespace nibble::cpu::detail {

template <class Arch>
NIBBLE_INLINE float largest_lane(vector_f32<Arch> v) {
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
        __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
    }
#endif
    float lane[lanes<Arch>];
    v.store_unaligned(lane);
    float top = lane[0];
    for (std::size_t i = 1; i < lanes<Arch>; ++i) top = top > lane[i] ? top : lane[i];
    return top;
}

/// Rounds to 11 bits, as f16 does in its normal range; smaller numbers stay finer than f16 has them.
template <class Arch>
NIBBLE_INLINE vector_f32<Arch> round_to_11_bits(vector_f32<Arch> x) {
#if defined(__F16C__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8) return vector_f32<Arch>(_mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)));
#endif
    using u32 = vector_u32<Arch>;
    const u32 u = as_u32<Arch>(x);
    return as_f32<Arch>((u + u32(0xFFFu) + ((u >> 13) & u32(1u))) & u32(0xFFFFE000u));
}

/// A vector's worth of T cast to a model type, as f32; NaNs stay NaNs.
template <class Arch, class Model, class T>
NIBBLE_INLINE vector_f32<Arch> load_as_model(const void* from) {
    using u32 = vector_u32<Arch>;
    const u32 u = load_as_f32_bits<Arch, T>(from);
    if constexpr (std::is_same_v<Model, T> || std::is_same_v<Model, float>) {
        return as_f32<Arch>(u);
    } else if constexpr (std::is_same_v<Model, bf16>) {
        const auto is_nan = (u & u32(0x7FFFFFFFu)) > u32(0x7F800000u);
        return as_f32<Arch>(xsimd::select(is_nan, u, bf16_rounded_above<Arch>(u) & u32(0xFFFF0000u)));
    } else {
#if defined(__F16C__)
        if constexpr (has<Arch, avx2> && lanes<Arch> == 8) return round_to_11_bits<Arch>(as_f32<Arch>(u));
#endif
        return as_f32<Arch>(f16_to_f32_bits<Arch>(f32_to_f16_bits<Arch>(u)));
    }
}

/// 32 codes as 16 bytes of nibbles.
template <class Arch>
NIBBLE_INLINE void pack_32_nibbles(const std::uint32_t* c, std::byte* to) {
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2>) {
        const auto* v = reinterpret_cast<const __m256i*>(c);
        const __m256i low = _mm256_packs_epi32(_mm256_load_si256(v), _mm256_load_si256(v + 1));
        const __m256i high = _mm256_packs_epi32(_mm256_load_si256(v + 2), _mm256_load_si256(v + 3));
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_packus_epi16(low, high), _mm256_set1_epi16(0x1001));
        const __m256i bytes = _mm256_packus_epi16(pairs, pairs);  // 128 bits have two bytes of each vector
        return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
    }
#endif
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2>) {
        const auto* v = reinterpret_cast<const __m128i*>(c);
        const auto bytes = [&](int i) __attribute__((always_inline)) {  // a byte of two codes in each 16-bit lane
            const __m128i codes = _mm_packus_epi16(_mm_packs_epi32(_mm_load_si128(v + i), _mm_load_si128(v + i + 1)),
                                                   _mm_packs_epi32(_mm_load_si128(v + i + 2), _mm_load_si128(v + i + 3)));
            return _mm_and_si128(_mm_or_si128(codes, _mm_srli_epi16(codes, 4)), _mm_set1_epi16(0xFF));
        };
        return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(bytes(0), bytes(4)));
    }
#endif
    std::uint32_t words[4] = {};
    for (unsigned i = 0; i < 32; ++i) words[i / 8] |= c[i] << (i % 8 * 4);
    std::memcpy(to, words, sizeof words);
}

/// 40 codes as 4 words of ten three-bit codes.
template <class Arch>
NIBBLE_INLINE void pack_40_threes(const std::uint32_t* c, std::byte* to) {
    std::uint32_t words[4];
    for (unsigned j = 0; j < 4; ++j) {
        const std::uint32_t* d = c + 10 * j;
        words[j] = (d[0] | d[1] << 3 | d[2] << 6) | (d[3] << 9 | d[4] << 12 | d[5] << 15) | (d[6] << 18 | d[7] << 21) | (d[8] << 24 | d[9] << 27);
    }
    std::memcpy(to, words, sizeof words);
}

template <class Arch, class C, class T>
struct generic_encoder {
    using scale = typename C::scale;
    using f32 = vector_f32<Arch>;
    using u32 = vector_u32<Arch>;
    static constexpr std::size_t group = C::group;
    static constexpr std::size_t at_once = 16;  ///< groups of a block
    static constexpr std::size_t width = lanes<Arch>;
    static_assert(at_once % width == 0 && group % width == 0);

    NIBBLE_INLINE static u32 codes_of(f32 w, f32 divisor, rounding r) {
        constexpr auto bias = static_cast<float>(C::zero_code);
        constexpr auto top = static_cast<float>(C::max_code);
        f32 x = divide<Arch>(w, divisor);
        if constexpr (std::is_same_v<scale, f16_scale>) {
            constexpr float bound = C::zero_code < 16 ? 16.0F : 256.0F;  // beyond all codes, and so are numbers that f16 lacks
            static_assert(C::max_code < 256);
            x = xsimd::select(x > f32(-bound), x, f32(-bound));  // a NaN too: code 0
            x = xsimd::select(x < f32(bound), x, f32(bound));
            x = round_to_11_bits<Arch>(round_to_11_bits<Arch>(x) + f32(bias));
        } else {
            x = x + f32(bias);
        }
        x = xsimd::select(x > f32(0.0F), x, f32(0.0F));
        x = xsimd::select(x < f32(top), x, f32(top));
        const f32 shifted = x + f32(0x1p23F);  // to the nearest integer, ties to even
        const u32 c = as_u32<Arch>(shifted) - u32(0x4B000000u);
        if (r == rounding::half_even) return c;
        return xsimd::select(as_u32<Arch>(x - (shifted - f32(0x1p23F))) == u32(0x3F000000u), c + u32(1u), c);  // a tie that went down
    }

    /// Encodes n whole groups; by_law(g) does those that only the scalar law can: they have a NaN.
    template <class ByLaw>
    NIBBLE_INLINE static void encode_groups(const std::byte* from, std::uint64_t n, std::byte* codes, std::byte* scales, rounding r, ByLaw by_law) {
        for (std::uint64_t g = 0; g < n; g += at_once) {
            unsigned nan = encode_block(from + g * group * sizeof(T), n - g < at_once ? static_cast<std::size_t>(n - g) : at_once,
                                        codes == nullptr ? nullptr : codes + g * C::words_per_group * 4,
                                        scales == nullptr ? nullptr : scales + g * sizeof(typename scale::type), r);
            for (std::uint64_t at = g; nan != 0; nan >>= 1, ++at) {
                if ((nan & 1u) != 0) by_law(at);
            }
        }
    }

    /// Encodes n <= 16 whole groups; gives those that only the scalar law can (they have a NaN), one bit each.
    NIBBLE_INLINE static unsigned encode_block(const std::byte* from, std::size_t n, std::byte* codes, std::byte* scales, rounding r) {
        alignas(64) float w[at_once * group];
        alignas(64) float tops[at_once] = {};
        unsigned nan = 0;
        for (std::size_t g = 0; g < n; ++g) {
            f32 top(0.0F);
            f32 sum(0.0F);  // stays 0, or becomes a NaN
            for (std::size_t i = g * group; i < (g + 1) * group; i += width) {
                const f32 x = load_as_model<Arch, typename C::model_type, T>(from + i * sizeof(T));
                x.store_aligned(w + i);
                const f32 magnitude = as_f32<Arch>(as_u32<Arch>(x) & u32(0x7FFFFFFFu));
                top = xsimd::select(magnitude > top, magnitude, top);
                sum = xsimd::select(x == x, sum, x);
            }
            if (!xsimd::all(sum == sum)) nan |= 1u << g;
            tops[g] = largest_lane<Arch>(top);
        }
        alignas(64) float divisors[at_once];
        alignas(64) std::byte stored[at_once * sizeof(typename scale::type)];
        for (std::size_t g = 0; g < at_once; g += width) {
            const f32 quotient = divide<Arch>(f32::load_aligned(tops + g), f32(static_cast<float>(C::zero_code)));
            f32 divisor = quotient;
            std::byte* to = stored + g * sizeof(typename scale::type);
            if constexpr (std::is_same_v<scale, f16_scale>) {
                store_f32_bits_as<Arch, f16, float>(to, as_u32<Arch>(quotient));
                divisor = as_f32<Arch>(load_as_f32_bits<Arch, f16>(to));
            } else if constexpr (std::is_same_v<scale, f32_scale>) {
                quotient.store_unaligned(reinterpret_cast<float*>(to));
            } else {
                const u32 rounded = bf16_rounded_above<Arch>(as_u32<Arch>(quotient));
                store_u16<Arch>(to, rounded >> 16);
                if constexpr (std::is_same_v<scale, bf16_scale>) divisor = as_f32<Arch>(rounded & u32(0xFFFF0000u));
            }
            divisor.store_aligned(divisors + g);
        }
        if (scales != nullptr) std::memcpy(scales, stored, n * sizeof(typename scale::type));
        if (codes == nullptr) return nan;
        for (std::size_t g = 0; g < n; ++g) {
            alignas(64) std::uint32_t c[group];
            const f32 divisor(divisors[g]);
            for (std::size_t i = 0; i < group; i += width) codes_of(f32::load_aligned(w + g * group + i), divisor, r).store_aligned(c + i);
            if constexpr (C::packing::bits == 4) {
                pack_32_nibbles<Arch>(c, codes + g * 16);
            } else if constexpr (C::packing::bits == 8) {
                for (std::size_t i = 0; i < group; ++i) codes[g * group + i] = static_cast<std::byte>(c[i]);
            } else {
                pack_40_threes<Arch>(c, codes + g * 16);
            }
        }
        return nan;
    }
};

}  // namespace nibble::cpu::detail
