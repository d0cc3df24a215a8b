// SPDX-License-Identifier: Apache-2.0
#pragma once
// y = W x: the product of stored weights with one vector of activations, read once and never unpacked to memory.

#include "nibble/codec/codec.hpp"
#include "nibble/cpu/activations.hpp"
#include "nibble/cpu/cast.hpp"
#include "nibble/cpu/gemv_avx2.hpp"
#include "nibble/cpu/gemv_avx512.hpp"

namespace nibble::cpu {

namespace detail {

template <class Arch>
NIBBLE_INLINE float sum_of_lanes(vector_f32<Arch> v) {
    alignas(64) float lane[lanes<Arch>];
    v.store_unaligned(lane);
    for (std::size_t width = lanes<Arch> / 2; width != 0; width /= 2) {
        for (std::size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
    }
    return lane[0];
}

/// Code i of each word less the code that means 0, as f32: exact, for a code under the exponent of 2^23 is 2^23 + code.
template <class Arch, class C>
NIBBLE_INLINE vector_f32<Arch> centred_codes(vector_u32<Arch> words, std::size_t i) {
    using u32 = vector_u32<Arch>;
    const u32 codes = (words >> static_cast<std::int32_t>(i * C::packing::bits)) & u32(C::packing::mask);
    constexpr float zero = [] {
        if constexpr (requires { C::zero_code; })
            return static_cast<float>(C::zero_code);
        else
            return 0.0F;
    }();
    return as_f32<Arch>(codes | u32(0x4B000000u)) - vector_f32<Arch>(8388608.0F + zero);
}
/// The weights of code i of each word: by the codec's formula, or, where that is known to be a product, without the scale.
template <class Arch, class C>
inline constexpr bool scale_factors_out = requires {
    C::zero_code;
}
&&C::packing::bits <= 16;
template <class Arch, class C>
NIBBLE_INLINE vector_f32<Arch> weights_of(vector_u32<Arch> words, std::size_t i, vector_f32<Arch> scale) {
    static_assert(C::packing::bits <= 16, "nibble: codes of more than 16 bits are not taken apart here");
    if constexpr (scale_factors_out<Arch, C>) {
        return centred_codes<Arch, C>(words, i);
    } else {
        return C::value(centred_codes<Arch, C>(words, i), scale);
    }
}

/// Up to one vector of rows that lie side by side, a lane each.
template <class Arch, class C>
struct columns_view : row_block<C> {
    static constexpr std::size_t width = lanes<Arch>;
    using typename row_block<C>::stored;
    using row_block<C>::in_rows;
    using row_block<C>::count;

    NIBBLE_INLINE static columns_view at(const matrix& w, std::uint64_t n, std::uint64_t last) { return {row_block<C>::at(w, n, last, width)}; }
    /// Word j of each row; lanes beyond the rows are 0.
    NIBBLE_INLINE vector_u32<Arch> word(std::uint64_t j) const {
        const std::byte* from = this->words + j * this->across * 4;
        if (!in_rows && count == width) return load_u32<Arch>(from);
        std::uint32_t lane[width] = {};
        for (std::size_t i = 0; i < count; ++i) std::memcpy(lane + i, from + i * this->word_between_rows(), 4);
        return vector_u32<Arch>::load_unaligned(lane);
    }
    NIBBLE_INLINE vector_f32<Arch> scale(std::uint64_t g) const {
        const std::byte* from = this->scales + g * this->across * sizeof(stored);
        stored several[width] = {};
        if (!in_rows && count == width) {
            std::memcpy(static_cast<void*>(several), from, sizeof several);
        } else {
            for (std::size_t i = 0; i < count; ++i) std::memcpy(static_cast<void*>(several + i), from + i * this->scale_between_rows(), sizeof(stored));
        }
        return as_f32<Arch>(load_as_f32_bits<Arch, stored>(several));
    }
};

/// Numbers as f32, for arithmetic: unlike a cast, this may make signalling NaNs quiet.
template <class Arch, class T>
NIBBLE_INLINE vector_f32<Arch> load_numbers(const void* from) {
#if defined(__AVX512BW__)
    if constexpr (std::is_same_v<T, f16> && has<Arch, avx512>) return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
#endif
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, f16> && has<Arch, avx2> && lanes<Arch> == 8) return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
#endif
    return as_f32<Arch>(load_as_f32_bits<Arch, T>(from));
}
/// Lanes / each stored scales, each in as many lanes.
template <class Arch, class Stored, std::size_t each>
NIBBLE_INLINE vector_f32<Arch> spread_scales(const std::byte* from) {
    constexpr std::size_t n = lanes<Arch> / each;
    [[maybe_unused]] constexpr auto order = [] {
        std::array<std::uint32_t, lanes<Arch>> lane{};
        for (std::size_t i = 0; i < lane.size(); ++i) lane[i] = static_cast<std::uint32_t>(i / each);
        return lane;
    };
    if constexpr (n == 1) {
        Stored one;
        std::memcpy(static_cast<void*>(&one), from, sizeof one);
        return vector_f32<Arch>(to_f32(one));
    }
    // In registers all the way: a wide load of what narrow stores just left would wait for them.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if constexpr (has<Arch, avx512>) {
        alignas(64) static constexpr auto to = order();
        constexpr auto m = static_cast<__mmask16>((1u << n) - 1);
        __m512 several;
        if constexpr (std::is_same_v<Stored, float>) {
            several = _mm512_maskz_loadu_ps(m, from);
        } else {
            const __m256i h = _mm256_maskz_loadu_epi16(m, from);
            several = std::is_same_v<Stored, f16> ? _mm512_cvtph_ps(h) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
        }
        return _mm512_permutexvar_ps(_mm512_load_si512(to.data()), several);
    }
#endif
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8 && n * sizeof(Stored) <= 8) {
        alignas(32) static constexpr auto to = order();
        std::uint64_t bits = 0;
        std::memcpy(&bits, from, n * sizeof(Stored));
        const __m128i h = _mm_set_epi64x(0, static_cast<long long>(bits));
        __m256 several;
        if constexpr (std::is_same_v<Stored, float>) {
            several = _mm256_castps128_ps256(_mm_castsi128_ps(h));
        } else {
            several = std::is_same_v<Stored, f16> ? _mm256_cvtph_ps(h) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
        }
        return _mm256_permutevar8x32_ps(several, _mm256_load_si256(reinterpret_cast<const __m256i*>(to.data())));
    }
#endif
    float lane[lanes<Arch>];
    for (std::size_t i = 0; i < lanes<Arch>; ++i) {
        Stored one;
        std::memcpy(static_cast<void*>(&one), from + i / each * sizeof(Stored), sizeof one);
        lane[i] = to_f32(one);
    }
    return vector_f32<Arch>::load_unaligned(lane);
}

