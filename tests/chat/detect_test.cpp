// SPDX-License-Identifier: Apache-2.0
#include "nibble/chat/detect.hpp"

#include <functional>
#include <map>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::chat;
using model::conversation_template;

namespace {

std::string literal(const std::string& text) { return json(text).dump(); }

/// How a chat_template may differ from the conversation template that it is made from.
struct manner {
    bool default_system = true;  // renders the template's own system message where none is given; else no system part
    bool bos = false;            // begins with bos_token
    bool trims = false;
};

/// A chat_template that corresponds to a conversation template, written as checkpoints write theirs.
std::string chat_template_of(const conversation_template& t, const manner& how = {}) {
    const auto split = [](const std::string& form, const std::string& placeholder, const std::string& value) {
        auto text = chat::detail::replaced_in(form, "{function_string}", "");
        const auto at = text.find(placeholder);
        if (at == text.npos) return literal(text);
        return "(" + literal(text.substr(0, at)) + " ~ " + value + " ~ " + literal(text.substr(at + placeholder.size())) + ")";
    };
    const std::string content = how.trims ? "(content | trim)" : "content";
    std::string j = how.bos ? "{{ bos_token }}" : "";
    j += "{%- set ns = namespace(last=-1, bare=false) -%}\n{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}{%- set rest = "
         "messages[1:] -%}\n";
    j += "{%- else -%}{%- set system = " + literal(t.system_message) + " -%}{%- set rest = messages -%}";
    if (!how.default_system) j += "{%- set ns.bare = true -%}";
    j += "{%- endif -%}\n{%- set start = " + split(t.system_template, "{system_message}", how.trims ? "system | trim" : "system") +
         " if not ns.bare else '' -%}{{- start -}}\n";
    j += "{%- for message in rest -%}{%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}\n";
    j += "{%- for message in rest -%}\n  {%- set content = message.content -%}\n";
    if (t.strip_reasoning_in_history)
        j += "  {%- if message.role == 'assistant' and loop.index0 < ns.last and '</think>' in content -%}{%- set content = "
             "content.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}\n";
    j += "  {%- if message.role == 'user' -%}\n    ";
    j += t.add_role_after_system_message ? "" : "{%- if not (loop.first and start) -%}";
    j += "{{- " + literal(t.roles.user + t.role_content_sep) + " -}}";
    j += t.add_role_after_system_message ? "" : "{%- endif -%}";
    j += "{{- " + split(t.role_templates.user, "{user_message}", content) + " + " + literal(t.seps.front()) + " -}}\n";
    j += "  {%- else -%}\n    {{- " + literal(t.roles.assistant + t.role_content_sep) + " + " +
         split(t.role_templates.assistant, "{assistant_message}", content) + " + " + literal(t.seps.back()) + " -}}\n";
    j += "  {%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}{{- " + literal(t.roles.assistant + t.role_empty_sep) + " -}}{%- endif -%}\n";
    return j;
}

json tokenizer_of(const std::string& chat_template, const std::string& bos = "<s>") {
    return {{"bos_token", bos}, {"eos_token", {{"content", "</s>"}}}, {"chat_template", chat_template}};
}

detection detected(const json& tokenizer, checkpoint_facts facts = {}) {
    auto d = detect_template(tokenizer, std::move(facts));
    if (!d) FAIL(d.error().message());
    return std::move(*d);
}
const conversation_template& registered(std::string_view name) {
    const auto* t = model::find_conversation_template(name);
    REQUIRE(t != nullptr);
    return *t;
}
/// Model types for those templates that only a type tells apart.
std::string type_of(const std::string& name) {
    for (const auto& f : chat::detail::template_families) {
        if (f.name == name) return std::string(f.model_types[0]);
    }
    return "llama";
}

/// Templates that render alike in all, and which one is named when nothing but the text is known.
const std::map<std::string, std::string> representatives{
    {"LM", "gpt2"},
    {"codellama_completion", "gpt2"},
    {"gpt_bigcode", "gpt2"},
    {"gemma_instruction", "gemma3_instruction"},
    {"deepseek_v2", "deepseek"},
    {"llama-3_1", "llama-3"},
    {"open_hermes_mistral", "hermes2_pro_llama3"},
    {"phi-4", "phi-3"},
    {"deepseek_r1_qwen", "deepseek_r1_llama"},
    {"stablelm-3b", "stablelm-2"},
};

}  // namespace

