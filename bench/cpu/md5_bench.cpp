// SPDX-License-Identifier: Apache-2.0
// MD5 of 1, 4, 8 and 16 streams of 1 MiB on one thread, beside the scalar sum of one: GB/s, and how many times the scalar's.
#include <string>

#include "nibble/cpu/kernels.hpp"
#include "support/side_by_side.hpp"

using namespace nibble;

namespace {

void lanes(benchmark::State& state, const cpu::kernel_table* table, std::size_t n) {
    constexpr std::size_t each = 1 << 20;
    const std::vector<std::byte> bytes(n * each, std::byte{7});
    std::vector<md5> sums(n);
    std::vector<md5*> states;
    std::vector<const std::byte*> data;
    const std::vector<std::size_t> sizes(n, each);
    for (std::size_t i = 0; i < n; ++i) {
        states.push_back(&sums[i]);
        data.push_back(bytes.data() + i * each);
    }
    double best = 1e9;
    double best_scalar = 1e9;
    for (auto _ : state) {
        const double t = bench::wall_seconds([&] { table->md5_lanes(states.data(), data.data(), sizes.data(), n); });
        state.SetIterationTime(t);
        best = std::min(best, t);
        md5 alone;
        best_scalar = std::min(best_scalar, bench::wall_seconds([&] {
                                   alone.update({data[0], each});
                                   benchmark::DoNotOptimize(alone.digest());
                               }));
    }
    state.counters["GB/s"] = static_cast<double>(n * each) / best * 1e-9;
    state.counters["of_scalar"] = static_cast<double>(n) * best_scalar / best;
}

}  // namespace

int main(int argc, char** argv) {
    for (const auto* t : bench::tables()) {
        for (const std::size_t n : {1u, 4u, 8u, 16u}) {
            benchmark::RegisterBenchmark(("md5/" + std::to_string(n) + "/" + t->arch).c_str(), lanes, t, n)
                ->UseManualTime()
                ->Iterations(15)
                ->Unit(benchmark::kMillisecond);
        }
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
