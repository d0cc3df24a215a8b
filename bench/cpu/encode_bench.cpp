// SPDX-License-Identifier: Apache-2.0
// Encoding a [4096, 4096] tensor in memory, on one thread: GB/s of input, beside reading and copying the same bytes. Each architecture
// that this machine runs is measured.
#include <random>
#include <string>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/kernels.hpp"
#include "support/side_by_side.hpp"

using namespace nibble;

namespace {

constexpr std::uint64_t n_rows = 4096;
constexpr std::uint64_t k = 4096;

template <class T>
const std::vector<T>& weights() {
    static const std::vector<T> w = [] {
        std::mt19937 random(1);
        std::vector<T> v(n_rows * k);
        for (auto& x : v) {  // a sum of uniform numbers: near enough to normal, and quick
            float sum = -2;
            for (int i = 0; i < 4; ++i) sum += static_cast<float>(random() >> 8) * 0x1p-24F;
            x = number_cast<T>(sum * 0.03F);
        }
        return v;
    }();
    return w;
}

template <class C, class T>
void encode(benchmark::State& state, const cpu::kernel_table* table, rounding r) {
    const auto& w = weights<T>();
    const std::size_t codes_of_row = groups_of<C>(k) * C::words_per_group * sizeof(typename C::word);
    const std::size_t scales_of_row = groups_of<C>(k) * sizeof(typename C::scale::type);
    std::vector<std::byte> codes(n_rows * codes_of_row);
    std::vector<std::byte> scales(n_rows * scales_of_row);
    const auto fn = table->encode<C, T>();
    const auto* bytes = reinterpret_cast<const std::byte*>(w.data());
    bench::against_memory(state, bytes, w.size() * sizeof(T), [&] {
        for (std::uint64_t n = 0; n < n_rows; ++n)
            fn(w.data() + n * k, k, codes.data() + n * codes_of_row, scales.data() + n * scales_of_row, {r, fit::absmax});
    });
    // What the memory allows: reading each row, and writing as many bytes as its codes and scales have.
    double best = 1e9;
    for (int round = 0; round < 5; ++round) {
        best = std::min(best, bench::wall_seconds([&] {
                            for (std::uint64_t n = 0; n < n_rows; ++n) {
                                const auto sum = static_cast<int>(bench::read_all(bytes + n * k * sizeof(T), k * sizeof(T)));
                                std::memset(codes.data() + n * codes_of_row, sum, codes_of_row);
                                std::memset(scales.data() + n * scales_of_row, sum, scales_of_row);
                            }
                            benchmark::ClobberMemory();
                        }));
    }
    state.counters["of_read_and_write"] = best * state.counters["GB/s"] * 1e9 / static_cast<double>(w.size() * sizeof(T));
}
/// One row again and again, in the first-level cache: the kernel alone, on machines whose memory is shared or slow.
template <class C, class T>
void in_cache(benchmark::State& state, const cpu::kernel_table* table) {
    const T* row = weights<T>().data();
    std::vector<std::byte> codes(groups_of<C>(k) * C::words_per_group * sizeof(typename C::word));
    std::vector<std::byte> scales(groups_of<C>(k) * sizeof(typename C::scale::type));
    std::vector<T> copy(k);
    const auto fn = table->encode<C, T>();
    double best = 1e9;
    double best_copy = 1e9;
    for (auto _ : state) {
        const double t = bench::wall_seconds([&] { fn(row, k, codes.data(), scales.data(), {}); });
        state.SetIterationTime(t);
        best = std::min(best, t);
        best_copy = std::min(best_copy, bench::wall_seconds([&] {
                                 std::memcpy(copy.data(), row, k * sizeof(T));
                                 benchmark::ClobberMemory();
                             }));
    }
    state.counters["GB/s"] = static_cast<double>(k * sizeof(T)) / best * 1e-9;
    state.counters["of_memcpy"] = best_copy / best;
}
template <class C, class T>
void scales_only(benchmark::State& state, const cpu::kernel_table* table) {
    const auto& w = weights<T>();
    std::vector<std::byte> scales(groups_of<C>(k) * sizeof(typename C::scale::type));
    const auto fn = table->encode<C, T>();
    bench::against_memory(state, reinterpret_cast<const std::byte*>(w.data()), w.size() * sizeof(T), [&] {
        for (std::uint64_t n = 0; n < n_rows; ++n) fn(w.data() + n * k, k, nullptr, scales.data(), {});
    });
}
template <class C>
void add(const std::string& name, const cpu::kernel_table* t) {
    const auto timed = [](auto* b) { b->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond); };
    const std::string at = std::string("/") + t->arch;
    timed(benchmark::RegisterBenchmark((name + "<f32" + at).c_str(), encode<C, float>, t, rounding::half_even));
    timed(benchmark::RegisterBenchmark((name + "<f16" + at).c_str(), encode<C, f16>, t, rounding::half_even));
    timed(benchmark::RegisterBenchmark((name + "<bf16" + at).c_str(), encode<C, bf16>, t, rounding::half_even));
    const auto cached = [](auto* b) { b->UseManualTime()->Iterations(3000)->Unit(benchmark::kMicrosecond); };
    cached(benchmark::RegisterBenchmark((name + "<f32/cached" + at).c_str(), in_cache<C, float>, t));
    cached(benchmark::RegisterBenchmark((name + "<f16/cached" + at).c_str(), in_cache<C, f16>, t));
    cached(benchmark::RegisterBenchmark((name + "<bf16/cached" + at).c_str(), in_cache<C, bf16>, t));
    timed(benchmark::RegisterBenchmark((name + "<f32/half_away" + at).c_str(), encode<C, float>, t, rounding::half_away));
    timed(benchmark::RegisterBenchmark((name + "<f32/scales" + at).c_str(), scales_only<C, float>, t));
}

}  // namespace

int main(int argc, char** argv) {
    for (const auto* t : bench::tables()) {
        add<q4f16_1>("q4f16_1", t);
        add<q4f32_1>("q4f32_1", t);
        add<q4bf16_1>("q4bf16_1", t);
        add<q4bf16_0>("q4bf16_0", t);
        add<q3f16_1>("q3f16_1", t);
        add<q8f16_1>("q8f16_1", t);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
