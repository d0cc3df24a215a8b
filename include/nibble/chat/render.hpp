// SPDX-License-Identifier: Apache-2.0
#pragma once
// A conversation as the text that a model is given: by a conversation template of mlc_llm, as Conversation.as_prompt of
// mlc_llm/protocol/conversation_protocol.py renders plain text, and as WebLLM does after it.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/core/result.hpp"
#include "nibble/model/conv_templates.hpp"

namespace nibble::chat {

/// One message of a conversation.
struct message {
    std::string role;  ///< system, user, assistant or tool
    std::string content;
};
/// Messages, the oldest first.
using conversation = std::vector<message>;

namespace detail {

inline void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
}
[[nodiscard]] inline std::string replaced_in(std::string text, std::string_view from, std::string_view to) {
    replace_all(text, from, to);
    return text;
}

/// "<think>...</think>" and the newlines after it, taken off the front of an earlier answer.
[[nodiscard]] inline std::string without_reasoning(const std::string& content) {
    constexpr std::string_view close = "</think>";
    const auto end = content.rfind(close);
    if (end == content.npos) return content;
    const auto answer = content.find_first_not_of('\n', end + close.size());
    return answer == content.npos ? std::string() : content.substr(answer);
}

[[nodiscard]] inline std::string system_text(const model::conversation_template& t, std::string_view message) {
    return replaced_in(t.system_template, "{system_message}", message);
}

/// The messages after the system's, behind a system text that is already rendered, and the role of the answer that is to follow.
[[nodiscard]] inline result<std::string> prompt_after(const model::conversation_template& t, std::string prompt, const conversation& messages) {
    if (t.seps.empty() || t.seps.size() > 2)
        return fail(errc::malformed, "conversation template '" + t.name + "' has " + std::to_string(t.seps.size()) + " separators: one or two are needed");
    const bool has_system = !prompt.empty();
    std::size_t last_user = 0;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        if (messages[i].role == "user") last_user = i;
    }
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const auto& [role, content] = messages[i];
        const std::string *name = nullptr, *form = nullptr;
        if (role == "user") name = &t.roles.user, form = &t.role_templates.user;
        if (role == "assistant") name = &t.roles.assistant, form = &t.role_templates.assistant;
        if (role == "tool" && t.roles.tool) name = &*t.roles.tool, form = &t.role_templates.tool;
        if (!name) return fail(errc::unsupported, "conversation template '" + t.name + "' has no role '" + role + "'");
        if (t.add_role_after_system_message || !has_system || i != 0) prompt += *name + t.role_content_sep;
        const bool strip = t.strip_reasoning_in_history && role == "assistant" && i < last_user;
        prompt += replaced_in(*form, "{" + role + "_message}", strip ? without_reasoning(content) : content);
        prompt += t.seps[role == "assistant" ? t.seps.size() - 1 : 0];
    }
    prompt += t.roles.assistant + t.role_empty_sep;
    replace_all(prompt, "{function_string}", "");  // no functions are offered
    return prompt;
}

}  // namespace detail

/// The prompt of a conversation whose answer is to follow. A system message anywhere takes the place of the template's own (the last one
/// counts), as in mlc_llm's engine. BOS is not in it: that is t.system_prefix_token_ids, which the engine puts before the tokens.
/// Errors: unsupported (a role that the template does not have).
[[nodiscard]] inline result<std::string> render(const model::conversation_template& t, const conversation& messages) {
    std::string_view system = t.system_message;
    conversation others;
    for (const auto& m : messages) {
        if (m.role == "system")
            system = m.content;
        else
            others.push_back(m);
    }
    return detail::prompt_after(t, detail::system_text(t, system), others);
}

}  // namespace nibble::chat
