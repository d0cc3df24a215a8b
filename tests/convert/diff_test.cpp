// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/diff.hpp"

#include "support/catch.hpp"
#include "support/conversion.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;
using test::convert_to;

TEST_CASE("two conversions of one model are the same, whatever the shards", "[diff]") {
    const test::temp_folder home;
    const test::tiny_llama model;
    model.write(home / "model");
    convert_to(home / "model", home / "a", "q3f16_1");
    convert_to(home / "model", home / "b", "q3f16_1");
    convert_to(home / "model", home / "c", "q3f16_1", {}, 3000);
    const auto same = convert::diff(home / "a", home / "b");
    REQUIRE(same);
    CHECK(same->same_values());
    CHECK(same->same_packing);
    CHECK(same->n_equal == 9);
    const auto repacked = convert::diff(home / "a", home / "c");
    REQUIRE(repacked);
    CHECK(repacked->same_values());
    CHECK_FALSE(repacked->same_packing);
    CHECK_FALSE(convert::diff(home / "a", home / "nothing"));
}

TEST_CASE("one changed code is counted as one, and measured", "[diff]") {
    const test::temp_folder home;
    const test::tiny_llama model;
    model.write(home / "model");
    const auto name = GENERATE(std::string("q4f16_1"), std::string("q4f16_0"), std::string("q4f32_1"), std::string("q3f16_0"));
    convert_to(home / "model", home / "a", name);
    convert_to(home / "model", home / "b", name);
    auto bytes = test::read_text(home / "b/params_shard_0.bin");
    std::size_t offset = 0;
    float scale = 0;
    {
        const auto f = *shard::open_folder(home / "b");
        offset = f.find("lm_head.q_weight")->offset;
        scale = (*shard::values(f, f.by_name.at("lm_head.q_scale")))[0];
    }
    bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
    test::write_text(home / "b/params_shard_0.bin", bytes);
    const auto r = convert::diff(home / "a", home / "b");
    REQUIRE(r);
    CHECK(r->n_equal == 8);
    REQUIRE(r->differing.size() == 1);
    const auto& d = r->differing[0];
    CHECK(d.name == "lm_head.weight");
    CHECK(d.bytes_differing == 1);
    CHECK(d.codes_differing == 1);
    CHECK(d.scales_differing == 0);
    CHECK(d.values_differing == 1);
    CHECK(std::fabs(d.max_difference - static_cast<double>(scale)) < 1e-6);
    CHECK(std::fabs(d.rms_difference * std::sqrt(static_cast<double>(d.n_values)) - d.max_difference) < 1e-9);
}

TEST_CASE("records in one folder only, and of another type", "[diff]") {
    const test::temp_folder home;
    const test::tiny_llama model;
    model.write(home / "model");
    convert_to(home / "model", home / "a", "q4f16_1");
    convert_to(home / "model", home / "b", "q4f16_2");
    convert_to(home / "model", home / "c", "q4f32_1");
    convert_to(home / "model", home / "d", "q4f16_1", {.fit = fit::mse});
    const auto r = convert::diff(home / "a", home / "b");
    REQUIRE(r);
    CHECK(r->only_first.size() == 4);
    CHECK(r->only_second == std::vector<std::string>{"model.embed_tokens.weight", "lm_head.weight"});
    CHECK_FALSE(r->same_values());
    CHECK(convert::diff(home / "a", home / "c")->changed.size() == 9);
    const auto fitted = convert::diff(home / "a", home / "d");
    CHECK(fitted->differing.size() == 6);
    CHECK(fitted->n_equal == 3);
    for (const auto& d : fitted->differing) {
        CHECK(d.scales_differing > 0);
        CHECK(d.relative_rms > 0.01);
        CHECK(d.relative_rms < 0.2);
    }
}
