// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of a matrix with one vector on AVX2: codes times signed bytes of the activations, straight from the words on disk.
// Included by gemv.hpp.

#include "nibble/cpu/activations.hpp"

#if defined(__AVX2__) && defined(__F16C__)

namespace nibble::cpu::detail {

/// Eight stored scales, as f32.
template <class Arch, class Stored>
NIBBLE_INLINE __m256 load_eight_scales(const std::byte* from) {
    if constexpr (std::is_same_v<Stored, float>) {
        return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    } else {
        const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        if constexpr (std::is_same_v<Stored, f16>) return _mm256_cvtph_ps(h);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    }
}
/// The first n <= 8 of them; the others are 0, and are not read.
template <class Arch, class Stored>
NIBBLE_INLINE __m256 load_eight_scales(const std::byte* from, std::size_t n) {
    if (n == 8) return load_eight_scales<Arch, Stored>(from);
    alignas(32) std::byte several[8 * sizeof(Stored)] = {};
    std::memcpy(several, from, n * sizeof(Stored));
    return load_eight_scales<Arch, Stored>(several);
}
/// As many of them as a whole block of words has, in registers all the way: a wide load of what narrow stores just left would wait for them.
template <class Arch, class Stored, std::size_t n>
NIBBLE_INLINE __m256 load_block_scales(const std::byte* from) {
    if constexpr (n * sizeof(Stored) <= 8) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, from, n * sizeof(Stored));
        const __m128i h = _mm_set_epi64x(0, static_cast<long long>(bits));
        if constexpr (std::is_same_v<Stored, float>) return _mm256_castps128_ps256(_mm_castsi128_ps(h));
        if constexpr (std::is_same_v<Stored, f16>) return _mm256_cvtph_ps(h);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    } else {
        return load_eight_scales<Arch, Stored>(from, n);
    }
}
/// Marks the first n of eight lanes.
template <class Arch>
NIBBLE_INLINE __m256i first_lanes(std::size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
template <class Arch>
NIBBLE_INLINE __m256i load_first(const std::byte* from, __m256i present) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(from), present);
}
/// A 4-byte number in all lanes.
template <class Arch>
NIBBLE_INLINE __m256i spread_256(const std::byte* from) {
    std::int32_t v;
    std::memcpy(&v, from, 4);
    return _mm256_set1_epi32(v);
}

/// Part p of eight words: four codes a word, one a byte.
template <class Arch, class Packing, std::size_t p>
NIBBLE_INLINE __m256i codes_of(__m256i words) {
    constexpr std::size_t bits = Packing::bits;
    if constexpr (bits * Packing::per_word == 32) {
        const __m256i mask = _mm256_set1_epi8(static_cast<char>(Packing::mask));
        return _mm256_and_si256(p == 0 ? words : _mm256_srli_epi32(words, bits * p), mask);
    } else {
        // Twelve bits are spread to two halves of six, and those to four bytes of three. The last two codes are spread at once.
        __m256i spread = p == 0 ? words : _mm256_srli_epi32(words, 12 * p);
        if constexpr (p != 2) {
            spread = _mm256_and_si256(spread, _mm256_set1_epi32(0xFFF));
            spread = _mm256_and_si256(_mm256_or_si256(spread, _mm256_slli_epi32(spread, 10)), _mm256_set1_epi32(0x003F003F));
            return _mm256_and_si256(_mm256_or_si256(spread, _mm256_slli_epi32(spread, 5)), _mm256_set1_epi32(0x07070707));
        }
        return _mm256_and_si256(_mm256_or_si256(spread, _mm256_slli_epi32(spread, 5)), _mm256_set1_epi32(0x0707));
    }
}

/// Codes times bytes: added to a sum, which is in 16 bits without VNNI, or begins one.
template <class Arch>
NIBBLE_INLINE __m256i add_products(__m256i sum, __m256i codes, __m256i bytes, bool begins) {
#if defined(__AVXVNNI__)
    if constexpr (has<Arch, avxvnni>) return _mm256_dpbusd_avx_epi32(begins ? _mm256_setzero_si256() : sum, codes, bytes);
#elif defined(__AVX512VNNI__) && defined(__AVX512VL__)
    if constexpr (has<Arch, avxvnni>) return _mm256_dpbusd_epi32(begins ? _mm256_setzero_si256() : sum, codes, bytes);
#endif
    const __m256i two = _mm256_maddubs_epi16(codes, bytes);
    sum = begins ? two : _mm256_add_epi16(sum, two);
    asm("" : "+x"(sum));  // or gcc puts all products off to add them in an order of its own, for which there are not the registers
    return sum;
}
/// A sum of add_products in 32 bits.
template <class Arch>
NIBBLE_INLINE __m256i widened(__m256i sum) {
    if constexpr (has<Arch, avxvnni>) return sum;
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}
/// A run's sum from those of its digits, most significant first.
template <class Arch, std::size_t digits>
NIBBLE_INLINE __m256i joined_digits(const __m256i* sum, __m256i correction) {
    __m256i all = widened<Arch>(sum[0]);
#pragma GCC unroll 3
    for (std::size_t d = 1; d < digits; ++d) all = _mm256_add_epi32(_mm256_slli_epi32(all, 8), widened<Arch>(sum[d]));
    return _mm256_add_epi32(all, correction);
}

