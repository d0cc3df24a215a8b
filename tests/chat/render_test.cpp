// SPDX-License-Identifier: Apache-2.0
#include "nibble/chat/render.hpp"

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::chat;

TEST_CASE("Every registered template renders conversations as mlc_llm does", "[chat]") {
    const auto golden = json::parse(nibble::test::read_text(NIBBLE_TEST_DATA "/chat/prompts.json"));
    CHECK(golden["prompts"].size() == model::conversation_templates().size());
    for (const auto& t : model::conversation_templates()) {
        CAPTURE(t.name);
        REQUIRE(golden["prompts"].contains(t.name));
        for (std::size_t i = 0; i < golden["conversations"].size(); ++i) {
            conversation messages;
            for (const auto& m : golden["conversations"][i]) messages.push_back({m[0].get<std::string>(), m[1].get<std::string>()});
            const auto text = render(t, messages);
            REQUIRE(text);
            CHECK(*text == golden["prompts"][t.name][i].get<std::string>());
        }
    }
}

TEST_CASE("A conversation that a template cannot render is refused", "[chat]") {
    const auto* chatml = model::find_conversation_template("chatml");
    REQUIRE(chatml);
    const auto r = render(*chatml, {{"narrator", "once"}});
    REQUIRE_FALSE(r);
    CHECK(r.error().rule == "conversation template 'chatml' has no role 'narrator'");
    auto broken = *chatml;
    broken.seps.clear();
    CHECK_FALSE(render(broken, {{"user", "u"}}));
}

TEST_CASE("The template's own system message stands where none is given", "[chat]") {
    const auto* chatml = model::find_conversation_template("chatml");
    REQUIRE(chatml);
    CHECK(render(*chatml, {{"user", "u"}}) ==
          "<|im_start|>system\n" + chatml->system_message + "<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n");
}
