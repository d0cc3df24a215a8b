// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/result.hpp"

#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("an error is one line that names place, rule and remedy, each only if it is known", "[core]") {
    CHECK(error{errc::malformed, "the rule", {}, {}, {}, {}}.message() == "the rule");
    CHECK(error{errc::malformed, "the rule", "a/b", "w", 12, "do this"}.message() == "a/b: tensor 'w': at byte 12: the rule; do this");
    CHECK(error{errc::malformed, "the rule", {}, {}, 0, {}}.message() == "at byte 0: the rule");
}

TEST_CASE("outer layers fill in what inner ones did not know, and no more", "[core]") {
    const auto e = error{errc::truncated, "the rule", {}, "inner", {}, {}}.in_tensor("outer").in_file("f").in_file("g").at(3).at(4).advise("a").advise("b");
    CHECK(e.message() == "f: tensor 'inner': at byte 3: the rule; a");
    CHECK(e.code == errc::truncated);
}

TEST_CASE("a failure passes from one result to another of a different type", "[core]") {
    const auto inner = []() -> result<int> { return fail(errc::busy, "held"); };
    const auto outer = [&]() -> result<std::string> {
        auto r = inner();
        if (!r) return pass(r);
        return "not reached";
    };
    REQUIRE(!outer());
    CHECK(outer().error().code == errc::busy);
    CHECK(outer().error().rule == "held");
}
