// SPDX-License-Identifier: Apache-2.0
#include "nibble/chat/detect.hpp"

#include "support/catch.hpp"
#include "support/chat_templates.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::chat;
using model::conversation_template;
using test::chat_template_of;
using test::registered;

namespace {

json tokenizer_of(const std::string& chat_template, const std::string& bos = "<s>") {
    return {{"bos_token", bos}, {"eos_token", {{"content", "</s>"}}}, {"chat_template", chat_template}};
}

detection detected(const json& tokenizer, checkpoint_facts facts = {}) {
    auto d = detect_template(tokenizer, std::move(facts));
    if (!d) FAIL(d.error().message());
    return std::move(*d);
}
}  // namespace

TEST_CASE("A chat_template that corresponds to a registered template is recognised as that", "[chat]") {
    for (const auto& t : model::conversation_templates()) {
        CAPTURE(t.name);
        for (const bool trims : {false, true}) {
            auto d = detected(tokenizer_of(chat_template_of(t, {.trims = trims})));
            CAPTURE(d.name, d.difference);
            CHECK(d.matched);
            const auto r = test::representatives().find(t.name);
            CHECK(d.name == (r == test::representatives().end() ? t.name : r->second));
            CHECK(d.match());
        }
        // with the checkpoint's own stop tokens and type, BOS in the text, each has its own name; but one renders as LM in everything
        checkpoint_facts facts;
        facts.model_type = test::type_of(t.name);
        facts.eos_token_ids = t.stop_token_ids;
        if (t.system_prefix_token_ids) facts.bos_token_id = t.system_prefix_token_ids->front();
        const auto d = detected(tokenizer_of(chat_template_of(t, {.bos = t.system_prefix_token_ids.has_value()})), facts);
        CHECK(d.matched);
        CHECK(d.name == (t.name == "codellama_completion" ? "LM" : t.name));
        CAPTURE(d.notes);
        CHECK(d.notes.empty());
    }
}

TEST_CASE("Without a default system message the neutral template of a family is named, and a note says what it adds", "[chat]") {
    const auto d = detected(tokenizer_of(chat_template_of(registered("hermes2_pro_llama3"), {.default_system = false})));
    CHECK(d.matched);
    CHECK(d.name == "chatml");
    REQUIRE(d.notes.size() == 1);
    CHECK(d.notes[0].find("without a system message the checkpoint renders none") == 0);
    checkpoint_facts qwen;
    qwen.model_type = "qwen2";
    qwen.eos_token_ids = {151645, 151643};
    CHECK(detected(tokenizer_of(chat_template_of(registered("qwen2"), {.default_system = false})), qwen).name == "qwen2");
    for (const std::string name : {"llama-3", "aya-23", "nemotron", "olmo2", "tinyllama_v1_0", "qwen3"}) {
        const auto other = detected(tokenizer_of(chat_template_of(registered(name), {.default_system = false})));
        CAPTURE(name, other.name, other.difference);
        CHECK(other.matched);
        CHECK(other.name == name);
    }
}

TEST_CASE("Near misses are not recognised", "[chat]") {
    std::size_t i = 0;
    for (const auto& [of, change] : test::near_misses()) {
        auto t = registered(of);
        change(t);
        CAPTURE(i++, of);
        for (const bool default_system : {true, false}) {
            // what differs in the default system message alone is no difference where there is none
            if (!default_system && (t.system_message != registered(of).system_message || of == "mistral_default")) continue;
            const auto d = detected(tokenizer_of(chat_template_of(t, {.default_system = default_system})));
            CAPTURE(default_system, d.name, d.custom_problem);
            CHECK_FALSE(d.matched);
            const auto stopped = d.match();
            REQUIRE_FALSE(stopped);
            CHECK(stopped.error().code == errc::mismatch);
            CHECK(d.difference.find("the checkpoint writes ") != std::string::npos);
            CHECK(stopped.error().message().find("the nearest is '" + d.name + "'") != std::string::npos);
        }
    }
    CHECK(i >= 20);
}

