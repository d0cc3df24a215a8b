// SPDX-License-Identifier: Apache-2.0
// Casting rows of numbers on one thread: GB/s of input and output together, in the first-level cache and from and to memory, beside
// memcpy of as many bytes. Each architecture that this machine runs is measured.
#include <random>
#include <string>

#include "nibble/cpu/kernels.hpp"
#include "support/side_by_side.hpp"

using namespace nibble;

namespace {

constexpr std::uint64_t in_cache = 2048;
constexpr std::uint64_t in_memory = std::uint64_t{1} << 24;

template <class T>
bench::aligned_values<T>& numbers() {
    static bench::aligned_values<T> all = [] {
        bench::aligned_values<T> v(in_memory);
        std::mt19937 random(1);
        for (std::size_t i = 0; i < in_memory; ++i) v.data()[i] = number_cast<T>((static_cast<float>(random() >> 8) * 0x1p-24F - 0.5F) * 0.1F);
        return v;
    }();
    return all;
}

/// Room for all numbers, whatever their type.
std::byte* memory(std::size_t i) {
    static bench::aligned_values<std::byte> rooms[3] = {bench::aligned_values<std::byte>(in_memory * 4), bench::aligned_values<std::byte>(in_memory * 4),
                                                        bench::aligned_values<std::byte>(in_memory * 4)};
    return rooms[i].bytes();
}

template <class To, class From>
void cast(benchmark::State& state, const cpu::kernel_table* table, std::uint64_t n) {
    const From* from = numbers<From>().data();
    auto* to = reinterpret_cast<To*>(memory(0));
    const std::size_t half = static_cast<std::size_t>(n) * (sizeof(From) + sizeof(To)) / 2;  // memcpy reads and writes as much
    const auto fn = table->cast<To, From>();
    double best = 1e9;
    double best_copy = 1e9;
    for (auto _ : state) {
        const double t = bench::wall_seconds([&] { fn(from, n, to); });
        state.SetIterationTime(t);
        best = std::min(best, t);
        best_copy = std::min(best_copy, bench::wall_seconds([&] {
                                 std::memcpy(memory(1), memory(2), half);
                                 benchmark::ClobberMemory();
                             }));
    }
    state.counters["GB/s"] = static_cast<double>(2 * half) / best * 1e-9;
    state.counters["of_memcpy"] = best_copy / best;
}

template <class To, class From>
void add(const std::string& name, const cpu::kernel_table* t) {
    const std::string at = std::string("/") + t->arch;
    benchmark::RegisterBenchmark((name + "/cached" + at).c_str(), cast<To, From>, t, in_cache)
        ->UseManualTime()
        ->Iterations(3000)
        ->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark((name + at).c_str(), cast<To, From>, t, in_memory)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
    for (const auto* t : bench::tables()) {
        add<f16, float>("f32>f16", t);
        add<bf16, float>("f32>bf16", t);
        add<float, f16>("f16>f32", t);
        add<bf16, f16>("f16>bf16", t);
        add<float, bf16>("bf16>f32", t);
        add<f16, bf16>("bf16>f16", t);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
