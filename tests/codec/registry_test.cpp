// SPDX-License-Identifier: Apache-2.0
#include "nibble/codec/registry.hpp"

#include <set>
#include <string>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("every scheme is found by its name, and by no other", "[codec]") {
    std::set<std::string_view> names;
    for (const auto& s : schemes) {
        CHECK(names.insert(s.name).second);
        REQUIRE(find_scheme(s.name) != nullptr);
        CHECK(find_scheme(s.name)->name == s.name);
        CHECK(scheme_names().find(s.name) != std::string::npos);
    }
    CHECK(find_scheme("q4f16_1")->model_type == encoding::f16);
    CHECK(find_scheme("q4f32_1")->model_type == encoding::f32);
    CHECK(find_scheme("q4f16_0")->experts == scheme::none);
    CHECK(find_scheme("") == nullptr);
    CHECK(find_scheme("q4f16_") == nullptr);
    CHECK(find_scheme("Q4F16_1") == nullptr);
}

TEST_CASE("codecs that only cast keep a number's bits, or round them to nearest even", "[codec]") {
    const std::vector<float> w{1.0F, -2.5F, 65504.0F, 1.00048828125F, 1.00146484375F};  // the last two lie between f16 numbers
    const auto exact = dequantize(*quantize<q0f32>(w, {1, 5}));
    CHECK(*exact == w);
    const auto half = dequantize(*quantize<q0f16>(w, {1, 5}));
    CHECK(*half == std::vector<float>{1.0F, -2.5F, 65504.0F, 1.0F, 1.001953125F});
    const auto q = quantize<q0bf16>(std::vector<float>{1.0F, 1.00390625F, 1.01171875F}, {1, 3});
    CHECK(*dequantize(*q) == std::vector<float>{1.0F, 1.0F, 1.015625F});
    CHECK(q->n_bytes() == 6);
    CHECK(plain<f16>::planes[0].suffix.empty());
}
