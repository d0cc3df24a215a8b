// SPDX-License-Identifier: Apache-2.0
#pragma once
// Activations as signed bytes for 256-bit vectors, as activations_avx512.hpp has them for 512: one byte each (int8) or three (exact).
// Included by activations.hpp.
//
// Without VNNI products of bytes are added in 16 bits, and widened to 32 once a run: what fits there is known when compiling.

#include "nibble/cpu/activations_scale.hpp"

#if defined(__AVX2__)

namespace nibble::cpu::detail {

/// Codecs whose codes come out of words by a few shifts and masks.
template <class C>
concept short_coded =
    byte_coded<C> &&(C::packing::bits* C::packing::per_word == 32 || (C::packing::bits == 3 && C::packing::per_word == 10)) && C::group % 8 == 0 &&
    8 % runs<C>::per_group == 0;

/// Whether a run's products can be added: all of them in 16 bits, or with AVX-VNNI in 32.
template <class Arch, short_coded C>
inline constexpr bool sums_fit = has<Arch, avxvnni> || runs<C>::words* runs<C>::parts * 2 * C::packing::mask * 128 <= 32767;

/// The unit of 8 runs, a run a lane.
template <class C>
struct short_runs : runs<C> {
    static constexpr std::size_t block_words = 8 * runs<C>::words;
    static constexpr std::size_t block_values = 8 * runs<C>::values;
    static constexpr std::size_t block_groups = 8 / runs<C>::per_group;
    static constexpr std::size_t vectors = runs<C>::words * runs<C>::parts;  ///< of codes
    static constexpr std::size_t of_lane(std::size_t l) { return l % 4 * 2 + l / 4; }
};

/// One block of 8 runs of one row, in the order of the row.
template <class C, std::size_t digits>
struct short_block {
    alignas(32) std::int8_t bytes[digits][runs<C>::parts][short_runs<C>::block_words][4];  ///< of each word
    alignas(32) std::int32_t correction[8];                                                ///< -zero_code * sum of a run's activations
    alignas(32) float scale[8];                                                            ///< of a run's activations
};

/// What a product with one row reads of a block: bytes[j][part][digit][lane][4], corrections [lane], scales [lane].
template <class C, std::size_t digits>
inline constexpr std::size_t short_block_bytes = short_runs<C>::vectors* digits * 32 + 64;
/// 4-byte numbers of one row and one run in a tile: [digit][j][part], correction, scale.
template <class C, std::size_t digits>
inline constexpr std::size_t short_tile_run = short_runs<C>::vectors* digits + 2;

template <class Arch>
NIBBLE_INLINE __m256i load_256(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
template <class Arch>
NIBBLE_INLINE void store_256(void* to, __m256i v) {
    _mm256_storeu_si256(static_cast<__m256i*>(to), v);
}

/// Four vectors of words of a row become four of word j of 8 runs; lane l has run short_runs<C>::of_lane(l).
template <class Arch>
NIBBLE_INLINE void transpose_runs(__m256i* w) {
    const __m256i a = _mm256_unpacklo_epi32(w[0], w[1]);
    const __m256i b = _mm256_unpackhi_epi32(w[0], w[1]);
    const __m256i c = _mm256_unpacklo_epi32(w[2], w[3]);
    const __m256i d = _mm256_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm256_unpacklo_epi64(a, c);
    w[1] = _mm256_unpackhi_epi64(a, c);
    w[2] = _mm256_unpacklo_epi64(b, d);
    w[3] = _mm256_unpackhi_epi64(b, d);
}

/// Fills a block from n values of a row; those beyond are 0.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void fill_short_block(const float* x, std::uint64_t n, short_block<C, digits>& b) {
    using r = short_runs<C>;
    constexpr std::size_t group = C::group;
    constexpr std::size_t per_word = C::packing::per_word;
    alignas(32) float values[r::block_values];
    if (n < r::block_values) {
        std::memset(values, 0, sizeof values);
        std::memcpy(values, x, static_cast<std::size_t>(n) * sizeof(float));
        x = values;
    }
    alignas(32) std::int8_t bytes[digits][r::block_values];
    const __m256i low_bytes =
        _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    for (std::size_t g = 0; g < r::block_groups; ++g) {
        __m256i tops = _mm256_setzero_si256();
        for (std::size_t i = 0; i < group; i += 8) {  // as whole numbers, of which those that are not finite are the largest
            tops = _mm256_max_epu32(tops, _mm256_and_si256(load_256<Arch>(x + g * group + i), _mm256_set1_epi32(0x7FFFFFFF)));
        }
        __m128i top = _mm_max_epu32(_mm256_castsi256_si128(tops), _mm256_extracti128_si256(tops, 1));
        top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0x4E));
        top = _mm_max_epu32(top, _mm_shuffle_epi32(top, 0xB1));
        const byte_scale s = scale_for<Arch, digits>(_mm_cvtss_f32(_mm_castsi128_ps(top)));
        for (std::size_t i = 0; i < r::per_group; ++i) b.scale[g * r::per_group + i] = s.unit;
        for (std::size_t i = 0; i < group; i += 8) {
            const __m256 v = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + g * group + i), _mm256_set1_ps(s.lift)), _mm256_set1_ps(s.inverse));
            __m256i whole = _mm256_cvtps_epi32(v);
            // Adding 128 to each byte but the last carries what signed bytes owe to the next.
            if constexpr (digits == 3) whole = _mm256_xor_si256(_mm256_add_epi32(whole, _mm256_set1_epi32(0x808080)), _mm256_set1_epi32(0x808080));
            for (std::size_t d = 0; d < digits; ++d) {
                const __m256i shifted = _mm256_srl_epi32(whole, _mm_cvtsi32_si128(static_cast<int>(8 * (digits - 1 - d))));
                const __m256i lowest = _mm256_shuffle_epi8(shifted, low_bytes);
                const __m128i eight = _mm_unpacklo_epi32(_mm256_castsi256_si128(lowest), _mm256_extracti128_si256(lowest, 1));
                _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes[d] + g * group + i), eight);
            }
        }
    }
    for (std::size_t d = 0; d < digits; ++d) {
        if constexpr (C::packing::bits == 4) {
            const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            for (std::size_t w = 0; w < r::block_words; w += 4) {
                const __m256i v = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(load_256<Arch>(bytes[d] + w * 8), order), 0xD8);
                _mm_storeu_si128(reinterpret_cast<__m128i*>(b.bytes[d][0][w]), _mm256_castsi256_si128(v));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(b.bytes[d][1][w]), _mm256_extracti128_si256(v, 1));
            }
        } else {
            for (std::size_t p = 0; p < r::parts; ++p) {
                for (std::size_t w = 0; w < r::block_words; ++w) {
                    for (std::size_t i = 0; i < 4; ++i)
                        b.bytes[d][p][w][i] = r::code(p, i) < per_word ? bytes[d][w * per_word + r::code(p, i)] : std::int8_t{0};
                }
            }
        }
    }
    // The sums of the runs, taken as products with codes that mean 1.
    for (std::size_t v = 0; v < 4; ++v) {
        __m256i sum = _mm256_setzero_si256();
        for (std::size_t d = 0; d < digits; ++d) {
            sum = _mm256_slli_epi32(sum, 8);
            for (std::size_t p = 0; p < r::parts; ++p) {
                const __m256i two = _mm256_maddubs_epi16(_mm256_set1_epi8(1), load_256<Arch>(b.bytes[d][p][8 * v]));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(two, _mm256_set1_epi16(1)));
            }
        }
        sum = _mm256_mullo_epi32(sum, _mm256_set1_epi32(-C::zero_code));
        alignas(32) std::uint32_t words[8];  // a sum may pass through 2^31 on its way
        store_256<Arch>(words, sum);
        for (std::size_t i = 0; i < 2; ++i) {
            b.correction[2 * v + i] = static_cast<std::int32_t>(words[4 * i] + words[4 * i + 1] + words[4 * i + 2] + words[4 * i + 3]);
        }
    }
}

