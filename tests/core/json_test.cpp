// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/json.hpp"

#include <string>

#include "support/catch.hpp"

using namespace nibble;

namespace {
result<json> parse(std::string_view text, std::size_t depth = 64) {
    return parse_json(bytes_view(reinterpret_cast<const std::byte*>(text.data()), text.size()), depth);
}
}  // namespace

TEST_CASE("JSON keeps the order of keys and the kinds of values", "[core]") {
    const auto j = parse(R"({"z": [1, -2, 2.5, true, null], "a": {"b": "\u00e9"}})");
    REQUIRE(j);
    CHECK(j->begin().key() == "z");
    CHECK((*j)["z"][0].is_number_unsigned());
    CHECK((*j)["z"][1].get<int>() == -2);
    CHECK((*j)["z"][2].is_number_float());
    CHECK((*j)["z"][4].is_null());
    CHECK((*j)["a"]["b"] == "\xC3\xA9");
    CHECK(parse("7")->get<int>() == 7);
}

TEST_CASE("JSON that is not strict is refused, and says why", "[core]") {
    const auto refused = [](std::string_view text, std::string_view why) {
        CAPTURE(std::string(text));
        const auto j = parse(text);
        REQUIRE(!j);
        CHECK(j.error().code == errc::malformed);
        CHECK(j.error().message().find(why) != std::string::npos);
    };
    refused("", "not valid JSON");
    refused("{", "not valid JSON");
    refused("[1,]", "at byte");
    refused("{} x", "not valid JSON");
    refused("// comment\n{}", "not valid JSON");
    refused("\"\xFF\"", "UTF-8");
    refused(R"({"a": 1, "b": {"a": 2}, "a": 3})", "key \"a\" stands twice");
    refused("[NaN]", "not valid JSON");
}

TEST_CASE("JSON's depth is bounded, at exactly the limit", "[core]") {
    const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    CHECK(parse(nested(64)));
    REQUIRE(!parse(nested(65)));
    CHECK(parse(nested(65)).error().message().find("deeper than 64") != std::string::npos);
    CHECK(!parse(std::string(1000000, '[')));
}
