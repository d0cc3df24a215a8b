// SPDX-License-Identifier: Apache-2.0
#pragma once
// Timing on machines whose speed drifts: every measurement times a reference right beside it, and reports the ratio too.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "nibble/cpu/kernels.hpp"

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

template <class F>
double seconds(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Reads all of [p, p + n), by whole cache lines: the least that any kernel must do with its input.
inline std::uint64_t read_all(const std::byte* p, std::size_t n) {
    std::uint64_t sum[8] = {};
    for (std::size_t i = 0; i + 64 <= n; i += 64) {
        std::uint64_t line[8];
        std::memcpy(line, p + i, 64);
        for (int j = 0; j < 8; ++j) sum[j] ^= line[j];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

/// Counters: best GB/s of f over n_bytes, the same as a share of reading and of memcpy of those bytes; the best of all rounds each.
template <class F>
void against_memory(benchmark::State& state, const std::byte* data, std::size_t n_bytes, F&& f) {
    std::vector<std::byte> copy(n_bytes);
    double best = 1e9;
    double best_read = 1e9;
    double best_copy = 1e9;
    for (auto _ : state) {
        const double t = seconds(f);
        state.SetIterationTime(t);
        best = std::min(best, t);
        best_read = std::min(best_read, seconds([&] { benchmark::DoNotOptimize(read_all(data, n_bytes)); }));
        best_copy = std::min(best_copy, seconds([&] {
                                 std::memcpy(copy.data(), data, n_bytes);
                                 benchmark::ClobberMemory();
                             }));
    }
    state.counters["GB/s"] = static_cast<double>(n_bytes) / best * 1e-9;
    state.counters["of_read"] = best_read / best;
    state.counters["of_memcpy"] = best_copy / best;
}

}  // namespace bench
