// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one header that includes xsimd (8.1 to 14): architecture tags, and vectors of f32 and u32 with the conversions that they need.
// A tag inherits from the one whose instructions it includes. Every function here and in the other headers of cpu carries its tag
// as a template argument, and helpers are forced inline: a symbol that names no architecture would be merged by the linker with
// the same symbol of another unit, and then an old machine would run new instructions.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__wasm_simd128__) && !defined(__EMSCRIPTEN__)  // all that xsimd includes from the standard library, see below
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
#endif

#include "nibble/core/number.hpp"

#if defined(__GNUC__) && !defined(__clang__)  // gcc 12 warns about the values that its own AVX-512 header leaves undefined on purpose
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(__wasm_simd128__) && !defined(__EMSCRIPTEN__)  // xsimd asks for that compiler where it means the instructions
#define __EMSCRIPTEN__
#include <xsimd/xsimd.hpp>
#undef __EMSCRIPTEN__
#else
#include <xsimd/xsimd.hpp>
#endif
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)  // all that there is to use then; the header above takes 0.3 s to compile
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#define NIBBLE_INLINE [[gnu::always_inline]] inline

namespace nibble::cpu {

/// What every x86-64 has, and 32-bit x86 since 2001.
struct sse2 {
    static constexpr const char* name = "sse2";
    using simd = xsimd::sse2;
};
/// AVX2, FMA and F16C: Haswell, Zen and later.
struct avx2 : sse2 {
    static constexpr const char* name = "avx2";
    using simd = xsimd::fma3<xsimd::avx2>;
};
/// That and AVX-VNNI: Alder Lake, Zen 5 and later.
struct avxvnni : avx2 {
    static constexpr const char* name = "avxvnni";
};
/// AVX-512 F, CD, BW, DQ and VL: Skylake-X and later.
struct avx512 : avx2 {
    static constexpr const char* name = "avx512";
    using simd = xsimd::avx512bw;
};
/// That and VNNI, IFMA, VBMI, VBMI2 and BITALG: Ice Lake, Zen 4 and later.
struct avx512vnni : avx512 {
    static constexpr const char* name = "avx512vnni";
};
/// What every 64-bit Arm has.
struct neon64 {
    static constexpr const char* name = "neon64";
    using simd = xsimd::neon64;
};
/// That and the dot products of ARMv8.2: Cortex-A75, Neoverse N1, Apple M1 and later.
struct neon64_dotprod : neon64 {
    static constexpr const char* name = "neon64_dotprod";
};
/// That and SVE, where its vectors have 256 bits (Neoverse V1), which is part of the flags: -msve-vector-bits=256. Needs xsimd 9.
struct sve256 : neon64_dotprod {
    static constexpr const char* name = "sve256";
#if XSIMD_VERSION_MAJOR >= 9
    using simd = xsimd::detail::sve<256>;
#else
    using simd = void;  // and not NEON's, which it would inherit
#endif
};
/// WebAssembly's 128 bits (-msimd128). Needs xsimd 11.
struct wasm {
    static constexpr const char* name = "wasm";
#if XSIMD_VERSION_MAJOR >= 11
    using simd = xsimd::wasm;
#endif
};

/// The best of them that the flags of this translation unit allow.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512VBMI2__) && defined(__AVX512BITALG__)
using default_arch = avx512vnni;
#else
using default_arch = avx512;
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#if defined(__AVXVNNI__)
using default_arch = avxvnni;
#else
using default_arch = avx2;
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS == 256 && XSIMD_VERSION_MAJOR >= 9
using default_arch = sve256;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
using default_arch = neon64_dotprod;
#elif defined(__aarch64__)
using default_arch = neon64;
#elif defined(__wasm__)
#if !defined(__wasm_simd128__) || XSIMD_VERSION_MAJOR < 11
#error "nibble: kernels for WebAssembly need the flag -msimd128, and xsimd 11 or newer"
#endif
using default_arch = wasm;
#elif defined(__SSE2__)
using default_arch = sse2;
#else
#error "nibble: kernels are for x86 with SSE2, 64-bit Arm and WebAssembly; 32-bit x86 needs the flags -msse2 -mfpmath=sse"
#endif

/// Whether Arch has (at least) the instructions of another tag: `if constexpr (has<Arch, avx2>)`.
template <class Arch, class Other>
inline constexpr bool has = std::derived_from<Arch, Other>;

/// A vector of f32 of an architecture.
template <class Arch>
using vector_f32 = xsimd::batch<float, typename Arch::simd>;
/// The same of u32.
template <class Arch>
using vector_u32 = xsimd::batch<std::uint32_t, typename Arch::simd>;
/// How many f32 a vector holds.
template <class Arch>
inline constexpr std::size_t lanes = vector_f32<Arch>::size;

/// Whether its loads and stores of vectors take addresses that are no multiple of a lane's size.
template <class Arch>
inline constexpr bool any_address = has<Arch, sse2> || has<Arch, neon64> || has<Arch, wasm>;

/// a b + c, rounded once where the architecture can: on AVX-512 xsimd 8 multiplies and adds, which takes twice as long.
template <class Arch>
NIBBLE_INLINE vector_f32<Arch> multiply_add(vector_f32<Arch> a, vector_f32<Arch> b, vector_f32<Arch> c) {
#if defined(__AVX512F__)
    if constexpr (has<Arch, avx512>) return _mm512_fmadd_ps(a, b, c);
#endif
    return xsimd::fma(a, b, c);
}

/// Unaligned loads and stores of f32 or u32 lanes.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> load_u32(const void* from) {
    if constexpr (any_address<Arch>) return vector_u32<Arch>::load_unaligned(static_cast<const std::uint32_t*>(from));
    std::uint32_t lane[lanes<Arch>];
    std::memcpy(lane, from, sizeof lane);
    return vector_u32<Arch>::load_unaligned(lane);
}
/// The store.
template <class Arch>
NIBBLE_INLINE void store_u32(void* to, vector_u32<Arch> v) {
    if constexpr (any_address<Arch>) return v.store_unaligned(static_cast<std::uint32_t*>(to));
    std::uint32_t lane[lanes<Arch>];
    v.store_unaligned(lane);
    std::memcpy(to, lane, sizeof lane);
}

