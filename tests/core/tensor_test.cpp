// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/tensor.hpp"

#include <limits>
#include <set>

#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("the table of encodings is in the order of its names, with sizes that hold together", "[core]") {
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < encodings.size(); ++i) {
        CHECK(static_cast<std::size_t>(encodings[i].id) == i);
        CHECK(names.insert(encodings[i].name).second);
        CHECK(is_ggml_block(encodings[i].id) == (encodings[i].block_values > 1));
    }
    STATIC_REQUIRE(info(encoding_of<float>).block_bytes == sizeof(float));
    STATIC_REQUIRE(info(encoding_of<std::uint16_t>).block_bytes == 2);
    STATIC_REQUIRE(info(encoding::q6_k).block_bytes * 8 / 256.0 == 6.5625);
    STATIC_REQUIRE(is_float(encoding::f8_e5m2));
    STATIC_REQUIRE(!is_float(encoding::f64));
}

TEST_CASE("a shape counts its elements, rows and columns, or says that it cannot", "[core]") {
    const shape s{2, 3, 4};
    CHECK(s.rank() == 3);
    CHECK(s.elements() == 24);
    CHECK(s.rows() == 6);
    CHECK(s.columns() == 4);
    CHECK(s.text() == "[2, 3, 4]");
    CHECK(shape{}.elements() == 1);
    CHECK(shape{}.text() == "[]");
    CHECK(shape{5}.rows() == 1);
    CHECK(shape{2, 3} == shape{2, 3});
    CHECK_FALSE(shape{2, 3} == shape{3, 2});
    CHECK_FALSE(shape{2, 3} == shape{2, 3, 1});
    CHECK(shape{0, 5}.elements() == 0);
    CHECK(!shape{1ull << 32, 1ull << 32}.checked_elements());
    CHECK(!shape{0, 1ull << 32, 1ull << 32}.checked_elements());  // a zero does not hide the overflow of the rest
}

TEST_CASE("a shape holds eight dimensions and refuses the ninth", "[core]") {
    shape s;
    for (std::uint64_t i = 1; i <= shape::max_rank; ++i) CHECK(s.push_back(i));
    CHECK(!s.push_back(9));
    CHECK(s.rank() == 8);
    CHECK(s.elements() == 40320);
}

TEST_CASE("bytes of a tensor are whole blocks of its rows, within 64 bits", "[core]") {
    CHECK(checked_bytes({2, 3}, encoding::f16) == 12u);
    CHECK(checked_bytes({2, 64}, encoding::q4_0) == 72u);
    CHECK(!checked_bytes({64, 2}, encoding::q4_0));
    CHECK(!checked_bytes({std::numeric_limits<std::uint64_t>::max()}, encoding::f16));
}
