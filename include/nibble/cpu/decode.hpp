// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of codes and scales decoded to f32 or f16, equal bit for bit to the codec's own decode, which is the law.

#include "nibble/codec/affine.hpp"
#include "nibble/cpu/cast.hpp"

namespace nibble::cpu {

namespace detail {

/// Whether a value is known to be (code - zero_code) * scale; else the codec's formula is evaluated.
template <class C>
inline constexpr bool has_zero_code = requires {
    C::zero_code;
};
template <class C>
using stored_scale = nibble::detail::stored_scale<C>;

/// Where the lanes of vector v of a block of values find their word, the shift to their code, and their scale.
template <class C, std::size_t width>
struct decode_tables {
    static constexpr std::size_t n_words = C::packing::per_word * width % C::group == 0 ? width : 8;
    static constexpr std::size_t n_values = n_words * C::packing::per_word;
    static constexpr std::size_t n_groups = n_values / C::group;
    static constexpr std::size_t vectors = n_values / width;
    static_assert(n_values % C::group == 0 && n_values % width == 0 && n_words <= width);

    std::uint32_t word[vectors][width]{};
    std::uint32_t shift[vectors][width]{};
    std::uint32_t scale[vectors][width]{};
    float value[16]{};  // of each code, before its scale; the codes may have junk above their bits