/// The same bits as the other type. xsimd 8 names the target batch, later versions its element.
template <class Arch>
NIBBLE_INLINE vector_f32<Arch> as_f32(vector_u32<Arch> v) {
#if defined(__aarch64__)  // xsimd 8 calls a function out of a table there
    if constexpr (has<Arch, neon64> && lanes<Arch> == 4) return vreinterpretq_f32_u32(v);
#endif
#if XSIMD_VERSION_MAJOR < 10
    return xsimd::bitwise_cast<vector_f32<Arch>>(v);
#else
    return xsimd::bitwise_cast<float>(v);
#endif
}
/// The other way round.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> as_u32(vector_f32<Arch> v) {
#if defined(__aarch64__)  // xsimd 8 calls a function out of a table there
    if constexpr (has<Arch, neon64> && lanes<Arch> == 4) return vreinterpretq_u32_f32(v);
#endif
#if XSIMD_VERSION_MAJOR < 10
    return xsimd::bitwise_cast<vector_u32<Arch>>(v);
#else
    return xsimd::bitwise_cast<std::uint32_t>(v);
#endif
}

/// x / y as IEEE rounds it. The operator is not that on NEON, where xsimd (8 to 14) takes an estimate of 1 / y.
template <class Arch>
NIBBLE_INLINE vector_f32<Arch> divide(vector_f32<Arch> x, vector_f32<Arch> y) {
#if defined(__aarch64__)
    if constexpr (has<Arch, neon64> && lanes<Arch> == 4) return vdivq_f32(x, y);
#endif
    return x / y;
}

/// 16-bit numbers in the low halves of u32 lanes, from and to unaligned memory.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> load_u16(const void* from) {
#if defined(__AVX512BW__)
    if constexpr (has<Arch, avx512>) return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
#endif
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8) return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from)));
#endif
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2> && lanes<Arch> == 4) return _mm_unpacklo_epi16(_mm_loadl_epi64(static_cast<const __m128i*>(from)), _mm_setzero_si128());
#endif
#if defined(__aarch64__)
    if constexpr (has<Arch, neon64> && lanes<Arch> == 4) return vmovl_u16(vreinterpret_u16_u8(vld1_u8(static_cast<const std::uint8_t*>(from))));
#endif
#if defined(__wasm_simd128__)
    if constexpr (has<Arch, wasm>) return wasm_u32x4_load16x4(from);
