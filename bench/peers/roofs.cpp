// SPDX-License-Identifier: Apache-2.0
// Built for the processor at hand: what it can do at best, to hold the contestants against.
#include "peers/roofs.hpp"

#include <cstdint>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace peers {

std::uint64_t stream_read(const std::byte* data, std::size_t n_bytes) {
    const auto* p = reinterpret_cast<const std::uint64_t*>(data);
    constexpr std::size_t n_streams = 4;
    const std::size_t part = n_bytes / 8 / n_streams;
    std::uint64_t sum[8] = {};
    for (std::size_t i = 0; i + 8 <= part; i += 8)
        for (std::size_t s = 0; s < n_streams; ++s)
            for (std::size_t j = 0; j < 8; ++j) sum[j] ^= p[s * part + i + j];
    for (std::size_t j = 1; j < 8; ++j) sum[0] ^= sum[j];
    return sum[0];
}

double fma_flops(std::size_t n_rounds, float& sink) {
    constexpr std::size_t width = 16;
    typedef float vector __attribute__((vector_size(width * sizeof(float))));
    vector a[12];
    for (std::size_t i = 0; i < 12; ++i) a[i] = vector{} + static_cast<float>(i);
    const vector x = vector{} + 0.999F;
    const vector y = vector{} + sink;
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (std::size_t i = 0; i < 12; ++i) a[i] = a[i] * x + y;
    }
    for (std::size_t i = 1; i < 12; ++i) a[0] += a[i];
    sink = a[0][0];
    return static_cast<double>(n_rounds) * 12 * width * 2;
}

double vnni_ops([[maybe_unused]] std::size_t n_rounds, [[maybe_unused]] float& sink) {
#if defined(__AVX512VNNI__)
    __m512i a[12];
    for (auto& v : a) v = _mm512_setzero_si512();
    const __m512i x = _mm512_set1_epi32(static_cast<int>(sink) + 0x01010101);
    for (std::size_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 12
        for (auto& v : a) v = _mm512_dpbusd_epi32(v, x, x);
    }
    for (std::size_t i = 1; i < 12; ++i) a[0] = _mm512_add_epi32(a[0], a[i]);
    sink = static_cast<float>(_mm512_reduce_add_epi32(a[0]));
    return static_cast<double>(n_rounds) * 12 * 64 * 2;
#else
    return 0;
#endif
}

}  // namespace peers
