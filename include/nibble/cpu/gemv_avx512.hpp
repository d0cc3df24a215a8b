// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of a matrix with one vector on AVX-512 VNNI: codes times signed bytes of the activations, straight from the words on disk.
// Included by gemv.hpp.

#include "nibble/cpu/activations.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

namespace nibble::cpu::detail {

/// Up to sixteen stored scales, as f32.
template <class Arch, class Stored>
NIBBLE_INLINE __m512 load_scales(const std::byte* from, __mmask16 m) {
    if constexpr (std::is_same_v<Stored, float>) {
        return _mm512_maskz_loadu_ps(m, from);
    } else {
        const __m256i h = _mm256_maskz_loadu_epi16(m, from);
        if constexpr (std::is_same_v<Stored, f16>) return _mm512_cvtph_ps(h);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
}

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

/// Part p of sixteen words: four codes a word, one a byte.
template <class Arch, class Packing, std::size_t p>
NIBBLE_INLINE __m512i codes_of(__m512i words) {
    constexpr std::size_t bits = Packing::bits;
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(Packing::mask));
    if constexpr (bits == 8) {
        return words;
    } else if constexpr (bits * Packing::per_word == 32) {
        if constexpr (p == 0) return _mm512_and_si512(words, mask);
        return _mm512_and_si512(_mm512_srli_epi32(words, bits * p), mask);
    } else {
        // Codes that cross bytes: each byte of the result is eight bits of its 64 from anywhere.
        struct places {
            alignas(64) std::uint8_t of[64]{};
            constexpr places() {
                for (std::size_t i = 0; i < 64; ++i) of[i] = static_cast<std::uint8_t>(i / 4 % 2 * 32 + (4 * p + i % 4) * bits % 32);
            }
        };
        static constexpr places order;
        return _mm512_and_si512(_mm512_multishift_epi64_epi8(_mm512_load_si512(order.of), words), mask);
    }
}

/// The products of n_words words with the activations at x, [j][part][digit] vectors of 64 bytes, plus the correction: exact sums in
/// each lane. `load` gives a vector of activations: sixteen runs of one row, or one run for all lanes.
template <class Arch, class C, std::size_t digits, std::size_t n_words, class Words, class Load>
NIBBLE_INLINE __m512i word_products(Words words, const std::byte* x, __m512i correction, Load load) {
    using r = runs<C>;
    __m512i sum[digits];
    for (std::size_t d = 0; d + 1 < digits; ++d) sum[d] = _mm512_setzero_si512();
    sum[digits - 1] = correction;
    [[maybe_unused]] __m512i second = _mm512_setzero_si512();  // two chains where there is but one digit
#pragma GCC unroll 4
    for (std::size_t j = 0; j < n_words; ++j) {
        const __m512i w = words(j);
        nibble::detail::for_each_index(
            [&](auto p) __attribute__((always_inline)) {
                const __m512i codes = codes_of<Arch, typename C::packing, p.value>(w);
                const std::byte* at = x + (j * r::parts + p.value) * digits * 64;
                if constexpr (digits == 1 && p.value % 2 == 1) {
                    second = _mm512_dpbusd_epi32(second, codes, load(at));
                } else {
#pragma GCC unroll 3
                    for (std::size_t d = 0; d < digits; ++d) sum[d] = _mm512_dpbusd_epi32(sum[d], codes, load(at + d * 64));
                }
            },
            std::make_index_sequence<r::parts>{});
    }
    if constexpr (digits == 1) return _mm512_add_epi32(sum[0], second);
    __m512i all = sum[0];
#pragma GCC unroll 3
    for (std::size_t d = 1; d < digits; ++d) all = _mm512_add_epi32(_mm512_slli_epi32(all, 8), sum[d]);
    return all;
}

/// Rows n, n + apart, ... of a matrix in layout nk, `rows` of them.
template <class Arch, class C, std::size_t digits, std::size_t rows>
NIBBLE_INLINE void gemv_rows_by_bytes(const matrix& w, const std::byte* x, std::uint64_t n, std::uint64_t apart, float* y) {
    using r = runs<C>;
    using stored = scale_type<C>;
    const std::uint64_t n_groups = groups_of<C>(w.k);
    const std::uint64_t n_words = n_groups * group_words<C>;
    const std::byte* codes = w.planes[0] + n * n_words * 4;
    const std::byte* scales = w.planes[1] + n * n_groups * sizeof(stored);
    // Lane l has run 4 (l % 4) + l / 4, and the scale of that run's group.
    struct lane_groups {
        alignas(64) std::uint32_t of[16]{};
        constexpr lane_groups() {
            for (std::size_t l = 0; l < 16; ++l) of[l] = static_cast<std::uint32_t>(r::of_lane(l) / r::per_group);
        }
    };
    static constexpr lane_groups order;
    const __m512i to_lanes = _mm512_load_si512(order.of);
    __m512 sum[rows];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < rows; ++i) sum[i] = _mm512_setzero_ps();
    const auto load = [](const std::byte* v) __attribute__((always_inline)) { return _mm512_load_si512(v); };
    std::uint64_t b = 0;
    // The last block may lack a few words, which then read as 0.
    const auto block = [&](auto whole) __attribute__((always_inline)) {
        const std::byte* at = x + b * byte_block_bytes<C, digits>;
        const std::byte* rest = at + r::words * r::parts * digits * 64;
        const __m512i correction = _mm512_load_si512(rest);
        const __m512 of_activations = _mm512_load_ps(rest + 64);
        __mmask16 last_vector = 0xFFFF;
        auto groups = static_cast<__mmask16>((1u << r::block_groups) - 1);
        if constexpr (!decltype(whole)::value) {
            const std::uint64_t left = n_words - b * 64;
            last_vector = static_cast<__mmask16>((1u << (left - 48)) - 1);
            groups = static_cast<__mmask16>((1u << (left / group_words<C>)) - 1);
        }
        __m512i words[rows][4];
#pragma GCC unroll 4
        for (std::size_t i = 0; i < rows; ++i) {
            const std::byte* from = codes + i * apart * n_words * 4 + b * 256;
#pragma GCC unroll 3
            for (std::size_t v = 0; v < 3; ++v) words[i][v] = _mm512_loadu_si512(from + 64 * v);
            words[i][3] = decltype(whole)::value ? _mm512_loadu_si512(from + 192) : _mm512_maskz_loadu_epi32(last_vector, from + 192);
            transpose_runs<Arch>(words[i]);
        }
#pragma GCC unroll 4
        for (std::size_t i = 0; i < rows; ++i) {
            const __m512i products = word_products<Arch, C, digits, r::words>(
                [&](std::size_t j) __attribute__((always_inline)) { return words[i][j]; }, at, correction, load);
            const __m512 of_weights = load_scales<Arch, stored>(scales + (i * apart * n_groups + b * r::block_groups) * sizeof(stored), groups);
            sum[i] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(products), of_activations), _mm512_permutexvar_ps(to_lanes, of_weights), sum[i]);
        }
    };
    for (; (b + 1) * 64 <= n_words; ++b) block(std::true_type{});
    if (b * 64 < n_words && !by_vectors<C>(w.k, b * r::block_values)) {
        block(std::false_type{});
    } else {
        // Few words are left: sixteen at a time, as they lie.
        const std::byte* at = x + b * byte_block_bytes<C, digits>;
        for (std::uint64_t j = b * 64; j < n_words; j += 16) {
            const std::uint64_t left = n_words - j;
            const auto present = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1);
            constexpr std::size_t scales_here = group_words<C> >= 16 ? 1 : 16 / group_words<C>;
            const std::uint64_t left_scales = left / group_words<C>;
            const auto groups = static_cast<__mmask16>((1u << (left_scales >= scales_here ? scales_here : left_scales)) - 1);
            const __m512i group_of_word = _mm512_srli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                                            static_cast<unsigned>(std::countr_zero(group_words<C>)));
            const std::byte* rest = at + r::parts * digits * 64;
