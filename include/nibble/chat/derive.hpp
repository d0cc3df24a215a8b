// SPDX-License-Identifier: Apache-2.0
#pragma once
// A conversation template derived from a checkpoint's chat_template: the text between the probes' messages is taken apart, and what
// comes out must render all probes as the checkpoint does (detect.hpp), or it is not given. The rest of detector.hpp.

#include "nibble/chat/detector.hpp"

namespace nibble::chat::detail {

/// The texts before, between and after the messages of a rendered probe; empty if a message is not found in its place.
[[nodiscard]] inline std::vector<std::string_view> around(std::string_view text, const conversation& messages) {
    std::vector<std::string_view> parts;
    std::size_t at = 0;
    for (const auto& m : messages) {
        const auto found = text.find(m.content, at);
        if (found == text.npos) return {};
        parts.push_back(text.substr(at, found - at));
        at = found + m.content.size();
    }
    parts.push_back(text.substr(at));
    return parts;
}

inline constexpr std::string_view neutral_system_message = "You are a helpful assistant.";

/// Fills the system part. `before` is what stands before the first question where there is no system message. Returns a problem, or nothing.
inline std::string detector::derive_system(model::conversation_template& t, std::vector<std::string>& notes, std::string_view before,
                                           std::string_view user_head) const {
    const auto fixed = before.substr(0, before.size() - user_head.size());
    if (!takes_system_) {
        t.system_message = std::string(fixed);
        notes.push_back("the checkpoint's chat_template refuses system messages (" + probes_[3].refusal +
                        "); this template would put them before the first question as they are");
        return {};
    }
    const auto rendered = without_bos(*probes_[3].rendered);
    if (rendered == without_bos(*probes_[0].rendered)) {
        t.system_template = std::string(fixed);
        notes.push_back("the checkpoint leaves system messages out, and so does this template");
        return {};
    }
    const auto parts = around(rendered, probes_[3].messages);
    if (parts.empty()) return "the system message does not stand, as it is, before the first question";
    auto lead = parts[0], trail = parts[1];
    auto plain = fixed;  // what stands in its place without a system message
    t.add_role_after_system_message = trail.ends_with(user_head);
    if (t.add_role_after_system_message)
        trail.remove_suffix(user_head.size());
    else
        plain = fixed.empty() ? fixed : before;
    t.system_template = std::string(lead) + "{system_message}" + std::string(trail);
    if (plain.size() >= lead.size() + trail.size() && plain.starts_with(lead) && plain.ends_with(trail)) {
        t.system_message = std::string(plain.substr(lead.size(), plain.size() - lead.size() - trail.size()));
    } else if (plain.empty() && before == std::string(lead) + std::string(trail)) {  // an empty system message leaves nothing behind
        t.system_message.clear();
    } else if (plain.empty()) {
        t.system_message = std::string(neutral_system_message);
        notes.push_back("without a system message the checkpoint renders no system part, which a conversation template cannot say: " +
                        shown(neutral_system_message) + " is put there");
    } else {
        return "without a system message it writes " + shown(plain) + ", which has not the form that it gives to system messages";
    }
    return {};
}

/// Stop criteria and BOS.
inline void detector::derive_tokens(model::conversation_template& t, std::vector<std::string>& notes, std::string_view turn_end) const {
    const auto eos = checkpoint_.special_token("eos_token");
    t.stop_token_ids = checkpoint_.eos_ids();
    const auto end = strip(turn_end);
    if (!eos.empty() && end.starts_with(eos)) {
        t.stop_str.push_back(eos);
    } else {
        const std::string marker(end.substr(0, end.find('\n')));
        if (!marker.empty()) {
            t.stop_str.push_back(marker);
            const auto id = checkpoint_.id_of(marker);
            if (id && std::find(t.stop_token_ids.begin(), t.stop_token_ids.end(), *id) == t.stop_token_ids.end()) t.stop_token_ids.push_back(*id);
        }
        if (!eos.empty()) t.stop_str.push_back(eos);
    }
    if (t.stop_token_ids.empty() && t.stop_str.empty())
        notes.push_back("neither a text nor a token is known that ends an answer: add stop_str or stop_token_ids");
    if (!starts_with_bos_) return;
    if (const auto id = checkpoint_.bos_id())
        t.system_prefix_token_ids = model::conversation_template::token_ids{*id};
    else
        notes.push_back("the checkpoint's prompts begin with " + shown(bos_) + ", whose id is not known: this template does not add it");
}

inline std::string detector::derive_into(model::conversation_template& t, std::vector<std::string>& notes) const {
    const auto& p = probes_[longest_probe];
    const auto rendered = without_bos(*p.rendered);
    const auto parts = around(rendered, p.messages);
    if (parts.empty()) return "on " + p.name + " a message's text is changed or left out";
    const auto before = parts[0], to_answer = parts[1], to_question = parts[2], ending = parts[5];
    if (parts[3] != to_answer || parts[4] != to_question)
        return "what it writes between messages changes from turn to turn: " + shown(to_answer) + " and then " + shown(parts[3]) + ", " + shown(to_question) +
               " and then " + shown(parts[4]);

    // Where the separator after an answer ends and the user's role begins: any place will do, if only the role also ends `before`. What
    // reads well is a role that stands alone at the beginning, else one that begins with the last bracket that both turns share.
    const auto longest_head = common_suffix(before, to_question);
    auto cut = to_question.size() - longest_head;
    if (longest_head != before.size()) {
        const auto eos = checkpoint_.special_token("eos_token");
        const auto shared = to_question.substr(0, common_prefix(to_question, to_answer));
        const auto bracket = shared.find_last_of("<[");
        if (bracket != shared.npos && bracket > cut)
            cut = bracket;
        else if (!eos.empty() && to_question.starts_with(eos) && eos.size() > cut)
            cut = eos.size();
    }
    const auto user_head = to_question.substr(cut), after_answer = to_question.substr(0, cut);

    // What an answer's beginning and an empty one share is the separator after a question and the assistant's role.
    const auto shared = to_answer.substr(0, common_prefix(to_answer, ending));
    std::size_t separator = 0;
    if (shared.starts_with(after_answer)) {
        separator = after_answer.size();
        t.seps = {std::string(after_answer)};
    } else {
        separator = std::min(shared.find_first_not_of(" \n"), shared.size());
        t.seps = {std::string(shared.substr(0, separator)), std::string(after_answer)};
    }
    const auto answer_head = to_answer.substr(separator), role_shared = shared.substr(separator);
    const auto extra = answer_head.size() - role_shared.size();  // stands before an answer's text only
    auto content_sep = common_suffix(user_head, answer_head);
    const auto in_role = [&] { return std::string_view(" \n:<[").find(user_head[user_head.size() - content_sep]) == std::string_view::npos; };
    while (content_sep > extra && in_role()) --content_sep;
    if (content_sep < extra) {
        t.role_templates.assistant = std::string(answer_head.substr(role_shared.size())) + t.role_templates.assistant;
        t.roles.user = std::string(user_head);
        t.roles.assistant = std::string(role_shared);
    } else {
        t.role_content_sep = std::string(user_head.substr(user_head.size() - content_sep));
        t.roles.user = std::string(user_head.substr(0, user_head.size() - content_sep));
        t.roles.assistant = std::string(answer_head.substr(0, answer_head.size() - content_sep));
    }
    t.roles.tool = t.roles.user;
    t.role_empty_sep = std::string(ending.substr(separator + t.roles.assistant.size()));

    if (auto problem = derive_system(t, notes, before, user_head); !problem.empty()) return problem;
    derive_tokens(t, notes, after_answer);
    for (const auto* part : {&t.roles.user, &t.roles.assistant, &t.role_content_sep, &t.role_empty_sep, &t.system_message, &t.seps.front(), &t.seps.back()}) {
        for (const auto placeholder : {"{system_message}", "{user_message}", "{assistant_message}", "{tool_message}", "{function_string}"}) {
            if (part->find(placeholder) != part->npos)
                return "it writes " + std::string(placeholder) + ", which stands for something else in a conversation template";
        }
    }
    return {};
}

inline void detector::derive(detection& d) const {
    model::conversation_template t;
    t.name = "custom";
    std::vector<std::string> derived_notes;
    d.custom_problem = derive_into(t, derived_notes);
    if (!d.custom_problem.empty()) return;
    auto proof = compare(t);
    if (proof.equal && !proof.reasoning_equal) {
        t.strip_reasoning_in_history = true;
        proof = compare(t);
        if (!proof.reasoning_equal) t.strip_reasoning_in_history = false;
    }
    if (!proof.equal) {
        d.custom_problem = "the template derived from one conversation does not render another alike: " + proof.difference;
        return;
    }
    if (!proof.trimmed.empty()) derived_notes.push_back("the checkpoint trims white space around texts, which a conversation template cannot say");
    if (!proof.reasoning_equal) derived_notes.push_back("the checkpoint treats <think>...</think> of earlier answers in its own way; this template keeps it");
    if (dated_) derived_notes.push_back("the checkpoint's chat_template writes the day's date; in this template one date stands for good");
    d.custom_notes = std::move(derived_notes);
    d.custom = std::move(t);
}

}  // namespace nibble::chat::detail
