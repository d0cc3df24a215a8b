// SPDX-License-Identifier: Apache-2.0
// y = x W^T over codec, shape, rows of x, place of the weights, architecture and arithmetic; one thread, activations prepared in each run.
// Without a filter: all codecs on the best architecture for 8 rows, and the main ones for more rows and on all architectures.
#include "nibble/cpu/gemm.hpp"

#include "support/product_cases.hpp"

int main(int argc, char** argv) {
    const bool everything = bench::everything(argc, argv);
    bench::for_each_codec([&]<class C>() {
        const bool all = everything || bench::is_main<C>;
        for (const std::uint64_t m : {2U, 8U, 32U, 128U, 512U}) {
            if (!everything && m != 8 && (!all || m == 512)) continue;
            const std::string verb = "gemm_M" + std::to_string(m);
            bench::add_products<C>(verb, {4096, 4096}, m, false, everything || (all && m == 8));
            if (!everything) continue;
            bench::add_products<C>(verb, {4096, 4096}, m, true, true);
            for (const bench::dims d : {bench::dims{14336, 4096}, {2048, 640}}) {
                bench::add_products<C>(verb, d, m, true, true);
                bench::add_products<C>(verb, d, m, false, true);
            }
        }
    });
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