#pragma GCC unroll 4
            for (std::size_t i = 0; i < rows; ++i) {
                const __m512i words = _mm512_maskz_loadu_epi32(present, codes + (i * apart * n_words + j) * 4);
                const __m512i products = word_products<Arch, C, digits, 1>(
                    [&](std::size_t) __attribute__((always_inline)) { return words; }, at, _mm512_load_si512(rest), load);
                const __m512 of_weights = load_scales<Arch, stored>(scales + (i * apart * n_groups + j / group_words<C>)*sizeof(stored), groups);
                sum[i] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(products), _mm512_load_ps(rest + 64)),
                                         _mm512_permutexvar_ps(group_of_word, of_weights), sum[i]);
            }
            at += byte_vector_bytes<C, digits>;
        }
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < rows; ++i) y[n + i * apart] = _mm512_reduce_add_ps(sum[i]);
}

/// Layout nk. The rows are taken as a few streams far apart, each linear: a processor's prefetcher follows those, but not rows
/// beside each other taken in step, which are jumps for it.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_nk_by_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    constexpr std::size_t streams = 2;
    const std::uint64_t part = (last - first) / streams;
    for (std::uint64_t n = first; n < first + part; ++n) gemv_rows_by_bytes<Arch, C, digits, streams>(w, x, n, part, y);
    for (std::uint64_t n = first + streams * part; n < last; ++n) gemv_rows_by_bytes<Arch, C, digits, 1>(w, x, n, 0, y);
}

