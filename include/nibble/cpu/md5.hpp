// SPDX-License-Identifier: Apache-2.0
#pragma once
// MD5 of several streams at once: one sum is a single chain of dependent steps, so the speed lies in a SIMD lane for each.
// Every function carries Arch, so that units compiled for several architectures can be linked together.

#include <type_traits>

#include "nibble/core/md5.hpp"
#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

/// Hashes n_blocks[i] whole blocks of 64 bytes at data[i] into the four words at states[i], for each of `lanes` lanes.
/// Lanes may differ in length, and some may have no block at all; no two share a state.
template <class Arch>
void md5_blocks(std::uint32_t* const* states, const std::byte* const* data, const std::size_t* n_blocks, std::size_t lanes);

/// sums[i]->update() with the n_bytes[i] bytes at data[i], for each of `lanes` lanes. No sum appears twice.
template <class Arch>
void md5_update(md5* const* sums, const std::byte* const* data, const std::size_t* n_bytes, std::size_t lanes);

namespace detail {

/// Vectors of 32-bit words with one word per lane. plus_f<round> adds the RFC's F, G, H or I of b, c and d to a;
/// message reads one block of each lane, its words transposed: m[i] has word i of every lane.
template <class Arch>
struct md5_scalar {
    static constexpr std::size_t lanes = 1;
    using type = std::uint32_t;

    static type load(const std::uint32_t* from) { return *from; }
    static void store(std::uint32_t* to, type x) { *to = x; }
    static type broadcast(std::uint32_t x) { return x; }
    static type add(type x, type y) { return x + y; }
    template <int by>
    static type rotate(type x) {
        return (x << by) | (x >> (32 - by));
    }
    template <std::size_t round>
    static type plus_f(type a, type b, type c, type d) {
        if constexpr (round == 0) return a + (d ^ (b & (c ^ d)));
        if constexpr (round == 1) return (a + (c & ~d)) + (b & d);
        if constexpr (round == 2) return a + ((c ^ d) ^ b);
        if constexpr (round == 3) return a + (c ^ (b | ~d));
    }
    static void message(const std::byte* const* data, std::size_t at, type* m) { std::memcpy(m, data[0] + at, 64); }
};

/// Four lanes of any architecture whose vectors have 16 bytes. Narrow is Arch, or one that Arch includes and whose vectors have them.
template <class Arch, class Narrow = Arch>
struct md5_xsimd {
    static constexpr std::size_t lanes = 4;
    using type = vector_u32<Narrow>;

    static type load(const std::uint32_t* from) { return type::load_unaligned(from); }
    static void store(std::uint32_t* to, type x) { x.store_unaligned(to); }
    static type broadcast(std::uint32_t x) { return type(x); }
    static type add(type x, type y) { return x + y; }
    template <int by>
    static type rotate(type x) {
        return (x << by) | (x >> (32 - by));
    }
    template <std::size_t round>
    static type plus_f(type a, type b, type c, type d) {
        if constexpr (round == 0) return a + (d ^ (b & (c ^ d)));
        if constexpr (round == 1) return (a + (c & ~d)) + (b & d);
        if constexpr (round == 2) return a + ((c ^ d) ^ b);
        if constexpr (round == 3) return a + (c ^ (b | ~d));
    }
    static void message(const std::byte* const* data, std::size_t at, type* m) {
        for (std::size_t q = 0; q < 4; ++q) {
            type row[4];
            for (std::size_t i = 0; i < 4; ++i) {
                std::uint32_t words[4];
                std::memcpy(words, data[i] + at + 16 * q, 16);
                row[i] = load(words);
            }
            const auto lo_02 = xsimd::zip_lo(row[0], row[2]), hi_02 = xsimd::zip_hi(row[0], row[2]);
            const auto lo_13 = xsimd::zip_lo(row[1], row[3]), hi_13 = xsimd::zip_hi(row[1], row[3]);
            m[4 * q] = xsimd::zip_lo(lo_02, lo_13);
            m[4 * q + 1] = xsimd::zip_hi(lo_02, lo_13);
            m[4 * q + 2] = xsimd::zip_lo(hi_02, hi_13);
            m[4 * q + 3] = xsimd::zip_hi(hi_02, hi_13);
        }
    }
};

#if defined(__SSE2__)
template <class Arch>
struct md5_sse2 {
    static constexpr std::size_t lanes = 4;
    struct type {
        __m128i v;
    };

