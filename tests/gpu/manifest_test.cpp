// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/manifest.hpp"

#include <fstream>

#include "support/catch.hpp"
#include "support/gpu_manifest.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

json plans() {
    std::ifstream file(NIBBLE_TEST_DATA "/gpu/plans.json");
    return json::parse(file);
}

device_limits limits_of(const json& j) {
    device_limits limits;
    for (const auto& [name, value] : j.items()) {
        const auto n = value.get<std::uint64_t>();
        if (name == "max_binding_bytes")
            limits.max_binding_bytes = n;
        else if (name == "max_workgroups")
            limits.max_workgroups = n;
        else if (name == "max_workgroup_bytes")
            limits.max_workgroup_bytes = n;
        else if (name == "max_storage_buffers")
            limits.max_storage_buffers = n;
        else if (name == "binding_alignment")
            limits.binding_alignment = n;
        else
            FAIL("no such limit: " << name);
    }
    return limits;
}

json json_of(const std::vector<dispatch>& dispatches) {
    json list = json::array();
    for (const dispatch& d : dispatches) {
        json one{{"bindings", json::array()}, {"parameters", d.parameters}, {"grid", d.grid}};
        for (const auto& r : d.bindings) one["bindings"].push_back({r.offset, r.bytes});
        list.push_back(std::move(one));
    }
    return list;
}

}  // namespace

TEST_CASE("manifest: a formula has a value, a text and JSON") {
    const formula n = formula::size("n");
    const formula k = formula::size("k");
    const size_values sizes{{"n", 10}, {"k", 7}};
    const formula f = ceil_div(n + 3, 4) * (k - 1) - least(n, 2) * greatest(2, k);
    CHECK(f.value(sizes) == 4 * 6 - 2 * 7);
    CHECK(f.text() == "ceil_div(n + 3, 4) * (k - 1) - least(n, 2) * greatest(2, k)");
    CHECK((n - (k - 2)).text() == "n - (k - 2)");
    CHECK((n - (k - 2)).value(sizes) == 5);
    CHECK(((n - k) - 2).text() == "n - k - 2");
    CHECK((n - k - 2).value(sizes) == 1);
    CHECK(((n + k) * 2).value(sizes) == 34);
    CHECK(ceil_div(n, k).json() == R"(["ceil_div", "n", "k"])");
    CHECK(formula(5).json() == "5");
    CHECK(formula::size("a\"\\\n").json() == R"("a\"\\\u000a")");
    CHECK(test::formula_of(json::parse(f.json())).text() == f.text());
    CHECK((n * formula::size("m")).missing(sizes) == "m");
    CHECK(f.missing(sizes).empty());
}

TEST_CASE("manifest: a formula has no value rather than a wrong one") {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    CHECK((formula(most) + 0).value({}) == most);
    CHECK_FALSE((formula(most) + 1).value({}));
    CHECK_FALSE((formula(2) - 3).value({}));
    CHECK((formula(1ull << 32) * formula((1ull << 32) - 1)).value({}) == (most - (1ull << 32) + 1));
    CHECK_FALSE((formula(1ull << 32) * formula(1ull << 32)).value({}));
    CHECK((formula(0) * formula(most)).value({}) == 0);
    CHECK_FALSE(ceil_div(1, formula(0)).value({}));
    CHECK(ceil_div(formula(most), 1).value({}) == most);
    CHECK(ceil_div(formula(most), 2).value({}) == (1ull << 63));
    CHECK_FALSE(formula::size("n").value({}));
    CHECK_FALSE((formula(0) * formula::size("n")).value({}));
}

TEST_CASE("manifest: JSON says all of it") {
    const json data = plans();
    for (const auto& [name, m] : data.at("manifests").items()) {
        INFO(name);
        CHECK(json::parse(test::manifest_of(m).json()) == m);
    }
}

TEST_CASE("manifest: features that lack are named") {
    const feature_set needed{true, true, false, true, true};
    CHECK(lacking(needed, {true, false, true, false, false}) == "subgroups, packed_4x8_integer_dot_product, cooperative-matrix");
    CHECK(lacking(needed, needed).empty());
    CHECK(lacking({}, {}).empty());
}

TEST_CASE("manifest: plans are those that all hosts make") {
    const json data = plans();
    for (const json& v : data.at("plans")) {
        INFO(v.at("name").get<std::string>());
        json m = data.at("manifests").at(v.at("manifest").get<std::string>());
        if (v.contains("change")) m.update(v.at("change"));
        const auto got = plan(test::manifest_of(m), test::sizes_of(v.at("sizes")), v.contains("limits") ? limits_of(v.at("limits")) : device_limits{});
        if (v.contains("dispatches")) {
            INFO((got ? "" : got.error().message()));
            REQUIRE(got);
            CHECK(json_of(*got) == v.at("dispatches"));
        } else {
            REQUIRE_FALSE(got);
            CHECK(got.error().code == (v.at("error") == "missing" ? errc::missing : errc::refused));
            INFO(got.error().message());
            CHECK(got.error().rule.find(v.at("says").get<std::string>()) != std::string::npos);
        }
    }
}

