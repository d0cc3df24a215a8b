// SPDX-License-Identifier: Apache-2.0
#pragma once
// Y = X W^T: the product of stored weights with several vectors of activations. Weights are unpacked once for all of them, to a panel
// that stays in the first caches.

#include "nibble/cpu/gemm_avx2.hpp"
#include "nibble/cpu/gemm_avx512.hpp"
#include "nibble/cpu/gemv.hpp"

namespace nibble::cpu {

namespace detail {

/// Vectors of rows of weights that a tile has beside each other, and rows of activations that are multiplied at a time: as many sums as there
/// are registers, for a number that is loaded should be used several times. Where there are but 16 registers a tile is taken in two parts.
template <class Arch>
inline constexpr std::size_t panel_vectors = has<Arch, avx512> || has<Arch, neon64> ? 2 : 3;
template <class Arch>
constexpr std::size_t rows_at_once(std::size_t rows) {
    return panel_vectors<Arch> == 2 || rows <= 4 ? rows : (rows + 1) / 2;
}

/// Some rows of weights as f32, a row a lane: [k][panel_vectors * lanes].
template <class Arch>
struct float_panel {
    static constexpr std::size_t width = panel_vectors<Arch> * lanes<Arch>;
    static constexpr std::size_t n_k = 320;  ///< at most
    alignas(64) float values[n_k][width];
};

/// Values of K that are unpacked at a time: whole groups and whole vectors of words, in a panel that leaves some of a first cache of 32 KiB
/// to the activations.
template <class Arch, class C>
inline constexpr std::size_t panel_k = [] {
    constexpr std::size_t unit = [] {
        if constexpr (word_coded<C>) return 16 * C::packing::per_word;
        return is_plain<C> ? 64 : C::group;
    }();
    constexpr std::size_t fits = 24576 / sizeof(float_panel<Arch>::values[0]);
    constexpr std::size_t most = fits < float_panel<Arch>::n_k ? fits : float_panel<Arch>::n_k;
    static_assert(unit <= float_panel<Arch>::n_k, "nibble: a group of this codec does not fit in a panel");
    return unit > most ? unit : most / unit * unit;
}();

/// As many vectors as a vector has lanes, transposed.
template <class Arch>
NIBBLE_INLINE void transpose(vector_u32<Arch>* v) {
    constexpr std::size_t n = lanes<Arch>;
    [[maybe_unused]] const auto by = [&](auto* w, auto f) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < n; ++i) w[i] = v[i];
        f(w);
#pragma GCC unroll 16
        for (std::size_t i = 0; i < n; ++i) v[i] = w[i];
    };
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    if constexpr (has<Arch, avx512>) {
        __m512i w[n];
        return by(
            w, [](__m512i * of) __attribute__((always_inline)) { transpose_16<Arch>(of); });
    }
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (has<Arch, avx2> && n == 8) {
        __m256i w[n];
        return by(
            w, [](__m256i * of) __attribute__((always_inline)) { transpose_8<Arch>(of); });
    }
#endif
    vector_u32<Arch> other[n];
    for (std::size_t width = 1; width < n; width *= 2) {
        for (std::size_t i = 0; i < n / 2; ++i) {
            other[2 * i] = xsimd::zip_lo(v[i], v[i + n / 2]);
            other[2 * i + 1] = xsimd::zip_hi(v[i], v[i + n / 2]);
        }
        for (std::size_t i = 0; i < n; ++i) v[i] = other[i];
    }
}

