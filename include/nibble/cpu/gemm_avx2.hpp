// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of a matrix with several vectors on AVX2, by bytes: words of eight rows of weights, a row a lane, times tiles of activations.
// Included by gemm.hpp.

#include "nibble/cpu/gemv_avx2.hpp"

#if defined(__AVX2__) && defined(__F16C__)

namespace nibble::cpu::detail {

/// Eight vectors of eight 32-bit numbers, transposed.
template <class Arch>
NIBBLE_INLINE void transpose_8(__m256i* v) {
    __m256i a[8];
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 8; i += 4) {
        const __m256i lo0 = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        const __m256i hi0 = _mm256_unpackhi_epi32(v[i], v[i + 1]);
        const __m256i lo1 = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
        const __m256i hi1 = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);
        a[i] = _mm256_unpacklo_epi64(lo0, lo1);
        a[i + 1] = _mm256_unpackhi_epi64(lo0, lo1);
        a[i + 2] = _mm256_unpacklo_epi64(hi0, hi1);
        a[i + 3] = _mm256_unpackhi_epi64(hi0, hi1);
    }
#pragma GCC unroll 4
    for (std::size_t c = 0; c < 4; ++c) {
        v[c] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x20);
        v[4 + c] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x31);
    }
}

/// Up to eight rows of weights that lie side by side: words and scales, a row a lane.
template <class Arch, class C>
struct eight_rows : row_block<C> {
    using typename row_block<C>::stored;
    using row_block<C>::in_rows;
    using row_block<C>::words;
    using row_block<C>::scales;
    using row_block<C>::n_groups;
    using row_block<C>::n_words;
    using row_block<C>::across;
    using row_block<C>::count;

    NIBBLE_INLINE static eight_rows at(const matrix& w, std::uint64_t n, std::uint64_t last) { return {row_block<C>::at(w, n, last, 8)}; }

    /// Words [j, j + 8) of each row; those beyond the row are 0.
    NIBBLE_INLINE void load_words(std::uint64_t j, __m256i* out) const {
        const std::uint64_t left = n_words - j;
        if constexpr (in_rows) {
            const std::byte* from = words + j * 4;
            if (count == 8 && left >= 8) {
#pragma GCC unroll 8
                for (std::size_t i = 0; i < 8; ++i) {
                    out[i] = load_256<Arch>(from + i * n_words * 4);
                    // The next eight rows, in the order in which they will be read: no prefetcher foresees eight streams.
                    _mm_prefetch(reinterpret_cast<const char*>(from + (i + 8) * n_words * 4), _MM_HINT_T1);
                }
            } else {
                const __m256i present = first_lanes<Arch>(left < 8 ? static_cast<std::size_t>(left) : 8);
                for (std::size_t i = 0; i < 8; ++i) out[i] = i < count ? load_first<Arch>(from + i * n_words * 4, present) : _mm256_setzero_si256();
            }
            transpose_8<Arch>(out);
        } else {
            const __m256i present = first_lanes<Arch>(count);
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) out[i] = i < left ? load_first<Arch>(words + (j + i) * across * 4, present) : _mm256_setzero_si256();
        }
    }
    /// Scales of groups [g, g + 8) of each row; those beyond the row are 0.
    NIBBLE_INLINE void load_group_scales(std::uint64_t g, __m256i* out) const {
        const std::uint64_t left = n_groups - g;
        if constexpr (in_rows) {
            const std::size_t several = left < 8 ? static_cast<std::size_t>(left) : 8;
            for (std::size_t i = 0; i < 8; ++i) {
                out[i] = i < count ? _mm256_castps_si256(load_eight_scales<Arch, stored>(scales + (i * n_groups + g) * sizeof(stored), several))
                                   : _mm256_setzero_si256();
            }
            transpose_8<Arch>(out);
        } else {
            for (std::size_t i = 0; i < 8; ++i) {
                out[i] =
                    i < left ? _mm256_castps_si256(load_eight_scales<Arch, stored>(scales + (g + i) * across * sizeof(stored), count)) : _mm256_setzero_si256();
            }
        }
    }
};

/// Words of eight rows, and their scales, for a stretch of K.
template <std::size_t digits>
struct short_panel {
    static constexpr std::size_t n_runs = digits == 1 ? 64 : 32;  ///< so that a tile of activations stays in the first cache too
    alignas(32) std::byte words[n_runs * 4][32];
    alignas(32) float scales[n_runs][8];
};

/// Where a tile reads words: from a panel, or from the matrix itself.
struct short_panel_words {
    const std::byte* at;
    std::uint64_t stride;
};

