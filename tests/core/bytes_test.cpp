// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/bytes.hpp"

#include <array>

#include "support/catch.hpp"

using namespace nibble;

namespace {
constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
}

TEST_CASE("checked arithmetic gives the true value or nothing", "[core]") {
    CHECK(checked_add(most - 1, 1) == most);
    CHECK(!checked_add(most, 1));
    CHECK(checked_mul(0, most) == 0u);
    CHECK(checked_mul(most, 0) == 0u);
    CHECK(checked_mul(1ull << 32, (1ull << 32) - 1) == ((1ull << 32) - 1) << 32);
    CHECK(!checked_mul(1ull << 32, 1ull << 32));
    CHECK(ceil_div(0, 5) == 0);
    CHECK(ceil_div(10, 5) == 2);
    CHECK(ceil_div(11, 5) == 3);
    CHECK(ceil_div(most, 2) == 1ull << 63);
}

TEST_CASE("a range is inside without wrapping around", "[core]") {
    CHECK(in_range(0, 0, 0));
    CHECK(in_range(4, 6, 10));
    CHECK(!in_range(4, 7, 10));
    CHECK(!in_range(11, 0, 10));
    CHECK(!in_range(most, 2, 10));
    CHECK(!in_range(2, most, 10));
}

TEST_CASE("values are read and written at any address, low byte first", "[core]") {
    std::array<std::byte, 9> bytes{};
    store(bytes.data() + 1, std::uint32_t{0x01020304});
    CHECK(bytes[1] == std::byte{4});
    CHECK(bytes[4] == std::byte{1});
    CHECK(load<std::uint32_t>(bytes.data() + 1) == 0x01020304u);
    CHECK(load<std::uint16_t>(bytes.data() + 3) == 0x0102u);
    store(bytes.data() + 1, -0.5);
    CHECK(load<double>(bytes.data() + 1) == -0.5);
    CHECK(bytes[0] == std::byte{0});
}
