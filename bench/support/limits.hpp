// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the machine can do at best, to hold kernels against: reading memory, multiply-adds of f32, and products of bytes, the latter two with
// the vectors of an architecture. A file needs no flags for this: functions name the instructions that they use.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "nibble/cpu/simd.hpp"
#include "nibble/cpu/thread_pool.hpp"
#if defined(__x86_64__)
#include <immintrin.h>  // all of it: the loops below name their targets
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bench {

namespace detail {

/// In four streams, by whole lines.
inline std::uint64_t read_lines(const std::byte* data, std::size_t n_bytes) {
    typedef std::uint64_t vector __attribute__((vector_size(64)));  // as several of what the processor has
    constexpr std::size_t n_streams = 4;
    const std::size_t part = n_bytes / 64 / n_streams * 64;
    vector sum{};
    for (std::size_t i = 0; i < part; i += 64) {
#pragma GCC unroll 4
        for (std::size_t s = 0; s < n_streams; ++s) {
            vector line;
            std::memcpy(&line, data + s * part + i, 64);
            sum ^= line;
        }
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
#if defined(__x86_64__)
[[gnu::target("avx512f")]] inline std::uint64_t read_lines_avx512(const std::byte* data, std::size_t n_bytes) {
    constexpr std::size_t n_streams = 4;
    const std::size_t part = n_bytes / 64 / n_streams * 64;
    __m512i sum[n_streams] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::size_t i = 0; i < part; i += 64) {
#pragma GCC unroll 4
        for (std::size_t s = 0; s < n_streams; ++s) sum[s] = _mm512_xor_si512(sum[s], _mm512_loadu_si512(data + s * part + i));
    }
    std::uint64_t lane[8];
    _mm512_storeu_si512(lane, _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
    return lane[0] ^ lane[1] ^ lane[2] ^ lane[3] ^ lane[4] ^ lane[5] ^ lane[6] ^ lane[7];
}
#endif

}  // namespace detail

/// Reads all of [data, data + n_bytes), but for a rest of less than 256 bytes, and gives a sum that keeps the compiler from leaving it out.
inline std::uint64_t stream_read(const std::byte* data, std::size_t n_bytes) {
#if defined(__x86_64__)
    static const bool wide = __builtin_cpu_supports("avx512f") != 0;
    if (wide) return detail::read_lines_avx512(data, n_bytes);
#endif
    return detail::read_lines(data, n_bytes);
}

/// Does independent operations, n_rounds of them for each of 12 accumulators, and gives their number. sink feeds the compiler's doubt.
using operations = double (*)(std::size_t n_rounds, float& sink);

namespace detail {

inline constexpr std::size_t n_chains = 12;  // latency times operations a cycle, of every processor so far
inline double count(std::size_t n_rounds, std::size_t lanes) { return static_cast<double>(n_rounds * n_chains * lanes * 2); }

#if defined(__x86_64__)
inline double multiply_add_sse2(std::size_t n_rounds, float& sink) {
    __m128 a[n_chains];
    for (auto& v : a) v = _mm_set1_ps(sink);
    const __m128 x = _mm_set1_ps(0.999F);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm_add_ps(_mm_mul_ps(v, x), x);
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = _mm_add_ps(a[0], a[i]);
    sink = _mm_cvtss_f32(a[0]);
    return count(n_rounds, 4);
}
[[gnu::target("avx2,fma")]] inline double multiply_add_avx2(std::size_t n_rounds, float& sink) {
    __m256 a[n_chains];
    for (auto& v : a) v = _mm256_set1_ps(sink);
    const __m256 x = _mm256_set1_ps(0.999F);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm256_fmadd_ps(v, x, x);
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = _mm256_add_ps(a[0], a[i]);
    sink = _mm256_cvtss_f32(a[0]);
    return count(n_rounds, 8);
}
[[gnu::target("avx512f")]] inline double multiply_add_avx512(std::size_t n_rounds, float& sink) {
    __m512 a[n_chains];
    for (auto& v : a) v = _mm512_set1_ps(sink);
    const __m512 x = _mm512_set1_ps(0.999F);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm512_fmadd_ps(v, x, x);
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = _mm512_add_ps(a[0], a[i]);
    sink = _mm512_cvtss_f32(a[0]);
    return count(n_rounds, 16);
}
[[gnu::target("avx512f,avx512vnni")]] inline double dot_product_vnni(std::size_t n_rounds, float& sink) {
    __m512i a[n_chains];
    for (auto& v : a) v = _mm512_setzero_si512();
    const __m512i x = _mm512_set1_epi32(static_cast<int>(sink) + 0x01010101);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm512_dpbusd_epi32(v, x, x);
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = _mm512_add_epi32(a[0], a[i]);
    sink = static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(a[0])));
    return count(n_rounds, 64);
}
/// By pairs, added up in 16 bits: the widening to 32 comes on top of it. Eight chains, for more do not fit in 16 registers.
[[gnu::target("avx2")]] inline double dot_product_avx2(std::size_t n_rounds, float& sink) {
    __m256i a[8];
    for (auto& v : a) v = _mm256_set1_epi32(static_cast<int>(sink) + 0x01010101);
    const __m256i x = a[0];
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 8
        for (auto& v : a) v = _mm256_add_epi16(v, _mm256_maddubs_epi16(x, v));
    }
    for (std::size_t i = 1; i < 8; ++i) a[0] = _mm256_add_epi32(a[0], a[i]);
    sink = static_cast<float>(_mm_cvtsi128_si32(_mm256_castsi256_si128(a[0])));
    return count(n_rounds, 32) * 8 / n_chains;
}
[[gnu::target("avx512f,avx512bw")]] inline double dot_product_avx512bw(std::size_t n_rounds, float& sink) {
    __m512i a[n_chains];
    for (auto& v : a) v = _mm512_set1_epi32(static_cast<int>(sink) + 0x01010101);
    const __m512i x = a[0];
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm512_add_epi16(v, _mm512_maddubs_epi16(x, v));
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = _mm512_add_epi32(a[0], a[i]);
    sink = static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(a[0])));
    return count(n_rounds, 64);
}
#elif defined(__aarch64__)
inline double multiply_add_neon(std::size_t n_rounds, float& sink) {
    float32x4_t a[n_chains];
    for (auto& v : a) v = vdupq_n_f32(sink);
    const float32x4_t x = vdupq_n_f32(0.999F);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = vfmaq_f32(x, v, x);
    }
    for (std::size_t i = 1; i < n_chains; ++i) a[0] = vaddq_f32(a[0], a[i]);
    sink = vgetq_lane_f32(a[0], 0);
    return count(n_rounds, 4);
}
#endif

}  // namespace detail