template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE short_panel_words fill_short_panel(const eight_rows<Arch, C>& rows, std::uint64_t first_run, std::uint64_t last_run, short_panel<digits>& panel) {
    using r = short_runs<C>;
    for (std::uint64_t run = first_run; run < last_run; run += 8 * r::per_group) {
        __m256i scales[8];
        rows.load_group_scales(run / r::per_group, scales);
        const std::uint64_t at = run - first_run;
        for (std::size_t i = 0; i < 8 * r::per_group; ++i) store_256<Arch>(panel.scales[at + i], scales[i / r::per_group]);
    }
    if constexpr (!eight_rows<Arch, C>::in_rows && rows_interleaved<typename C::layout> != 0) {
        if (rows.count == 8) return {rows.words + first_run * r::words * rows.across * 4, rows.across * 4};
    }
    for (std::uint64_t run = first_run; run < last_run; run += 2) {
        __m256i words[8];
        rows.load_words(run * r::words, words);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < 8; ++i) store_256<Arch>(panel.words[(run - first_run) * r::words + i], words[i]);
    }
    return {panel.words[0], 32};
}

/// A tile of `rows` rows of activations times a panel of `count` rows of weights: added to y, or put there. One function for all codecs of
/// a packing.
template <class Arch, class Packing, std::size_t digits, std::size_t rows>
[[gnu::noinline]] void multiply_short_tile(short_panel_words panel, const float (*scales)[8], std::uint64_t n_runs, const std::byte* x, float* y,
                                           std::uint64_t ldy, std::size_t count, bool add) {
    constexpr std::size_t parts = (Packing::per_word + 3) / 4;
    constexpr std::size_t vectors = 4 * parts;
    const __m256i present = first_lanes<Arch>(count);
    __m256 sum[rows];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < rows; ++i) sum[i] = add ? _mm256_maskload_ps(y + i * ldy, present) : _mm256_setzero_ps();
    const std::byte* words = panel.at;
    for (std::uint64_t run = 0; run < n_runs; ++run) {
        const std::byte* rest = x + digits * vectors * rows * 4;
        __m256i products[rows];
#pragma GCC unroll 3
        for (std::size_t d = 0; d < digits; ++d) {
            __m256i sums[rows];
#pragma GCC unroll 4
            for (std::size_t j = 0; j < 4; ++j) {
                const __m256i w = load_256<Arch>(words + j * panel.stride);
                nibble::detail::for_each_index(
                    [&](auto p) __attribute__((always_inline)) {
                        const __m256i codes = codes_of<Arch, Packing, p.value>(w);
#pragma GCC unroll 8
                        for (std::size_t i = 0; i < rows; ++i) {
                            sums[i] = add_products<Arch>(sums[i], codes, spread_256<Arch>(x + ((d * vectors + j * parts + p.value) * rows + i) * 4),
                                                         j == 0 && p.value == 0);
                        }
                    },
                    std::make_index_sequence<parts>{});
            }
#pragma GCC unroll 8
            for (std::size_t i = 0; i < rows; ++i) {
                const __m256i all = widened<Arch>(sums[i]);
                products[i] = d == 0 ? all : _mm256_add_epi32(_mm256_slli_epi32(products[i], 8), all);
            }
        }
        const __m256 scale = _mm256_load_ps(scales[run]);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < rows; ++i) {
            products[i] = _mm256_add_epi32(products[i], spread_256<Arch>(rest + i * 4));
            const __m256 of_activations = _mm256_castsi256_ps(spread_256<Arch>(rest + (rows + i) * 4));
            sum[i] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(products[i]), of_activations), scale, sum[i]);
        }
        x += (vectors * digits + 2) * rows * 4;
        words += 4 * panel.stride;
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < rows; ++i) _mm256_maskstore_ps(y + i * ldy, present, sum[i]);
}

template <class Arch, class C, std::size_t digits, std::size_t tile>
NIBBLE_INLINE void gemm_by_short_bytes(const matrix& w, const std::byte* x, std::uint64_t m, std::uint64_t first, std::uint64_t last, float* y,
                                       std::uint64_t ldy) {
    using r = short_runs<C>;
    const std::uint64_t n_runs = groups_of<C>(w.k) * r::per_group;
    const std::uint64_t padded_runs = (n_runs + 7) / 8 * 8;
    constexpr std::uint64_t of_row = short_tile_run<C, digits> * 4;  // bytes a run
    short_panel<digits> panel;
    for (std::uint64_t n = first; n < last;) {
        const auto rows = eight_rows<Arch, C>::at(w, n, last);
        for (std::uint64_t run = 0; run < n_runs; run += panel.n_runs) {
            const std::uint64_t here = n_runs - run < panel.n_runs ? n_runs - run : panel.n_runs;
            const short_panel_words words = fill_short_panel<Arch, C>(rows, run, run + here, panel);
            for (std::uint64_t row = 0; row < m; row += tile) {
                const std::uint64_t count = m - row < tile ? m - row : tile;
                const std::byte* from = x + row * padded_runs * of_row + run * count * of_row;
                const auto multiply = [&](auto some) __attribute__((always_inline)) {
                    multiply_short_tile<Arch, typename C::packing, digits, decltype(some)::value>(words, panel.scales, here, from, y + row * ldy + n, ldy,
                                                                                                  rows.count, run != 0);
                };
                with_count<tile>(static_cast<std::size_t>(count), multiply);
            }
        }
        n += rows.count;
    }
}

}  // namespace nibble::cpu::detail

#endif
