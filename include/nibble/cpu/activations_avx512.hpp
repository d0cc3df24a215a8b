// SPDX-License-Identifier: Apache-2.0
#pragma once
// Activations as signed bytes, for vpdpbusd: one byte each (int8) or three (24 bits, most significant first). Included by activations.hpp.
//
// Words of weights are taken apart by shift and mask only, so it is the activations that are put in the order in which codes come
// out of words: for each block of 16 runs (matrix.hpp) and each word j of a run a vector per part of the word, a run a lane.

#include "nibble/cpu/activations_scale.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

namespace nibble::cpu::detail {

/// One block of 16 runs of one row, in the order of the row.
template <class C, std::size_t digits>
struct byte_block {
    static constexpr std::size_t parts = runs<C>::parts;
    alignas(64) std::int8_t bytes[digits][parts][64][4];  ///< of each word
    alignas(64) std::int32_t of_word[64];                 ///< -zero_code * sum of a word's activations
    alignas(64) std::int32_t correction[16];              ///< the same of a run
    alignas(64) float scale[16];                          ///< of a run's activations
};

/// What a codec's products read of a block: bytes[j][part][digit][lane][4], corrections [lane], scales [lane].
template <class C, std::size_t digits>
inline constexpr std::size_t byte_block_bytes = runs<C>::words* runs<C>::parts* digits * 64 + 128;

/// Four vectors of words of a row become four of word j of 16 runs; lane l has run runs<C>::of_lane(l).
template <class Arch>
NIBBLE_INLINE void transpose_runs(__m512i* w) {
    const __m512i a = _mm512_unpacklo_epi32(w[0], w[1]);
    const __m512i b = _mm512_unpackhi_epi32(w[0], w[1]);
    const __m512i c = _mm512_unpacklo_epi32(w[2], w[3]);
    const __m512i d = _mm512_unpackhi_epi32(w[2], w[3]);
    w[0] = _mm512_unpacklo_epi64(a, c);
    w[1] = _mm512_unpackhi_epi64(a, c);
    w[2] = _mm512_unpacklo_epi64(b, d);
    w[3] = _mm512_unpackhi_epi64(b, d);
}

/// The largest magnitude of a group, or something that is not finite where a value is not.
template <class Arch>
NIBBLE_INLINE float largest_magnitude(const float* x, std::size_t n) {
    __m512i top = _mm512_setzero_si512();
    for (std::size_t i = 0; i < n; i += 16) {
        const auto m = static_cast<__mmask16>(n - i >= 16 ? 0xFFFFu : (1u << (n - i)) - 1);
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(_mm512_maskz_loadu_ps(m, x + i)), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    return std::bit_cast<float>(_mm512_reduce_max_epu32(top));
}

/// Fills a block from n values of a row; those beyond are 0.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void fill_byte_block(const float* x, std::uint64_t n, byte_block<C, digits>& b) {
    using r = runs<C>;
    constexpr std::size_t group = C::group;
    constexpr std::size_t per_word = C::packing::per_word;
    alignas(64) std::int8_t bytes[digits][(r::block_values + 79) / 64 * 64];  // a group may end within the sixteen written last
    for (std::size_t g = 0; g < r::block_groups; ++g) {
        const std::uint64_t left = n > g * group ? n - g * group : 0;
        const auto here = static_cast<std::size_t>(left < group ? left : group);
        const byte_scale s = scale_for<Arch, digits>(largest_magnitude<Arch>(x + g * group, here));
        for (std::size_t i = 0; i < r::per_group; ++i) b.scale[g * r::per_group + i] = s.unit;
        for (std::size_t i = 0; i < group; i += 16) {
            const std::size_t some = i < here ? here - i : 0;
            const auto m = static_cast<__mmask16>(some >= 16 ? 0xFFFFu : (1u << some) - 1);
            const __m512 v = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + g * group + i), _mm512_set1_ps(s.lift)), _mm512_set1_ps(s.inverse));
            // Not a number times 0 is not one either: nothing of such a group but its scale is used.
            __m512i whole = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v);
            // Adding 128 to each byte but the last carries what signed bytes owe to the next.
            if constexpr (digits == 3) whole = _mm512_xor_si512(_mm512_add_epi32(whole, _mm512_set1_epi32(0x808080)), _mm512_set1_epi32(0x808080));
            for (std::size_t d = 0; d < digits; ++d) {
                const __m512i shifted = _mm512_srl_epi32(whole, _mm_cvtsi32_si128(static_cast<int>(8 * (digits - 1 - d))));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes[d] + g * group + i), _mm512_maskz_cvtepi32_epi8(0xFFFF, shifted));
            }
        }
    }
    for (std::size_t d = 0; d < digits; ++d) {
        if constexpr (C::packing::bits == 4 && per_word == 8) {
            const __m512i order = _mm512_set_epi8(126, 124, 122, 120, 118, 116, 114, 112, 110, 108, 106, 104, 102, 100, 98, 96, 94, 92, 90, 88, 86, 84, 82, 80,
                                                  78, 76, 74, 72, 70, 68, 66, 64, 62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26,
                                                  24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
            for (std::size_t v = 0; v < 4; ++v) {
                const __m512i low = _mm512_load_si512(bytes[d] + 128 * v);
                const __m512i high = _mm512_load_si512(bytes[d] + 128 * v + 64);
                _mm512_store_si512(b.bytes[d][0][16 * v], _mm512_permutex2var_epi8(low, order, high));
                _mm512_store_si512(b.bytes[d][1][16 * v], _mm512_permutex2var_epi8(low, _mm512_add_epi8(order, _mm512_set1_epi8(1)), high));
            }
        } else {
            for (std::size_t p = 0; p < r::parts; ++p) {
                for (std::size_t w = 0; w < 64; ++w) {
                    for (std::size_t i = 0; i < 4; ++i)
                        b.bytes[d][p][w][i] = r::code(p, i) < per_word ? bytes[d][w * per_word + r::code(p, i)] : std::int8_t{0};
                }
            }
        }
    }
    // The sums of the runs, taken as products with codes that mean 1.
    const __m512i ones = _mm512_set1_epi8(1);
    for (std::size_t v = 0; v < 4; ++v) {
        __m512i sum = _mm512_setzero_si512();
        for (std::size_t d = 0; d < digits; ++d) {
            sum = _mm512_slli_epi32(sum, 8);
            for (std::size_t p = 0; p < r::parts; ++p) sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(b.bytes[d][p][16 * v]));
        }
        std::int32_t* words = b.of_word + 16 * v;
        _mm512_store_si512(words, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-C::zero_code)));
        for (std::size_t i = 0; i < 4; ++i) {
            b.correction[4 * v + i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(words[4 * i]) + static_cast<std::uint32_t>(words[4 * i + 1]) +
                                                                static_cast<std::uint32_t>(words[4 * i + 2]) + static_cast<std::uint32_t>(words[4 * i + 3]));
        }
    }
}

