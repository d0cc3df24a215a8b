// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of numbers cast between f32, f16 and bf16, equal to number_cast bit for bit, NaNs included.

#include <type_traits>

#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

namespace detail {

/// The numbers that vectors load and store.
template <class T>
inline constexpr bool is_loaded_number = std::is_same_v<T, float> || std::is_same_v<T, f16> || std::is_same_v<T, bf16>;

/// A vector's worth of T as the bits of f32, exactly.
template <class Arch, class T>
NIBBLE_INLINE vector_u32<Arch> load_as_f32_bits(const void* from) {
    static_assert(is_loaded_number<T>);
    if constexpr (std::is_same_v<T, float>) {
        return load_u32<Arch>(from);
    } else if constexpr (std::is_same_v<T, bf16>) {
        return load_u16<Arch>(from) << 16;
    } else {
#if defined(__AVX512BW__)
        if constexpr (has<Arch, avx512>) {
            const __m256i h = _mm256_loadu_si256(static_cast<const __m256i*>(from));
            const __m512 f = _mm512_cvtph_ps(h);
            if (_mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q) == 0) [[likely]]  // the instruction makes signalling NaNs quiet
                return _mm512_castps_si512(f);
        }
#endif
#if defined(__F16C__)
        if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
            const __m256 f = _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from)));
            if (_mm256_movemask_ps(_mm256_cmp_ps(f, f, _CMP_UNORD_Q)) == 0) [[likely]]
                return _mm256_castps_si256(f);
        }
#endif
#if defined(__aarch64__)
        if constexpr (has<Arch, neon64> && lanes<Arch> == 4) {
            const float32x4_t f = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const std::uint8_t*>(from))));
            if (vminvq_u32(vceqq_f32(f, f)) != 0) [[likely]]
                return vreinterpretq_u32_f32(f);
        }
#endif
        return f16_to_f32_bits<Arch>(load_u16<Arch>(from));
    }
}

/// Stores the bits of f32 as To, by the rules of a cast from From.
template <class Arch, class To, class From>
NIBBLE_INLINE void store_f32_bits_as(void* to, vector_u32<Arch> u) {
    using u32 = vector_u32<Arch>;
    if constexpr (std::is_same_v<To, float>) {
        store_u32<Arch>(to, u);
    } else if constexpr (std::is_same_v<To, bf16>) {
        const u32 nan = ((u & u32(0x80000000u)) | u32(0x7FC00000u));
        const auto is_nan = (u & u32(0x7FFFFFFFu)) > u32(0x7F800000u);
        store_u16<Arch>(to, xsimd::select(is_nan, nan, bf16_rounded_above<Arch>(u)) >> 16);
    } else {
#if defined(__AVX512BW__)
        if constexpr (has<Arch, avx512>) {
            const __m512 f = _mm512_castsi512_ps(u);
            if (_mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q) == 0) [[likely]]
                return _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT));
        }
#endif
#if defined(__F16C__)
        if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
            const __m256 f = _mm256_castsi256_ps(u);
            if (_mm256_movemask_ps(_mm256_cmp_ps(f, f, _CMP_UNORD_Q)) == 0) [[likely]]
                return _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT));
        }
#endif
#if defined(__aarch64__)
        if constexpr (has<Arch, neon64> && lanes<Arch> == 4) {
            const float32x4_t f = vreinterpretq_f32_u32(u);
            if (vminvq_u32(vceqq_f32(f, f)) != 0) [[likely]]
                return vst1_u8(static_cast<std::uint8_t*>(to), vreinterpret_u8_f16(vcvt_f16_f32(f)));
        }
#endif
        if constexpr (std::is_same_v<From, bf16>) {  // ml_dtypes' NaN: the top bit of the payload alone
            const u32 nan = (u & u32(0x80000000u)) | u32(0x7FC00000u);
            u = xsimd::select((u & u32(0x7FFFFFFFu)) > u32(0x7F800000u), nan, u);
        }
        store_u16<Arch>(to, f32_to_f16_bits<Arch>(u));
    }
}

/// Runs step(from, to) over whole vectors of n values, and once over a copy of what remains.
template <class Arch, class To, class From, class Step>
NIBBLE_INLINE void for_each_vector(const void* from, std::uint64_t n, void* to, Step step) {
    const auto* source = static_cast<const std::byte*>(from);
    auto* target = static_cast<std::byte*>(to);
    std::uint64_t i = 0;
    for (; i + lanes<Arch> <= n; i += lanes<Arch>) step(source + i * sizeof(From), target + i * sizeof(To));
    if (i == n) return;
    std::byte last[lanes<Arch> * sizeof(From)] = {};
    std::byte result[lanes<Arch> * sizeof(To)];
    std::memcpy(last, source + i * sizeof(From), static_cast<std::size_t>(n - i) * sizeof(From));
    step(last, result);
    std::memcpy(target + i * sizeof(To), result, static_cast<std::size_t>(n - i) * sizeof(To));
}

template <class Arch, class To, class From>
struct cast_step {
    NIBBLE_INLINE void operator()(const void* from, void* to) const { store_f32_bits_as<Arch, To, From>(to, load_as_f32_bits<Arch, From>(from)); }
};
template <class Arch>
struct shard_step {
    NIBBLE_INLINE void operator()(const void* from, void* to) const {
        using u32 = vector_u32<Arch>;
        const u32 u = load_u32<Arch>(from);
        const auto rounds = (u & u32(0x7FFFFFFFu)) < u32(0x7F7F0000u);
        store_u16<Arch>(to, xsimd::select(rounds, bf16_rounded_above<Arch>(u), u) >> 16);
    }
};

}  // namespace detail

/// Casts n values, [n] -> [n]; the pointers need no alignment and must not overlap.
template <class Arch, class To, class From>
void cast_row(const From* from, std::uint64_t n, To* to) {
    if constexpr (std::is_same_v<To, From>) {
        if (n != 0) std::memcpy(static_cast<void*>(to), static_cast<const void*>(from), static_cast<std::size_t>(n) * sizeof(To));
    } else {
        detail::for_each_vector<Arch, To, From>(from, n, to, detail::cast_step<Arch, To, From>{});
    }
}

/// f32_to_shard_bf16 of n values.
template <class Arch>
void shard_bf16_row(const float* from, std::uint64_t n, bf16* to) {
    detail::for_each_vector<Arch, bf16, float>(from, n, to, detail::shard_step<Arch>{});
}

}  // namespace nibble::cpu