/// Multiply-adds of f32 with the widest vectors of an architecture's kernels; null for one that this file does not know.
inline operations multiply_adds([[maybe_unused]] std::string_view arch) {
#if defined(__x86_64__)
    if (arch.starts_with("avx512")) return &detail::multiply_add_avx512;
    if (arch == "avx2") return &detail::multiply_add_avx2;
    return &detail::multiply_add_sse2;
#elif defined(__aarch64__)
    return &detail::multiply_add_neon;
#else
    return nullptr;
#endif
}
/// Products of bytes; null where an architecture's kernels have none.
inline operations dot_products([[maybe_unused]] std::string_view arch) {
#if defined(__x86_64__)
    if (arch == "avx512vnni") return &detail::dot_product_vnni;
    if (arch == "avx512") return &detail::dot_product_avx512bw;
    if (arch == "avx2") return &detail::dot_product_avx2;
#endif
    return nullptr;
}

struct limits {
    double read = 0;  ///< bytes a second
    double fma = 0;   ///< operations a second; 0 where there are none
    double dot = 0;   ///< operations a second; 0 where there are none
};

/// Operations a second of all threads of a pool together. `seconds` is a clock of timing.hpp.
template <class Seconds>
double peak(operations f, nibble::cpu::thread_pool& pool, Seconds seconds) {
    if (f == nullptr) return 0;
    std::atomic<double> done{0};
    const double t = seconds([&] {
        pool.for_ranges(pool.size(), 1, [&](std::size_t, std::size_t) {
            float x = 0.5F;
            done = f(500'000, x);
            static std::atomic<float> sink;
            sink = x;
        });
    });
    return done.load() * static_cast<double>(pool.size()) / t;
}

/// The best of some rounds; memory is read from 256 MiB, by quarters: each is larger than the caches, and a neighbour disturbs it less.
template <class Seconds>
limits measure_limits(std::string_view arch, nibble::cpu::thread_pool& pool, int n_rounds, Seconds seconds) {
    constexpr std::size_t quarter = std::size_t{64} << 20;
    constexpr std::size_t page = 4096;
    const std::vector<std::byte> memory(4 * quarter, std::byte{1});
    std::atomic<std::uint64_t> sink{0};
    limits best;
    for (int r = 0; r < n_rounds; ++r) {
        for (std::size_t q = 0; q < 4; ++q) {
            const double t = seconds([&] {
                pool.for_ranges(quarter / page, 1, [&](std::size_t first, std::size_t last) {
                    sink += stream_read(memory.data() + q * quarter + first * page, (last - first) * page);
                });
            });
            best.read = std::max(best.read, static_cast<double>(quarter) / t);
        }
        best.fma = std::max(best.fma, peak(multiply_adds(arch), pool, seconds));
        best.dot = std::max(best.dot, peak(dot_products(arch), pool, seconds));
    }
    return best;
}

}  // namespace bench
