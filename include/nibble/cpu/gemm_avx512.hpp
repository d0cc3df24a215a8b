// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of a matrix with several vectors on AVX-512: weights of sixteen rows are taken apart once, a row a lane, and multiplied
// with tiles of activations. Included by gemm.hpp.

#include "nibble/cpu/gemv_avx512.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

namespace nibble::cpu::detail {

/// Sixteen vectors of sixteen 32-bit numbers, transposed.
template <class Arch>
NIBBLE_INLINE void transpose_16(__m512i* v) {
    __m512i a[16];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += 4) {
        const __m512i lo0 = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        const __m512i hi0 = _mm512_unpackhi_epi32(v[i], v[i + 1]);
        const __m512i lo1 = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
        const __m512i hi1 = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
        a[i] = _mm512_unpacklo_epi64(lo0, lo1);
        a[i + 1] = _mm512_unpackhi_epi64(lo0, lo1);
        a[i + 2] = _mm512_unpacklo_epi64(hi0, hi1);
        a[i + 3] = _mm512_unpackhi_epi64(hi0, hi1);
    }
    // a[4 q + c] has, in 128-bit block b, column 4 b + c of rows 4 q to 4 q + 3.
#pragma GCC unroll 4
    for (std::size_t c = 0; c < 4; ++c) {
        const __m512i low01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x44);
        const __m512i high01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xEE);
        const __m512i low23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x44);
        const __m512i high23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xEE);
        v[c] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        v[4 + c] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
        v[8 + c] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        v[12 + c] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
    }
}

/// Up to sixteen rows of weights that lie side by side: words and scales, a row a lane.
template <class Arch, class C>
struct sixteen_rows : row_block<C> {
    using typename row_block<C>::stored;
    using row_block<C>::in_rows;
    using row_block<C>::words;
    using row_block<C>::scales;
    using row_block<C>::n_groups;
    using row_block<C>::n_words;
    using row_block<C>::across;
    using row_block<C>::count;
    __mmask16 present;

    NIBBLE_INLINE static sixteen_rows at(const matrix& w, std::uint64_t n, std::uint64_t last) {
        const auto block = row_block<C>::at(w, n, last, 16);
        return {block, static_cast<__mmask16>((1u << block.count) - 1)};
    }

    /// Words [j, j + 16) of each row; those beyond the row are 0.
    NIBBLE_INLINE void load_words(std::uint64_t j, __m512i* out) const {
        const std::uint64_t left = n_words - j;
        if constexpr (in_rows) {
            const auto m = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1);
            const std::byte* from = words + j * 4;
            if (count == 16) {
#pragma GCC unroll 16
                for (std::size_t i = 0; i < 16; ++i) {
                    out[i] = _mm512_maskz_loadu_epi32(m, from + i * n_words * 4);
                }
            } else {
                for (std::size_t i = 0; i < 16; ++i) out[i] = i < count ? _mm512_maskz_loadu_epi32(m, from + i * n_words * 4) : _mm512_setzero_si512();
            }
            transpose_16<Arch>(out);
        } else {
#pragma GCC unroll 16
            for (std::size_t i = 0; i < 16; ++i) {
                out[i] = i < left ? _mm512_maskz_loadu_epi32(present, words + (j + i) * across * 4) : _mm512_setzero_si512();
            }
        }
    }
    /// Scales of groups [g, g + 16) of each row; those beyond the row are 0.
    NIBBLE_INLINE void load_group_scales(std::uint64_t g, __m512i* out) const {
        const std::uint64_t left = n_groups - g;
        if constexpr (in_rows) {
            const auto m = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1);
            for (std::size_t i = 0; i < 16; ++i) {
                out[i] = i < count ? _mm512_castps_si512(load_scales<Arch, stored>(scales + (i * n_groups + g) * sizeof(stored), m)) : _mm512_setzero_si512();
            }
            transpose_16<Arch>(out);
        } else {
            for (std::size_t i = 0; i < 16; ++i) {
                out[i] =
                    i < left ? _mm512_castps_si512(load_scales<Arch, stored>(scales + (g + i) * across * sizeof(stored), present)) : _mm512_setzero_si512();
            }
        }
    }
};

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

