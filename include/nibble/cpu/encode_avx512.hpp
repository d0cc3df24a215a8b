// SPDX-License-Identifier: Apache-2.0
#pragma once
// The AVX-512 encoder of the affine codecs: sixteen groups at a time, one lane each for their scales. Included by encode.hpp.

#include "nibble/cpu/simd.hpp"
#include "nibble/cpu/thresholds.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

namespace nibble::cpu::detail {

template <class Arch, class C, class T>
struct avx512_encoder {
    using scale = typename C::scale;
    using model = typename C::model_type;
    static constexpr std::size_t group = C::group;
    static constexpr std::size_t group_bytes = group * sizeof(T);
    static constexpr std::size_t at_once = 16;                          ///< groups of a block
    static constexpr std::size_t packed_at_once = group == 32 ? 4 : 2;  ///< groups whose codes are packed together
    static constexpr std::size_t vectors = packed_at_once * group / 16;
    static constexpr bool narrow = sizeof(T) == 2;
    static constexpr std::size_t prefetch_distance = 8192;  ///< beyond the end of the tensor it does no harm
    static constexpr bool by_rows = (std::is_same_v<T, bf16> || std::is_same_v<T, model>)&&narrow && group == 32 && C::max_code == 14;
    using rows = code_rows<C, T>;
    static constexpr bool in_pairs = std::is_same_v<T, bf16> && group == 32;