    constexpr decode_tables() {
        for (std::size_t i = 0; i < n_values; ++i) {
            word[i / width][i % width] = static_cast<std::uint32_t>(i / C::packing::per_word);
            shift[i / width][i % width] = static_cast<std::uint32_t>(i % C::packing::per_word * C::packing::bits);
            scale[i / width][i % width] = static_cast<std::uint32_t>(i / C::group);
        }
        if constexpr (has_zero_code<C>) {
            for (std::uint32_t c = 0; c < 16; ++c) value[c] = static_cast<float>(static_cast<int>(c & C::packing::mask) - C::zero_code);
        }
    }
};
template <class C, std::size_t width>
struct decode_tables_of {
    alignas(64) static constexpr decode_tables<C, width> of{};
};

/// store_f32_bits_as for numbers that are no NaNs: they need not be looked for.
template <class Arch, class Out>
NIBBLE_INLINE void store_number_as(void* to, vector_u32<Arch> u) {
#if defined(__AVX512BW__)
    if constexpr (has<Arch, avx512> && std::is_same_v<Out, f16>)
        return _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_maskz_cvtps_ph(0xFFFF, _mm512_castsi512_ps(u), _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8 && std::is_same_v<Out, f16>)
        return _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(_mm256_castsi256_ps(u), _MM_FROUND_TO_NEAREST_INT));
#endif
    store_f32_bits_as<Arch, Out, float>(to, u);
}

/// Codecs whose groups are whole words of u32, as the vector decoders take them.
template <class C>
inline constexpr bool has_vector_decoder = nibble::detail::packs_low_first<typename C::packing>&& is_loaded_number<stored_scale<C>>&&
                                                       std::is_same_v<typename C::packing::word, std::uint32_t>&& C::group %
                                                   C::packing::per_word ==
                                               0 &&
                                           C::packing::bits <= 4 && 8 * C::packing::per_word % C::group == 0;

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
/// Decodes n whole blocks.
template <class Arch, class C, class Out>
NIBBLE_INLINE void decode_blocks_avx512(const std::byte* codes, const std::byte* scales, std::uint64_t n, std::byte* out) {
    using tables = decode_tables<C, 16>;
    using stored = stored_scale<C>;
    const auto& t = decode_tables_of<C, 16>::of;
    const __m512 values = _mm512_loadu_ps(t.value);
    constexpr auto all_words = static_cast<__mmask16>((1u << tables::n_words) - 1);
    constexpr auto all_scales = static_cast<__mmask16>((1u << tables::n_groups) - 1);
    for (; n != 0; --n) {
        const __m512i words = _mm512_maskz_loadu_epi32(all_words, codes);
        __m512 s;
        if constexpr (std::is_same_v<stored, float>) {
            s = _mm512_maskz_loadu_ps(all_scales, scales);
        } else {
            const __m256i h = _mm256_maskz_loadu_epi16(all_scales, scales);
            if constexpr (std::is_same_v<stored, f16>) {
                s = _mm512_cvtph_ps(h);
            } else {
                s = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
            }
        }
        // A product is a NaN only where the scale is one, or infinite; of a stranger's formula nothing is known.
        const bool numbers = has_zero_code<C> && _mm512_cmp_ps_mask(_mm512_abs_ps(s), _mm512_set1_ps(3.4e38F), _CMP_NLE_UQ) == 0;
#pragma GCC unroll 8
        for (std::size_t v = 0; v < tables::vectors; ++v) {
            const __m512i c = _mm512_srlv_epi32(_mm512_permutexvar_epi32(_mm512_loadu_si512(t.word[v]), words), _mm512_loadu_si512(t.shift[v]));
            const __m512 scale = _mm512_permutexvar_ps(_mm512_loadu_si512(t.scale[v]), s);
            __m512 x;
            if constexpr (has_zero_code<C>) {
                x = _mm512_mul_ps(_mm512_permutexvar_ps(c, values), scale);
            } else {
                const __m512i code = _mm512_and_si512(c, _mm512_set1_epi32(static_cast<int>(C::packing::mask)));
                x = C::value(vector_f32<Arch>(_mm512_cvtepi32_ps(code)), vector_f32<Arch>(scale));
            }
            if (numbers) [[likely]] {
                store_number_as<Arch, Out>(out + v * 16 * sizeof(Out), vector_u32<Arch>(_mm512_castps_si512(x)));
            } else {
                store_f32_bits_as<Arch, Out, float>(out + v * 16 * sizeof(Out), vector_u32<Arch>(_mm512_castps_si512(x)));
            }
        }
        codes += tables::n_words * 4;
        scales += tables::n_groups * sizeof(stored);
        out += tables::n_values * sizeof(Out);
    }
}

/// Codecs of nibbles in groups of 32: one group is four words.
template <class C>
inline constexpr bool has_nibble_decoder = std::is_same_v<typename C::packing, low_first<4, std::uint32_t>>&& C::group == 32;

/// Decodes n times sixteen groups. All that a group's codes can mean is one vector: so a value is looked up, with its scale. `streamed`: past
/// the caches, to memory aligned to 64 bytes.
template <class Arch, class C, class Out, bool streamed>
NIBBLE_INLINE void decode_nibbles_avx512(const std::byte* codes, const std::byte* scales, std::uint64_t n, std::byte* out) {
    using stored = stored_scale<C>;
    const __m512 values = _mm512_loadu_ps(decode_tables_of<C, 16>::of.value);
    const auto put = [](std::byte * to, __m512i v) __attribute__((always_inline)) {
        if constexpr (streamed) {
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to), v);
        } else {
            _mm512_storeu_si512(to, v);
        }
    };
    for (; n != 0; --n, codes += 256, scales += 16 * sizeof(stored), out += 512 * sizeof(Out)) {
        _mm_prefetch(reinterpret_cast<const char*>(scales) + 1024, _MM_HINT_T0);
        alignas(64) float s[16];
        const __m512 sixteen = _mm512_castsi512_ps(load_as_f32_bits<Arch, stored>(scales));
        _mm512_store_ps(s, sixteen);
        if constexpr (std::is_same_v<Out, f16>) {
            // NaNs have rules of their own
            if (_mm512_cmp_ps_mask(_mm512_abs_ps(sixteen), _mm512_set1_ps(3.4e38F), _CMP_NLE_UQ) != 0) [[unlikely]] {
                decode_blocks_avx512<Arch, C, Out>(codes, scales, 512 / decode_tables<C, 16>::n_values, out);
                continue;
            }
        }
#pragma GCC unroll 1
        for (std::size_t g = 0; g < 16; ++g) {
            if (g % 4 == 0) _mm_prefetch(reinterpret_cast<const char*>(codes) + 16 * g + 2048, _MM_HINT_T0);
            const __m512i words = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * g)));
            const __m512 meanings = _mm512_mul_ps(values, _mm512_set1_ps(s[g]));
            std::byte* to = out + 32 * g * sizeof(Out);
            if constexpr (std::is_same_v<Out, float>) {
                const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
                const __m512i first = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1), words);
                const __m512i second = _mm512_permutexvar_epi32(_mm512_setr_epi32(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3), words);
                put(to, _mm512_castps_si512(_mm512_permutexvar_ps(_mm512_srlv_epi32(first, shifts), meanings)));
                put(to + 64, _mm512_castps_si512(_mm512_permutexvar_ps(_mm512_srlv_epi32(second, shifts), meanings)));
            } else {
                alignas(64) static constexpr std::uint16_t order[32] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
                                                                        4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7};
                const __m512i each = _mm512_srlv_epi16(_mm512_permutexvar_epi16(_mm512_load_si512(order), words), _mm512_set1_epi64(0x000C000800040000));
                const __m256i rounded = _mm512_maskz_cvtps_ph(0xFFFF, meanings, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
                put(to, _mm512_permutexvar_epi16(_mm512_and_si512(each, _mm512_set1_epi16(15)), _mm512_castsi256_si512(rounded)));
            }
        }
    }
}
#endif