/// Words of sixteen rows, and their scales, for a stretch of K.
struct byte_panel {
    static constexpr std::size_t n_runs = 64;
    alignas(64) std::byte words[n_runs * 4][64];
    alignas(64) float scales[n_runs][16];
};

/// Where a tile reads words: from a panel, or from the matrix itself; and what is fetched meanwhile, the words and scales of the next
/// panel. Sixteen rows are sixteen streams, which no prefetcher foresees, and a burst of prefetches as long as a panel would be dropped.
struct panel_words {
    const std::byte* at;
    std::uint64_t stride;
    const std::byte* next;  ///< null: nothing is fetched
    std::uint64_t next_stride;
    const std::byte* next_scales;
    std::uint64_t next_scales_stride;
};

template <class Arch, class C>
NIBBLE_INLINE panel_words fill_byte_panel(const sixteen_rows<Arch, C>& rows, std::uint64_t first_run, std::uint64_t last_run, byte_panel& panel) {
    using r = runs<C>;
    for (std::uint64_t run = first_run; run < last_run; run += 16 * r::per_group) {
        __m512i scales[16];
        rows.load_group_scales(run / r::per_group, scales);
        const std::uint64_t at = run - first_run;
        for (std::size_t i = 0; i < 16 * r::per_group && at + i < panel.n_runs; ++i) _mm512_store_si512(panel.scales[at + i], scales[i / r::per_group]);
    }
    if constexpr (rows_interleaved<typename C::layout> != 0) {
        if (rows.count == 16) return {rows.words + first_run * r::words * rows.across * 4, rows.across * 4, nullptr, 0, nullptr, 0};
    }
    for (std::uint64_t run = first_run; run < last_run; run += 4) {
        __m512i words[16];
        rows.load_words(run * r::words, words);
#pragma GCC unroll 16
        for (std::size_t i = 0; i < 16; ++i) _mm512_store_si512(panel.words[(run - first_run) * r::words + i], words[i]);
    }
    panel_words where{panel.words[0], 64, nullptr, 0, nullptr, 0};
    if constexpr (std::is_same_v<typename C::layout, nk>) {
        const std::uint64_t of_scale = sizeof(scale_type<C>);
        const bool more = last_run * r::words < rows.n_words;  // of these rows, or else of the sixteen behind them
        where.next = rows.words + (more ? last_run * r::words : 16 * rows.n_words) * 4;
        where.next_stride = rows.word_between_rows();
        where.next_scales = rows.scales + (more ? last_run / r::per_group : 16 * rows.n_groups) * of_scale;
        where.next_scales_stride = rows.scale_between_rows();
    }
    return where;
}

