// SPDX-License-Identifier: Apache-2.0
#include "nibble/chat/jinja.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::chat;

namespace {

const std::string data = NIBBLE_TEST_DATA "/chat/";

result<std::string> rendered(std::string_view text, const json& variables = json::object(), const jinja_limits& limits = {}) {
    const auto parsed = jinja_template::parse(text, limits);
    if (!parsed) return fail(parsed.error());
    return parsed->render(variables);
}
std::string repeated(std::string_view what, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) all += what;
    return all;
}

}  // namespace

// jinja2's own renderings of templates in the style of known model families, and of one snippet for each thing that the interpreter knows:
// tests/judges/jinja_equal.py writes the file, and compares more where jinja2 is installed.
TEST_CASE("Chat templates render as jinja2 renders them", "[chat]") {
    const auto golden = json::parse(nibble::test::read_text(data + "renderings.json"));
    std::tm now{};
    now.tm_year = 124, now.tm_mon = 6, now.tm_mday = 26, now.tm_hour = 9, now.tm_min = 5, now.tm_sec = 7, now.tm_wday = 5, now.tm_yday = 207;
    std::size_t compared = 0, refused = 0;
    for (const auto& [name, entry] : golden["templates"].items()) {
        const auto text = entry.contains("template") ? entry["template"].get<std::string>() : nibble::test::read_text(data + "templates/" + name);
        CAPTURE(name);
        const auto parsed = jinja_template::parse(text);
        for (std::size_t i = 0; i < entry["texts"].size(); ++i) {
            CAPTURE(golden["contexts"][i].dump());
            const auto& want = entry["texts"][i];
            if (want.is_null()) {
                ++refused;
                const bool fails = !parsed || !parsed->render(golden["contexts"][i], now);
                CHECK(fails);
                continue;
            }
            REQUIRE(parsed);
            const auto got = parsed->render(golden["contexts"][i], now);
            if (!got) FAIL(got.error().message());
            CHECK(*got == golden["texts"][want.get<std::size_t>()].get<std::string>());
            ++compared;
        }
    }
    CHECK(compared > 1200);
    CHECK(refused > 200);
}

TEST_CASE("An error names the line, and what is unsupported", "[chat]") {
    const auto says = [](std::string_view text, errc code, std::string_view message) {
        CAPTURE(std::string(text));
        const auto r = rendered(text);
        REQUIRE_FALSE(r);
        CHECK(r.error().code == code);
        CHECK(r.error().message() == message);
    };
    says("a\n{{ x | frobnicate }}", errc::unsupported, "chat template, line 2: the filter 'frobnicate' is not supported");
    says("{{ 1 is frob }}", errc::unsupported, "chat template, line 1: the test 'frob' is not supported");
    says("\n\n{% include 'x' %}", errc::unsupported, "chat template, line 3: the statement 'include' is not supported");
    says("{{ 'a'.encode() }}", errc::unsupported, "chat template, line 1: the method 'encode' of a string is not supported");
    says("{{ lipsum() }}", errc::unsupported, "chat template, line 1: the function 'lipsum' is not known");
    says("{{ '\xC3\xA9' | upper }}", errc::unsupported, "chat template, line 1: 'upper' of text that is not ASCII is not supported");
    says("{{ [1] | tojson(colour=1) }}", errc::unsupported, "chat template, line 1: the argument 'colour' of the filter 'tojson' is not supported");
    says("{% for x in a %}", errc::malformed, "chat template, line 1: {% endfor %} is expected, not the end of the template");
    says("{% if a %}{% endfor %}", errc::malformed, "chat template, line 1: {% endif %} is expected, not {% endfor %}");
    says("{% endif %}", errc::malformed, "chat template, line 1: {% endif %} ends nothing");
    says("{{ a b }}", errc::malformed, "chat template, line 1: '}}' is expected, not 'b'");
    says("{{ 'a }}", errc::malformed, "chat template, line 1: a string is never closed");
    says("{# a", errc::malformed, "chat template, line 1: a comment {# is never closed");
    says("{{ a", errc::malformed, "chat template, line 1: {{ is never closed");
    says("{{ nobody.name }}", errc::refused, "chat template, line 1: 'nobody', which is undefined, has no 'name'");
    says("{{ 'a' + 1 }}", errc::refused, "chat template, line 1: '+' between a string and an integer");
    says("{{ raise_exception('No ' ~ 'way') }}", errc::refused, "chat template, line 1: the template refuses this conversation: No way");
    says("{{ \xFF }}", errc::malformed, "chat template: not valid UTF-8");
    says("{{ strftime_now('%d') }}", errc::unsupported, "chat template, line 1: the function 'strftime_now' is not known");
}