#endif
    std::uint16_t half[lanes<Arch>];
    std::memcpy(half, from, sizeof half);
    std::uint32_t lane[lanes<Arch>];
    for (std::size_t i = 0; i < lanes<Arch>; ++i) lane[i] = half[i];
    return vector_u32<Arch>::load_unaligned(lane);
}
/// The store.
template <class Arch>
NIBBLE_INLINE void store_u16(void* to, vector_u32<Arch> v) {
#if defined(__AVX512BW__)
    if constexpr (has<Arch, avx512>) return _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16(v));
#endif
#if defined(__AVX2__)
    if constexpr (has<Arch, avx2> && lanes<Arch> == 8) {
        const __m256i packed = _mm256_packus_epi32(v, v);
        return _mm_storeu_si128(static_cast<__m128i*>(to), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
    }
#endif
#if defined(__SSE2__)
    if constexpr (has<Arch, sse2> && lanes<Arch> == 4) {  // packs is signed: sign-extend first
        const __m128i s = _mm_srai_epi32(_mm_slli_epi32(v, 16), 16);
        return _mm_storel_epi64(static_cast<__m128i*>(to), _mm_packs_epi32(s, s));
    }
#endif
#if defined(__aarch64__)
    if constexpr (has<Arch, neon64> && lanes<Arch> == 4) return vst1_u8(static_cast<std::uint8_t*>(to), vreinterpret_u8_u16(vmovn_u32(v)));
#endif
#if defined(__wasm_simd128__)
    if constexpr (has<Arch, wasm>) {  // narrowing saturates: the high halves go first
        const v128_t low = wasm_v128_and(v, wasm_i32x4_splat(0xFFFF));
        return wasm_v128_store64_lane(to, wasm_u16x8_narrow_i32x4(low, low), 0);
    }
#endif
    std::uint32_t lane[lanes<Arch>];
    v.store_unaligned(lane);
    std::uint16_t half[lanes<Arch>];
    for (std::size_t i = 0; i < lanes<Arch>; ++i) half[i] = static_cast<std::uint16_t>(lane[i]);
    std::memcpy(to, half, sizeof half);
}

/// f16 bits in u32 lanes to the bits of the f32, exactly as to_f32 does it: signalling NaNs stay so.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> f16_to_f32_bits(vector_u32<Arch> h) {
    using u32 = vector_u32<Arch>;
    const u32 sign = (h & u32(0x8000u)) << 16;
    const u32 magnitude = (h & u32(0x7FFFu)) << 13;
    const u32 normal = magnitude + u32(0x38000000u);
    // A denormal is read as the fraction of 2^-14 (1 + fraction). Multiplying by 2^112 would do for all, but slowly for f32 denormals.
    const u32 small = as_u32<Arch>(as_f32<Arch>(magnitude + u32(0x38800000u)) - vector_f32<Arch>(0x1p-14F));
    const u32 finite = xsimd::select(magnitude < u32(0x00800000u), small, normal);
    return xsimd::select(magnitude < u32(0x0F800000u), finite, magnitude | u32(0x7F800000u)) | sign;
}

/// The bits of f32 rounded to f16, in u32 lanes, exactly as to_f16 does it.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> f32_to_f16_bits(vector_u32<Arch> u) {
    using u32 = vector_u32<Arch>;
    const u32 sign = (u & u32(0x80000000u)) >> 16;
    const u32 magnitude = u & u32(0x7FFFFFFFu);
    const u32 normal = (magnitude - u32(0x38000000u) + u32(0xFFFu) + ((magnitude >> 13) & u32(1u))) >> 13;
    // Added to 1/2, whose last place is 2^-24, a small number is rounded to the grid of f16's denormals.
    const u32 small = as_u32<Arch>(as_f32<Arch>(magnitude) + vector_f32<Arch>(0.5F)) - u32(0x3F000000u);
    const u32 payload = (magnitude >> 13) & u32(0x3FFu);
    const u32 nan = u32(0x7C00u) | xsimd::select(payload == u32(0u), u32(1u), payload);
    u32 h = xsimd::select(magnitude < u32(0x38800000u), small, normal);
    h = xsimd::select(magnitude < u32(0x47800000u), h, u32(0x7C00u));
    return xsimd::select(magnitude > u32(0x7F800000u), nan, h) | sign;
}

/// f32 bits rounded to bf16 in place (the low halves are not cleared); NaNs are not treated.
template <class Arch>
NIBBLE_INLINE vector_u32<Arch> bf16_rounded_above(vector_u32<Arch> u) {
    using u32 = vector_u32<Arch>;
    return u + u32(0x7FFFu) + ((u >> 16) & u32(1u));
}

}  // namespace nibble::cpu