#if defined(__AVX2__)
/// n bytes of memory, a power of two from 2 to 16, and zeros above.
template <std::size_t n>
NIBBLE_INLINE __m128i load_low(const std::byte* from) {
    if constexpr (n == 16) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    } else if constexpr (n == 8) {
        return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    } else {
        std::conditional_t<n == 4, std::int32_t, std::uint16_t> low;
        static_assert(sizeof low == n);
        std::memcpy(&low, from, sizeof low);
        return _mm_cvtsi32_si128(low);
    }
}

template <class Arch, class C, class Out>
NIBBLE_INLINE void decode_blocks_avx2(const std::byte* codes, const std::byte* scales, std::uint64_t n, std::byte* out) {
    using tables = decode_tables<C, 8>;
    using stored = stored_scale<C>;
    static_assert(tables::n_groups <= 8);
    const auto& t = decode_tables_of<C, 8>::of;
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(C::packing::mask));
    const auto* word = reinterpret_cast<const __m256i*>(t.word);
    const auto* shift = reinterpret_cast<const __m256i*>(t.shift);
    const auto* scale = reinterpret_cast<const __m256i*>(t.scale);
    for (; n != 0; --n) {
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
        __m256 s;
        if constexpr (std::is_same_v<stored, float> && tables::n_groups == 8) {
            s = _mm256_loadu_ps(reinterpret_cast<const float*>(scales));
        } else if constexpr (std::is_same_v<stored, float>) {
            s = _mm256_castps128_ps256(_mm_castsi128_ps(load_low<tables::n_groups * 4>(scales)));
        } else {
            const __m128i h = load_low<tables::n_groups * 2>(scales);
            if constexpr (std::is_same_v<stored, f16>) {
                s = _mm256_cvtph_ps(h);
            } else {
                s = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
            }
        }
        const __m256 magnitudes = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), s);  // of the scales, and of what lies behind them
        const bool numbers = has_zero_code<C> && _mm256_movemask_ps(_mm256_cmp_ps(magnitudes, _mm256_set1_ps(3.4e38F), _CMP_NLE_UQ)) == 0;
#pragma GCC unroll 10
        for (std::size_t v = 0; v < tables::vectors; ++v) {
            const __m256i c =
                _mm256_and_si256(_mm256_srlv_epi32(_mm256_permutevar8x32_epi32(words, _mm256_loadu_si256(word + v)), _mm256_loadu_si256(shift + v)), mask);
            const __m256 x = C::value(vector_f32<Arch>(_mm256_cvtepi32_ps(c)), vector_f32<Arch>(_mm256_permutevar8x32_ps(s, _mm256_loadu_si256(scale + v))));
            if (numbers) [[likely]] {
                store_number_as<Arch, Out>(out + v * 8 * sizeof(Out), vector_u32<Arch>(_mm256_castps_si256(x)));
            } else {
                store_f32_bits_as<Arch, Out, float>(out + v * 8 * sizeof(Out), vector_u32<Arch>(_mm256_castps_si256(x)));
            }
        }
        codes += tables::n_words * 4;
        scales += tables::n_groups * sizeof(stored);
        out += tables::n_values * sizeof(Out);
    }
}
#endif

/// Codecs of a byte a code, in groups of whole vectors.
template <class C>
inline constexpr bool has_byte_decoder =
    has_zero_code<C>&& nibble::detail::packs_low_first<typename C::packing>&& is_loaded_number<stored_scale<C>>&& C::packing::bits == 8 &&
    C::packing::per_word * 8 == sizeof(typename C::packing::word) * 8 && C::group % 16 == 0;

