// SPDX-License-Identifier: Apache-2.0
// Every registered template as mlc_llm emits it: json.dumps(template, indent=2) has the recorded md5.

#include "nibble/model/conv_templates.hpp"

#include <fstream>
#include <span>
#include <string>

#include "nibble/core/md5.hpp"
#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("each registered conversation template has mlc_llm's bytes", "[model][templates]") {
    std::ifstream recorded(NIBBLE_TEST_DATA "/mlc/conv_templates.tsv");
    std::string name, sum;
    std::size_t count = 0;
    while (recorded >> name >> sum) {
        INFO(name);
        const auto* found = model::find_conversation_template(name);
        REQUIRE(found != nullptr);
        const auto text = model::to_json(*found).dump(2, ' ', true);
        md5 of_text;
        of_text.update(std::as_bytes(std::span(text)));
        CHECK(of_text.hex() == sum);
        ++count;
    }
    CHECK(count == 53);
    CHECK(model::conversation_templates().size() == count);
    CHECK(model::find_conversation_template("llama_default") == nullptr);
}

TEST_CASE("a template that was written is read as it was", "[model][templates]") {
    for (const auto& t : model::conversation_templates()) {
        INFO(t.name);
        const auto read = model::read_conversation_template(model::to_json(t));
        REQUIRE(read);
        CHECK(model::to_json(*read) == model::to_json(t));
    }
    // Absent fields are what WebLLM takes for them.
    const auto least = model::read_conversation_template({{"roles", {{"user", "U"}, {"assistant", "A"}}}, {"seps", {"\n"}}});
    REQUIRE(least);
    CHECK(least->role_content_sep == ": ");
    CHECK(least->role_empty_sep == ": ");
    CHECK(least->system_template == "{system_message}");
    CHECK_FALSE(least->system_prefix_token_ids);
    const auto refusal = [](const char* key, const json& value) {
        auto j = model::to_json(model::conversation_templates().front());
        j[key] = value;
        const auto read = model::read_conversation_template(j);
        return read ? std::string() : read.error().rule;
    };
    CHECK(refusal("seps", json::array()) == "\"seps\" in conv_template must be a list of one or two");
    CHECK(refusal("seps", "\n") == "\"seps\" in conv_template must be a list of one or two");
    CHECK(refusal("roles", {{"user", "u"}}) == "\"roles\" in conv_template must be an object that names user and assistant");
    CHECK(refusal("roles", 3) == "\"roles\" in conv_template must be an object that names user and assistant");
    CHECK(refusal("stop_token_ids", {"a"}) == "\"stop_token_ids\" in conv_template must be a list of token ids");
    CHECK(refusal("system_message", 7) == "\"system_message\" in conv_template must be a string");
    CHECK(refusal("add_role_after_system_message", 1) == "\"add_role_after_system_message\" in conv_template must be true or false");
    CHECK_FALSE(model::read_conversation_template("chatml"));
}
