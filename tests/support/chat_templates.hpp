// SPDX-License-Identifier: Apache-2.0
#pragma once
// Chat templates in Jinja made from conversation templates, as checkpoints would write them, and others that differ from them a little.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/chat/detect.hpp"

namespace nibble::test {

using model::conversation_template;

[[nodiscard]] inline std::string literal(const std::string& text) { return json(text).dump(); }

/// How a chat_template may differ from the conversation template that it is made from.
struct manner {
    bool default_system = true;  // renders the template's own system message where none is given; else no system part
    bool bos = false;            // begins with bos_token
    bool trims = false;
};

/// A chat_template that corresponds to a conversation template, written as checkpoints write theirs.
[[nodiscard]] inline std::string chat_template_of(const conversation_template& t, const manner& how = {}) {
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

/// A registered template, which must be there.
[[nodiscard]] inline const conversation_template& registered(std::string_view name) {
    const auto* t = model::find_conversation_template(name);
    if (t == nullptr) std::abort();
    return *t;
}
/// Model types for those templates that only a type tells apart.
[[nodiscard]] inline std::string type_of(const std::string& name) {
    for (const auto& f : chat::detail::template_families) {
        if (f.name == name) return std::string(f.model_types[0]);
    }
    return "llama";
}

/// Templates that render alike in all, and which one is named when nothing but the text is known.
[[nodiscard]] inline const std::map<std::string, std::string>& representatives() {
    static const std::map<std::string, std::string> names{
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
    return names;
}

/// A template, and a small change that makes it none of the registered ones.
struct near_miss {
    std::string of;
    std::function<void(conversation_template&)> change;
};
[[nodiscard]] inline std::vector<near_miss> near_misses() {
    const auto chatml = [](auto change) { return near_miss{"chatml", change}; };
    return {
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
}

}  // namespace nibble::test
