// SPDX-License-Identifier: Apache-2.0
#pragma once
// The AVX2 encoder of the affine codecs whose codes come from thresholds: eight groups at a time, one lane each for their scales. Included
// by encode.hpp.

#include "nibble/cpu/encode_generic.hpp"
#include "nibble/cpu/simd.hpp"
#include "nibble/cpu/thresholds.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

namespace nibble::cpu::detail {

template <class Arch, class C, class T>
struct avx2_encoder {
    using scale = typename C::scale;
    using model = typename C::model_type;
    using any_scale = generic_encoder<Arch, C, T>;
    static constexpr std::size_t group = C::group;
    static constexpr std::size_t group_bytes = group * sizeof(T);
    static constexpr std::size_t at_once = 8;  ///< groups of a block
    static constexpr std::size_t vectors = group / 8;
    static constexpr bool narrow = sizeof(T) == 2;
    static constexpr std::size_t prefetch_distance = 4096;  ///< beyond the end of the tensor it does no harm
    static_assert(group == 32 || group == 40);

    /// Encodes n whole groups; by_law(g) does those that only the scalar law can: they have a NaN.
    template <class ByLaw>
    NIBBLE_INLINE static void encode_groups(const std::byte* from, std::uint64_t n, std::byte* codes, std::byte* scales, rounding r, ByLaw by_law) {
        const float* table = threshold_tables<C>::of[r == rounding::half_even ? 0 : 1].data();
        const __m256 low = _mm256_loadu_ps(table);
        const __m256 high = C::max_code < 8 ? low : _mm256_blend_ps(_mm256_loadu_ps(table + 8), low, 0x80);  // 8 to 14, and 7 last
        for (std::uint64_t g = 0; g < n; g += at_once) {
            const std::size_t count = n - g < at_once ? static_cast<std::size_t>(n - g) : at_once;
            const std::byte* block = from + g * group_bytes;
            const scales_of_block of(block, count, scales == nullptr ? nullptr : scales + g * sizeof(typename scale::type));
            if (codes != nullptr) {
                for (std::size_t i = 0; i < count; ++i) {
                    const std::byte* source = block + i * group_bytes;
                    std::byte* to = codes + (g + i) * C::words_per_group * 4;
                    _mm_prefetch(reinterpret_cast<const char*>(source) + prefetch_distance, _MM_HINT_T0);
                    if constexpr (!narrow) _mm_prefetch(reinterpret_cast<const char*>(source) + prefetch_distance + 64, _MM_HINT_T0);
                    if ((of.careful >> i & 1u) != 0) [[unlikely]] {
                        (void)any_scale::encode_block(source, 1, to, nullptr, r);
                    } else {
                        encode_group(source, of.divisors[i], of.reciprocals[i], low, high, to);
                    }
                }
            }
            for (std::size_t i = 0; i < count && of.nan >> i != 0; ++i) {
                if ((of.nan >> i & 1u) != 0) by_law(g + i);
            }
        }
    }

private:
    /// Bits of T in the low parts of 32-bit lanes to f32.
    NIBBLE_INLINE static __m256 widen(__m256i bits) {
        if constexpr (std::is_same_v<T, float>) return _mm256_castsi256_ps(bits);
        if constexpr (std::is_same_v<T, bf16>) return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
        if constexpr (std::is_same_v<T, f16>) {
            const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(bits, bits), 0x08);
            return _mm256_cvtph_ps(_mm256_castsi256_si128(words));
        }
    }
    NIBBLE_INLINE static __m256 load(const std::byte* from) {
        if constexpr (std::is_same_v<T, float>) {
            return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
        } else {
            const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
            if constexpr (std::is_same_v<T, f16>) return _mm256_cvtph_ps(h);
            return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
        }
    }
    /// The magnitudes of a group as bits of T in 32-bit lanes, folded to one vector that holds the largest.
    NIBBLE_INLINE static __m256i magnitudes_of_group(const std::byte* from) {
        const auto at = [&](std::size_t i) __attribute__((always_inline)) {
            return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32 * i)),
                                    narrow ? _mm256_set1_epi16(0x7FFF) : _mm256_set1_epi32(0x7FFFFFFF));
        };
        if constexpr (narrow) {
            __m256i x = _mm256_max_epu16(at(0), at(1));
            if constexpr (group == 40) {
                const __m256i rest = _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 64)));
                x = _mm256_max_epu16(x, _mm256_and_si256(rest, _mm256_set1_epi16(0x7FFF)));
            }
            return _mm256_max_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)), _mm256_srli_epi32(x, 16));
        } else {
            __m256i x = _mm256_max_epi32(_mm256_max_epi32(at(0), at(1)), _mm256_max_epi32(at(2), at(3)));
            if constexpr (group == 40) x = _mm256_max_epi32(x, at(4));
            return x;
        }
    }
    /// The largest magnitudes of eight groups as bits of T in 32-bit lanes; groups beyond `last` count as that one.
    NIBBLE_INLINE static __m256i largest_of_eight(const std::byte* from, std::size_t last) {
        const auto at = [&](std::size_t i) __attribute__((always_inline)) { return magnitudes_of_group(from + (i < last ? i : last) * group_bytes); };
        const auto two = [&](std::size_t i) __attribute__((always_inline)) {
            const __m256i a = at(i);
            const __m256i b = at(i + 1);
            return _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        };
        const auto four = [&](std::size_t i) __attribute__((always_inline)) {
            const __m256i a = two(i);
            const __m256i b = two(i + 2);
            return _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        };
        const __m256i a = four(0);
        const __m256i b = four(4);
        return _mm256_max_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
    }

    /// What a block's groups are divided by.
    struct scales_of_block {
        unsigned nan;      ///< groups that have one, by bits
        unsigned careful;  ///< groups whose reciprocal is no good
        alignas(32) float divisors[8];
        alignas(32) float reciprocals[8];

        NIBBLE_INLINE scales_of_block(const std::byte* from, std::size_t n, std::byte* scales) {
            const __m256i bits = largest_of_eight(from, n - 1);
            constexpr int infinity = std::is_same_v<T, float> ? 0x7F800000 : std::is_same_v<T, bf16> ? 0x7F80 : 0x7C00;
            const auto mask_of = [](__m256i m) __attribute__((always_inline)) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(m))); };
            const unsigned groups = (1u << n) - 1;
            nan = groups & mask_of(_mm256_cmpgt_epi32(bits, _mm256_set1_epi32(infinity)));

            __m256 top = widen(bits);
            if constexpr (!std::is_same_v<model, T> && std::is_same_v<model, f16>) top = round_to_11_bits<Arch>(vector_f32<Arch>(top));
            if constexpr (!std::is_same_v<model, T> && std::is_same_v<model, bf16>) {
                const __m256i u = bf16_rounded_above<Arch>(vector_u32<Arch>(_mm256_castps_si256(top)));
                top = _mm256_castsi256_ps(_mm256_and_si256(u, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
            }
            const __m256 quotient = _mm256_div_ps(top, _mm256_set1_ps(static_cast<float>(C::zero_code)));
            __m256 divisor;
            alignas(16) std::uint16_t stored[8];
            if constexpr (std::is_same_v<scale, f16_scale>) {
                const __m128i h = _mm256_cvtps_ph(quotient, _MM_FROUND_TO_NEAREST_INT);
                _mm_store_si128(reinterpret_cast<__m128i*>(stored), h);
                divisor = _mm256_cvtph_ps(h);
            } else {
                static_assert(std::is_same_v<scale, bf16_scale>);
                const vector_u32<Arch> u = bf16_rounded_above<Arch>(vector_u32<Arch>(_mm256_castps_si256(quotient)));
                store_u16<Arch>(stored, u >> 16);
                divisor = _mm256_castsi256_ps(_mm256_and_si256(u, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
            }
            if (scales != nullptr) std::memcpy(scales, stored, n * 2);

            constexpr bool half = std::is_same_v<scale, f16_scale>;  // the bounds are those of the AVX-512 encoder
            const __m256 normal = _mm256_and_ps(_mm256_cmp_ps(divisor, _mm256_set1_ps(half ? 0x1p-12F : 0x1p-60F), _CMP_GE_OQ),
                                                _mm256_cmp_ps(divisor, _mm256_set1_ps(half ? 65504.0F : 0x1p60F), _CMP_LE_OQ));
            careful = groups & ~static_cast<unsigned>(_mm256_movemask_ps(normal));
            _mm256_store_ps(divisors, divisor);
            _mm256_store_ps(reciprocals, _mm256_div_ps(_mm256_set1_ps(1.0F), divisor));
        }
    };

    /// The thresholds of w from those of w / s, with the rounding to the model type: see the AVX-512 encoder's.
    NIBBLE_INLINE static __m256 thresholds_of_group(__m256 table, __m256 s) {
        const __m256 at = _mm256_mul_ps(table, s);
        constexpr unsigned lost = lost_bits<model, T>;
        if constexpr (lost == 0) {
            return at;
        } else {
            constexpr std::uint32_t below = (1u << lost) - 1;
            const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(below / 2 + 1)), _mm256_srli_epi32(_mm256_castps_si256(table), 31));
            const __m256i u = _mm256_castps_si256(at);
            const __m256i middle = _mm256_or_si256(_mm256_and_si256(u, _mm256_set1_epi32(static_cast<int>(~below))), half);
            const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, lost), _mm256_set1_epi32(1));
            return _mm256_castsi256_ps(_mm256_sub_epi32(middle, odd));
        }
    }
    NIBBLE_INLINE static void encode_group(const std::byte* from, float divisor, float reciprocal, __m256 low, __m256 high, std::byte* codes) {
        const __m256 s = _mm256_set1_ps(divisor);
        const __m256 inverse = _mm256_set1_ps(reciprocal);
        low = thresholds_of_group(low, s);
        if constexpr (C::max_code >= 8) high = thresholds_of_group(high, s);
        alignas(32) std::uint32_t c[group];
#pragma GCC unroll 5
        for (std::size_t v = 0; v < vectors; ++v) {
            const __m256 w = load(from + 8 * v * sizeof(T));
            const __m256i code = _mm256_cvttps_epi32(_mm256_fmadd_ps(w, inverse, _mm256_set1_ps(static_cast<float>(C::zero_code))));
            __m256 at = _mm256_permutevar8x32_ps(low, code);
            if constexpr (C::max_code >= 8) at = _mm256_blendv_ps(_mm256_permutevar8x32_ps(high, code), at, w);  // by its sign
            const __m256 above = _mm256_cmp_ps(w, at, _CMP_GT_OQ);
            _mm256_store_si256(reinterpret_cast<__m256i*>(c + 8 * v), _mm256_sub_epi32(code, _mm256_castps_si256(above)));
        }
        if constexpr (group == 32) {
            pack_32_nibbles<Arch>(c, codes);
        } else {
            pack_40_threes<Arch>(c, codes);
        }
    }
};

}  // namespace nibble::cpu::detail

#endif