TEST_CASE("No template can take more than the limits", "[chat]") {
    const auto refused = [](const std::string& text, std::string_view why, const jinja_limits& limits = {}) {
        const auto r = rendered(text, json::object(), limits);
        CAPTURE(text.substr(0, 100));
        REQUIRE_FALSE(r);
        CHECK(r.error().code == errc::refused);
        CAPTURE(r.error().message());
        CHECK(r.error().rule.find(why) != std::string::npos);
    };
    // deep in every way that recursion could follow
    for (const auto& [open, close] :
         {std::pair{"(", ")"}, {"[", "]"}, {"{'a':", "}"}, {"not ", ""}, {"-", ""}, {"a[", "]"}, {"f(", ")"}, {"1 if 1 else ", ""}, {"x ** ", ""}}) {
        refused("{{ " + repeated(open, 50'000) + "1" + repeated(close, 50'000) + " }}", "nested deeper");
    }
    refused("{{ 1 " + repeated("+ 1 ", 100'000) + "}}", "nested deeper");
    refused("{{ a" + repeated(".a", 100'000) + "}}", "nested deeper");
    refused("{{ a" + repeated("|trim", 100'000) + "}}", "nested deeper");
    refused("{{ a" + repeated(" is defined", 50'000) + "}}", "nested deeper");
    refused("{{ 1 if 1 " + repeated("if 1 ", 100'000) + "}}", "nested deeper");
    refused(repeated("{% if 1 %}", 50'000), "nested deeper");
    refused(repeated("{% for a in b %}", 50'000), "nested deeper");
    refused("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "macros call each other");
    refused("{% macro f(n) %}{{ 1 " + repeated("+ 1 ", 200) + "~ f(n) }}{% endmacro %}{{ 1 " + repeated("+ 1 ", 200) + "~ f(0) }}", "macros call each other");
    refused("{% macro f(n) %}{{ f(n) " + repeated("~ 1 ", 200) + "}}{% endmacro %}{{ f(0) }}", "evaluation is nested deeper");
    refused("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}", "a value is nested deeper");
    // long in every way that a few bytes could grow
    refused("{% set r = range(1000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}", "steps");
    refused("{{ 'abcdefgh' * 1000000000 }}", "bytes");
    refused("{% set ns = namespace(s='abcdefgh') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "bytes");
    refused("{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", "bytes");
    refused("{% set ns = namespace(s='a' * 1000) %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}", "bytes");
    refused("{{ range(100000000) }}", "a range goes beyond a million");
    refused("{% for a in range(1000) %}{{ 'x' * 1000 }}{% endfor %}", "the rendered text is longer than 1000 bytes", {.output_bytes = 1000});
    refused(repeated("x", 2000), "longer than 1000 bytes", {.source_bytes = 1000});
    // a namespace in a container could hold itself
    for (const std::string text :
         {"{% set ns = namespace() %}{% set ns.a = ns %}", "{% set ns = namespace() %}{% set ns.a = [ns] %}", "{% set ns = namespace() %}{{ {'a': ns} }}"}) {
        const auto r = rendered(text);
        REQUIRE_FALSE(r);
        CHECK(r.error().code == errc::unsupported);
    }
    // what real templates need is far within
    CHECK(rendered("{{ " + repeated("(", 30) + "1" + repeated(")", 30) + " }}") == "1");
    CHECK(rendered("{{ '' " + repeated("~ 'x' ", 200) + "}}") == repeated("x", 200));
}

TEST_CASE("A value of JSON is what Python would make of it", "[chat]") {
    const json variables{{"i", 3}, {"big", UINT64_MAX}, {"d", 2.0}, {"s", "\xC3\xA9"}, {"n", nullptr}, {"l", {1, "a"}}, {"o", {{"k", {{"z", 1}}}}}};
    CHECK(rendered("{{ i }} {{ d }} {{ s }} {{ n }} {{ l }} {{ o }} {{ o.k.z }} {{ s | length }} {{ nothing }}|", variables) ==
          "3 2.0 \xC3\xA9 None [1, 'a'] {'k': {'z': 1}} 1 1 |");
    CHECK(rendered("{{ o | tojson }} {{ l | tojson }} {{ n | tojson }}", variables) == R"({"k": {"z": 1}} [1, "a"] null)");
}