/// Of a block that a row does not fill, in layout nk: bytes [part][digit][16 words][4] for each vector of words, corrections and scales [word].
template <class C, std::size_t digits>
inline constexpr std::size_t byte_vector_bytes = runs<C>::parts* digits * 64 + 128;

/// Whether the words of a row in this block are too few for it, and go a vector at a time.
template <class C>
[[nodiscard]] constexpr bool by_vectors(std::uint64_t k, std::uint64_t at) {
    return std::is_same_v<typename C::layout, nk> && groups_of<C>(k) * C::group - at <= 3 * runs<C>::block_values / 4;
}

/// One row, block after block, as byte_block_bytes says.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void prepare_bytes(const float* x, std::uint64_t k, std::byte* out) {
    using r = runs<C>;
    const __m512i lane_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    byte_block<C, digits> b;
    for (std::uint64_t at = 0; at < k; at += r::block_values) {
        fill_byte_block<Arch, C, digits>(x + at, k - at, b);
        if (by_vectors<C>(k, at)) {
            for (std::size_t v = 0; v < 3; ++v) {
                for (std::size_t p = 0; p < r::parts; ++p) {
                    for (std::size_t d = 0; d < digits; ++d) _mm512_store_si512(out + (p * digits + d) * 64, _mm512_load_si512(b.bytes[d][p][16 * v]));
                }
                std::byte* rest = out + r::parts * digits * 64;
                _mm512_store_si512(rest, _mm512_load_si512(b.of_word + 16 * v));
                const __m512i run_of_word = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                _mm512_store_si512(
                    rest + 64, _mm512_permutexvar_epi32(_mm512_add_epi32(run_of_word, _mm512_set1_epi32(static_cast<int>(4 * v))), _mm512_load_si512(b.scale)));
                out += byte_vector_bytes<C, digits>;
            }
            return;
        }
        for (std::size_t d = 0; d < digits; ++d) {
            for (std::size_t p = 0; p < r::parts; ++p) {
                __m512i w[4];
                for (std::size_t v = 0; v < 4; ++v) w[v] = _mm512_load_si512(b.bytes[d][p][16 * v]);
                transpose_runs<Arch>(w);
                for (std::size_t j = 0; j < 4; ++j) _mm512_store_si512(out + ((j * r::parts + p) * digits + d) * 64, w[j]);
            }
        }
        std::byte* rest = out + 4 * r::parts * digits * 64;
        _mm512_store_si512(rest, _mm512_permutexvar_epi32(lane_order, _mm512_load_si512(b.correction)));
        _mm512_store_si512(rest + 64, _mm512_permutexvar_epi32(lane_order, _mm512_load_si512(b.scale)));
        out += byte_block_bytes<C, digits>;
    }
}

