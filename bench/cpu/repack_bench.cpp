// SPDX-License-Identifier: Apache-2.0
// Rearranging weights for the products, over codec, shape, place of the weights and architecture; one thread. The limit is memcpy of as
// much from the same place; the error is that of an exact product with what was written.
#include "nibble/cpu/repack.hpp"

#include "support/product_cases.hpp"

namespace {

using namespace nibble;

template <class C>
void rearrange(benchmark::State& state, const cpu::product_table* table, bench::dims d, bool from_memory) {
    const auto weights = bench::weights_for<C>(d, from_memory);
    const std::size_t n_bytes = weights->n_bytes();
    const std::size_t n_scales = d.n * groups_of<C>(d.k) * info(C::planes[1].type).block_bytes;
    const bench::pages to(n_bytes);
    const bench::pages copy(n_bytes);
    std::byte* scales = to.data() + (n_bytes - n_scales);
    const auto repack = table->repack<C>();
    const std::vector<std::function<void()>> all{[&] { repack(weights->next(), 0, d.n, to.data(), scales); },
                                                 [&] {
                                                     std::memcpy(copy.data(), weights->next_bytes(), n_bytes);
                                                     benchmark::ClobberMemory();
                                                 }};
    for (auto _ : state) {
        const auto best = bench::best_seconds(all);
        state.SetIterationTime(best[0]);
        state.counters["GB/s"] = static_cast<double>(n_bytes) / best[0] * 1e-9;
        state.counters["of_limit_%"] = 100 * best[1] / best[0];
        state.SetLabel(std::string(bench::name_of<C>()) + " -> sixteen rows side by side, limit memcpy");
    }
    std::vector<float> x(d.k);
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    for (auto& v : x) v = normal(random);
    const bench::pages prepared(cpu::prepared_bytes<C>(1, d.k));
    std::vector<float> y(d.n);
    table->prepare<cpu::exact, cpu::packed<C>>()(x.data(), d.k, 1, d.k, prepared.data());
    table->gemv<cpu::exact, cpu::packed<C>>()(cpu::matrix{{to.data(), scales}, d.n, d.k}, prepared.data(), 0, d.n, y.data());
    const auto rows = bench::sample_of_rows(d.n);
    std::vector<double> got;
    for (const std::uint64_t n : rows) got.push_back(static_cast<double>(y[n]));
    state.counters["error"] = bench::error_of(got, weights->expected(rows, x.data()));
}

}  // namespace

int main(int argc, char** argv) {
    const bool everything = bench::everything(argc, argv);
    bench::for_each_codec([&]<class C>() {
        if constexpr (cpu::repackable<C>) {
            for (const bool from_memory : {true, false})
                for (const bench::dims d : {bench::dims{4096, 4096}, {14336, 4096}, {2048, 640}})
                    for (const auto* t : bench::product_tables()) {
                        if (!everything && (d.n == 14336 || (t != bench::product_tables()[0] && !bench::is_main<C>))) continue;
                        const std::string name =
                            std::string("repack/") + bench::name_of<C>() + "/" + d.text() + (from_memory ? "/memory/" : "/cache/") + t->arch;
                        benchmark::RegisterBenchmark(name.c_str(), &rearrange<C>, t, d, from_memory)
                            ->UseManualTime()
                            ->Iterations(1)
                            ->Unit(benchmark::kMicrosecond);
                    }
        }
    });
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