    static type load(const std::uint32_t* from) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))}; }
    static void store(std::uint32_t* to, type x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), x.v); }
    static type broadcast(std::uint32_t x) { return {_mm_set1_epi32(static_cast<int>(x))}; }
    static type add(type x, type y) { return {_mm_add_epi32(x.v, y.v)}; }
    template <int by>
    static type rotate(type x) {
#if defined(__AVX512VL__)
        return {_mm_rol_epi32(x.v, by)};
#else
        return {_mm_or_si128(_mm_slli_epi32(x.v, by), _mm_srli_epi32(x.v, 32 - by))};
#endif
    }
    template <std::size_t round>
    static type plus_f(type a, type b, type c, type d) {
#if defined(__AVX512VL__)
        constexpr int table[4] = {0xca, 0xe4, 0x96, 0x39};
        return add(a, {_mm_ternarylogic_epi32(b.v, c.v, d.v, table[round])});
#else
        if constexpr (round == 0) return add(a, {_mm_xor_si128(d.v, _mm_and_si128(b.v, _mm_xor_si128(c.v, d.v)))});
        if constexpr (round == 1) return add(add(a, {_mm_andnot_si128(d.v, c.v)}), {_mm_and_si128(b.v, d.v)});
        if constexpr (round == 2) return add(a, {_mm_xor_si128(_mm_xor_si128(c.v, d.v), b.v)});
        if constexpr (round == 3) return add(a, {_mm_xor_si128(c.v, _mm_or_si128(b.v, _mm_xor_si128(d.v, _mm_set1_epi32(-1))))});
#endif
    }
    static void message(const std::byte* const* data, std::size_t at, type* m) {
        for (std::size_t q = 0; q < 4; ++q) {
            __m128i row[4];
            for (std::size_t i = 0; i < 4; ++i) row[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data[i] + at + 16 * q));
            const auto lo_01 = _mm_unpacklo_epi32(row[0], row[1]), hi_01 = _mm_unpackhi_epi32(row[0], row[1]);
            const auto lo_23 = _mm_unpacklo_epi32(row[2], row[3]), hi_23 = _mm_unpackhi_epi32(row[2], row[3]);
            m[4 * q].v = _mm_unpacklo_epi64(lo_01, lo_23);
            m[4 * q + 1].v = _mm_unpackhi_epi64(lo_01, lo_23);
            m[4 * q + 2].v = _mm_unpacklo_epi64(hi_01, hi_23);
            m[4 * q + 3].v = _mm_unpackhi_epi64(hi_01, hi_23);
        }
    }
};
#endif

#if defined(__AVX2__)
template <class Arch>
struct md5_avx2 {
    static constexpr std::size_t lanes = 8;
    struct type {
        __m256i v;
    };

    static type load(const std::uint32_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
    static void store(std::uint32_t* to, type x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x.v); }
    static type broadcast(std::uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
    static type add(type x, type y) { return {_mm256_add_epi32(x.v, y.v)}; }
    template <int by>
    static type rotate(type x) {
#if defined(__AVX512VL__)
        return {_mm256_rol_epi32(x.v, by)};
#else
        return {_mm256_or_si256(_mm256_slli_epi32(x.v, by), _mm256_srli_epi32(x.v, 32 - by))};
#endif
    }
    template <std::size_t round>
    static type plus_f(type a, type b, type c, type d) {
#if defined(__AVX512VL__)
        constexpr int table[4] = {0xca, 0xe4, 0x96, 0x39};
        return add(a, {_mm256_ternarylogic_epi32(b.v, c.v, d.v, table[round])});
#else
        if constexpr (round == 0) return add(a, {_mm256_xor_si256(d.v, _mm256_and_si256(b.v, _mm256_xor_si256(c.v, d.v)))});
        if constexpr (round == 1) return add(add(a, {_mm256_andnot_si256(d.v, c.v)}), {_mm256_and_si256(b.v, d.v)});
        if constexpr (round == 2) return add(a, {_mm256_xor_si256(_mm256_xor_si256(c.v, d.v), b.v)});
        if constexpr (round == 3) return add(a, {_mm256_xor_si256(c.v, _mm256_or_si256(b.v, _mm256_xor_si256(d.v, _mm256_set1_epi32(-1))))});
#endif
    }
    static void message(const std::byte* const* data, std::size_t at, type* m) {
        // Lane i beside lane i + 4: what is left is a 4 x 4 transpose in each half.
        for (std::size_t q = 0; q < 4; ++q) {
            __m256i row[4];
            for (std::size_t i = 0; i < 4; ++i) {
                const auto low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data[i] + at + 16 * q));
                const auto high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data[i + 4] + at + 16 * q));
                row[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
            }
            const auto lo_01 = _mm256_unpacklo_epi32(row[0], row[1]), hi_01 = _mm256_unpackhi_epi32(row[0], row[1]);
            const auto lo_23 = _mm256_unpacklo_epi32(row[2], row[3]), hi_23 = _mm256_unpackhi_epi32(row[2], row[3]);
            m[4 * q].v = _mm256_unpacklo_epi64(lo_01, lo_23);
            m[4 * q + 1].v = _mm256_unpackhi_epi64(lo_01, lo_23);
            m[4 * q + 2].v = _mm256_unpacklo_epi64(hi_01, hi_23);
            m[4 * q + 3].v = _mm256_unpackhi_epi64(hi_01, hi_23);
        }
    }
};
#endif