    NIBBLE_INLINE static __m512 round_to_f16(__m512 x) {
        return _mm512_cvtph_ps(_mm512_maskz_cvtps_ph(0xFFFF, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    NIBBLE_INLINE static __m512i bf16_bits_above(__m512i u) {
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
        return _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd);
    }
    NIBBLE_INLINE static __m512 round_to_bf16(__m512 x) {
        return _mm512_castsi512_ps(_mm512_and_si512(bf16_bits_above(_mm512_castps_si512(x)), _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
    }
    /// f32 to the model type and back; NaNs are not treated.
    NIBBLE_INLINE static __m512 round_to_model(__m512 x) {
        if constexpr (std::is_same_v<model, T> || std::is_same_v<model, float>) return x;
        if constexpr (std::is_same_v<model, f16>) return round_to_f16(x);
        if constexpr (std::is_same_v<model, bf16>) return round_to_bf16(x);
    }
    /// Bits of T in the low parts of 32-bit lanes to f32.
    NIBBLE_INLINE static __m512 widen(__m512i bits) {
        if constexpr (std::is_same_v<T, float>) return _mm512_castsi512_ps(bits);
        if constexpr (std::is_same_v<T, bf16>) return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
        if constexpr (std::is_same_v<T, f16>) return _mm512_cvtph_ps(_mm512_maskz_cvtepi32_epi16(0xFFFF, bits));
    }
    /// Sixteen values of the source.
    NIBBLE_INLINE static __m512 load(const std::byte* from) {
        if constexpr (std::is_same_v<T, float>) return _mm512_loadu_ps(from);
        if constexpr (std::is_same_v<T, f16>) return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
        if constexpr (std::is_same_v<T, bf16>) {
            const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
            return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
        }
    }
    /// The same; lanes outside the mask are 0 and their memory is not touched.
    NIBBLE_INLINE static __m512 load(const std::byte* from, __mmask16 m) {
        if constexpr (std::is_same_v<T, float>) {
            return _mm512_maskz_loadu_ps(m, from);
        } else {
            const __m256i h = _mm256_maskz_loadu_epi16(m, from);
            if constexpr (std::is_same_v<T, f16>) return _mm512_cvtph_ps(h);
            return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
        }
    }

    /// The magnitudes of a group as bits of T, folded to one vector that holds the largest.
    NIBBLE_INLINE static __m512i magnitudes_of_group(const std::byte* from) {
        if constexpr (narrow) {
            const __m512i magnitude = _mm512_set1_epi16(0x7FFF);
            const __m512i x = _mm512_and_si512(_mm512_loadu_si512(from), magnitude);
            if constexpr (group == 32) return x;
            const __m512i rest = _mm512_zextsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 64)));
            return _mm512_max_epu16(x, _mm512_and_si512(rest, magnitude));
        } else {
            const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
            const __m512i x =
                _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(from), magnitude), _mm512_and_si512(_mm512_loadu_si512(from + 64), magnitude));
            if constexpr (group == 32) return x;
            const __m512i rest = _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 128)));
            return _mm512_max_epi32(x, _mm512_and_si512(rest, magnitude));
        }
    }
    NIBBLE_INLINE static __m512i max_of_pairs(__m512i a, __m512i b) { return _mm512_max_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); }
    NIBBLE_INLINE static __m512i max_of_quads(__m512i a, __m512i b) { return _mm512_max_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)); }
    template <int low, int high>
    NIBBLE_INLINE static __m512i max_of_blocks(__m512i a, __m512i b) {
        return _mm512_max_epi32(_mm512_shuffle_i32x4(a, b, low), _mm512_shuffle_i32x4(a, b, high));
    }
    /// The largest magnitudes of four groups, or of eight of 16-bit numbers: one per lane of each 128 bits, still to be folded over
    /// the four of those.
    NIBBLE_INLINE static __m512i largest_of_some(const std::byte* from, std::size_t first, std::size_t last) {
        const auto at = [&](std::size_t i) __attribute__((always_inline)) {
            return magnitudes_of_group(from + (first + i < last ? first + i : last) * group_bytes);
        };
        if constexpr (narrow) {
            const auto two = [&](std::size_t i) __attribute__((always_inline)) {
                const __m512i a = at(i);
                const __m512i b = at(i + 1);
                return _mm512_max_epu16(_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
            };
            const auto four = [&](std::size_t i) __attribute__((always_inline)) {
                const __m512i a = two(i);
                const __m512i b = two(i + 2);
                return _mm512_max_epu16(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            };
            const __m512i a = four(0);
            const __m512i b = four(4);
            return _mm512_max_epu16(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        } else {
            return max_of_quads(max_of_pairs(at(0), at(1)), max_of_pairs(at(2), at(3)));
        }
    }
    /// The largest magnitudes of sixteen groups as bits of T in 32-bit lanes; groups beyond `last` count as that one.
    NIBBLE_INLINE static __m512i largest_of_sixteen(const std::byte* from, std::size_t last) {
        if constexpr (narrow) {
            const __m512i a = largest_of_some(from, 0, last);
            const __m512i b = largest_of_some(from, 8, last);
            const __m512i two = _mm512_max_epu16(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
            const __m512i one = _mm512_max_epu16(two, _mm512_shuffle_i32x4(two, two, 0xB1));
            return _mm512_cvtepu16_epi32(_mm512_castsi512_si256(_mm512_shuffle_i32x4(one, one, 0x08)));
        } else {
            const __m512i low = max_of_blocks<0x44, 0xEE>(largest_of_some(from, 0, last), largest_of_some(from, 4, last));
            const __m512i high = max_of_blocks<0x44, 0xEE>(largest_of_some(from, 8, last), largest_of_some(from, 12, last));
            return max_of_blocks<0x88, 0xDD>(low, high);
        }
    }

    static constexpr unsigned lost_bits = detail::lost_bits<model, T>;
    static constexpr std::uint32_t below = (1u << lost_bits) - 1;

    /// The half of the lost bits for each threshold, and one place more for negative ones: their order is the other way round.
    NIBBLE_INLINE static __m512i half_of_lost_bits(__m512 table) {
        if constexpr (lost_bits == 0) return _mm512_setzero_si512();
        return _mm512_add_epi32(_mm512_set1_epi32(lost_bits == 0 ? 0 : static_cast<int>(below / 2 + 1)), _mm512_srli_epi32(_mm512_castps_si512(table), 31));
    }
    /// The thresholds of w itself for a group of scale s, from those of w / s: t * s, which is exact. Where values still have to be rounded
    /// to the model type, that rounding is part of the threshold: t * s lies strictly between two neighbours of the model type, and
    /// w passes it when w rounds to the upper one: beyond their middle, and in the middle if the upper one is even.
    NIBBLE_INLINE static __m512 thresholds_of_group(__m512 table, __m512 s, [[maybe_unused]] __m512i half) {
        const __m512 at = _mm512_mul_ps(table, s);
        if constexpr (lost_bits == 0) {
            return at;
        } else {
            const __m512i u = _mm512_castps_si512(at);
            const __m512i middle = _mm512_ternarylogic_epi32(u, _mm512_set1_epi32(static_cast<int>(~below)), half, 0xEA);
            const __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(1 << lost_bits));
            return _mm512_castsi512_ps(_mm512_mask_sub_epi32(middle, odd, middle, _mm512_set1_epi32(1)));  // by one place, where the middle counts
        }
    }
    /// The thresholds of w / s as codes_by_thresholds wants them: entry c + 1 is that of code c, and entry 0 is below all.
    NIBBLE_INLINE static __m512 thresholds_from_below(__m512 table) {
        const __m512i before = _mm512_setr_epi32(15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
        const __m512 finite = _mm512_min_ps(table, _mm512_set1_ps(64.0F));  // times any scale
        return _mm512_mask_blend_ps(1, _mm512_permutexvar_ps(before, finite), _mm512_set1_ps(-64.0F));
    }
    /// Codes of sixteen values in the low words of 32-bit lanes, by thresholds of w. The sum with 2^23 is cut to an integer, whose bits are
    /// its last; permutations look at no others. It is one more than the code, or equal: less it must not be, just below 2^23 bits mean halves.
    NIBBLE_INLINE static __m512i codes_by_thresholds(__m512 w, __m512 reciprocal, __m512 of_group) {
        const __m512 sum =
            _mm512_fmadd_round_ps(w, reciprocal, _mm512_set1_ps(0x1p23F + static_cast<float>(C::zero_code + 1)), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
        const __m512i c = _mm512_castps_si512(sum);
        const __mmask16 below_it = _mm512_cmp_ps_mask(w, _mm512_permutexvar_ps(c, of_group), _CMP_LE_OQ);
        return _mm512_mask_sub_epi32(c, below_it, c, _mm512_set1_epi32(1));
    }
    /// The same by thresholds of w / scale, for any scale: 0, denormal, infinite.
    NIBBLE_INLINE static __m512i codes_by_quotient(__m512 w, __m512 divisor, __m512 table) {
        const __m512 bias = _mm512_set1_ps(static_cast<float>(C::zero_code));
        __m512 q = _mm512_max_ps(_mm512_div_ps(w, divisor), _mm512_set1_ps(static_cast<float>(-C::zero_code)));  // of max(NaN, x) it is x
        q = _mm512_min_ps(q, bias);
        const __m512i c = _mm512_cvttps_epi32(_mm512_add_ps(q, bias));
        const __mmask16 above = _mm512_cmp_ps_mask(q, _mm512_permutexvar_ps(c, table), _CMP_GT_OQ);
        return _mm512_mask_add_epi32(c, above, c, _mm512_set1_epi32(1));
    }
    NIBBLE_INLINE static __m512i codes_by_division(__m512 w, __m512 divisor, rounding r) {
        __m512 x = _mm512_add_ps(_mm512_div_ps(w, divisor), _mm512_set1_ps(static_cast<float>(C::zero_code)));
        x = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(static_cast<float>(C::max_code)));
        if (r == rounding::half_even) return _mm512_cvtps_epi32(x);
        const __m512i c = _mm512_cvttps_epi32(x);
        const __mmask16 up = _mm512_cmp_ps_mask(_mm512_sub_ps(x, _mm512_cvtepi32_ps(c)), _mm512_set1_ps(0.5F), _CMP_GE_OQ);
        return _mm512_mask_add_epi32(c, up, c, _mm512_set1_epi32(1));
    }

    /// The low words of the lanes of a and b, in the order of _mm512_packs_epi32; what lies above them does not count.
    NIBBLE_INLINE static __m512i low_words(__m512i a, __m512i b) {
        alignas(64) static constexpr std::uint16_t order[32] = {0,  2,  4,  6,  32, 34, 36, 38, 8,  10, 12, 14, 40, 42, 44, 46,
                                                                16, 18, 20, 22, 48, 50, 52, 54, 24, 26, 28, 30, 56, 58, 60, 62};
        return _mm512_permutex2var_epi16(a, _mm512_load_si512(order), b);
    }
    /// 8 x 16 codes of four groups as 64 bytes of nibbles.
    NIBBLE_INLINE static __m512i pack_nibbles(const __m512i* c) {
        const __m512i sixteen = _mm512_set1_epi16(0x1001);
        const auto bytes = [&](int i) __attribute__((always_inline)) {  // two codes a byte, in 16-bit lanes
            return _mm512_maddubs_epi16(_mm512_packus_epi16(low_words(c[i], c[i + 1]), low_words(c[i + 2], c[i + 3])), sixteen);
        };
        // Each 128 bits now have two bytes of every vector: word 4 v + l of the result is word 8 l + v.
        alignas(64) static constexpr std::uint16_t order[32] = {0, 8,  16, 24, 1, 9,  17, 25, 2, 10, 18, 26, 3, 11, 19, 27,
                                                                4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31};
        return _mm512_permutexvar_epi16(_mm512_load_si512(order), _mm512_packus_epi16(bytes(0), bytes(4)));
    }
    /// The same where even vectors hold the codes of even values, odd vectors those of the odd values beside them.
    NIBBLE_INLINE static __m512i pack_pairs(const __m512i* c) {
        const auto bytes = [&](int group) __attribute__((always_inline)) { return _mm512_or_si512(c[2 * group], _mm512_slli_epi32(c[2 * group + 1], 4)); };
        const __m512i packed = _mm512_packus_epi16(low_words(bytes(0), bytes(1)), low_words(bytes(2), bytes(3)));
        // Each 128 bits now have one word of every group.
        return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
    }
    /// 5 x 16 codes of two groups as 32 bytes: words of ten codes of three bits.
    NIBBLE_INLINE static __m256i pack_threes(const __m512i* c) {
        const __m512i eight = _mm512_set1_epi16(0x0801);
        // Six bits, a pair of codes, in each 16-bit lane. Pair p < 32 lies at word 8 * (p % 8 / 2) + 2 * (p / 8) + p % 2, the rest in order
        // at the beginning of 128-bit blocks of the second vector.
        const __m512i pairs = _mm512_maddubs_epi16(_mm512_packus_epi16(low_words(c[0], c[1]), low_words(c[2], c[3])), eight);
        const __m512i last = low_words(c[4], c[4]);
        const __m512i more = _mm512_maddubs_epi16(_mm512_packus_epi16(last, last), eight);
        struct orders {
            std::uint16_t first[32]{};  // words 2 j, 2 j + 1: pairs 0 and 1 of word j; from 16 on its pairs 2 and 3
            std::uint16_t fifth[32]{};  // words 2 j: pair 4 of word j
            static constexpr std::uint16_t where(std::size_t p) {
                if (p < 32) return static_cast<std::uint16_t>(8 * (p % 8 / 2) + 2 * (p / 8) + p % 2);
                return static_cast<std::uint16_t>(32 + 8 * ((p - 32) / 2) + (p - 32) % 2);
            }
            constexpr orders() {
                for (std::size_t j = 0; j < 8; ++j) {
                    for (std::size_t i = 0; i < 2; ++i) {
                        first[2 * j + i] = where(5 * j + i);
                        first[16 + 2 * j + i] = where(5 * j + 2 + i);
                    }
                    fifth[2 * j] = where(5 * j + 4);
                }
            }
        };
        alignas(64) static constexpr orders order;
        const __m512i fours = _mm512_madd_epi16(_mm512_permutex2var_epi16(pairs, _mm512_loadu_si512(order.first), more), _mm512_set1_epi32(0x00400001));
        const __m256i fifth = _mm512_castsi512_si256(_mm512_permutex2var_epi16(pairs, _mm512_loadu_si512(order.fifth), more));
        const __m256i middle = _mm256_slli_epi32(_mm512_extracti64x4_epi64(fours, 1), 12);
        return _mm256_or_si256(_mm256_or_si256(_mm512_castsi512_si256(fours), middle), _mm256_slli_epi32(fifth, 24));  // shifts out the odd words
    }

    /// Codes of a group of 32 by the row of its largest magnitude, times rows::step, with less than that below them.
    NIBBLE_INLINE static __m512i codes_by_row(const std::byte* from, std::uint32_t lowest, const std::uint16_t* row) {
        const __m512i w = _mm512_loadu_si512(from);
        const __m512i magnitudes = rows::unit == 1 ? _mm512_and_si512(w, _mm512_set1_epi16(0x7FFF)) : _mm512_add_epi16(w, w);
        const __m512i v = _mm512_subs_epu16(magnitudes, _mm512_set1_epi32(static_cast<int>(lowest)));
        const __m512i y = _mm512_xor_si512(v, _mm512_srai_epi16(w, 15));
        const __m512i numbers = _mm512_permutex2var_epi16(_mm512_load_si512(row), _mm512_srli_epi16(y, rows::step == 16 ? 4 : 8), _mm512_load_si512(row + 32));
        return _mm512_add_epi16(numbers, y);
    }
    NIBBLE_INLINE static void encode_by_rows(const std::byte* from, const std::uint32_t* lowest, const std::uint32_t* mantissas, std::byte* codes,
                                             const std::array<const rows*, rows::n_parts>& table) {
        __m512i a[4];
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i)
            a[i] = codes_by_row(from + i * group_bytes, lowest[i], table[mantissas[i] / rows::n_rows]->row[mantissas[i] % rows::n_rows]);
        __m512i both;
        if constexpr (rows::step == 16) {
            // Two codes a 16-bit lane, each in the high half of a byte, become the low byte of theirs for groups 0 and 1, the high byte for 2 and 3.
            const __m512i low = _mm512_packus_epi16(a[0], a[1]);
            const __m512i high = _mm512_packus_epi16(a[2], a[3]);
            const __m512i nibble = _mm512_set1_epi16(0x0F0F);
            const __m512i first = _mm512_ternarylogic_epi32(nibble, _mm512_srli_epi16(low, 4), _mm512_srli_epi16(low, 8), 0xCA);
            const __m512i second = _mm512_ternarylogic_epi32(nibble, _mm512_slli_epi16(high, 4), high, 0xCA);
            both = _mm512_ternarylogic_epi32(_mm512_set1_epi16(0xFF), first, second, 0xCA);
        } else {
            // A code of each of two groups in each 16-bit lane; those of odd lanes move to the high halves of the even lanes' bytes.
            const __m512i byte = _mm512_set1_epi16(0xFF);
            const __m512i low = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(a[0], 8), a[1], 0xCA);
            const __m512i high = _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(a[2], 8), a[3], 0xCA);
            const __m512i first = _mm512_or_si512(low, _mm512_srli_epi32(low, 12));
            const __m512i second = _mm512_or_si512(_mm512_slli_epi32(high, 16), _mm512_slli_epi32(high, 4));
            both = _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xFFFF), first, second, 0xCA);
        }
        const __m512i by_group = _mm512_broadcast_i32x4(rows::step == 16 ? _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)
                                                                         : _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        // Each 128 bits now have four bytes of each group.
        _mm512_storeu_si512(
            codes, _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), _mm512_shuffle_epi8(both, by_group)));
    }

    /// Codes of a byte by the law's own steps, for any scale.
    NIBBLE_INLINE static void encode_bytes(const std::byte* from, float divisor, std::byte* codes, rounding r) {
        const auto step = [](__m512 x) __attribute__((always_inline)) {
            if constexpr (std::is_same_v<scale, f16_scale>) return round_to_f16(x);
            return x;
        };
        for (std::size_t i = 0; i < group; i += 16) {
            const __m512 w = round_to_model(load(from + i * sizeof(T)));
            __m512 x = step(_mm512_add_ps(step(_mm512_div_ps(w, _mm512_set1_ps(divisor))), _mm512_set1_ps(static_cast<float>(C::zero_code))));
            x = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(static_cast<float>(C::max_code)));
            __m512i c = _mm512_cvtps_epi32(x);
            if (r == rounding::half_away) {
                c = _mm512_cvttps_epi32(x);
                const __mmask16 up = _mm512_cmp_ps_mask(_mm512_sub_ps(x, _mm512_cvtepi32_ps(c)), _mm512_set1_ps(0.5F), _CMP_GE_OQ);
                c = _mm512_mask_add_epi32(c, up, c, _mm512_set1_epi32(1));
            }
            _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_maskz_cvtepi32_epi8(0xFFFF, c));
        }
    }

    /// One number for each lane of vector v of the groups that are packed together, given one for each group.
    NIBBLE_INLINE static __m512 spread(const float* of, std::size_t v) {
        const std::size_t first = 16 * v / group;
        const std::size_t last = (16 * v + 15) / group;
        if (first == last) return _mm512_set1_ps(of[first]);
        return _mm512_mask_blend_ps(static_cast<__mmask16>(0xFFFFu << (last * group - 16 * v)), _mm512_set1_ps(of[first]), _mm512_set1_ps(of[last]));
    }

    /// Codes of groups that are packed together, all there and of scales that are good for a reciprocal.
    NIBBLE_INLINE static void encode_fast(const std::byte* from, const float* divisors, const float* reciprocals, std::byte* codes, __m512 table, rounding r) {
        __m512i c[vectors];
        [[maybe_unused]] __m512 of_group[packed_at_once];
        if constexpr (by_thresholds<C>) {
            const __m512 thresholds = thresholds_from_below(table);
            const __m512i half = half_of_lost_bits(thresholds);
#pragma GCC unroll 4
            for (std::size_t g = 0; g < packed_at_once; ++g) of_group[g] = thresholds_of_group(thresholds, _mm512_set1_ps(divisors[g]), half);
        }
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) {
            __m512 w;
            if constexpr (in_pairs) {
                // The even values of a group are one vector, the odd ones the next: f32 is bf16 and a half of zeros.
                const __m512i pairs = _mm512_loadu_si512(from + v / 2 * group_bytes);
                w = _mm512_castsi512_ps(v % 2 == 0 ? _mm512_slli_epi32(pairs, 16) : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
            } else {
                w = load(from + 16 * v * sizeof(T));
            }
            if constexpr (by_thresholds<C>) {
                const std::size_t first = 16 * v / group;
                const std::size_t last = (16 * v + 15) / group;
                c[v] = codes_by_thresholds(w, spread(reciprocals, v), of_group[first]);
                if (first != last) {
                    c[v] = _mm512_mask_blend_epi32(static_cast<__mmask16>(0xFFFFu << (last * group - 16 * v)), c[v],
                                                   codes_by_thresholds(w, spread(reciprocals, v), of_group[last]));
                }
            } else {
                // Without a division unless it could matter: the product with the reciprocal is within 2^-18 of the law's x.
                const __m512 cast = round_to_model(w);
                const __m512 x = _mm512_fmadd_ps(cast, spread(reciprocals, v), _mm512_set1_ps(static_cast<float>(C::zero_code)));
                const __m512 rest = _mm512_abs_ps(_mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT));
                c[v] = _mm512_cvtps_epi32(x);
                if (_mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5F - 0x1p-17F), _CMP_GT_OQ) != 0) [[unlikely]]
                    c[v] = codes_by_division(cast, spread(divisors, v), r);
            }
        }
        if constexpr (in_pairs) {
            _mm512_storeu_si512(codes, pack_pairs(c));
        } else if constexpr (group == 32) {
            _mm512_storeu_si512(codes, pack_nibbles(c));
        } else {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), pack_threes(c));
        }
    }

    /// The same for any scales and for n groups of those that are packed together.
    NIBBLE_INLINE static void encode_careful(const std::byte* from, std::size_t n, const float* divisors, std::byte* codes, __m512 table, rounding r) {
        __m512i c[vectors];
        for (std::size_t v = 0; v < vectors; ++v) {
            const std::size_t left = n * group > 16 * v ? n * group - 16 * v : 0;
            const __m512 w = round_to_model(load(from + 16 * v * sizeof(T), static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1)));
            if constexpr (by_thresholds<C>) {
                c[v] = codes_by_quotient(w, spread(divisors, v), table);
            } else {
                c[v] = codes_by_division(w, spread(divisors, v), r);
            }
        }
        // Values that do not exist got codes too, in words that are not stored.
        if constexpr (group == 32) {
            _mm512_mask_storeu_epi32(codes, static_cast<__mmask16>((1u << (4 * n)) - 1), pack_nibbles(c));
        } else {
            _mm256_mask_storeu_epi32(codes, static_cast<__mmask8>((1u << (4 * n)) - 1), pack_threes(c));
        }
    }

    /// Encodes n whole groups; by_law(g) does those that only the scalar law can: they have a NaN.
    template <class ByLaw>
    NIBBLE_INLINE static void encode_groups(const std::byte* from, std::uint64_t n, std::byte* codes, std::byte* scales, rounding r, ByLaw by_law) {
        if (n == 0) return;
        // While the scales of a block go through their long chain of steps, the processor has the next block's maxima to do.
        __m512i tops = largest_of_block(from, n);
        for (std::uint64_t g = 0; g < n; g += at_once) {
            const std::uint64_t left = n - g;
            const std::byte* block = from + g * group_bytes;
            scales_of_block of(tops, left < at_once ? static_cast<std::size_t>(left) : at_once,
                               scales == nullptr ? nullptr : scales + g * sizeof(typename scale::type));
            if (left > at_once) tops = largest_of_block(block + at_once * group_bytes, left - at_once);
            if (codes != nullptr) encode_block(block, of, codes + g * C::words_per_group * 4, r);
            for (std::uint64_t at = g; of.nan != 0; of.nan >>= 1, ++at) {
                if ((of.nan & 1u) != 0) by_law(at);
            }
        }
    }