TEST_CASE("The difference is shown where it begins", "[chat]") {
    auto t = registered("chatml");
    t.seps = {"<|im_end|>"};
    const auto d = detected(tokenizer_of(chat_template_of(t)));
    CHECK(d.name == "chatml");
    CHECK(
        d.difference ==
        R"(on one question, after "question?\nIt's {{ x }} <b> Baq<|im_end|>", the checkpoint writes "<|im_start|>assistant\n" and 'chatml' writes "\n<|im_start|>assistant\n")");
}

TEST_CASE("A derived template renders as the checkpoint does", "[chat]") {
    // from each registered template, through its chat_template, to one that renders alike
    std::size_t derived = 0;
    for (const auto& t : model::conversation_templates()) {
        CAPTURE(t.name);
        const auto d = detected(tokenizer_of(chat_template_of(t)));
        CAPTURE(d.custom_problem);
        if (!d.custom) continue;
        ++derived;
        CHECK(d.custom->name == "custom");
        for (const conversation& messages :
             {conversation{{"user", "a"}}, {{"system", "s"}, {"user", "a"}}, {{"system", "s"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}}})
            CHECK(*render(*d.custom, messages) == *render(t, messages));
    }
    CHECK(derived == model::conversation_templates().size());
}

TEST_CASE("What is derived from templates in the style of known families", "[chat]") {
    const auto from = [](const std::string& name, checkpoint_facts facts = {}) {
        return detected(tokenizer_of(nibble::test::read_text(NIBBLE_TEST_DATA "/chat/templates/" + name + ".jinja")), std::move(facts));
    };
    checkpoint_facts bos;
    bos.bos_token_id = 1;
    bos.eos_token_ids = {2};
    const auto llama2 = from("llama2", bos);
    CHECK_FALSE(llama2.matched);
    REQUIRE(llama2.custom);
    CHECK(llama2.custom->system_template == "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n");
    CHECK_FALSE(llama2.custom->add_role_after_system_message);
    CHECK(llama2.custom->seps == std::vector<std::string>{" ", " </s><s>"});
    CHECK(llama2.custom->stop_str == std::vector<std::string>{"</s>"});
    CHECK(llama2.custom->stop_token_ids == std::vector<std::int64_t>{2});
    CHECK(llama2.custom->system_prefix_token_ids == std::vector<std::int64_t>{1});

    const auto qwen = from("qwen2_5");
    CHECK_FALSE(qwen.matched);
    CHECK(qwen.name == "qwen2");
    REQUIRE(qwen.custom);
    CHECK(qwen.custom->system_message == "You are Qwen, a helpful assistant.");
    CHECK(qwen.custom->roles.user == "<|im_start|>user");
    CHECK(qwen.custom->seps == std::vector<std::string>{"<|im_end|>\n"});

    CHECK(from("llama3").name == "llama-3");
    CHECK(from("gemma2").name == "gemma3_instruction");
    checkpoint_facts gemma;
    gemma.model_type = "gemma2";
    CHECK(from("gemma2", gemma).name == "gemma_instruction");
    const auto qwen3 = from("qwen3");
    CHECK(qwen3.matched);
    CHECK(qwen3.name == "qwen3");
    REQUIRE(qwen3.custom);
    CHECK(qwen3.custom->strip_reasoning_in_history);
    const auto dated = from("llama3_2");
    REQUIRE(dated.custom);
    CHECK(dated.custom->system_template.find("Today Date: 26 Jul 2024") != std::string::npos);
    CHECK(std::any_of(dated.custom_notes.begin(), dated.custom_notes.end(), [](const auto& n) { return n.find("date") != n.npos; }));

    const auto mistral = from("mistral_v3");  // the system message goes before the last question
    CHECK_FALSE(mistral.matched);
    CHECK_FALSE(mistral.custom);
    CHECK(mistral.derived().error().message().find("the template derived from one conversation does not render another alike") != std::string::npos);
}

TEST_CASE("What a checkpoint's files say", "[chat]") {
    const nibble::test::temp_folder folder;
    const auto none = read_checkpoint_files(folder.path());
    REQUIRE(none);
    const auto missing = detect_template(none->tokenizer_config, none->facts);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message() == "the checkpoint has no chat_template; name a conversation template with --conv-template");

    nibble::test::write_text(folder / "config.json", R"({"model_type": "llama", "eos_token_id": 7, "bos_token_id": 5})");
    nibble::test::write_text(
        folder / "tokenizer_config.json",
        R"({"eos_token": "<e>", "added_tokens_decoder": {"9": {"content": "<e>"}}, "chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d{{ eos_token }}"}]})");
    auto files = read_checkpoint_files(folder.path());
    REQUIRE(files);
    CHECK(files->facts.model_type == "llama");
    auto made = checkpoint_template::from(files->tokenizer_config, files->facts);
    REQUIRE(made);
    CHECK(made->render({{"user", "u"}}) == "d<e>");
    CHECK(made->eos_ids() == std::vector<std::int64_t>{7, 9});
    CHECK(made->bos_id() == 5);

    nibble::test::write_text(folder / "generation_config.json", R"({"eos_token_id": [1, 2]})");
    nibble::test::write_text(folder / "chat_template.json", R"({"chat_template": "json"})");
    files = read_checkpoint_files(folder.path());
    CHECK(files->facts.eos_token_ids == std::vector<std::int64_t>{1, 2});
    CHECK(checkpoint_template::from(files->tokenizer_config, files->facts)->render({{"user", "u"}}) == "json");
    nibble::test::write_text(folder / "chat_template.jinja", "file");
    files = read_checkpoint_files(folder.path());
    CHECK(checkpoint_template::from(files->tokenizer_config, files->facts)->render({{"user", "u"}}) == "file");

    nibble::test::write_text(folder / "config.json", "{");
    const auto broken = read_checkpoint_files(folder.path());
    REQUIRE_FALSE(broken);
    CHECK(broken.error().file == folder / "config.json");
}

TEST_CASE("A template that fails on a plain question says why", "[chat]") {
    const auto d = detect_template(tokenizer_of("{{ messages | frob }}"));
    REQUIRE_FALSE(d);
    CHECK(d.error().message() == "chat template, line 1: the filter 'frob' is not supported");
    CHECK_FALSE(detect_template(tokenizer_of("{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}x")));
    CHECK_FALSE(detect_template(json{{"chat_template", 3}}));
}