TEST_CASE("manifest: parameters of the host have the bits of their type") {
    manifest m;
    m.kernel = "test";
    m.parameters = {{"n", scalar::u32, formula(7)}, {"eps", scalar::f32, {}}, {"past", scalar::i32, {}}, {"causal", scalar::boolean, {}}};
    auto dispatches = plan(m, {});
    REQUIRE(dispatches);
    REQUIRE(dispatches->size() == 1);
    REQUIRE(give_parameters(m, {{"past", -2}, {"causal", 1}, {"eps", 0.1}}, *dispatches));
    CHECK(dispatches->front().parameters == std::vector<std::uint32_t>{7, 0x3DCCCCCD, 0xFFFFFFFE, 1});

    const auto refused = [&](const parameter_values& values) {
        const auto r = give_parameters(m, values, *dispatches);
        return r ? std::string() : r.error().rule;
    };
    CHECK(refused({{"past", 0}, {"eps", 0}}) == "kernel 'test' takes the parameter 'causal' from its host, which does not give it");
    CHECK(refused({{"past", 0.5}, {"eps", 0}, {"causal", 0}}) == "kernel 'test' takes the parameter 'past' as i32, which cannot be 0.500000");
    CHECK(refused({{"past", 2147483648.0}, {"eps", 0}, {"causal", 0}}).find("2147483648") != std::string::npos);
    CHECK(refused({{"past", std::numeric_limits<double>::quiet_NaN()}, {"eps", 0}, {"causal", 0}}).find("nan") != std::string::npos);
    CHECK(refused({{"past", 0}, {"eps", 1e39}, {"causal", 0}}).find("'eps' as f32") != std::string::npos);
    CHECK(refused({{"past", 0}, {"eps", std::numeric_limits<double>::infinity()}, {"causal", 0}}).empty());
    CHECK(refused({{"past", 0}, {"eps", 0}, {"causal", 2}}).find("'causal' as bool") != std::string::npos);
    CHECK(refused({{"past", 0}, {"eps", 0}, {"causal", 0}, {"n", 8}}) == "kernel 'test' takes no parameter 'n' from its host");
}

TEST_CASE("manifest: the ranges of a call cover its rows once, and no limit is broken") {
    const json data = plans();
    const manifest m = test::manifest_of(data.at("manifests").at("gemv"));
    std::uint64_t cut = 0;
    for (std::uint64_t n = 1; n < 3000; n += 37) {
        for (const std::uint64_t k : {64u, 96u, 1000u}) {
            for (const std::uint64_t alignment : {4u, 16u, 64u, 256u}) {
                device_limits limits;
                limits.max_binding_bytes = 40000;
                limits.max_workgroups = 7;
                limits.binding_alignment = alignment;
                const auto got = plan(m, {{"n", n}, {"k", k}}, limits);
                REQUIRE(got);
                cut += got->size() > 1 ? 1 : 0;
                std::uint64_t next = 0;
                std::vector<std::uint64_t> ends(m.bindings.size());
                for (const dispatch& d : *got) {
                    REQUIRE(find_size(d.sizes, "first_row") == next);
                    const std::uint64_t rows = find_size(d.sizes, "rows").value_or(0);
                    next += rows;
                    REQUIRE((next == n || rows % m.row_granule == 0));
                    const std::uint64_t workgroups = (rows + 3) / 4;
                    const std::uint64_t grid = std::uint64_t{d.grid[0]} * d.grid[1] * d.grid[2];
                    REQUIRE(grid >= workgroups);
                    REQUIRE(grid < workgroups + std::uint64_t{d.grid[1]} * d.grid[2] + d.grid[2]);
                    for (const auto side : d.grid) REQUIRE(side <= 7);
                    for (std::size_t i = 0; i < m.bindings.size(); ++i) {
                        REQUIRE(d.bindings[i].offset == (m.bindings[i].by_rows ? ends[i] : 0));
                        REQUIRE(d.bindings[i].offset % alignment == 0);
                        REQUIRE(d.bindings[i].bytes <= limits.max_binding_bytes);
                        ends[i] = d.bindings[i].offset + d.bindings[i].bytes;
                    }
                }
                REQUIRE(next == n);
                REQUIRE(buffer_bytes(m, *got) == ends);
            }
        }
    }
    CHECK(cut > 100);
}
