// SPDX-License-Identifier: Apache-2.0
#pragma once
// Many MD5 sums at once, one in each SIMD lane: one sum alone is a chain of dependent additions and leaves most of a core idle.

#include <utility>

#include "nibble/core/md5.hpp"
#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

namespace detail {

/// V vectors of sums side by side: the second fills the gaps that the first one's chain of additions leaves.
template <class Arch, std::size_t V>
struct md5_vectors {
    using u32 = vector_u32<Arch>;
    static constexpr std::size_t width = lanes<Arch>;
    static constexpr std::size_t n_lanes = V * width;

    template <int by>
    NIBBLE_INLINE static u32 rotate(u32 x) {
#if defined(__AVX512F__)
        if constexpr (has<Arch, avx512>) return _mm512_maskz_rol_epi32(0xFFFF, x, by);
#endif
        return (x << by) | (x >> (32 - by));
    }
    /// RFC 1321's F, G, H, I.
    template <int round>
    NIBBLE_INLINE static u32 mix(u32 b, u32 c, u32 d) {
#if defined(__AVX512F__)
        if constexpr (has<Arch, avx512>) {
            if constexpr (round == 0) return _mm512_ternarylogic_epi32(b, c, d, 0xCA);
            if constexpr (round == 1) return _mm512_ternarylogic_epi32(d, b, c, 0xCA);
            if constexpr (round == 2) return _mm512_ternarylogic_epi32(b, c, d, 0x96);
            if constexpr (round == 3) return _mm512_ternarylogic_epi32(b, c, d, 0x39);
        }
#endif
        if constexpr (round == 0) return d ^ (b & (c ^ d));
        if constexpr (round == 1) return c ^ (d & (b ^ c));
        if constexpr (round == 2) return b ^ (c ^ d);
        if constexpr (round == 3) return c ^ (b | ~d);
    }
    template <int i>
    NIBBLE_INLINE static void step(u32 (&s)[4][V], const u32 (&m)[16][V]) {
        constexpr int round = i / 16;
        constexpr auto word = static_cast<std::size_t>((i * nibble::detail::md5_word_stride[round] + nibble::detail::md5_word_first[round]) % 16);
        constexpr auto a = static_cast<std::size_t>((64 - i) % 4);  // the state turns by one place a step
        constexpr std::size_t b = (a + 1) % 4;
        constexpr std::size_t c = (a + 2) % 4;
        constexpr std::size_t d = (a + 3) % 4;
        const u32 constant(nibble::detail::md5_constants[static_cast<std::size_t>(i)]);
        for (std::size_t v = 0; v < V; ++v) s[a][v] = s[a][v] + (m[word][v] + constant);
        for (std::size_t v = 0; v < V; ++v) s[a][v] = s[b][v] + rotate<nibble::detail::md5_rotations[round][i % 4]>(s[a][v] + mix<round>(s[b][v], s[c][v], s[d][v]));
    }
    template <int... i>
    NIBBLE_INLINE static void steps(u32 (&s)[4][V], const u32 (&m)[16][V], std::integer_sequence<int, i...>) {
        (step<i>(s, m), ...);
    }