template <class Arch>
NIBBLE_INLINE float number_of_f16(f16 x) {
#if defined(__F16C__)
    if constexpr (has<Arch, avx2>) return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(x.bits)));
#endif
    return to_f32(x);
}

/// Decodes n whole groups.
template <class Arch, class C, class Out>
NIBBLE_INLINE void decode_byte_groups(const std::byte* codes, const std::byte* scales, std::uint64_t n, std::byte* out) {
    using stored = stored_scale<C>;
    [[maybe_unused]] constexpr auto bias = static_cast<float>(C::zero_code);
    for (; n != 0; --n) {
        stored scale;
        std::memcpy(&scale, scales, sizeof scale);
        float s;
        if constexpr (std::is_same_v<stored, f16>) {
            s = number_of_f16<Arch>(scale);
        } else {
            s = to_f32(scale);
        }
        [[maybe_unused]] const bool numbers = s - s == 0.0F;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
        if constexpr (has<Arch, avx512>) {
            for (std::size_t i = 0; i < C::group; i += 16) {
                const __m512 c = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i))));
                const __m512 x = _mm512_mul_ps(_mm512_sub_ps(c, _mm512_set1_ps(bias)), _mm512_set1_ps(s));
                if (numbers) [[likely]] {
                    store_number_as<Arch, Out>(out + i * sizeof(Out), vector_u32<Arch>(_mm512_castps_si512(x)));
                } else {
                    store_f32_bits_as<Arch, Out, float>(out + i * sizeof(Out), vector_u32<Arch>(_mm512_castps_si512(x)));
                }
            }
        }
#endif
#if defined(__AVX2__)
        if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
            for (std::size_t i = 0; i < C::group; i += 8) {
                const __m256 c = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i))));
                const __m256 x = _mm256_mul_ps(_mm256_sub_ps(c, _mm256_set1_ps(bias)), _mm256_set1_ps(s));
                if (numbers) [[likely]] {
                    store_number_as<Arch, Out>(out + i * sizeof(Out), vector_u32<Arch>(_mm256_castps_si256(x)));
                } else {
                    store_f32_bits_as<Arch, Out, float>(out + i * sizeof(Out), vector_u32<Arch>(_mm256_castps_si256(x)));
                }
            }
        }
#endif
        codes += C::group;
        scales += sizeof(stored);
        out += C::group * sizeof(Out);
    }
}

/// Transposes `count` rows of a plane of layout kn, [J, n_rows], of which n_here values each are wanted, to n_here rows of `width` values.
template <class Arch, class T, std::size_t width>
[[gnu::noinline]] void turn(const std::byte* from, std::uint64_t count, std::uint64_t n_rows, std::uint64_t n_here, T* to) {
    std::uint64_t j = 0;
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2> && sizeof(T) == 4) {
        const auto load = [&](std::uint64_t row, std::uint64_t i) __attribute__((always_inline)) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + (row * n_rows + i) * 4));
        };
        for (; n_here % 4 == 0 && j + 4 <= count; j += 4) {
            for (std::uint64_t i = 0; i < n_here; i += 4) {
                const __m128i a = _mm_unpacklo_epi32(load(j, i), load(j + 1, i));
                const __m128i b = _mm_unpackhi_epi32(load(j, i), load(j + 1, i));
                const __m128i c = _mm_unpacklo_epi32(load(j + 2, i), load(j + 3, i));
                const __m128i d = _mm_unpackhi_epi32(load(j + 2, i), load(j + 3, i));
                T* at = to + i * width + j;
                _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm_unpacklo_epi64(a, c));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(at + width), _mm_unpackhi_epi64(a, c));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 2 * width), _mm_unpacklo_epi64(b, d));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 3 * width), _mm_unpackhi_epi64(b, d));
            }
        }
    }
#endif
    for (; j < count; ++j) {
        for (std::uint64_t i = 0; i < n_here; ++i) std::memcpy(to + i * width + j, from + (j * n_rows + i) * sizeof(T), sizeof(T));
    }
}

/// Whether a codec's decoder can write past the caches itself.
template <class Arch, class C>
inline constexpr bool has_streams = has<Arch, avx512>&& std::is_same_v<typename C::packing, low_first<4, std::uint32_t>>&& C::group == 32;