/// Unpacks values [k, end) of up to one vector of rows from n on into column `column` of a panel; gives how many rows there were.
template <class Arch, class C>
NIBBLE_INLINE std::size_t fill_float_panel(const matrix& w, std::uint64_t n, std::uint64_t last, std::uint64_t k, std::uint64_t end, float_panel<Arch>& panel,
                                           std::size_t column) {
    using f32 = vector_f32<Arch>;
    constexpr std::size_t width = lanes<Arch>;
    if constexpr (word_coded<C>) {
        constexpr std::size_t per_word = C::packing::per_word;
        const std::uint64_t n_words = groups_of<C>(w.k) * group_words<C>;
        const std::uint64_t last_word = (end + per_word - 1) / per_word < n_words ? (end + per_word - 1) / per_word : n_words;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
        if constexpr (has<Arch, avx512> && scale_factors_out<Arch, C> && group_words<C> <= 16 && 16 % group_words<C> == 0) {
            const auto rows = sixteen_rows<Arch, C>::at(w, n, last);
            __m512i scales[16];
            std::uint64_t of = ~std::uint64_t{0};
            for (std::uint64_t j = k / per_word; j < last_word; j += 16) {
                __m512i words[16];
                rows.load_words(j, words);
                const std::uint64_t g = j / group_words<C>;
                if (of == ~std::uint64_t{0} || g - of >= 16) {
                    of = g;
                    rows.load_group_scales(g, scales);
                }
#pragma GCC unroll 16
                for (std::size_t i = 0; i < 16; ++i) {
                    const __m512 scale = _mm512_castsi512_ps(scales[g - of + i / group_words<C>]);
                    float* to = panel.values[j * per_word - k + i * per_word] + column;
#pragma GCC unroll 16
                    for (std::size_t c = 0; c < per_word; ++c) {
                        __m512 code;
                        if constexpr (C::packing::bits <= 4) {
                            struct table {
                                alignas(64) float of_code[16]{};
                                constexpr table() {
                                    for (std::uint32_t t = 0; t < 16; ++t)
                                        of_code[t] = static_cast<float>(static_cast<int>(t & C::packing::mask) - C::zero_code);
                                }
                            };
                            static constexpr table values;  // codes may have junk above their bits
                            code =
                                _mm512_permutexvar_ps(_mm512_srli_epi32(words[i], static_cast<unsigned>(c * C::packing::bits)), _mm512_load_ps(values.of_code));
                        } else {
                            code = centred_codes<Arch, C>(vector_u32<Arch>(words[i]), c);
                        }
                        _mm512_store_ps(to + c * panel.width, _mm512_mul_ps(code, scale));
                    }
                }
            }
            return rows.count;
        }
#endif
        const auto unpack = [&](vector_u32<Arch> words, f32 scale, std::uint64_t j) __attribute__((always_inline)) {
            float* to = panel.values[j * per_word - k] + column;
#pragma GCC unroll 16
            for (std::size_t i = 0; i < per_word; ++i) {
                f32 weights = weights_of<Arch, C>(words, i, scale);
                if constexpr (scale_factors_out<Arch, C>) weights = weights * scale;
                weights.store_unaligned(to + i * panel.width);
            }
        };
#if defined(__AVX2__) && defined(__F16C__)
        if constexpr (has<Arch, avx2> && width == 8 && group_words<C> <= 8 && 8 % group_words<C> == 0) {
            const auto rows = eight_rows<Arch, C>::at(w, n, last);
            __m256i scales[8];
            for (std::uint64_t j = k / per_word; j < last_word; j += 8) {
                const std::uint64_t g = j / group_words<C> - k / C::group;
                if (g % 8 == 0) rows.load_group_scales(j / group_words<C>, scales);
                __m256i words[8];
                rows.load_words(j, words);
                for (std::size_t i = 0; i < 8; ++i) unpack(words[i], f32(_mm256_castsi256_ps(scales[g % 8 + i / group_words<C>])), j + i);
            }
            return rows.count;
        }
#endif
        const auto rows = columns_view<Arch, C>::at(w, n, last);
        f32 scale(0.0F);
        for (std::uint64_t j = k / per_word; j < last_word;) {
            vector_u32<Arch> words[width];
            const std::uint64_t several = last_word - j < width ? last_word - j : width;
            if (std::is_same_v<typename C::layout, nk> && rows.count == width && several == width) {
                for (std::size_t i = 0; i < width; ++i) words[i] = load_u32<Arch>(rows.words + j * 4 + i * rows.word_between_rows());
                transpose<Arch>(words);
            } else {
                for (std::uint64_t i = 0; i < several; ++i) words[i] = rows.word(j + i);
            }
            for (std::uint64_t i = 0; i < several; ++i, ++j) {
                if (j % group_words<C> == 0 || j == k / per_word) scale = rows.scale(j / group_words<C>);
                unpack(words[i], scale, j);
            }
        }
        return rows.count;
    } else if constexpr (is_plain<C>) {
        using number = typename C::model_type;
        const auto count = static_cast<std::size_t>(last - n < width ? last - n : width);
        const std::byte* rows = w.planes[0] + n * w.k * sizeof(number);
        for (std::uint64_t at = k; at < end; at += width) {
            const auto here = static_cast<std::size_t>(end - at < width ? end - at : width);
            vector_u32<Arch> values[width];
#pragma GCC unroll 16
            for (std::size_t i = 0; i < width; ++i) {
                const std::byte* from = rows + (i * w.k + at) * sizeof(number);
                // The next stretch of the row: no prefetcher foresees so many streams.
                if (at % (64 / sizeof(number)) == 0) __builtin_prefetch(from + panel_k<Arch, C> * sizeof(number), 0, 2);
                number several[width] = {};
                if (i < count && here < width) std::memcpy(static_cast<void*>(several), from, here * sizeof(number));
                values[i] = as_u32<Arch>(load_numbers<Arch, number>(i < count && here == width ? static_cast<const void*>(from) : several));
            }
            transpose<Arch>(values);
#pragma GCC unroll 16
            for (std::size_t i = 0; i < width; ++i) as_f32<Arch>(values[i]).store_unaligned(panel.values[at - k + i] + column);
        }
        return static_cast<std::size_t>(count);
    } else {
        const std::uint64_t count = last - n < width ? last - n : width;
        const auto planes = planes_of<C>(w);
        for (std::uint64_t i = 0; i < width; ++i) {
            float* to = panel.values[0] + column + i;
            if (i >= count) {
                for (std::uint64_t at = k; at < end; ++at) to[(at - k) * panel.width] = 0;
            } else {
                for (std::uint64_t g = k / C::group; g * C::group < end; ++g) {
                    float values[C::group];
                    C::decode(load_block<C>(planes, n + i, g, w.n, groups_of<C>(w.k)), values);
                    for (std::uint64_t at = 0; at < C::group && g * C::group + at < end; ++at) to[(g * C::group + at - k) * panel.width] = values[at];
                }
            }
        }
        return static_cast<std::size_t>(count);
    }
}