/// The products of a run's four words with the activations at x, [j][part][digit] vectors 32 bytes apart, plus the correction: exact
/// sums in each lane. `load` gives a vector of activations: eight runs of one row, or one run for all lanes.
template <class Arch, class C, std::size_t digits, class Words, class Load>
NIBBLE_INLINE __m256i short_run_products(Words words, const std::byte* x, __m256i correction, Load load) {
    using r = short_runs<C>;
    __m256i sum[digits];
#pragma GCC unroll 4
    for (std::size_t j = 0; j < r::words; ++j) {
        const __m256i w = words(j);
        nibble::detail::for_each_index(
            [&](auto p) __attribute__((always_inline)) {
                const __m256i codes = codes_of<Arch, typename C::packing, p.value>(w);
                const std::byte* at = x + (j * r::parts + p.value) * digits * 32;
#pragma GCC unroll 3
                for (std::size_t d = 0; d < digits; ++d) sum[d] = add_products<Arch>(sum[d], codes, load(at + d * 32), j == 0 && p.value == 0);
            },
            std::make_index_sequence<r::parts>{});
    }
    return joined_digits<Arch, digits>(sum, correction);
}

/// Rows n, n + apart, ... of a matrix in layout nk, `rows` of them.
template <class Arch, class C, std::size_t digits, std::size_t rows>
NIBBLE_INLINE void gemv_rows_by_short_bytes(const matrix& w, const std::byte* x, std::uint64_t n, std::uint64_t apart, float* y) {
    using r = short_runs<C>;
    using stored = scale_type<C>;
    const std::uint64_t n_groups = groups_of<C>(w.k);
    const std::uint64_t n_words = n_groups * group_words<C>;
    const std::byte* codes = w.planes[0] + n * n_words * 4;
    const std::byte* scales = w.planes[1] + n * n_groups * sizeof(stored);
    struct lane_groups {
        alignas(32) std::uint32_t of[8]{};
        constexpr lane_groups() {
            for (std::size_t l = 0; l < 8; ++l) of[l] = static_cast<std::uint32_t>(r::of_lane(l) / r::per_group);
        }
    };
    static constexpr lane_groups order;
    const __m256i to_lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(order.of));
    __m256 sum[rows];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < rows; ++i) sum[i] = _mm256_setzero_ps();
    const auto block = [&](std::uint64_t b, auto whole) __attribute__((always_inline)) {
        const std::byte* at = x + b * short_block_bytes<C, digits>;
        const std::byte* rest = at + r::vectors * digits * 32;
        const std::uint64_t left = n_words - b * r::block_words;
#pragma GCC unroll 4
        for (std::size_t i = 0; i < rows; ++i) {
            const std::byte* from = codes + i * apart * n_words * 4 + b * r::block_words * 4;
            const std::byte* from_scales = scales + (i * apart * n_groups + b * r::block_groups) * sizeof(stored);
            alignas(32) std::byte some[r::block_words * 4];
            if constexpr (!decltype(whole)::value) {
                std::memset(some, 0, sizeof some);
                std::memcpy(some, from, static_cast<std::size_t>(left) * 4);
                from = some;
            }
            __m256i words[4];
#pragma GCC unroll 4
            for (std::size_t v = 0; v < 4; ++v) words[v] = load_256<Arch>(from + 32 * v);
            transpose_runs<Arch>(words);
            const __m256i products = short_run_products<Arch, C, digits>(
                [&](std::size_t j) __attribute__((always_inline)) { return words[j]; }, at, load_256<Arch>(rest),
                [](const std::byte* v) __attribute__((always_inline)) { return load_256<Arch>(v); });
            __m256 of_weights;
            if constexpr (decltype(whole)::value) {
                of_weights = load_block_scales<Arch, stored, r::block_groups>(from_scales);
            } else {
                of_weights = load_eight_scales<Arch, stored>(from_scales, static_cast<std::size_t>(left / group_words<C>));
            }
            // In this order: the scales' product alone may be too small to be exact.
            const __m256 of_activations = _mm256_castsi256_ps(load_256<Arch>(rest + 32));
            sum[i] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(products), of_activations), _mm256_permutevar8x32_ps(of_weights, to_lanes), sum[i]);
        }
    };
    std::uint64_t b = 0;
    for (; (b + 1) * r::block_words <= n_words; ++b) block(b, std::true_type{});
    if (b * r::block_words < n_words) block(b, std::false_type{});