/// Rows of layout nk: a word a lane, with activations in the order of `prepare`.
template <class Arch, class C>
NIBBLE_INLINE float dot_words(const std::byte* codes, const std::byte* scales, std::uint64_t n_words, const float* x) {
    constexpr std::size_t width = lanes<Arch>;
    constexpr std::size_t per_word = C::packing::per_word;
    using stored = scale_type<C>;
    using f32 = vector_f32<Arch>;
    f32 sum(0.0F);
    f32 other(0.0F);
    for (std::uint64_t j = 0; j < n_words; j += width) {
        vector_u32<Arch> words;
        f32 scale;
        const std::uint64_t here = n_words - j < width ? n_words - j : width;
        if (here == width && width % group_words<C> == 0) {
            words = load_u32<Arch>(codes + j * 4);
            scale = spread_scales<Arch, stored, group_words<C>>(scales + j / group_words<C> * sizeof(stored));
        } else {
            std::uint32_t lane[width] = {};
            std::memcpy(lane, codes + j * 4, static_cast<std::size_t>(here) * 4);
            words = vector_u32<Arch>::load_unaligned(lane);
            float of_word[width] = {};
            for (std::uint64_t i = 0; i < here; ++i) {
                stored one;
                std::memcpy(static_cast<void*>(&one), scales + (j + i) / group_words<C> * sizeof(stored), sizeof one);
                of_word[i] = to_f32(one);
            }
            scale = f32::load_unaligned(of_word);
        }
        f32 products(0.0F);
        const float* at = x + j * per_word;
#pragma GCC unroll 16
        for (std::size_t i = 0; i < per_word; ++i) {
            products = multiply_add<Arch>(weights_of<Arch, C>(words, i, scale), f32::load_unaligned(at + i * width), products);
        }
        if constexpr (scale_factors_out<Arch, C>) {
            sum = multiply_add<Arch>(products, scale, sum);
        } else {
            sum = sum + products;
        }
        std::swap(sum, other);
    }
    return sum_of_lanes<Arch>(sum + other);
}

/// Layouts in which a word's neighbours belong to other rows: a row a lane.
template <class Arch, class C>
NIBBLE_INLINE void gemv_columns(const matrix& w, const float* x, std::uint64_t first, std::uint64_t last, float* y) {
    using f32 = vector_f32<Arch>;
    constexpr std::size_t per_word = C::packing::per_word;
    const std::uint64_t n_groups = groups_of<C>(w.k);
    for (std::uint64_t n = first; n < last;) {
        // A few vectors beside each other, so that memory is read by whole lines.
        constexpr std::size_t most = 4;
        columns_view<Arch, C> columns[most];
        f32 sum[most];
        std::size_t several = 0;
        std::uint64_t next = n;
        for (; several < most && next < last; ++several) {
            columns[several] = columns_view<Arch, C>::at(w, next, last);
            sum[several] = f32(0.0F);
            next += columns[several].count;
        }
        for (std::uint64_t g = 0; g < n_groups; ++g) {
            for (std::size_t c = 0; c < several; ++c) {
                const f32 scale = columns[c].scale(g);
                f32 products(0.0F);
                f32 others(0.0F);
                for (std::size_t j = 0; j < group_words<C>; ++j) {
                    const vector_u32<Arch> words = columns[c].word(g * group_words<C> + j);
                    const float* at = x + g * C::group + j * per_word;
#pragma GCC unroll 16
                    for (std::size_t i = 0; i < per_word; ++i) {
                        f32& to = i % 2 == 0 ? products : others;
                        to = multiply_add<Arch>(weights_of<Arch, C>(words, i, scale), f32(at[i]), to);
                    }
                }
                if constexpr (scale_factors_out<Arch, C>) {
                    sum[c] = multiply_add<Arch>(products + others, scale, sum[c]);
                } else {
                    sum[c] = sum[c] + products + others;
                }
            }
        }
        for (std::size_t c = 0; c < several; ++c) {
            float lane[lanes<Arch>];
            sum[c].store_unaligned(lane);
            std::memcpy(y + n, lane, columns[c].count * sizeof(float));
            n += columns[c].count;
        }
    }
}

