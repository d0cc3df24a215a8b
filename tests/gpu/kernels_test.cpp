// SPDX-License-Identifier: Apache-2.0
// All kernels for all codecs, as text: what is said of them holds for each. What they compute is judged on devices, by `nibble gpu check` and
// tests/gpu/trials.py.
#include "nibble/gpu/kernels.hpp"

#include <map>
#include <set>
#include <string>

#include "examples/nibble/gpu_catalog.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/tune.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

TEST_CASE("kernels: every one fits the limits of WebGPU, in at most 8 kB of text") {
    std::map<std::string, std::size_t> longest;
    for (const auto& entry : catalog()) {
        INFO(entry.text());
        const auto program = entry.build();
        const auto text = to_wgsl(program);
        CHECK(text.size() <= 8192);
        longest[entry.kernel] = std::max(longest[entry.kernel], text.size());
        const auto dispatches = plan(program.manifest, entry.trial.sizes);
        INFO((dispatches ? "" : dispatches.error().message()));
        REQUIRE(dispatches);
        CHECK(dispatches->size() == 1);
        CHECK(program.manifest.kernel == entry.kernel);
        CHECK(program.manifest.codec == entry.codec);
    }
    for (const auto& [kernel, size] : longest) UNSCOPED_INFO(kernel << " " << size);
    CHECK(longest.size() == kernels::size);
}

TEST_CASE("kernels: an f32 kernel needs no f16 of a device, whatever its codec") {
    for (const auto& entry : catalog()) {
        INFO(entry.text());
        if (entry.trial.spec.activations == scalar::f32) CHECK(!entry.build().manifest.features.f16);
    }
}

TEST_CASE("kernels: buffers are as long as the manifest says, and an output is among what is expected") {
    std::set<std::string> seen;
    for (const auto& entry : catalog()) {
        if (entry.codec != "" && entry.codec != "q4f16_1" && entry.codec != "q3f16_0" && entry.codec != "q0bf16") continue;  // encoding takes its time
        INFO(entry.text());
        const auto m = entry.build().manifest;
        const auto e = entry.make_example();
        const auto dispatches = plan(m, e.sizes);
        REQUIRE(dispatches);
        const auto lengths = buffer_bytes(m, *dispatches);
        REQUIRE(e.buffers.size() == lengths.size());
        for (std::size_t b = 0; b < lengths.size(); ++b) {
            INFO(m.bindings[b].name);
            CHECK((e.buffers[b].size() + 3) / 4 == (lengths[b] + 3) / 4);
        }
        REQUIRE(!e.expected.empty());
        for (const auto& [binding, numbers] : e.expected) {
            REQUIRE(binding < m.bindings.size());
            CHECK(m.bindings[binding].access == access::read_write);
            CHECK(!numbers.empty());
        }
        auto given = *dispatches;
        const auto done = give_parameters(m, e.host, given);
        INFO((done ? "" : done.error().message()));
        CHECK(done);
    }
}

TEST_CASE("kernels: a comparison finds what is wrong, and what is no number") {
    const auto& entry = catalog().front();
    const auto m = entry.build().manifest;
    const auto e = entry.make_example();
    auto after = e.buffers;
    const auto [binding, numbers] = e.expected.front();
    REQUIRE(m.bindings[binding].type == scalar::f32);
    for (std::size_t i = 0; i < numbers.size(); ++i) store(&after[binding][i * 4], static_cast<float>(numbers[i]));
    CHECK(compare(e, m, after).error < 1e-6);
    auto wrong = after;
    store(&wrong[binding][4 * 3], static_cast<float>(numbers[3]) + 1.0F);
    const auto found = compare(e, m, wrong);
    CHECK(found.error > e.tolerance);
    CHECK(found.index == 3);
    CHECK(found.output == m.bindings[binding].name);
    store(&wrong[binding][4 * 5], std::numeric_limits<float>::quiet_NaN());
    CHECK(std::isinf(compare(e, m, wrong).error));
}

TEST_CASE("kernels: unknown names are refused with those that are known") {
    const auto kernel = catalog_build("gemw", "q4f16_1", {});
    REQUIRE(!kernel);
    CHECK(kernel.error().message() == "there is no kernel \"gemw\"; known are " + kernel_names());
    const auto codec = catalog_build("gemv", "q4f16_9", {});
    REQUIRE(!codec);
    CHECK(codec.error().message() == "no kernels are generated for the codec \"q4f16_9\"; known are " + shader_codec_names());
}

TEST_CASE("kernels: a call of sizes that a text was not made for is refused") {
    kernel_spec spec;
    for (const auto* kernel : {"gemv", "gemm", "rms_norm", "softmax"}) {
        INFO(kernel);
        spec.k = 0;
        const auto open = catalog_build(kernel, "q4f16_1", spec);
        spec.k = 640;
        const auto baked = catalog_build(kernel, "q4f16_1", spec);
        REQUIRE((open && baked));
        const auto planned = [](const program& p, std::uint64_t k) {
            const auto d = plan(p.manifest, {{"m", 3}, {"n", 7}, {"k", k}});
            return d ? "planned" : d.error().message();
        };
        CHECK(planned(*open, 640) == "planned");
        CHECK(planned(*open, 639).find("was made for multiples of") != std::string::npos);
        CHECK(planned(*baked, 640) == "planned");
        CHECK(planned(*baked, 1280).find("was made for 640 as size 'k', and 1280 is given") != std::string::npos);
    }
}

TEST_CASE("kernels: a tensor above the limit of a binding is cut by rows") {
    kernel_spec spec;
    spec.k = 4096;
    const auto program = catalog_build("gemv", "q4f16_1", spec);
    REQUIRE(program);
    const auto dispatches = plan(program->manifest, {{"n", 128256}, {"k", 4096}});  // the output layer of Llama 3 8B: 263 MB
    REQUIRE(dispatches);
    CHECK(dispatches->size() > 1);
    std::uint64_t rows = 0;
    for (const auto& d : *dispatches) {
        CHECK(*find_size(d.sizes, "first_row") == rows);
        rows += *find_size(d.sizes, "rows");
        for (const auto& range : d.bindings) {
            CHECK(range.bytes <= device_limits{}.max_binding_bytes);
            CHECK(range.offset % 256 == 0);
        }
    }
    CHECK(rows == 128256);
}

TEST_CASE("kernels: every tuning of the grids is a kernel that a device takes") {
    const device_limits limits;
    kernel_spec spec;
    spec.n = spec.k = 4096;
    feature_set features;
    features.subgroups = features.subgroup_id = true;
    const auto grid = product_tunings(features, limits);
    CHECK(grid.size() > 40);
    for (const auto& t : grid) {
        spec.tune = t;
        const auto program = catalog_build("gemv", "q4f16_1", spec);
        REQUIRE(program);
        CHECK(plan(program->manifest, {{"n", 4096}, {"k", 4096}}, limits));
    }
    const auto tried = tune(grid, [](const tuning& t) -> std::optional<double> {
        if (t.lanes_k == 4) return std::nullopt;
        return t.rows_per_lane == 4 && t.lanes_n == 2 ? 1.0 : 2.0;
    });
    REQUIRE(!tried.empty());
    CHECK(tried.front().choice.rows_per_lane == 4);
    CHECK(tried.front().seconds == 1.0);
    CHECK(tried.back().seconds == 2.0);
}