#pragma GCC unroll 4
    for (std::size_t i = 0; i < rows; ++i) {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(sum[i]), _mm256_extractf128_ps(sum[i], 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        y[n + i * apart] = _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
}

/// Layout nk, as a few linear streams far apart.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_nk_by_short_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    constexpr std::size_t streams = 2;
    const std::uint64_t part = (last - first) / streams;
    for (std::uint64_t n = first; n < first + part; ++n) gemv_rows_by_short_bytes<Arch, C, digits, streams>(w, x, n, part, y);
    for (std::uint64_t n = first + streams * part; n < last; ++n) gemv_rows_by_short_bytes<Arch, C, digits, 1>(w, x, n, 0, y);
}

/// Layouts in which a word's neighbours belong to other rows: kn, and interleaved by 16.
template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_columns_by_short_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    using r = short_runs<C>;
    using stored = scale_type<C>;
    constexpr std::size_t interleaved_rows = rows_interleaved<typename C::layout>;
    constexpr std::size_t at_once = interleaved_rows == 0 ? 512 : (interleaved_rows + 7) / 8 * 8;  // each row of a KN matrix is read by half pages
    for (std::uint64_t n = first; n < last;) {
        const auto block = row_block<C>::at(w, n, last, at_once);
        const std::byte* codes = block.words;
        const std::byte* scales = block.scales;
        const std::uint64_t n_runs = block.n_groups * r::per_group;
        const std::uint64_t width = block.across;
        const std::uint64_t columns = block.count;
        const auto run = [&](std::uint64_t i, std::uint64_t c, __m256 sum, auto whole) __attribute__((always_inline)) {
            const std::byte* words = codes + (i * r::words * width + c) * 4;
            const std::byte* of_run = scales + (i / r::per_group * width + c) * sizeof(stored);
            const std::byte* at = x + i / 8 * short_block_bytes<C, digits>;
            const std::size_t i_8 = static_cast<std::size_t>(i % 8);
            const std::size_t lane = (i_8 % 2 * 4 + i_8 / 2) * 4;  // the one of that run
            const std::byte* rest = at + r::vectors * digits * 32 + lane;
            __m256i products;
            __m256 scale;
            const auto multiply = [&](auto load) __attribute__((always_inline)) {
                products = short_run_products<Arch, C, digits>(
                    load, at + lane, spread_256<Arch>(rest), [](const std::byte* v) __attribute__((always_inline)) { return spread_256<Arch>(v); });
            };
            if constexpr (decltype(whole)::value) {
                multiply([&](std::size_t j) __attribute__((always_inline)) { return load_256<Arch>(words + j * width * 4); });
                scale = load_eight_scales<Arch, stored>(of_run);
            } else {
                const __m256i present = first_lanes<Arch>(static_cast<std::size_t>(columns - c));
                multiply([&](std::size_t j) __attribute__((always_inline)) { return load_first<Arch>(words + j * width * 4, present); });
                scale = load_eight_scales<Arch, stored>(of_run, static_cast<std::size_t>(columns - c));
            }
            return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(products), _mm256_castsi256_ps(spread_256<Arch>(rest + 32))), scale, sum);
        };
        if (interleaved_rows == 16 && columns == 16) {
            __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
            for (std::uint64_t i = 0; i < n_runs; ++i) {
#pragma GCC unroll 2
                for (std::size_t v = 0; v < 2; ++v) sum[v] = run(i, 8 * v, sum[v], std::true_type{});
            }
            _mm256_storeu_ps(y + n, sum[0]);
            _mm256_storeu_ps(y + n + 8, sum[1]);
        } else {
            alignas(32) float sums[at_once] = {};
            for (std::uint64_t i = 0; i < n_runs; ++i) {
                std::uint64_t c = 0;
                for (; c + 8 <= columns; c += 8) _mm256_store_ps(sums + c, run(i, c, _mm256_load_ps(sums + c), std::true_type{}));
                if (c < columns) _mm256_store_ps(sums + c, run(i, c, _mm256_load_ps(sums + c), std::false_type{}));
            }
            std::memcpy(y + n, sums, static_cast<std::size_t>(columns) * sizeof(float));
        }
        n += columns;
    }
}

template <class Arch, class C, std::size_t digits>
NIBBLE_INLINE void gemv_by_short_bytes(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    if constexpr (std::is_same_v<typename C::layout, nk>) {
        gemv_nk_by_short_bytes<Arch, C, digits>(w, x, first, last, y);
    } else {
        gemv_columns_by_short_bytes<Arch, C, digits>(w, x, first, last, y);
    }
}

}  // namespace nibble::cpu::detail

#endif