/// A tile of `rows` rows of activations times a panel: added to y, or put there. One function for all codecs of a packing.
template <class Arch, class Packing, std::size_t digits, std::size_t rows>
[[gnu::noinline]] void multiply_byte_tile(panel_words panel, const float (*scales)[16], std::uint64_t n_runs, const std::byte* x, float* y, std::uint64_t ldy,
                                          __mmask16 present, bool add) {
    constexpr std::size_t parts = (Packing::per_word + 3) / 4;
    constexpr std::size_t vectors = 4 * parts;
    __m512 sum[rows];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < rows; ++i) sum[i] = add ? _mm512_maskz_loadu_ps(present, y + i * ldy) : _mm512_setzero_ps();
    const auto spread = [](const std::byte* from) __attribute__((always_inline)) {
        std::int32_t v;
        std::memcpy(&v, from, 4);
        return _mm512_set1_epi32(v);
    };
    const std::byte* words = panel.at;
    for (std::uint64_t run = 0; run < n_runs; ++run) {
        const std::byte* rest = x + digits * vectors * rows * 4;
        __m512i products[rows];
#pragma GCC unroll 8
        for (std::size_t i = 0; i < rows; ++i) products[i] = digits == 1 ? spread(rest + i * 4) : _mm512_setzero_si512();
        if (panel.next != nullptr) {  // lines of a panel, sixteen rows of 1 KiB: four a run
            const auto* line = reinterpret_cast<const char*>(panel.next + run % 16 * panel.next_stride + run / 16 * 256);
#pragma GCC unroll 4
            for (std::size_t j = 0; j < 4; ++j) _mm_prefetch(line + 64 * j, _MM_HINT_T1);
            if (run % 2 == 0)
                _mm_prefetch(reinterpret_cast<const char*>(panel.next_scales + run / 2 % 16 * panel.next_scales_stride + run / 32 * 64), _MM_HINT_T1);
        }
        __m512i four[4];
#pragma GCC unroll 4
        for (std::size_t j = 0; j < 4; ++j) four[j] = _mm512_loadu_si512(words + j * panel.stride);
#pragma GCC unroll 3
        for (std::size_t d = 0; d < digits; ++d) {
            if (d != 0) {
#pragma GCC unroll 8
                for (std::size_t i = 0; i < rows; ++i) products[i] = _mm512_slli_epi32(products[i], 8);
            }
#pragma GCC unroll 4
            for (std::size_t j = 0; j < 4; ++j) {
                nibble::detail::for_each_index(
                    [&](auto p) __attribute__((always_inline)) {
                        const __m512i codes = codes_of<Arch, Packing, p.value>(four[j]);
#pragma GCC unroll 8
                        for (std::size_t i = 0; i < rows; ++i) {
                            products[i] = _mm512_dpbusd_epi32(products[i], codes, spread(x + ((d * vectors + j * parts + p.value) * rows + i) * 4));
                        }
                    },
                    std::make_index_sequence<parts>{});
            }
        }
        const __m512 scale = _mm512_load_ps(scales[run]);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < rows; ++i) {
            if constexpr (digits != 1) products[i] = _mm512_add_epi32(products[i], spread(rest + i * 4));
            const __m512 of_activations = _mm512_castsi512_ps(spread(rest + (rows + i) * 4));
            sum[i] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(products[i]), of_activations), scale, sum[i]);
        }
        x += (vectors * digits + 2) * rows * 4;
        words += 4 * panel.stride;
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < rows; ++i) _mm512_mask_storeu_ps(y + i * ldy, present, sum[i]);
}

template <class Arch, class C, std::size_t digits, std::size_t tile>
NIBBLE_INLINE void gemm_by_bytes(const matrix& w, const std::byte* x, std::uint64_t m, std::uint64_t first, std::uint64_t last, float* y, std::uint64_t ldy) {
    using r = runs<C>;
    const std::uint64_t n_runs = groups_of<C>(w.k) * r::per_group;
    const std::uint64_t padded_runs = (n_runs + 15) / 16 * 16;
    constexpr std::uint64_t of_row = byte_tile_run<C, digits> * 4;  // bytes a run
    byte_panel panel;
    for (std::uint64_t n = first; n < last;) {
        const auto rows = sixteen_rows<Arch, C>::at(w, n, last);
        for (std::uint64_t run = 0; run < n_runs; run += panel.n_runs) {
            const std::uint64_t here = n_runs - run < panel.n_runs ? n_runs - run : panel.n_runs;
            panel_words words = fill_byte_panel<Arch, C>(rows, run, run + here, panel);
            for (std::uint64_t row = 0; row < m; row += tile) {
                const std::uint64_t count = m - row < tile ? m - row : tile;
                const std::byte* from = x + row * padded_runs * of_row + run * count * of_row;
                const auto multiply = [&](auto some) __attribute__((always_inline)) {
                    multiply_byte_tile<Arch, typename C::packing, digits, decltype(some)::value>(words, panel.scales, here, from, y + row * ldy + n, ldy,
                                                                                                 rows.present, run != 0);
                };
                with_count<tile>(static_cast<std::size_t>(count), multiply);
                words.next = nullptr;  // once is enough
            }
        }
        n += rows.count;
    }
}

#endif

}  // namespace nibble::cpu::detail

#endif
