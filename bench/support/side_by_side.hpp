// SPDX-License-Identifier: Apache-2.0
#pragma once
// Timing on machines whose speed drifts: every measurement times a reference right beside it, and reports the ratio too.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "nibble/cpu/kernels.hpp"
#include "support/timing.hpp"

namespace bench {

/// The kernels of each architecture that can be measured here.
inline std::vector<const nibble::cpu::kernel_table*> tables() {
#if defined(NIBBLE_KERNELS_LINKED)
    const auto linked = nibble::cpu::linked_kernel_tables();
    return {linked.begin(), linked.end()};
#else
    return {&nibble::cpu::header_kernels<>};
#endif
}

/// Reads all of [p, p + n), by whole cache lines: the least that any kernel must do with its input.
inline std::uint64_t read_all(const std::byte* p, std::size_t n) {
    using vector [[gnu::vector_size(16)]] = std::uint64_t;
    vector a{};
    vector b{};
    vector c{};
    vector d{};
    for (std::size_t i = 0; i + 64 <= n; i += 64) {
        vector line[4];
        std::memcpy(line, p + i, 64);
        a ^= line[0];
        b ^= line[1];
        c ^= line[2];
        d ^= line[3];
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[1];
}

/// Writes all of [p, p + n), n a multiple of 64, p aligned to 16: past the caches where the compiler has a way, and no zeros, which some
/// memories take faster.
inline void write_all(std::byte* p, std::size_t n) {
#if defined(__SSE2__)
    const __m128i some = _mm_set1_epi32(static_cast<int>(n) | 0x01234567);
    for (std::size_t i = 0; i + 16 <= n; i += 16) _mm_stream_si128(reinterpret_cast<__m128i*>(p + i), some);
    _mm_sfence();
#else
    std::memset(p, 0x5A, n);
#endif
}

/// n values at the beginning of a cache line, all written once.
template <class T>
class aligned_values {
public:
    explicit aligned_values(std::size_t n) : memory_(n * sizeof(T) + 64) {
        first_ = reinterpret_cast<T*>(memory_.data() + (64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64) % 64);
    }
    aligned_values(aligned_values&&) = default;
    aligned_values& operator=(aligned_values&&) = default;
    [[nodiscard]] T* data() { return first_; }
    [[nodiscard]] std::byte* bytes() { return reinterpret_cast<std::byte*>(first_); }

private:
    std::vector<std::byte> memory_;
    T* first_;
};

/// Counters: best GB/s of f, which writes n_bytes to `out`, and that as a share of only writing them.
template <class F>
void against_writing(benchmark::State& state, std::byte* out, std::size_t n_bytes, F&& f) {
    double best = 1e9;
    double best_write = 1e9;
    for (auto _ : state) {
        best_write = std::min(best_write, wall_seconds([&] {
                                  write_all(out, n_bytes);
                                  benchmark::ClobberMemory();
                              }));
        const double t = wall_seconds(f);
        state.SetIterationTime(t);
        best = std::min(best, t);
    }
    state.counters["GB/s_out"] = static_cast<double>(n_bytes) / best * 1e-9;
    state.counters["of_write"] = best_write / best;
}
/// The same with memory that stays in a cache: beside a memset.
template <class F>
void against_memset(benchmark::State& state, std::byte* out, std::size_t n_bytes, F&& f) {
    double best = 1e9;
    double best_set = 1e9;
    for (auto _ : state) {
        best_set = std::min(best_set, wall_seconds([&] {
                                std::memset(out, 0x5A, n_bytes);
                                benchmark::ClobberMemory();
                            }));
        const double t = wall_seconds(f);
        state.SetIterationTime(t);
        best = std::min(best, t);
    }
    state.counters["GB/s_out"] = static_cast<double>(n_bytes) / best * 1e-9;
    state.counters["of_memset"] = best_set / best;
}

/// Counters: best GB/s of f over n_bytes, the same as a share of reading and of memcpy of those bytes; the best of all rounds each.
template <class F>
void against_memory(benchmark::State& state, const std::byte* data, std::size_t n_bytes, F&& f) {
    std::vector<std::byte> copy(n_bytes);
    double best = 1e9;
    double best_read = 1e9;
    double best_copy = 1e9;
    for (auto _ : state) {
        const double t = wall_seconds(f);
        state.SetIterationTime(t);
        best = std::min(best, t);
        best_read = std::min(best_read, wall_seconds([&] { benchmark::DoNotOptimize(read_all(data, n_bytes)); }));
        best_copy = std::min(best_copy, wall_seconds([&] {
                                 std::memcpy(copy.data(), data, n_bytes);
                                 benchmark::ClobberMemory();
                             }));
    }
    state.counters["GB/s"] = static_cast<double>(n_bytes) / best * 1e-9;
    state.counters["of_read"] = best_read / best;
    state.counters["of_memcpy"] = best_copy / best;
}

}  // namespace bench
