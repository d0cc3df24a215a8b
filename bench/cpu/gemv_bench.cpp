// SPDX-License-Identifier: Apache-2.0
// y = W x over codec, shape, place of the weights, architecture and arithmetic; one thread, activations prepared in each run. Without a
// filter: all codecs on the best architecture, and the main ones in all shapes on all.
#include "nibble/cpu/gemv.hpp"

#include "support/product_cases.hpp"

int main(int argc, char** argv) {
    const bool everything = bench::everything(argc, argv);
    bench::for_each_codec([&]<class C>() {
        const bool all = everything || bench::is_main<C>;
        for (const bool from_memory : {true, false}) {
            bench::add_products<C>("gemv", {4096, 4096}, 0, from_memory, all);
            if (all) {
                bench::add_products<C>("gemv", {14336, 4096}, 0, from_memory, everything);
                bench::add_products<C>("gemv", {2048, 640}, 0, from_memory, true);
            }
            if (everything) bench::add_products<C>("gemv", {151936, 896}, 0, from_memory, true);
        }
    });
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