/// k values of T times f32.
template <class Arch, class T>
NIBBLE_INLINE float dot_plain(const std::byte* row, const float* x, std::uint64_t k) {
    using f32 = vector_f32<Arch>;
    constexpr std::size_t width = lanes<Arch>;
    f32 sum[4] = {f32(0.0F), f32(0.0F), f32(0.0F), f32(0.0F)};
    std::uint64_t i = 0;
    for (; i + 4 * width <= k; i += 4 * width) {
#pragma GCC unroll 4
        for (std::size_t v = 0; v < 4; ++v) {
            const f32 weights = load_numbers<Arch, T>(row + (i + v * width) * sizeof(T));
            sum[v] = multiply_add<Arch>(weights, f32::load_unaligned(x + i + v * width), sum[v]);
        }
    }
    for (; i < k; i += width) {
        T rest[width] = {};
        std::memcpy(static_cast<void*>(rest), row + i * sizeof(T), static_cast<std::size_t>(k - i < width ? k - i : width) * sizeof(T));
        sum[0] = multiply_add<Arch>(as_f32<Arch>(load_as_f32_bits<Arch, T>(rest)), f32::load_unaligned(x + i), sum[0]);
    }
    return sum_of_lanes<Arch>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/// The planes of C, as codec.hpp's functions take them.
template <class C>
NIBBLE_INLINE std::array<const std::byte*, C::planes.size()> planes_of(const matrix& w) {
    static_assert(C::planes.size() <= std::tuple_size_v<decltype(matrix::planes)>, "nibble: cpu::matrix holds four planes; this codec has more");
    std::array<const std::byte*, C::planes.size()> planes;
    for (std::size_t i = 0; i < planes.size(); ++i) planes[i] = w.planes[i];
    return planes;
}

/// One row of any codec, group by group through its own decode.
template <class Arch, class C>
NIBBLE_INLINE float dot_decoded(const matrix& w, std::uint64_t n, const float* x) {
    const auto planes = planes_of<C>(w);
    const std::uint64_t n_groups = groups_of<C>(w.k);
    float sum = 0;
    for (std::uint64_t g = 0; g < n_groups; ++g) {
        float values[C::group];
        C::decode(load_block<C>(planes, n, g, w.n, n_groups), values);
        const std::uint64_t rest = w.k - g * C::group;
        float products = 0;
        for (std::uint64_t i = 0; i < (rest < C::group ? rest : C::group); ++i) products += values[i] * x[g * C::group + i];
        sum += products;
    }
    return sum;
}

}  // namespace detail

/// y[n] = sum over k of W[n, k] x[k] for rows n in [first, last): y points at row 0. x is as prepare<Arch, Mode, C> with m = 1 left it.
template <class Arch, class Mode, codec C>
void gemv(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y) {
    const auto* values = reinterpret_cast<const float*>(x);
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    if constexpr (detail::by_bytes<Arch, Mode, C>) return detail::gemv_by_bytes<Arch, C, detail::digits_of<Mode>>(w, x, first, last, y);
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (detail::by_short_bytes<Arch, Mode, C>) return detail::gemv_by_short_bytes<Arch, C, detail::digits_of<Mode>>(w, x, first, last, y);
#endif
    if constexpr (is_plain<C>) {
        using number = typename C::model_type;
        for (std::uint64_t n = first; n < last; ++n) y[n] = detail::dot_plain<Arch, number>(w.planes[0] + n * w.k * sizeof(number), values, w.k);
    } else if constexpr (detail::word_coded<C>) {
        if constexpr (std::is_same_v<typename C::layout, nk>) {
            const std::uint64_t n_groups = groups_of<C>(w.k);
            const std::uint64_t n_words = n_groups * detail::group_words<C>;
            for (std::uint64_t n = first; n < last; ++n) {
                y[n] = detail::dot_words<Arch, C>(w.planes[0] + n * n_words * 4, w.planes[1] + n * n_groups * sizeof(detail::scale_type<C>), n_words, values);
            }
        } else {
            detail::gemv_columns<Arch, C>(w, values, first, last, y);
        }
    } else {
        for (std::uint64_t n = first; n < last; ++n) y[n] = detail::dot_decoded<Arch, C>(w, n, values);
    }
}

}  // namespace nibble::cpu