/// 4-byte numbers of one row and one run in a tile.
template <class C, std::size_t digits>
inline constexpr std::size_t byte_tile_run = runs<C>::words* runs<C>::parts* digits + 2;

/// Tiles of up to `tile` rows: for each run its bytes [digit][j][part][row][4], then corrections [row] and scales [row].
template <class Arch, class C, std::size_t digits, std::size_t tile>
NIBBLE_INLINE void prepare_byte_tiles(const float* x, std::uint64_t ldx, std::uint64_t m, std::uint64_t k, std::byte* out) {
    using r = runs<C>;
    byte_block<C, digits> b;
    constexpr std::size_t of_digit = r::words * r::parts;
    const std::uint64_t n_blocks = (k + r::block_values - 1) / r::block_values;
    for (std::uint64_t first = 0; first < m; first += tile) {
        const std::uint64_t rows = m - first < tile ? m - first : tile;
        for (std::uint64_t row = 0; row < rows; ++row) {
            for (std::uint64_t block = 0; block < n_blocks; ++block) {
                const std::uint64_t at = block * r::block_values;
                fill_byte_block<Arch, C, digits>(x + (first + row) * ldx + at, k - at, b);
                std::byte* to = out + block * 16 * byte_tile_run<C, digits> * rows * 4 + row * 4;
                for (std::size_t i = 0; i < 16; ++i) {
                    for (std::size_t d = 0; d < digits; ++d) {
                        for (std::size_t j = 0; j < r::words; ++j) {
                            for (std::size_t p = 0; p < r::parts; ++p) {
                                std::memcpy(to + (d * of_digit + j * r::parts + p) * rows * 4, b.bytes[d][p][r::words * i + j], 4);
                            }
                        }
                    }
                    std::memcpy(to + digits * of_digit * rows * 4, b.correction + i, 4);
                    std::memcpy(to + (digits * of_digit + 1) * rows * 4, b.scale + i, 4);
                    to += byte_tile_run<C, digits> * rows * 4;
                }
            }
        }
        out += n_blocks * 16 * byte_tile_run<C, digits> * rows * 4;
    }
}

}  // namespace nibble::cpu::detail

#endif
