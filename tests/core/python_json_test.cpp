// SPDX-License-Identifier: Apache-2.0
// Texts compared with those that Python 3.11 printed.

#include "nibble/core/python_json.hpp"

#include <limits>
#include <span>

#include "support/catch.hpp"

using namespace nibble;

namespace {

std::string again(std::string_view text, std::size_t indent) {
    const auto value = parse_json(std::as_bytes(std::span(text)));
    REQUIRE(value);
    return python_json(*value, indent);
}

}  // namespace

TEST_CASE("JSON is laid out as by Python's json.dump", "[core][json]") {
    CHECK(again(R"({"a":[],"b":{},"c":[1,{"d":null}],"e":true})", 2) ==
          "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ],\n  \"e\": true\n}");
    CHECK(again("[[1]]", 4) == "[\n    [\n        1\n    ]\n]");
    CHECK(again("\"\"", 2) == "\"\"");
}

TEST_CASE("numbers keep their type and print as Python's repr", "[core][json]") {
    CHECK(again("[10000, 10000.0, -0.0, 1E5, 18446744073709551615]", 0) == "[\n10000,\n10000.0,\n-0.0,\n100000.0,\n18446744073709551615\n]");
    CHECK(python_float(1e-05) == "1e-05");
    CHECK(python_float(0.0001) == "0.0001");
    CHECK(python_float(1e15) == "1000000000000000.0");
    CHECK(python_float(1e16) == "1e+16");
    CHECK(python_float(1.5e-7) == "1.5e-07");
    CHECK(python_float(0.1) == "0.1");
    CHECK(python_float(-2.5e+300) == "-2.5e+300");
    CHECK(python_float(std::numeric_limits<double>::infinity()) == "Infinity");
}

TEST_CASE("strings are ASCII", "[core][json]") {
    CHECK(python_string("a\"\\/\n\t\x1f\x7f") == R"("a\"\\/\n\t\u001f\u007f")");
    CHECK(python_string("é▁😀") == R"("\u00e9\u2581\ud83d\ude00")");
    CHECK(python_string("\xff") == R"("\ufffd")");
}