/// Rows [row, row + part) of a tile of activations, [k][rows], times a panel: added to y [rows, panel width], or put there.
template <class Arch, std::size_t rows, std::size_t row, std::size_t part>
NIBBLE_INLINE void multiply_float_rows(const float_panel<Arch>& panel, std::uint64_t n_k, const float* x, float* y, std::uint64_t ldy, bool add) {
    using f32 = vector_f32<Arch>;
    constexpr std::size_t width = lanes<Arch>;
    constexpr std::size_t vectors = panel_vectors<Arch>;
    f32 sum[part][vectors];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < part; ++i) {
#pragma GCC unroll 3
        for (std::size_t v = 0; v < vectors; ++v) sum[i][v] = f32(0.0F);
    }
#pragma GCC unroll 2
    for (std::uint64_t k = 0; k < n_k; ++k) {
        f32 weights[vectors];
#pragma GCC unroll 3
        for (std::size_t v = 0; v < vectors; ++v) weights[v] = f32::load_aligned(panel.values[k] + v * width);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < part; ++i) {
            const f32 one(x[k * rows + row + i]);
#pragma GCC unroll 3
            for (std::size_t v = 0; v < vectors; ++v) sum[i][v] = multiply_add<Arch>(weights[v], one, sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < part; ++i) {
#pragma GCC unroll 3
        for (std::size_t v = 0; v < vectors; ++v) {
            // What comes from other stretches of K is added at the end: shorter sums, smaller errors.
            float* to = y + (row + i) * ldy + v * width;
            if (add) sum[i][v] = sum[i][v] + f32::load_unaligned(to);
            sum[i][v].store_unaligned(to);
        }
    }
}
/// The whole of a tile of `rows` rows.
template <class Arch, std::size_t rows>
[[gnu::noinline]] void multiply_float_tile(const float_panel<Arch>& panel, std::uint64_t n_k, const float* x, float* y, std::uint64_t ldy, bool add) {
    constexpr std::size_t part = rows_at_once<Arch>(rows);
    multiply_float_rows<Arch, rows, 0, part>(panel, n_k, x, y, ldy, add);
    if constexpr (part != rows) multiply_float_rows<Arch, rows, part, rows - part>(panel, n_k, x, y, ldy, add);
}