/// One row, block after block, as short_block_bytes says.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void prepare_short_bytes(const float* x, std::uint64_t k, std::byte* out) {
    using r = short_runs<C>;
    short_block<C, digits> b;
    for (std::uint64_t at = 0; at < k; at += r::block_values) {
        fill_short_block<Arch, C, digits>(x + at, k - at, b);
        for (std::size_t d = 0; d < digits; ++d) {
            for (std::size_t p = 0; p < r::parts; ++p) {
                __m256i w[4];
                for (std::size_t v = 0; v < 4; ++v) w[v] = load_256<Arch>(b.bytes[d][p][8 * v]);
                transpose_runs<Arch>(w);
                for (std::size_t j = 0; j < 4; ++j) store_256<Arch>(out + ((j * r::parts + p) * digits + d) * 32, w[j]);
            }
        }
        std::byte* rest = out + r::vectors * digits * 32;
        for (std::size_t l = 0; l < 8; ++l) {
            std::memcpy(rest + 4 * l, b.correction + r::of_lane(l), 4);
            std::memcpy(rest + 32 + 4 * l, b.scale + r::of_lane(l), 4);
        }
        out += short_block_bytes<C, digits>;
    }
}

/// Tiles of up to `tile` rows: for each run its bytes [digit][j][part][row][4], then corrections [row] and scales [row].
template <class Arch, class C, std::size_t digits, std::size_t tile>
NIBBLE_INLINE void prepare_short_tiles(const float* x, std::uint64_t ldx, std::uint64_t m, std::uint64_t k, std::byte* out) {
    using r = short_runs<C>;
    short_block<C, digits> b;
    const std::uint64_t n_blocks = (k + r::block_values - 1) / r::block_values;
    for (std::uint64_t first = 0; first < m; first += tile) {
        const std::uint64_t rows = m - first < tile ? m - first : tile;
        for (std::uint64_t row = 0; row < rows; ++row) {
            std::byte* to = out + row * 4;
            for (std::uint64_t at = 0; at < k; at += r::block_values) {
                fill_short_block<Arch, C, digits>(x + (first + row) * ldx + at, k - at, b);
                for (std::size_t i = 0; i < 8; ++i) {
                    for (std::size_t d = 0; d < digits; ++d) {
                        for (std::size_t j = 0; j < r::words; ++j) {
                            for (std::size_t p = 0; p < r::parts; ++p) {
                                std::memcpy(to + (d * r::vectors + j * r::parts + p) * rows * 4, b.bytes[d][p][r::words * i + j], 4);
                            }
                        }
                    }
                    std::memcpy(to + digits * r::vectors * rows * 4, b.correction + i, 4);
                    std::memcpy(to + (digits * r::vectors + 1) * rows * 4, b.scale + i, 4);
                    to += short_tile_run<C, digits> * rows * 4;
                }
            }
        }
        out += n_blocks * 8 * short_tile_run<C, digits> * rows * 4;
    }
}

}  // namespace nibble::cpu::detail

#endif
