// SPDX-License-Identifier: Apache-2.0
// Decoding a [4096, 4096] tensor on one thread: GB/s of output, from one row again and again, and from whole planes to memory, in both
// layouts, beside only writing as much. Each architecture that this machine runs is measured.
#include <random>
#include <string>

#include "nibble/cpu/kernels.hpp"
#include "support/side_by_side.hpp"

using namespace nibble;

namespace {

constexpr std::uint64_t n_rows = 4096;
constexpr std::uint64_t k = 4096;

template <class C>
struct planes {
    std::vector<std::byte> codes;
    std::vector<std::byte> scales;
};
template <class C>
const planes<C>& weights() {
    static const planes<C> of = [] {
        std::mt19937 random(1);
        planes<C> p;
        p.codes.resize(n_rows * groups_of<C>(k) * C::words_per_group * sizeof(typename C::word));
        for (std::size_t i = 0; i + 4 <= p.codes.size(); i += 4) store(p.codes.data() + i, static_cast<std::uint32_t>(random()));
        const auto scale = C::scale::stored(0.01F);
        p.scales.resize(n_rows * groups_of<C>(k) * sizeof scale);
        for (std::size_t i = 0; i < p.scales.size(); i += sizeof scale) store(p.scales.data() + i, scale);
        return p;
    }();
    return of;
}
template <class Out>
bench::aligned_values<Out>& target() {
    static bench::aligned_values<Out> out(n_rows * k);
    return out;
}

template <class C, class Out>
void in_cache(benchmark::State& state, const cpu::kernel_table* table) {
    const auto& w = weights<C>();
    bench::aligned_values<Out> row(k);
    const auto fn = table->decode<C, Out>();
    bench::against_memset(state, row.bytes(), k * sizeof(Out), [&] { fn(w.codes.data(), w.scales.data(), k, row.data()); });
}
template <class C, class Out>
void to_memory(benchmark::State& state, const cpu::kernel_table* table, bool transposed) {
    const auto& w = weights<C>();
    auto& out = target<Out>();
    const auto fn = table->decode_rows<C, Out>();
    bench::against_writing(state, out.bytes(), n_rows * k * sizeof(Out), [&] {
        fn(w.codes.data(), w.scales.data(), {n_rows, k, 0, n_rows, transposed}, out.data());
    });
}

template <class C, class Out>
void add(const std::string& name, const cpu::kernel_table* t) {
    const std::string at = std::string("/") + t->arch;
    const auto timed = [](auto* b) { b->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond); };
    benchmark::RegisterBenchmark((name + "/cached" + at).c_str(), in_cache<C, Out>, t)->UseManualTime()->Iterations(3000)->Unit(benchmark::kMicrosecond);
    timed(benchmark::RegisterBenchmark((name + "/nk" + at).c_str(), to_memory<C, Out>, t, false));
    timed(benchmark::RegisterBenchmark((name + "/kn" + at).c_str(), to_memory<C, Out>, t, true));
}
template <class C>
void add_both(const std::string& name, const cpu::kernel_table* t) {
    add<C, float>(name + ">f32", t);
    add<C, f16>(name + ">f16", t);
}

}  // namespace

int main(int argc, char** argv) {
    for (const auto* t : bench::tables()) {
        add_both<q4f16_1>("q4f16", t);
        add_both<q4f32_1>("q4f32", t);
        add_both<q4bf16_1>("q4bf16", t);
        add_both<q3f16_1>("q3f16", t);
        add_both<q8f16_1>("q8f16", t);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