template <class Arch, class C>
NIBBLE_INLINE void gemm_by_floats(const matrix& w, const float* x, std::uint64_t m, std::uint64_t first, std::uint64_t last, float* y, std::uint64_t ldy) {
    float_panel<Arch> panel;
    constexpr std::size_t width = panel.width;
    const std::uint64_t padded = padded_k<C>(w.k);
    for (std::uint64_t n = first; n < last;) {
        std::size_t count = 0;
        for (std::uint64_t k = 0; k < w.k; k += panel_k<Arch, C>) {
            const std::uint64_t end = w.k - k < panel_k<Arch, C> ? w.k : k + panel_k<Arch, C>;
            count = 0;
            for (std::size_t v = 0; v < panel_vectors<Arch>; ++v) {
                // A vector that is not full leaves no place beside it for the next one.
                if (count != v * lanes<Arch> || n + count >= last) break;
                count += fill_float_panel<Arch, C>(w, n + count, last, k, end, panel, v * lanes<Arch>);
            }
            for (std::uint64_t row = 0; row < m; row += tile_rows) {
                const auto rows = static_cast<std::size_t>(m - row < tile_rows ? m - row : tile_rows);
                const float* from = x + row * padded + k * rows;
                float* to = y + row * ldy + n;
                const auto multiply = [&](auto some) __attribute__((always_inline)) {
                    constexpr std::size_t several = decltype(some)::value;
                    if (count == width) return multiply_float_tile<Arch, several>(panel, end - k, from, to, ldy, k != 0);
                    float whole[several * width];
                    for (std::size_t i = 0; i < several && k != 0; ++i) std::memcpy(whole + i * width, to + i * ldy, count * sizeof(float));
                    multiply_float_tile<Arch, several>(panel, end - k, from, whole, width, k != 0);
                    for (std::size_t i = 0; i < several; ++i) std::memcpy(to + i * ldy, whole + i * width, count * sizeof(float));
                };
                with_count<tile_rows>(rows, multiply);
            }
        }
        n += count;
    }
}

}  // namespace detail

/// y[r * ldy + n] = sum over k of W[n, k] X[r, k] for rows r < m of the activations and rows n in [first, last) of the weights. x is as
/// prepare<Arch, Mode, C> with the same m left it.
template <class Arch, class Mode, codec C>
void gemm(const matrix& w, const std::byte* x, std::uint64_t m, std::uint64_t first, std::uint64_t last, float* y, std::uint64_t ldy) {
    if (m == 1) return gemv<Arch, Mode, C>(w, x, first, last, y);
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    if constexpr (detail::by_bytes<Arch, Mode, C>) {
        return detail::gemm_by_bytes<Arch, C, detail::digits_of<Mode>, detail::tile_rows>(w, x, m, first, last, y, ldy);
    }
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (detail::several_by_short_bytes<Arch, Mode, C>) {
        return detail::gemm_by_short_bytes<Arch, C, detail::digits_of<Mode>, detail::tile_rows>(w, x, m, first, last, y, ldy);
    }
#endif
    detail::gemm_by_floats<Arch, C>(w, reinterpret_cast<const float*>(x), m, first, last, y, ldy);
}

}  // namespace nibble::cpu