/// memcpy to memory that will not be read soon: `to` is aligned to 64 bytes and n a multiple of 64.
template <class Arch>
NIBBLE_INLINE void stream(std::byte* to, const std::byte* from, std::size_t n) {
#if defined(__AVX512F__)
    if constexpr (has<Arch, avx512>) {
        for (std::size_t i = 0; i < n; i += 64) _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2>) {
        for (std::size_t i = 0; i < n; i += 32) {
            _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
        }
        return;
    }
#endif
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2>) {
        for (std::size_t i = 0; i < n; i += 16) {
            _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
        }
        return;
    }
#endif
    std::memcpy(to, from, n);
}
template <class Arch>
NIBBLE_INLINE void end_of_streams() {
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2>) _mm_sfence();
#endif
}

}  // namespace detail

namespace detail {

/// The codec whose words of u32 are the same bytes: of nibbles in bytes, in groups of 32 (ONNX Runtime's).
template <class C>
struct wide_words_of {
    using type = C;
};
template <class Scale, class Bias, class Layout, class Fit>
struct wide_words_of<affine<low_first<4, std::uint8_t>, Scale, Bias, 32, Layout, Fit>> {
    using type = affine<low_first<4, std::uint32_t>, Scale, Bias, 32, Layout, Fit>;
};

/// decode_row, whose whole vectors may go past the caches.
template <class Arch, class Codec, class Out, bool streamed>
NIBBLE_INLINE void decode_row_to(const std::byte* codes, const std::byte* scales, std::uint64_t k, Out* out) {
    using C = typename wide_words_of<Codec>::type;
    using word = typename C::packing::word;
    using scale = stored_scale<C>;
    constexpr std::size_t per_word = C::packing::per_word;
    constexpr std::size_t n_words = std::tuple_size_v<std::tuple_element_t<0, typename C::block>>;
    auto* target = reinterpret_cast<std::byte*>(out);
    std::uint64_t g = 0;
    if constexpr (detail::has_vector_decoder<C>) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
        if constexpr (has<Arch, avx512>) {
            using tables = detail::decode_tables<C, 16>;
            if constexpr (has_nibble_decoder<C>) {
                decode_nibbles_avx512<Arch, C, Out, streamed>(codes, scales, k / 512, target);
                g = k / 512 * 16;
            }
            const std::uint64_t n = (k - g * C::group) / tables::n_values;
            decode_blocks_avx512<Arch, C, Out>(codes + g * sizeof(word) * n_words, scales + g * sizeof(scale), n, target + g * C::group * sizeof(Out));
            g += n * tables::n_groups;
        }
#endif
#if defined(__AVX2__)
        if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
            using tables = detail::decode_tables<C, 8>;
            detail::decode_blocks_avx2<Arch, C, Out>(codes, scales, k / tables::n_values, target);
            g = k / tables::n_values * tables::n_groups;
        }
#endif
    }
#if defined(__AVX2__)
    if constexpr (detail::has_byte_decoder<C> && has<Arch, avx2>) {
        g = k / C::group;
        detail::decode_byte_groups<Arch, C, Out>(codes, scales, g, target);
    }
#endif
    float w[C::group];
    for (; g * C::group < k; ++g) {
        word words[n_words];
        scale stored;
        std::memcpy(words, codes + g * sizeof words, sizeof words);
        std::memcpy(&stored, scales + g * sizeof stored, sizeof stored);
        const float s = to_f32(stored);
        for (std::size_t i = 0; i < C::group; ++i) w[i] = C::value(static_cast<float>(C::packing::get(words[i / per_word], i % per_word)), s);
        const std::uint64_t rest = k - g * C::group;
        const std::uint64_t n = rest < C::group ? rest : C::group;
        cast_row<Arch>(w, n, reinterpret_cast<Out*>(target + g * C::group * sizeof(Out)));
    }
}

}  // namespace detail

/// Decodes a row of k values from its dense planes (layout nk) to float or f16 (rounded to nearest even).
template <class Arch, formulaic C, class Out>
void decode_row(const std::byte* codes, const std::byte* scales, std::uint64_t k, Out* out) {
    static_assert(nibble::detail::codes_and_scale<C>,
                  "nibble: cpu::decode_row reads a plane of words and a plane with one scale a group; this codec has others");
    detail::decode_row_to<Arch, C, Out, false>(codes, scales, k, out);
}