/// Adds to sum the product of one run of up to 16 columns (rows of the weights that lie side by side): words `stride` bytes apart; x is the
/// run of a tile of one row.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE __m512 column_run(const std::byte* words, std::uint64_t stride, const std::byte* scales, __mmask16 present, const std::byte* x, __m512 sum) {
    using r = runs<C>;
    const auto spread = [](const std::byte* from) __attribute__((always_inline)) {
        std::int32_t v;
        std::memcpy(&v, from, 4);
        return _mm512_set1_epi32(v);
    };
    constexpr std::size_t vectors = r::words * r::parts;
    __m512i of_digit[digits];
    for (std::size_t d = 0; d + 1 < digits; ++d) of_digit[d] = _mm512_setzero_si512();
    of_digit[digits - 1] = spread(x + digits * vectors * 4);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < r::words; ++j) {
        const __m512i w = _mm512_maskz_loadu_epi32(present, words + j * stride);
        nibble::detail::for_each_index(
            [&](auto p) __attribute__((always_inline)) {
                const __m512i codes = codes_of<Arch, typename C::packing, p.value>(w);
#pragma GCC unroll 3
                for (std::size_t d = 0; d < digits; ++d)
                    of_digit[d] = _mm512_dpbusd_epi32(of_digit[d], codes, spread(x + (d * vectors + j * r::parts + p.value) * 4));
            },
            std::make_index_sequence<r::parts>{});
    }
    __m512i products = of_digit[0];
#pragma GCC unroll 3
    for (std::size_t d = 1; d < digits; ++d) products = _mm512_add_epi32(_mm512_slli_epi32(products, 8), of_digit[d]);
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(products), _mm512_castsi512_ps(spread(x + (digits * vectors + 1) * 4))),
                           load_scales<Arch, scale_type<C>>(scales, present), sum);
}

/// Layouts in which a word's neighbours belong to other rows: kn, and interleaved by 16.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_columns_by_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    using r = runs<C>;
    constexpr std::size_t at_once = 512;  // so that each row of a KN matrix is read by half pages
    for (std::uint64_t n = first; n < last;) {
        const auto block = row_block<C>::at(w, n, last, at_once);
        const std::byte* codes = block.words;
        const std::byte* scales = block.scales;
        const std::uint64_t n_runs = block.n_groups * r::per_group;
        const std::uint64_t width = block.across;
        const std::size_t columns = block.count;
        const auto run = [&](std::uint64_t i, std::uint64_t c, __m512 sum) __attribute__((always_inline)) {
            const auto m = static_cast<__mmask16>(columns - c >= 16 ? 0xFFFFu : (1u << (columns - c)) - 1);
            return column_run<Arch, C, digits>(codes + (i * r::words * width + c) * 4, width * 4,
                                               scales + (i / r::per_group * width + c) * sizeof(scale_type<C>), m, x + i * byte_tile_run<C, digits> * 4, sum);
        };
        if (columns <= 16) {
            // One linear stream; the processor's prefetcher falls behind so much work on each line.
            __m512 sum = _mm512_setzero_ps();
            for (std::uint64_t i = 0; i < n_runs; ++i) {
                const auto* ahead = reinterpret_cast<const char*>(codes + i * r::words * width * 4 + 4096);
#pragma GCC unroll 4
                for (std::size_t j = 0; j < r::words; ++j) _mm_prefetch(ahead + 64 * j, _MM_HINT_T0);
                sum = run(i, 0, sum);
            }
            _mm512_mask_storeu_ps(y + n, static_cast<__mmask16>((1u << columns) - 1), sum);
        } else {
            alignas(64) float sums[at_once] = {};
            for (std::uint64_t i = 0; i < n_runs; ++i) {
                for (std::uint64_t c = 0; c < columns; c += 16) _mm512_store_ps(sums + c, run(i, c, _mm512_load_ps(sums + c)));
            }
            std::memcpy(y + n, sums, columns * sizeof(float));
        }
        n += columns;
    }
}

template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_by_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    if constexpr (std::is_same_v<typename C::layout, nk>) {
        gemv_nk_by_bytes<Arch, C, digits>(w, x, first, last, y);
    } else {
        gemv_columns_by_bytes<Arch, C, digits>(w, x, first, last, y);
    }
}

#endif

}  // namespace nibble::cpu::detail

#endif