#if defined(__AVX512BW__)
template <class Arch>
struct md5_avx512 {
    static constexpr std::size_t lanes = 16;
    struct type {
        __m512i v;
    };
    // g++ 12 warns of the undefined operand inside the intrinsics without a mask; the instruction is the same.
    static constexpr __mmask16 all = 0xffff;
    static constexpr __mmask8 all_64 = 0xff;

    static type load(const std::uint32_t* from) { return {_mm512_loadu_si512(from)}; }
    static void store(std::uint32_t* to, type x) { _mm512_storeu_si512(to, x.v); }
    static type broadcast(std::uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
    static type add(type x, type y) { return {_mm512_add_epi32(x.v, y.v)}; }
    template <int by>
    static type rotate(type x) {
        return {_mm512_maskz_rol_epi32(all, x.v, by)};
    }
    template <std::size_t round>
    static type plus_f(type a, type b, type c, type d) {
        constexpr int table[4] = {0xca, 0xe4, 0x96, 0x39};
        return add(a, {_mm512_ternarylogic_epi32(b.v, c.v, d.v, table[round])});
    }
    static void message(const std::byte* const* data, std::size_t at, type* m) {
        __m512i part[4][4];  // [lane / 4][word % 4]: quarter q has word 4 q + word % 4 of four lanes
        for (std::size_t g = 0; g < 4; ++g) {
            __m512i row[4];
            for (std::size_t i = 0; i < 4; ++i) row[i] = _mm512_loadu_si512(data[4 * g + i] + at);
            const auto lo_01 = _mm512_maskz_unpacklo_epi32(all, row[0], row[1]), hi_01 = _mm512_maskz_unpackhi_epi32(all, row[0], row[1]);
            const auto lo_23 = _mm512_maskz_unpacklo_epi32(all, row[2], row[3]), hi_23 = _mm512_maskz_unpackhi_epi32(all, row[2], row[3]);
            part[g][0] = _mm512_maskz_unpacklo_epi64(all_64, lo_01, lo_23);
            part[g][1] = _mm512_maskz_unpackhi_epi64(all_64, lo_01, lo_23);
            part[g][2] = _mm512_maskz_unpacklo_epi64(all_64, hi_01, hi_23);
            part[g][3] = _mm512_maskz_unpackhi_epi64(all_64, hi_01, hi_23);
        }
        for (std::size_t w = 0; w < 4; ++w) {
            const auto even_01 = _mm512_maskz_shuffle_i32x4(all, part[0][w], part[1][w], 0x88),
                       odd_01 = _mm512_maskz_shuffle_i32x4(all, part[0][w], part[1][w], 0xdd);
            const auto even_23 = _mm512_maskz_shuffle_i32x4(all, part[2][w], part[3][w], 0x88),
                       odd_23 = _mm512_maskz_shuffle_i32x4(all, part[2][w], part[3][w], 0xdd);
            m[w].v = _mm512_maskz_shuffle_i32x4(all, even_01, even_23, 0x88);
            m[w + 4].v = _mm512_maskz_shuffle_i32x4(all, odd_01, odd_23, 0x88);
            m[w + 8].v = _mm512_maskz_shuffle_i32x4(all, even_01, even_23, 0xdd);
            m[w + 12].v = _mm512_maskz_shuffle_i32x4(all, odd_01, odd_23, 0xdd);
        }
    }
};
#endif

template <class V, std::size_t i, std::size_t groups>
[[gnu::always_inline]] inline void md5_step(typename V::type (&w)[groups][4], const typename V::type (&m)[groups][16]) {
    namespace rfc = nibble::detail;
    constexpr auto round = i / 16;
    constexpr auto word = (rfc::md5_first[round] + i * rfc::md5_stride[round]) % 16;
    for (std::size_t g = 0; g < groups; ++g) {
        const auto b = w[g][(65 - i) % 4];
        auto a = V::add(w[g][(64 - i) % 4], V::add(m[g][word], V::broadcast(rfc::md5_constants[i])));
        a = V::template plus_f<round>(a, b, w[g][(66 - i) % 4], w[g][(67 - i) % 4]);
        w[g][(64 - i) % 4] = V::add(V::template rotate<rfc::md5_rotations[round][i % 4]>(a), b);
    }
}

template <class V, std::size_t groups, std::size_t... i>
[[gnu::always_inline]] inline void md5_steps(typename V::type (&w)[groups][4], const typename V::type (&m)[groups][16], std::index_sequence<i...>) {
    (md5_step<V, i>(w, m), ...);
}

/// n_blocks blocks of each of groups * V::lanes lanes. Several groups run interleaved, to fill the wait for each other's results.
template <class V, std::size_t groups>
void md5_lockstep(std::uint32_t* const* states, const std::byte* const* data, std::size_t n_blocks) {
    constexpr auto lanes = V::lanes;
    using type = typename V::type;
    std::uint32_t words[4][lanes];
    type w[groups][4];
    for (std::size_t g = 0; g < groups; ++g) {
        for (std::size_t i = 0; i < 4; ++i) {
            for (std::size_t l = 0; l < lanes; ++l) words[i][l] = states[g * lanes + l][i];
            w[g][i] = V::load(words[i]);
        }
    }
    for (std::size_t at = 0; at < 64 * n_blocks; at += 64) {
        type m[groups][16], before[groups][4];
        for (std::size_t g = 0; g < groups; ++g) {
            V::message(data + g * lanes, at, m[g]);
            for (std::size_t i = 0; i < 4; ++i) before[g][i] = w[g][i];
        }
        md5_steps<V, groups>(w, m, std::make_index_sequence<64>());
        for (std::size_t g = 0; g < groups; ++g) {
            for (std::size_t i = 0; i < 4; ++i) w[g][i] = V::add(w[g][i], before[g][i]);
        }
    }
    for (std::size_t g = 0; g < groups; ++g) {
        for (std::size_t i = 0; i < 4; ++i) {
            V::store(words[i], w[g][i]);
            for (std::size_t l = 0; l < lanes; ++l) states[g * lanes + l][i] = words[i][l];
        }
    }
}

/// One lane: the scalar steps read the message where it lies.
template <class Arch>
void md5_single(std::uint32_t* state, const std::byte* data, std::size_t n_blocks) {
    std::uint32_t w[4] = {state[0], state[1], state[2], state[3]};
    for (; n_blocks > 0; --n_blocks, data += 64) {
        const std::uint32_t before[4] = {w[0], w[1], w[2], w[3]};
        nibble::detail::md5_steps(w, data, std::make_index_sequence<64>());
        for (std::size_t i = 0; i < 4; ++i) w[i] += before[i];
    }
    for (std::size_t i = 0; i < 4; ++i) state[i] = w[i];
}

/// How many lanes Arch runs at once, and the way to run n of them; entries from n to `most` are there to be overwritten and read.
template <class Arch, class V>
struct md5_narrow {
    static constexpr std::size_t most = 2 * V::lanes;
    static void run(std::uint32_t* const* states, const std::byte* const* data, std::size_t n_blocks, std::size_t n) {
        if (n == 1) return md5_single<Arch>(states[0], data[0], n_blocks);
        // Two lanes leave half a vector idle and are still faster than two interleaved scalar chains.
        if (n <= V::lanes) return md5_lockstep<V, 1>(states, data, n_blocks);
        md5_lockstep<V, 2>(states, data, n_blocks);
    }
};

#if defined(__AVX2__)
template <class Arch>
struct md5_of_avx2 {
    static constexpr std::size_t most = 16;
    static void run(std::uint32_t* const* states, const std::byte* const* data, std::size_t n_blocks, std::size_t n) {
        if (n <= 4) return md5_narrow<Arch, md5_sse2<Arch>>::run(states, data, n_blocks, n);
        if (n <= 8) return md5_lockstep<md5_avx2<Arch>, 1>(states, data, n_blocks);
        md5_lockstep<md5_avx2<Arch>, 2>(states, data, n_blocks);
    }
};
#endif

#if defined(__AVX512BW__)
template <class Arch>
struct md5_of_avx512 {
    static constexpr std::size_t most = 32;
    static void run(std::uint32_t* const* states, const std::byte* const* data, std::size_t n_blocks, std::size_t n) {
        if (n <= 8) return md5_of_avx2<Arch>::run(states, data, n_blocks, n);
        if (n <= 16) return md5_lockstep<md5_avx512<Arch>, 1>(states, data, n_blocks);
        md5_lockstep<md5_avx512<Arch>, 2>(states, data, n_blocks);
    }
};
#endif

template <class Arch>
auto md5_runner() {
#if defined(__AVX512BW__)
    if constexpr (has<Arch, avx512>)
        return md5_of_avx512<Arch>();
    else
#endif
#if defined(__AVX2__)
        if constexpr (has<Arch, avx2>)
        return md5_of_avx2<Arch>();
    else
#endif
#if defined(__SSE2__)
        return md5_narrow<Arch, md5_sse2<Arch>>();
#else
    if constexpr (has<Arch, neon64>)
        return md5_narrow<Arch, md5_xsimd<Arch, neon64>>();
    else if constexpr (cpu::lanes<Arch> == 4)
        return md5_narrow<Arch, md5_xsimd<Arch>>();
    else
        return md5_narrow<Arch, md5_scalar<Arch>>();
#endif
}

}  // namespace detail