/// Which rows of a tensor's planes decode_rows is to decode.
struct stored_rows {
    std::uint64_t n_rows;  ///< of the tensor, [n_rows, k]
    std::uint64_t k;
    std::uint64_t begin;
    std::uint64_t end;  ///< rows [begin, end)
    bool transposed;    ///< layout kn, planes of [J, n_rows]; else nk, [n_rows, J]
};

/// Tensors whose decoded size is more are not kept in caches: decode_rows writes around them.
inline constexpr std::uint64_t streamed_from_n_bytes = std::uint64_t{16} << 20;

/// Decodes rows of a whole tensor's planes to out, [end - begin, k]: each as decode_row does. C is the codec in layout nk.
template <class Arch, formulaic C, class Out>
void decode_rows(const std::byte* codes, const std::byte* scales, const stored_rows& stored, Out* out) {
    using word = typename C::packing::word;
    using scale = detail::stored_scale<C>;
    constexpr std::size_t n_words = std::tuple_size_v<std::tuple_element_t<0, typename C::block>>;
    // A piece of a row, whose decoded values stay in the first-level cache on their way to memory. Transposed planes
    // are turned a few rows at a time: what lies together there is the same word of neighbouring rows.
    constexpr std::size_t groups = 1024 / C::group < 16 ? 16 : 1024 / C::group / 16 * 16;
    constexpr std::size_t values = groups * C::group;
    constexpr std::uint64_t rows_at_once = 32;
    const std::uint64_t k = stored.k;
    const std::uint64_t n_groups = groups_of<C>(k);
    const std::uint64_t row_bytes = k * sizeof(Out);
    auto* target = reinterpret_cast<std::byte*>(out);
    const bool streamed = stored.n_rows * row_bytes > streamed_from_n_bytes && row_bytes % 64 == 0 && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
    alignas(64) std::byte piece[values * sizeof(Out)];
    alignas(64) word words[rows_at_once * groups * n_words];
    alignas(64) scale turned[rows_at_once * groups];
    const std::uint64_t step = stored.transposed ? rows_at_once : 1;
    for (std::uint64_t n = stored.begin; n < stored.end; n += step) {
        const std::uint64_t n_here = stored.end - n < step ? stored.end - n : step;
        for (std::uint64_t g = 0; g < n_groups; g += groups) {
            const std::uint64_t groups_here = n_groups - g < groups ? n_groups - g : groups;
            const std::uint64_t first = g * C::group;
            const std::uint64_t count = k - first < values ? k - first : values;
            if (stored.transposed) {
                detail::turn<Arch, word, groups * n_words>(codes + (g * n_words * stored.n_rows + n) * sizeof(word), groups_here * n_words, stored.n_rows,
                                                           n_here, words);
                detail::turn<Arch, scale, groups>(scales + (g * stored.n_rows + n) * sizeof(scale), groups_here, stored.n_rows, n_here, turned);
            }
            for (std::uint64_t i = 0; i < n_here; ++i) {
                const std::byte* c =
                    stored.transposed ? reinterpret_cast<const std::byte*>(words + i * groups * n_words) : codes + (n * n_groups + g) * n_words * sizeof(word);
                const std::byte* s = stored.transposed ? reinterpret_cast<const std::byte*>(turned + i * groups) : scales + (n * n_groups + g) * sizeof(scale);
                std::byte* to = target + (n - stored.begin + i) * row_bytes + first * sizeof(Out);
                if (!streamed) {
                    decode_row<Arch, C, Out>(c, s, count, reinterpret_cast<Out*>(to));
                } else if constexpr (detail::has_streams<Arch, C>) {
                    detail::decode_row_to<Arch, C, Out, true>(c, s, count, reinterpret_cast<Out*>(to));
                } else {
                    decode_row<Arch, C, Out>(c, s, count, reinterpret_cast<Out*>(piece));
                    detail::stream<Arch>(to, piece, static_cast<std::size_t>(count) * sizeof(Out));
                }
            }
        }
    }
    if (streamed) detail::end_of_streams<Arch>();
}

}  // namespace nibble::cpu
