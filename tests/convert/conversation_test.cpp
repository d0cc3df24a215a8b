// SPDX-License-Identifier: Apache-2.0
// Conversation templates found and derived on the way of gen-config: from a folder with its files to mlc-chat-config.json.

#include "nibble/convert/conversation.hpp"

#include <filesystem>

#include "nibble/convert/gen_config.hpp"
#include "support/catch.hpp"
#include "support/chat_templates.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;

namespace conversation_test {

const std::string llama =
    R"({"model_type":"llama","hidden_size":64,"intermediate_size":176,"num_attention_heads":4,"num_hidden_layers":2,"rms_norm_eps":1e-05,)"
    R"("vocab_size":96,"max_position_embeddings":512})";

/// A checkpoint with a chat_template, in its tokenizer_config.json.
struct checkpoint {
    test::temp_folder folder;
    explicit checkpoint(const std::string& chat_template) {
        test::write_text(folder.path() / "config.json", llama);
        say(chat_template);
    }
    void say(const std::string& chat_template) const {
        const json tokenizer{{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}, {"chat_template", chat_template}};
        test::write_text(folder.path() / "tokenizer_config.json", tokenizer.dump());
    }
    [[nodiscard]] result<convert::chat_folder> made(const std::string& conv_template = {}) const {
        convert::gen_config_options options;
        options.quantization = "q4f16_1";
        options.conv_template = conv_template;
        return convert::make_chat_folder(folder.path().string(), {}, options);
    }
};

std::string named(const result<convert::chat_folder>& made) {
    if (!made) return made.error().message();
    return made->config["conv_template"]["name"].get<std::string>();
}

TEST_CASE("gen-config finds each registered template by the checkpoint's chat_template", "[conversation]") {
    const checkpoint c("");
    std::size_t n = 0;
    for (const auto& t : model::conversation_templates()) {
        CAPTURE(t.name);
        c.say(test::chat_template_of(t));
        // The model type is llama's in all: it decides between templates that render alike.
        const auto r = test::representatives().find(t.name);
        const auto by_text = r == test::representatives().end() ? t.name : r->second;
        const auto made = c.made();
        const auto name = named(made);
        REQUIRE(made);
        const auto& found = test::registered(name);
        const bool alike = name == by_text || *chat::render(found, {{"user", "a"}, {"assistant", "b"}, {"user", "c"}}) ==
                                                  *chat::render(t, {{"user", "a"}, {"assistant", "b"}, {"user", "c"}});
        CHECK(alike);
        CHECK(made->config["conv_template"] == model::to_json(found));
        REQUIRE_FALSE(made->notes.empty());
        CHECK(test::has(made->notes[0], "conversation template '" + name + "'"));
        // named by hand it is the same, and nothing is said
        CHECK(c.made(name)->config == made->config);
        CHECK(c.made(name)->notes.empty());
        ++n;
    }
    CHECK(n > 50);
}

TEST_CASE("gen-config stops at near misses, shows the difference, and derives a template when it is asked to", "[conversation]") {
    const checkpoint c("");
    std::size_t n = 0;
    for (const auto& [of, change] : test::near_misses()) {
        auto t = test::registered(of);
        change(t);
        CAPTURE(n++, of);
        c.say(test::chat_template_of(t));
        const auto made = c.made();
        REQUIRE_FALSE(made);
        CHECK(made.error().code == errc::mismatch);
        CHECK(made.error().file == c.folder.path());
        CHECK(test::has(made.error().rule, "the checkpoint writes "));
        CHECK(test::has(made.error().remedy, "--conv-template"));
        const auto custom = c.made("custom");
        if (!custom) {
            CHECK_FALSE(test::has(made.error().remedy, "--conv-template custom"));
            CHECK(test::has(custom.error().remedy, "--conv-template"));
            continue;
        }
        CHECK(test::has(made.error().remedy, "--conv-template custom"));
        CHECK(named(custom) == "custom");
        const auto derived = convert::choose_template(c.folder.path().string(), "custom");
        REQUIRE(derived);
        CHECK(custom->config["conv_template"] == model::to_json(derived->conversation));
        const chat::conversation messages{{"system", "s"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}};
        CHECK(*chat::render(derived->conversation, messages) == *chat::render(t, messages));
    }
    CHECK(n >= 20);
}

TEST_CASE("a checkpoint that says nothing about chats, or what cannot be read, is told with a remedy", "[conversation]") {
    const test::temp_folder folder;
    test::write_text(folder / "config.json", llama);
    const auto refusal = [&](const std::string& name) {
        const auto chosen = convert::choose_template(folder.path().string(), name);
        return chosen ? std::string() : chosen.error().message();
    };
    CHECK(test::has(refusal(""), "has no chat_template, and so no conversation template can be found; name one with --conv-template: LM, "));
    CHECK(test::has(refusal("custom"), "no conversation template can be derived"));
    CHECK(test::has(refusal("nobody"), "custom, which is derived"));
    CHECK(refusal("chatml").empty());
    test::write_text(folder / "chat_template.jinja", "{{ messages | frobnicate }}");
    CHECK(refusal("") ==
          folder.path().string() + ": chat template, line 1: the filter 'frobnicate' is not supported; name a conversation template with --conv-template");
    test::write_text(folder / "chat_template.jinja", test::chat_template_of(test::registered("llama-3")));
    CHECK(refusal("").empty());
    CHECK(convert::choose_template(folder / "config.json", "")->conversation.name == "llama-3");
    // A link that leads out of the folder is not followed unless allowed.
    const test::temp_folder other;
    test::write_text(other / "chat_template.jinja", test::chat_template_of(test::registered("chatml")));
    std::filesystem::remove(folder / "chat_template.jinja");
    std::filesystem::create_symlink(other / "chat_template.jinja", folder / "chat_template.jinja");
    CHECK(test::has(refusal(""), "--follow-links"));
    CHECK(convert::choose_template(folder.path().string(), "", {}, {.follow_links = true})->conversation.name == "chatml");
    CHECK(refusal("chatml").empty());  // not looked at
}

TEST_CASE("the model type that is named goes before config.json's between templates that render alike", "[conversation]") {
    const checkpoint c(test::chat_template_of(test::registered("gemma_instruction")));
    const auto chosen = [&](const std::string& type) { return convert::choose_template(c.folder.path().string(), "", type)->conversation.name; };
    CHECK(chosen("gemma2") == "gemma_instruction");
    CHECK(chosen("gemma3") == "gemma3_instruction");
}

}  // namespace conversation_test