    /// Word j of the block of each lane to lanes of m[j].
    NIBBLE_INLINE static void load_words(const std::byte* const* blocks, u32 (&m)[16][V]) {
#if defined(__AVX512F__)
        if constexpr (has<Arch, avx512>) {
            __m512i r[16];
            __m512i t[16];
            for (std::size_t i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(blocks[i]);
            for (std::size_t i = 0; i < 16; i += 2) {
                t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
                t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
            }
            for (std::size_t i = 0; i < 16; i += 4) {  // r[i + j]: word 4 L + j of lanes i to i + 3, in 128-bit block L
                r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
                r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
                r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
                r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
            }
            for (std::size_t j = 0; j < 4; ++j) {
                const __m512i low01 = _mm512_shuffle_i32x4(r[j], r[j + 4], 0x44);
                const __m512i low23 = _mm512_shuffle_i32x4(r[j], r[j + 4], 0xEE);
                const __m512i high01 = _mm512_shuffle_i32x4(r[j + 8], r[j + 12], 0x44);
                const __m512i high23 = _mm512_shuffle_i32x4(r[j + 8], r[j + 12], 0xEE);
                m[j][0] = _mm512_shuffle_i32x4(low01, high01, 0x88);
                m[j + 4][0] = _mm512_shuffle_i32x4(low01, high01, 0xDD);
                m[j + 8][0] = _mm512_shuffle_i32x4(low23, high23, 0x88);
                m[j + 12][0] = _mm512_shuffle_i32x4(low23, high23, 0xDD);
            }
            return;
        }
#endif
#if defined(__AVX2__)
        if constexpr (has<Arch, avx2> && width == 8) {
            for (std::size_t v = 0; v < V; ++v) {
                for (std::size_t half = 0; half < 2; ++half) {
                    __m256i r[8];
                    __m256i t[8];
                    for (std::size_t i = 0; i < 8; ++i) r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks[8 * v + i] + 32 * half));
                    for (std::size_t i = 0; i < 8; i += 2) {
                        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
                        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
                    }
                    for (std::size_t i = 0; i < 8; i += 4) {
                        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
                        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
                        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
                        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
                    }
                    for (std::size_t j = 0; j < 4; ++j) {
                        m[8 * half + j][v] = _mm256_permute2x128_si256(r[j], r[j + 4], 0x20);
                        m[8 * half + j + 4][v] = _mm256_permute2x128_si256(r[j], r[j + 4], 0x31);
                    }
                }
            }
            return;
        }
#endif
#if defined(__SSE2__)
        if constexpr (has<Arch, sse2> && width == 4) {
            for (std::size_t v = 0; v < V; ++v) {
                for (std::size_t j = 0; j < 16; j += 4) {
                    __m128i r[4];
                    for (std::size_t i = 0; i < 4; ++i) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks[4 * v + i] + 4 * j));
                    const __m128i t0 = _mm_unpacklo_epi32(r[0], r[1]);
                    const __m128i t1 = _mm_unpackhi_epi32(r[0], r[1]);
                    const __m128i t2 = _mm_unpacklo_epi32(r[2], r[3]);
                    const __m128i t3 = _mm_unpackhi_epi32(r[2], r[3]);
                    m[j][v] = _mm_unpacklo_epi64(t0, t2);
                    m[j + 1][v] = _mm_unpackhi_epi64(t0, t2);
                    m[j + 2][v] = _mm_unpacklo_epi64(t1, t3);
                    m[j + 3][v] = _mm_unpackhi_epi64(t1, t3);
                }
            }
            return;
        }
