// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether the conversation template of an mlc-chat-config.json is the one of its tokenizer: by what both make of the same conversations,
// or, where the checkpoint's chat_template cannot be rendered or is not there, by the markers ("<|im_start|>") that both speak of.

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "nibble/chat/detect.hpp"
#include "nibble/core/json.hpp"

namespace nibble::convert {

/// What looks like a token of its own in a text: "<|...|>" and "<...>" without blanks in them.
[[nodiscard]] inline std::set<std::string> markers_in(std::string_view text) {
    std::set<std::string> found;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '<') continue;
        std::size_t end = i + 1;
        const auto inner = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '|' || c == '-' || c == '/' || c == '.';
        };
        while (end < text.size() && end - i < 64 && inner(text[end])) ++end;
        const bool closed = end < text.size() && text[end] == '>' && end > i + 1;
        if (!closed) continue;
        found.emplace(text.substr(i, end - i + 1));
        i = end;
    }
    return found;
}

/// All texts in a value, one after the other.
inline void collect_texts(const json& value, std::string& out) {
    if (value.is_string()) out += value.get_ref<const std::string&>() + "\n";
    if (value.is_structured()) {
        for (const auto& part : value) collect_texts(part, out);
    }
}

/// The chat_template of a tokenizer_config.json: a text, or the one named "default" of a list. Empty if there is none.
[[nodiscard]] inline std::string chat_template_of(const json& tokenizer_config) {
    if (!tokenizer_config.is_object()) return {};
    const auto at = tokenizer_config.find("chat_template");
    if (at == tokenizer_config.end()) return {};
    if (at->is_string()) return at->get<std::string>();
    std::string first;
    if (at->is_array()) {
        for (const auto& one : *at) {
            if (!one.is_object() || !one.contains("template") || !one["template"].is_string()) continue;
            const auto text = one["template"].get<std::string>();
            if (one.contains("name") && one["name"] == "default") return text;
            if (first.empty()) first = text;
        }
    }
    return first;
}

/// How a conv_template compares with the chat_template of a tokenizer_config.json on probe conversations; nothing where that cannot be said.
[[nodiscard]] inline std::optional<chat::template_comparison> rendered_alike(const json& conv_template, const json& tokenizer_config) {
    const auto t = model::read_conversation_template(conv_template);
    const auto checkpoint = chat::checkpoint_template::from(tokenizer_config);
    if (!t || !checkpoint) return std::nullopt;
    auto compared = chat::compare_template(*checkpoint, *t);
    if (!compared) return std::nullopt;
    return std::move(*compared);
}

/// What speaks by its markers against a conv_template being that of the checkpoint; nothing if nothing does. `tokens`: the texts of the tokenizer's added
/// tokens.
[[nodiscard]] inline std::optional<std::string> template_mismatch(const json& conv_template, const std::string& chat_template, const json& tokenizer_config,
                                                                  const std::set<std::string>& tokens) {
    std::string text;
    for (const char* key : {"system_template", "roles", "role_templates", "seps", "role_content_sep", "role_empty_sep"}) {
        if (conv_template.contains(key)) collect_texts(conv_template[key], text);
    }
    const auto ours = markers_in(text);
    const auto theirs = markers_in(chat_template);
    for (const auto& marker : ours) {
        if (!tokens.contains(marker) && !theirs.contains(marker))
            return "it uses " + marker + ", which is neither a token of the tokenizer nor in the checkpoint's chat_template";
    }
    if (chat_template.empty()) return std::nullopt;
    // Which markers does the checkpoint's template live by? Those of the start and the end of all text say nothing.
    std::set<std::string> general;
    for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
        if (!tokenizer_config.is_object() || !tokenizer_config.contains(key)) continue;
        const auto& v = tokenizer_config[key];
        if (v.is_string()) general.insert(v.get<std::string>());
        if (v.is_object() && v.contains("content") && v["content"].is_string()) general.insert(v["content"].get<std::string>());
    }
    // An end-of-turn token is often the eos token too; it still divides turns where ours has it.
    std::string lives_by;
    for (const auto& marker : theirs) {
        if (!tokens.contains(marker) || general.contains(marker)) continue;
        if (ours.contains(marker)) return std::nullopt;
        if (lives_by.empty()) lives_by = marker;
    }
    if (lives_by.empty()) return std::nullopt;
    return "the checkpoint's chat_template uses " + lives_by + ", and it uses none of that template's tokens";
}

}  // namespace nibble::convert
