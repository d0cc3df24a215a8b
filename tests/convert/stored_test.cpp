// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/stored.hpp"

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/conversion.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;

TEST_CASE("stored parameters are grouped, and their codec is told from the records", "[stored]") {
    const test::temp_folder home;
    test::tiny_llama model;
    model.write(home / "model");
    for (const auto& s : schemes) {
        CAPTURE(s.name);
        const auto out = home / std::string(s.name);
        test::convert_to(home / "model", out, s.name);
        const auto f = shard::open_folder(out);
        REQUIRE(f);
        const auto all = convert::stored_parameters(*f);
        CHECK(all.size() == 9);
        for (const auto& p : all) {
            CAPTURE(p.name);
            if (p.name == "model.norm.weight") CHECK(p.codec == s.cast);
            if (!p.name.ends_with("o_proj.weight")) continue;
            // The two bf16 codecs of four bits differ in how they encode, not in what is stored.
            CHECK(convert::codec_label(p.codec) == convert::codec_label(s.linear));
            const auto k = visit_codec(p.codec, []<class C>() { return groups_of<C>(test::tiny_llama::hidden) * C::group; });
            CHECK(p.rows * p.columns == test::tiny_llama::hidden * k);
        }
    }
}

TEST_CASE("groups loaded from a folder decode to what the codec gives", "[stored]") {
    const test::temp_folder home;
    test::tiny_llama model;
    model.write(home / "model");
    const auto& w = model.values("lm_head.weight");
    const shape dims{test::tiny_llama::vocab, test::tiny_llama::hidden};
    const auto check = [&]<class C>(std::string_view name) {
        CAPTURE(name);
        const auto out = home / std::string(name);
        test::convert_to(home / "model", out, name);
        const auto f = *shard::open_folder(out, {.access = file_access::read});
        const auto view = convert::stored_view<C>::open(f, {f.by_name.at("lm_head.q_weight"), f.by_name.at("lm_head.q_scale")});
        REQUIRE(view);
        const auto q = *quantize<C>(w, dims);
        for (std::uint64_t n = 0; n < dims[0]; ++n) {
            for (std::uint64_t g = 0; g < groups_of<C>(dims[1]); ++g) {
                const auto stored = view->block(n, g, dims[0], groups_of<C>(dims[1]));
                const auto made = load_block<C>(q.data(), n, g, dims[0], groups_of<C>(dims[1]));
                REQUIRE(std::get<0>(stored) == std::get<0>(made));
                const float scale = C::scale_of(made);
                REQUIRE(C::scale_of(stored) == (std::is_same_v<C, q4f32_1> ? to_f32(f32_to_shard_bf16(scale)) : scale));
            }
        }
    };
    check.operator()<q4f16_1>("q4f16_1");
    check.operator()<q4f32_1>("q4f32_1");
    check.operator()<q3f16_1>("q3f16_1");
    check.operator()<q4bf16_1>("q4bf16_1");
}