#endif
        for (std::size_t v = 0; v < V; ++v) {
            for (std::size_t j = 0; j < 16; ++j) {
                std::uint32_t lane[width];
                for (std::size_t i = 0; i < width; ++i) std::memcpy(&lane[i], blocks[width * v + i] + 4 * j, 4);
                m[j][v] = u32::load_unaligned(lane);
            }
        }
    }

    /// Advances lane i of the state, state[word][lane], over n_blocks blocks from blocks[i] on, `strides[i]` bytes apart.
    static void compress(std::uint32_t (&state)[4][n_lanes], const std::byte* const* blocks, const std::size_t* strides, std::size_t n_blocks) {
        u32 s[4][V];
        for (std::size_t i = 0; i < 4; ++i) {
            for (std::size_t v = 0; v < V; ++v) s[i][v] = u32::load_unaligned(state[i] + v * width);
        }
        const std::byte* at[n_lanes];
        for (std::size_t i = 0; i < n_lanes; ++i) at[i] = blocks[i];
        for (; n_blocks != 0; --n_blocks) {
            u32 m[16][V];
            load_words(at, m);
            u32 next[4][V];
            for (std::size_t i = 0; i < 4; ++i) {
                for (std::size_t v = 0; v < V; ++v) next[i][v] = s[i][v];
            }
            steps(next, m, std::make_integer_sequence<int, 64>{});
            for (std::size_t i = 0; i < 4; ++i) {
                for (std::size_t v = 0; v < V; ++v) s[i][v] = s[i][v] + next[i][v];
            }
            for (std::size_t i = 0; i < n_lanes; ++i) at[i] += strides[i];
        }
        for (std::size_t i = 0; i < 4; ++i) {
            for (std::size_t v = 0; v < V; ++v) s[i][v].store_unaligned(state[i] + v * width);
        }
    }

    /// Whole blocks of up to n_lanes sums, of different numbers: all go on together until the shortest is done.
    static void update(std::array<std::uint32_t, 4>* const* states, const std::byte* const* data, const std::size_t* n_blocks, std::size_t n) {
        alignas(64) static constexpr std::byte nothing[md5::block_bytes] = {};
        std::uint32_t state[4][n_lanes] = {};
        const std::byte* at[n_lanes];
        std::size_t strides[n_lanes];
        std::size_t left[n_lanes];
        for (std::size_t i = 0; i < n_lanes; ++i) {
            const bool used = i < n && n_blocks[i] != 0;
            at[i] = used ? data[i] : nothing;
            strides[i] = used ? md5::block_bytes : 0;
            left[i] = used ? n_blocks[i] : 0;
            for (std::size_t j = 0; j < 4 && used; ++j) state[j][i] = states[i]->data()[j];
        }
        while (true) {
            std::size_t together = 0;
            for (std::size_t i = 0; i < n_lanes; ++i) {
                if (left[i] != 0 && (together == 0 || left[i] < together)) together = left[i];
            }
            if (together == 0) return;
            compress(state, at, strides, together);
            for (std::size_t i = 0; i < n_lanes; ++i) {
                if (left[i] == 0) continue;
                left[i] -= together;
                at[i] += together * md5::block_bytes;
                if (left[i] != 0) continue;
                for (std::size_t j = 0; j < 4; ++j) states[i]->data()[j] = state[j][i];
                at[i] = nothing;
                strides[i] = 0;
            }
        }
    }
};

/// md5::update kept out of line, for the same reason as the encoders' law.
template <class Sum>
struct md5_law {
    [[gnu::noinline]] static void update(Sum& sum, const std::byte* data, std::size_t n);
};
template <class Sum>
void md5_law<Sum>::update(Sum& sum, const std::byte* data, std::size_t n) {
    sum.update(data, n);
}

}  // namespace detail

/// states[i]->update(data[i], n_bytes[i]) for each i < n, sums that differ in length included. No two states may be the same.
template <class Arch>
void md5_update_lanes_for(md5* const* states, const std::byte* const* data, const std::size_t* n_bytes, std::size_t n) {
    constexpr std::size_t wide = has<Arch, avx512> ? 1 : 2;
    constexpr std::size_t at_once = wide * lanes<Arch>;
    for (std::size_t first = 0; first < n; first += at_once) {
        const std::size_t count = n - first < at_once ? n - first : at_once;
        if (count == 1) return detail::md5_law<md5>::update(*states[first], data[first], n_bytes[first]);
        std::array<std::uint32_t, 4>* of[at_once];
        const std::byte* whole[at_once];
        std::size_t n_blocks[at_once];
        std::size_t rest[at_once];
        for (std::size_t i = 0; i < count; ++i) {  // first what completes a block that an earlier call began
            md5& sum = *states[first + i];
            const std::byte* from = data[first + i];
            std::size_t left = n_bytes[first + i];
            const auto held = static_cast<std::size_t>(sum.n_bytes % md5::block_bytes);
            if (held != 0) {
                const std::size_t taken = left < md5::block_bytes - held ? left : md5::block_bytes - held;
                detail::md5_law<md5>::update(sum, from, taken);
                from += taken;
                left -= taken;
            }
            of[i] = &sum.state;
            whole[i] = from;
            n_blocks[i] = left / md5::block_bytes;
            rest[i] = left % md5::block_bytes;
            sum.n_bytes += n_blocks[i] * md5::block_bytes;
        }
        if (wide == 2 && count <= lanes<Arch>) {
            detail::md5_vectors<Arch, 1>::update(of, whole, n_blocks, count);
        } else {
            detail::md5_vectors<Arch, wide>::update(of, whole, n_blocks, count);
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (rest[i] != 0) detail::md5_law<md5>::update(*states[first + i], whole[i] + n_blocks[i] * md5::block_bytes, rest[i]);
        }
    }
}

}  // namespace nibble::cpu