template <class Arch>
void md5_blocks(std::uint32_t* const* states, const std::byte* const* data, const std::size_t* n_blocks, std::size_t lanes) {
    using runner = decltype(detail::md5_runner<Arch>());
    constexpr auto most = runner::most;
    std::uint32_t* state[most];
    const std::byte* at[most];
    std::size_t left[most];
    std::uint32_t idle[4] = {};
    std::size_t active = 0, next = 0;
    while (true) {
        for (; active < most && next < lanes; ++next) {
            if (n_blocks[next] == 0) continue;
            state[active] = states[next];
            at[active] = data[next];
            left[active++] = n_blocks[next];
        }
        if (active == 0) return;
        auto n = left[0];
        for (std::size_t i = 1; i < active; ++i) n = left[i] < n ? left[i] : n;
        for (auto i = active; i < most; ++i) {
            state[i] = idle;
            at[i] = at[0];
        }
        runner::run(state, at, n, active);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < active; ++i) {
            if (left[i] == n) continue;
            state[kept] = state[i];
            at[kept] = at[i] + 64 * n;
            left[kept++] = left[i] - n;
        }
        active = kept;
    }
}

template <class Arch>
void md5_update(md5* const* sums, const std::byte* const* data, const std::size_t* n_bytes, std::size_t lanes) {
    constexpr std::size_t most = 32;
    for (; lanes > most; sums += most, data += most, n_bytes += most, lanes -= most) md5_update<Arch>(sums, data, n_bytes, most);
    std::uint32_t* state[most] = {};
    const std::byte *at[most] = {}, *filled[most] = {};
    std::size_t left[most] = {}, n_blocks[most] = {};
    bool any_filled = false;
    for (std::size_t i = 0; i < lanes; ++i) {
        auto& lane = sums[i]->lane();
        const std::size_t held = lane.n_bytes % 64;
        const std::size_t n = held == 0 ? 0 : n_bytes[i] < 64 - held ? n_bytes[i] : 64 - held;
        if (n != 0) std::memcpy(lane.block + held, data[i], n);
        lane.n_bytes += n_bytes[i];
        state[i] = lane.state;
        filled[i] = lane.block;
        n_blocks[i] = n != 0 && held + n == 64;
        any_filled = any_filled || n_blocks[i] != 0;
        at[i] = data[i] + n;
        left[i] = n_bytes[i] - n;
    }
    if (any_filled) md5_blocks<Arch>(state, filled, n_blocks, lanes);
    for (std::size_t i = 0; i < lanes; ++i) n_blocks[i] = left[i] / 64;
    md5_blocks<Arch>(state, at, n_blocks, lanes);
    for (std::size_t i = 0; i < lanes; ++i) {
        if (const auto rest = left[i] % 64; rest != 0) std::memcpy(sums[i]->lane().block, at[i] + 64 * n_blocks[i], rest);
    }
}

}  // namespace nibble::cpu
