// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/repack.hpp"

#include <random>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/products.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

namespace {

template <class C>
void check_repack() {
    using to = cpu::packed<C>;
    for (const auto& [n, k] : {std::pair{16, 512}, {17, 72}, {3, 100}, {1, 80}, {50, 1000}}) {
        std::mt19937 random(3);
        std::normal_distribution<float> normal;
        std::vector<float> w(static_cast<std::size_t>(n) * static_cast<std::size_t>(k));
        for (auto& v : w) v = normal(random);
        const shape dims{static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(k)};
        const auto q = quantize<C>(w, dims);
        const auto direct = quantize<to>(w, dims);  // the law, writing that layout itself
        REQUIRE((q && direct));
        cpu::matrix view{{q->planes[0].data(), q->planes[1].data()}, dims.rows(), dims.columns()};
#if defined(NIBBLE_KERNELS_LINKED)
        const auto tables = cpu::linked_product_tables();
#else
        const std::array<const cpu::product_table*, 1> tables{&cpu::header_products<>};
#endif
        for (const auto* table : tables) {
            INFO(table->arch << " n " << n << " k " << k);
            std::vector<std::byte> codes(q->planes[0].size());
            std::vector<std::byte> scales(q->planes[1].size());
            const std::uint64_t middle = dims.rows() / 32 * 16;
            const auto repack = table->repack<C>();
            repack(view, middle, dims.rows(), codes.data(), scales.data());
            repack(view, 0, middle, codes.data(), scales.data());
            CHECK(codes == std::vector<std::byte>(direct->planes[0].begin(), direct->planes[0].end()));
            CHECK(scales == std::vector<std::byte>(direct->planes[1].begin(), direct->planes[1].end()));
        }
        const auto back = dequantize(*direct);
        const auto before = dequantize(*q);
        REQUIRE((back && before));
        CHECK(*back == *before);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("repacked weights are those that the law would write in that layout", "[cpu]", q4f16_1, q4f16_0, q4f32_1, q3f16_1, q3f16_0) {
    check_repack<TestType>();
}