private:
    NIBBLE_INLINE static __m512i largest_of_block(const std::byte* from, std::uint64_t n) {
        return largest_of_sixteen(from, n < at_once ? static_cast<std::size_t>(n) - 1 : at_once - 1);
    }

    /// What a block's groups are divided by.
    struct scales_of_block {
        std::size_t n;
        unsigned nan;      ///< groups that have one, by bits
        unsigned careful;  ///< groups whose reciprocal is no good
        alignas(64) float divisors[16];
        alignas(64) float reciprocals[16];
        alignas(64) std::uint32_t lowest[by_rows ? 16 : 1];     ///< for codes_by_row, twice in each
        alignas(64) std::uint32_t mantissas[by_rows ? 16 : 1];  ///< of the largest magnitudes

        NIBBLE_INLINE scales_of_block(__m512i top_bits, std::size_t n_groups, std::byte* scales) : n(n_groups) {
            const auto groups = static_cast<__mmask16>((1u << n) - 1);
            constexpr int infinity = std::is_same_v<T, float> ? 0x7F800000 : std::is_same_v<T, bf16> ? 0x7F80 : 0x7C00;
            nan = _mm512_mask_cmpgt_epi32_mask(groups, top_bits, _mm512_set1_epi32(infinity));

            const __m512 quotient = _mm512_div_ps(round_to_model(widen(top_bits)), _mm512_set1_ps(static_cast<float>(C::zero_code)));
            __m512 divisor = quotient;
            if constexpr (std::is_same_v<scale, f16_scale>) {
                const __m256i stored = _mm512_maskz_cvtps_ph(0xFFFF, quotient, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
                divisor = _mm512_cvtph_ps(stored);
                if (scales != nullptr) _mm256_mask_storeu_epi16(scales, groups, stored);
            } else if constexpr (std::is_same_v<scale, f32_scale>) {
                if (scales != nullptr) _mm512_mask_storeu_ps(scales, groups, quotient);
            } else {
                const __m512i rounded = bf16_bits_above(_mm512_castps_si512(quotient));
                if constexpr (std::is_same_v<scale, bf16_scale>)
                    divisor = _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
                if (scales != nullptr) _mm256_mask_storeu_epi16(scales, groups, _mm512_maskz_cvtepi32_epi16(0xFFFF, _mm512_srli_epi32(rounded, 16)));
            }

            // Scales for which a reciprocal is good, and the cast of values to the model type a matter of mantissas: with f16 a value below
            // its normal numbers, 2^-14, then has the code of 0 anyhow; else far from where f32 would lose bits.
            constexpr bool half = std::is_same_v<scale, f16_scale>;
            const __mmask16 normal = _mm512_cmp_ps_mask(divisor, _mm512_set1_ps(half ? 0x1p-12F : 0x1p-60F), _CMP_GE_OQ) &
                                     _mm512_cmp_ps_mask(divisor, _mm512_set1_ps(half ? 65504.0F : 0x1p60F), _CMP_LE_OQ);
            careful = static_cast<unsigned>(groups) & ~static_cast<unsigned>(normal);
            _mm512_store_ps(divisors, divisor);
            if constexpr (by_rows) {
                _mm512_store_si512(mantissas, _mm512_and_si512(top_bits, _mm512_set1_epi32(rows::n_parts * rows::n_rows - 1)));
                const __m512i low = _mm512_slli_epi32(_mm512_sub_epi32(top_bits, _mm512_set1_epi32(rows::n_places / rows::unit - 1)), rows::unit - 1);
                _mm512_store_si512(lowest, _mm512_or_si512(low, _mm512_slli_epi32(low, 16)));
            } else {
                _mm512_store_ps(reciprocals, _mm512_div_ps(_mm512_set1_ps(1.0F), divisor));
            }
        }
    };

    NIBBLE_INLINE static void encode_block(const std::byte* from, const scales_of_block& of, std::byte* codes, rounding r) {
        __m512 table = _mm512_setzero_ps();
        if constexpr (by_thresholds<C>) table = _mm512_load_ps(threshold_tables<C>::of[r == rounding::half_even ? 0 : 1].data());
        for (std::size_t g = 0; g < of.n; g += packed_at_once) {
            const std::size_t count = of.n - g < packed_at_once ? of.n - g : packed_at_once;
            std::byte* to = codes + g * C::words_per_group * 4;
            const std::byte* source = from + g * group_bytes;
            // With so much work between loads the processor does not look far enough ahead. One instruction, not an unrolled row of
            // them, shows its prefetcher the stream.
#pragma GCC unroll 1
            for (std::size_t i = 0; i < packed_at_once * group_bytes; i += 64)
                _mm_prefetch(reinterpret_cast<const char*>(source) + i + prefetch_distance, _MM_HINT_T0);
            if constexpr (C::packing::bits == 8) {
                for (std::size_t i = 0; i < count; ++i) encode_bytes(source + i * group_bytes, of.divisors[g + i], to + i * group, r);
            } else if (((of.careful >> g) & ((1u << packed_at_once) - 1)) != 0 || count != packed_at_once) [[unlikely]] {
                encode_careful(source, count, of.divisors + g, to, table, r);
            } else if constexpr (by_rows) {
                encode_by_rows(source, of.lowest + g, of.mantissas + g, to, code_tables<C, T>::of[r == rounding::half_even ? 0 : 1]);
            } else {
                encode_fast(source, of.divisors + g, of.reciprocals + g, to, table, r);
            }
        }
    }
};

}  // namespace nibble::cpu::detail

#endif
