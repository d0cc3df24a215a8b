// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/job.hpp"

#include <cstring>
#include <map>

#include "nibble/core/json.hpp"
#include "nibble/gpu/ir.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

/// y[i] = factor * x[i]
program scale() {
    shader s("scale");
    const auto x = s.input<f32>("x", formula::size("n"));
    const auto y = s.output<f32>("y", formula::size("n"));
    const auto factor = s.scalar<f32>("factor");
    const auto i = s.let("i", s.workgroup_index() * 64u + s.local_index());
    s.if_(i < s.size("n"), [&] { y[i] = x[i] * factor; });
    s.grid(64, ceil_div(formula::size("n"), formula(64)));
    return s.finish();
}

}  // namespace

TEST_CASE("gpu: a job is a kernel and one call of it as files") {
    const auto p = scale();
    example call;
    call.sizes = {{"n", 2}};
    call.host = {{"factor", 0.1}};
    call.buffers = {std::vector<std::byte>(8, std::byte{7}), std::vector<std::byte>(8)};
    call.expected = {{1, {0.5, -3.0}}};
    call.tolerance = 1e-5;
    const auto made = make_job("a \"job\"", "base", p, &call);
    const auto j = json::parse(made.json);
    CHECK(j["name"] == "a \"job\"");
    CHECK(j["manifest"] == json::parse(p.manifest.json()));
    CHECK(j["sizes"] == json{{"n", 2}});
    CHECK(j["host"] == json{{"factor", 0.1}});
    CHECK(j["tolerance"] == 1e-5);
    CHECK(j["inputs"] == json{{"x", "base.x.bin"}, {"y", "base.y.bin"}});
    CHECK(j["expected"] == json{{"y", "base.y.f64"}});
    CHECK(j["outputs"] == json{{"y", "base.y.out"}});

    std::map<std::string, std::string> files(made.files.begin(), made.files.end());
    CHECK(files.size() == made.files.size());
    CHECK(files[j["wgsl"]] == to_wgsl(p));
    CHECK(files[j["wgsl_wgpu"]] == to_wgsl(p, wgsl_flavour::wgpu));
    CHECK(files[j["glsl"]] == to_glsl(p));
    CHECK(files["base.x.bin"] == std::string(8, '\7'));
    CHECK(files["base.y.bin"] == std::string(8, '\0'));
    REQUIRE(files["base.y.f64"].size() == 16);
    double numbers[2];
    std::memcpy(numbers, files["base.y.f64"].data(), 16);
    CHECK(numbers[0] == 0.5);
    CHECK(numbers[1] == -3.0);
    CHECK_FALSE(files.contains("base.y.out"));
}

TEST_CASE("gpu: a job without a call is texts alone") {
    const auto made = make_job("texts", "t", scale());
    const auto j = json::parse(made.json);
    CHECK(made.files.size() == 3);
    CHECK(j.contains("wgsl"));
    CHECK_FALSE(j.contains("inputs"));
    CHECK_FALSE(j.contains("tolerance"));
}