TEST_CASE("A chat_template that corresponds to a registered template is recognised as that", "[chat]") {
    for (const auto& t : model::conversation_templates()) {
        CAPTURE(t.name);
        for (const bool trims : {false, true}) {
            auto d = detected(tokenizer_of(chat_template_of(t, {.trims = trims})));
            CAPTURE(d.name, d.difference);
            CHECK(d.matched);
            const auto r = representatives.find(t.name);
            CHECK(d.name == (r == representatives.end() ? t.name : r->second));
            CHECK(d.match());
        }
        // with the checkpoint's own stop tokens and type, BOS in the text, each has its own name; but one renders as LM in everything
        checkpoint_facts facts;
        facts.model_type = type_of(t.name);
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
    struct near_miss {
        std::string of;
        std::function<void(conversation_template&)> change;
    };
    const auto chatml = [](auto change) { return near_miss{"chatml", change}; };
    const std::vector<near_miss> misses{
        chatml([](auto& t) { t.seps = {"<|im_end|>"}; }),      // no newline after a turn
        chatml([](auto& t) { t.seps = {"<|im_end|>\n\n"}; }),  // two
        chatml([](auto& t) {
            t.seps = {"<|im_end|>\n", "<|im_end|>"};
        }),                                                                                               // none after an answer
        chatml([](auto& t) { t.role_content_sep = " "; }),                                                // a space after the role
        chatml([](auto& t) { t.role_empty_sep = ""; }),                                                   // the prompt ends without a newline
        chatml([](auto& t) { t.roles.assistant = "<|im_start|>model"; }),                                 // another role name
        chatml([](auto& t) { t.roles.user = "<|im_start|>User"; }),                                       // a capital letter
        chatml([](auto& t) { t.system_template = "<|im_start|>system\n{system_message}<|im_end|>"; }),    // no newline after the system
        chatml([](auto& t) { t.system_template = "{system_message}\n<|im_start|>system<|im_end|>\n"; }),  // the other order
        chatml([](auto& t) { t.system_template = "<|im_start|>user\n{system_message}<|im_end|>\n"; }),    // the system as a user
        chatml([](auto& t) { t.system_message = "You are somebody else."; }),                             // another default
        chatml([](auto& t) { t.system_message = ""; }),                                                   // an empty system part where none is given
        chatml([](auto& t) { t.role_templates.user = "Q: {user_message}"; }),                             // text before the question
        chatml([](auto& t) { t.role_templates.assistant = "{assistant_message} "; }),                     // a space after the answer
        chatml([](auto& t) { t.add_role_after_system_message = false; }),                                 // no role for the first question
        {"llama-3", [](auto& t) { t.role_content_sep = t.role_empty_sep = "<|end_header_id|>\n"; }},
        {"llama-3", [](auto& t) { t.seps = {"<|eot_id|>\n"}; }},
        {"llama-2", [](auto& t) { t.role_empty_sep = ""; }},
        {"llama-2", [](auto& t) { t.system_template = "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n"; }},
        {"gemma_instruction", [](auto& t) { t.roles.assistant = "<start_of_turn>assistant"; }},
        {"gemma_instruction", [](auto& t) { t.seps = {"<end_of_turn>"}; }},
        {"phi-3", [](auto& t) { t.system_template = "<|system|>\n{system_message}<|end|>\n"; }},
        {"mistral_default",
         [](auto& t) {
             t.seps = {" ", "</s>"};
         }},
        {"deepseek", [](auto& t) { t.role_empty_sep = ": "; }},
        {"stablelm-2", [](auto& t) { std::swap(t.roles.user, t.roles.assistant); }},
        {"orion", [](auto& t) { t.role_empty_sep = ""; }},
        {"rwkv_world", [](auto& t) { t.seps = {"\n"}; }},
        {"tinyllama_v1_0", [](auto& t) { t.seps = {"</s>\n"}; }},
        {"LM", [](auto& t) { t.seps = {" "}; }},
    };
    std::size_t i = 0;
    for (const auto& [of, change] : misses) {
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
