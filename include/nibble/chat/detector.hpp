// SPDX-License-Identifier: Apache-2.0
#pragma once
// The probes of detect.hpp, how templates are compared on them, and how one is chosen among those that render alike.

#include <algorithm>
#include <array>
#include <set>

#include "nibble/chat/checkpoint.hpp"

namespace nibble::chat {

/// What detect_template found out.
struct detection {
    bool matched = false;
    std::string name;                                    ///< the template that matches, else the nearest one
    std::vector<std::string> notes;                      ///< about the match
    std::string difference;                              ///< no match: the first difference from the nearest, in words
    std::optional<model::conversation_template> custom;  ///< derived from the checkpoint and proved on all probes; made whether or not one matches
    std::vector<std::string> custom_notes;               ///< about `custom`
    std::string custom_problem;                          ///< why there is no `custom`

    /// The registered template that matches. Error: mismatch, with the difference and what to do.
    [[nodiscard]] result<const model::conversation_template*> match() const {
        if (matched) return model::find_conversation_template(name);
        std::string remedy = "--conv-template " + name + " takes the nearest one as it is";
        if (custom) remedy = "--conv-template custom writes a template derived from the checkpoint, and " + remedy;
        return fail(error{errc::mismatch,
                          "no conversation template renders as the checkpoint's chat_template; the nearest is '" + name + "': " + difference,
                          {},
                          {},
                          {},
                          remedy});
    }
    /// The derived template. Error: unsupported, with what cannot be said.
    [[nodiscard]] result<model::conversation_template> derived() const {
        if (custom) return *custom;
        return fail(error{errc::unsupported,
                          "no conversation template can be derived from the checkpoint's chat_template: " + custom_problem,
                          {},
                          {},
                          {},
                          "name a conversation template with --conv-template"});
    }
};

/// What compare_template found out about one conversation template.
struct template_comparison {
    enum class kind : std::uint8_t {
        same,
        default_system,  ///< only where no system message is given: the two have other texts of their own there
        white_space,     ///< in white space alone
        text
    };
    kind how = kind::same;
    std::string difference;          ///< the first one, in words; empty where they are the same
    std::vector<std::string> notes;  ///< same: what the comparison leaves out, as in detection::notes
};

namespace detail {

/// Model types for which mlc_llm has a template of its own; asked only between templates that render alike.
struct template_family {
    std::string_view name;
    std::array<std::string_view, 3> model_types;
    bool persona = false;  // its default system message speaks of one model: only for a checkpoint that says the same
};
inline constexpr std::array<template_family, 17> template_families{{
    {"deepseek", {"deepseek"}},
    {"deepseek_r1_llama", {"llama"}},
    {"deepseek_r1_qwen", {"qwen2"}},
    {"deepseek_v2", {"deepseek_v2"}},
    {"deepseek_v3", {"deepseek_v3"}},
    {"gemma3_instruction", {"gemma3", "gemma3_text"}},
    {"gemma_instruction", {"gemma", "gemma2"}},
    {"gpt2", {"gpt2"}},
    {"gpt_bigcode", {"gpt_bigcode"}},
    {"hermes2_pro_llama3", {"llama"}, true},
    {"hermes3_llama-3_1", {"llama"}, true},
    {"ministral3", {"ministral3"}},
    {"open_hermes_mistral", {"mistral"}, true},
    {"phi-3", {"phi3"}},
    {"qwen2", {"qwen2", "qwen2_moe"}},
    {"qwen3", {"qwen3", "qwen3_moe"}},
    {"stablelm-2", {"stablelm"}},
}};

/// A probe, and what the checkpoint makes of it (without BOS); no text where it refuses.
struct probe {
    std::string name;
    conversation messages;
    std::optional<std::string> rendered{};
    std::string refusal{};

    [[nodiscard]] bool has_system() const { return messages[0].role == "system"; }
    [[nodiscard]] conversation without_system() const { return {messages.begin() + (has_system() ? 1 : 0), messages.end()}; }
};

// The texts of the first probes begin and end with characters that no template puts there, so that places can be found again.
inline constexpr std::string_view probe_system = "Zyx system: be \"brief\" & exact Xyz",
                                  probe_users[] = {"Qab first question?\nIt's {{ x }} <b> Baq", "Qcd second, \u00e9\u4f60 Dcq", "Qef third Feq"},
                                  probe_answers[] = {"Agh one\n\n- two {% y %} Hga", "Aij other \\n Jia"};

[[nodiscard]] inline std::vector<probe> probes() {
    const auto user = [](std::size_t i) { return message{"user", std::string(probe_users[i])}; };
    const auto answer = [](std::size_t i) { return message{"assistant", std::string(probe_answers[i])}; };
    const message system{"system", std::string(probe_system)};
    return {
        {"one question", {user(0)}},
        {"a question after an answer", {user(0), answer(0), user(1)}},
        {"a question after two answers", {user(0), answer(0), user(1), answer(1), user(2)}},
        {"a system message and a question", {system, user(0)}},
        {"a system message and a question after two answers", {system, user(0), answer(0), user(1), answer(1), user(2)}},
        {"white space around the texts", {{"user", " \n one  "}, {"assistant", "\n two \n"}, {"user", "three\n"}}},
        {"a system message with white space around the texts", {{"system", "\n zero "}, {"user", "  one\n"}, {"assistant", " two "}, {"user", "three "}}},
        {"reasoning in an earlier answer", {{"user", "why"}, {"assistant", "<think>\nlet me see\n</think>\n\nbecause"}, {"user", "and"}}},
    };
}
inline constexpr std::size_t n_plain_probes = 5, spaces_probe = 5, system_spaces_probe = 6, reasoning_probe = 7, longest_probe = 2;

/// Text for a message: quoted, with escapes, and shortened.
[[nodiscard]] inline std::string shown(std::string_view text, std::size_t most = 60) {
    std::string cut(text.substr(0, most));
    while (!cut.empty() && cut.size() < text.size() && utf8_is_tail(text[cut.size()])) cut.pop_back();
    return json(cut).dump(-1, ' ', false, json::error_handler_t::replace) + (cut.size() < text.size() ? "..." : "");
}
[[nodiscard]] inline std::size_t common_prefix(std::string_view a, std::string_view b) {
    std::size_t n = 0;
    while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
    while (n > 0 && ((n < a.size() && utf8_is_tail(a[n])) || (n < b.size() && utf8_is_tail(b[n])))) --n;
    return n;
}
[[nodiscard]] inline std::size_t common_suffix(std::string_view a, std::string_view b) {
    std::size_t n = 0;
    while (n < a.size() && n < b.size() && a[a.size() - 1 - n] == b[b.size() - 1 - n]) ++n;
    while (n > 0 && utf8_is_tail(a[a.size() - n])) --n;
    return n;
}

class detector {
public:
    explicit detector(const checkpoint_template& checkpoint) : checkpoint_(checkpoint), bos_(checkpoint.special_token("bos_token")) {}

    /// Renders all probes. Error: what the checkpoint's template says to a plain question.
    [[nodiscard]] result<void> prepare() {
        probes_ = probes();
        std::optional<std::tm> now;
        auto first = checkpoint_.render(probes_[0].messages);
        if (!first) {  // it may need the date
            const auto time = std::time(nullptr);
            std::tm local{};
            if (const auto* t = std::localtime(&time)) local = *t;
            auto again = checkpoint_.render(probes_[0].messages, true, local);
            if (!again) return pass(first);
            now = local;
            dated_ = true;
        }
        for (auto& p : probes_) {
            auto text = checkpoint_.render(p.messages, true, now);
            if (text)
                p.rendered = std::move(*text);
            else
                p.refusal = text.error().rule;
        }
        for (std::size_t i = 1; i <= longest_probe; ++i) {
            if (!probes_[i].rendered) return fail(errc::unsupported, "the checkpoint's chat_template fails on " + probes_[i].name + ": " + probes_[i].refusal);
        }
        if (!now) {
            std::tm other{};
            other.tm_year = 101;
            const auto dated = checkpoint_.render(probes_[0].messages, true, other);
            dated_ = !dated || *dated != *probes_[0].rendered;
        }
        takes_system_ = probes_[3].rendered && probes_[4].rendered;
        starts_with_bos_ = !bos_.empty() && probes_[0].rendered->starts_with(bos_);
        return {};
    }

    /// How one template compares.
    struct comparison {
        const model::conversation_template* t = nullptr;
        bool equal = true;
        bool default_equal = true;  // without a system message too, as the template stands
        bool reasoning_equal = true;
        bool system_equal = true;         // with a system message
        bool letters_equal = true;        // but for white space
        std::set<std::string> trimmed{};  // roles whose texts the checkpoint trims
        std::string difference{};         // the first one
        double likeness = 0;
    };

    [[nodiscard]] comparison compare(const model::conversation_template& t) const {
        comparison c{.t = &t};
        for (std::size_t i = 0; i < n_plain_probes; ++i) {
            const auto& p = probes_[i];
            if (!p.rendered) continue;
            const auto theirs = without_head(*p.rendered, t);
            const auto ours = prompt(t, p, false);
            const auto bare = prompt(t, p, true);
            const bool closer = !p.has_system() && takes_system_ && likeness(theirs, bare) > likeness(theirs, ours);
            c.likeness += likeness(theirs, closer ? bare : ours);
            if (theirs == ours) continue;
            if (!p.has_system()) {
                c.default_equal = false;
                if (takes_system_ && theirs == bare) continue;
            }
            if (c.equal) c.difference = difference(p, theirs, closer ? bare : ours, t.name);
            c.equal = false;
            if (p.has_system()) c.system_equal = false;
            if (without_spaces(theirs) != without_spaces(closer ? bare : ours)) c.letters_equal = false;
        }
        if (!c.equal) return c;
        c.equal = spaces_equal(c);
        const auto& think = probes_[reasoning_probe];
        if (think.rendered) {
            const auto theirs = without_head(*think.rendered, t);
            c.reasoning_equal = theirs == prompt(t, think, !c.default_equal);
        }
        return c;
    }

    /// Says how one template compares.
    [[nodiscard]] template_comparison judge(const model::conversation_template& t) const {
        using kind = template_comparison::kind;
        auto c = compare(t);
        if (c.equal) return {kind::same, {}, notes(c)};
        const auto how = c.letters_equal ? kind::white_space : takes_system_ && c.system_equal ? kind::default_system : kind::text;
        return {how, std::move(c.difference), {}};
    }

    /// Compares with all registered templates; then derives one.
    [[nodiscard]] detection run() const {
        detection d;
        std::vector<comparison> all;
        for (const auto& t : model::conversation_templates()) all.push_back(compare(t));
        const comparison* best = nullptr;
        for (const auto& c : all) {
            if (c.equal && (!best || rank(c) > rank(*best))) best = &c;
        }
        d.matched = best != nullptr;
        if (!best) {
            const auto nearer = [&](const auto& a, const auto& b) { return a.likeness != b.likeness ? a.likeness < b.likeness : rank(a) < rank(b); };
            best = &*std::max_element(all.begin(), all.end(), nearer);
        }
        d.name = best->t->name;
        if (d.matched)
            d.notes = notes(*best);
        else
            d.difference = best->difference;
        derive(d);
        return d;
    }

private:
    /// What the template makes of a probe. `omit`: without a system part.
    [[nodiscard]] std::string prompt(const model::conversation_template& t, const probe& p, bool omit) const { return prompt(t, p.messages, omit); }
    [[nodiscard]] std::string prompt(const model::conversation_template& t, const conversation& messages, bool omit) const {
        const auto text = omit ? prompt_after(t, "", messages) : chat::render(t, messages);
        return text ? without_bos(*text) : "";
    }
    [[nodiscard]] std::string without_bos(std::string_view text) const {
        if (!bos_.empty() && text.starts_with(bos_)) text.remove_prefix(bos_.size());
        return std::string(text);
    }
    /// The checkpoint's text without BOS, or without the text of the tokens that the template puts in front.
    [[nodiscard]] std::string without_head(std::string_view text, const model::conversation_template& t) const {
        if (t.system_prefix_token_ids) {
            std::string head;
            for (const auto id : *t.system_prefix_token_ids) head += checkpoint_.text_of(id).value_or(std::string(1, '\0'));
            if (!head.empty() && text.starts_with(head)) return std::string(text.substr(head.size()));
        }
        return without_bos(text);
    }

    [[nodiscard]] bool spaces_equal(comparison& c) const {
        const auto& p = probes_[takes_system_ && probes_[system_spaces_probe].rendered ? system_spaces_probe : spaces_probe];
        if (!p.rendered) return true;
        const auto theirs = without_head(*p.rendered, *c.t);
        // Each text as it is, trimmed, or trimmed on one side: Llama 2's template trims a first question on the right alone.
        const auto ways = std::size_t{1} << (2 * p.messages.size());
        for (std::size_t way = 0; way < ways; ++way) {
            auto messages = p.messages;
            c.trimmed.clear();
            for (std::size_t i = 0; i < messages.size(); ++i) {
                auto& text = messages[i].content;
                const auto how = way >> (2 * i) & 3;
                if (how == 1) text = std::string(strip(text));
                if (how == 2) text = std::string(strip_left(text));
                if (how == 3) text = std::string(strip_right(text));
                if (how != 0) c.trimmed.insert(messages[i].role);
            }
            if (theirs == prompt(*c.t, messages, !c.default_equal && !p.has_system())) return true;
        }
        c.difference = difference(p, theirs, prompt(*c.t, p, false), c.t->name);
        return false;
    }

    [[nodiscard]] static std::string without_spaces(std::string text) {
        std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\t'; });
        return text;
    }
    [[nodiscard]] static double likeness(std::string_view a, std::string_view b) {
        const auto longest = std::max<std::size_t>({a.size(), b.size(), 1});
        const auto prefix = common_prefix(a, b);
        const auto suffix = common_suffix(a.substr(prefix), b.substr(prefix));
        return static_cast<double>(prefix + suffix) / static_cast<double>(longest);
    }
    [[nodiscard]] static std::string difference(const probe& p, std::string_view theirs, std::string_view ours, const std::string& name) {
        const auto at = common_prefix(theirs, ours);
        auto from = at - std::min<std::size_t>(at, 40);
        while (from < at && utf8_is_tail(theirs[from])) ++from;
        const auto rest = [&](std::string_view text) { return text.size() == at ? std::string("nothing more") : shown(text.substr(at)); };
        return "on " + p.name + ", " + (at == 0 ? std::string("at the beginning") : "after " + shown(theirs.substr(from, at - from))) +
               ", the checkpoint writes " + rest(theirs) + " and '" + name + "' writes " + rest(ours);
    }

    // --- Between templates that render alike

    /// 3: all the checkpoint's ids are among the template's; 2: some are; 1: nothing is known; 0: none is.
    [[nodiscard]] int stop_fit(const model::conversation_template& t) const {
        const auto ids = checkpoint_.eos_ids();
        const auto known = std::count_if(ids.begin(), ids.end(),
                                         [&](auto id) { return std::find(t.stop_token_ids.begin(), t.stop_token_ids.end(), id) != t.stop_token_ids.end(); });
        return ids.empty() ? 1 : known == 0 ? 0 : static_cast<std::size_t>(known) == ids.size() ? 3 : 2;
    }
    [[nodiscard]] bool type_fits(const comparison& c) const {
        if (!c.default_equal && stop_fit(*c.t) == 0) return false;
        for (const auto& f : template_families) {
            if (f.name != c.t->name || checkpoint_.facts.model_type.empty() || (f.persona && !c.default_equal)) continue;
            return std::find(f.model_types.begin(), f.model_types.end(), checkpoint_.facts.model_type) != f.model_types.end();
        }
        return false;
    }
    [[nodiscard]] bool adds_bos(const model::conversation_template& t) const {
        return t.system_prefix_token_ids || (!bos_.empty() && system_text(t, "").starts_with(bos_));
    }
    [[nodiscard]] bool bos_fits(const model::conversation_template& t) const {
        if (adds_bos(t) != starts_with_bos_) return false;
        const auto id = checkpoint_.bos_id();
        return !t.system_prefix_token_ids || !id || t.system_prefix_token_ids->front() == *id;
    }
    [[nodiscard]] std::array<int, 5> rank(const comparison& c) const {
        return {c.default_equal, c.reasoning_equal, stop_fit(*c.t), type_fits(c), bos_fits(*c.t)};
    }

    [[nodiscard]] std::vector<std::string> notes(const comparison& c) const {
        std::vector<std::string> all;
        const auto& t = *c.t;
        if (!c.default_equal)
            all.push_back("without a system message the checkpoint renders none, and '" + t.name + "' renders its own: " + shown(t.system_message));
        if (!takes_system_) all.push_back("the checkpoint's chat_template refuses system messages; '" + t.name + "' would render them");
        if (!c.trimmed.empty()) {
            std::string roles;
            for (const auto& r : c.trimmed) roles += (roles.empty() ? "" : ", ") + r;
            all.push_back("the checkpoint trims white space around texts (" + roles + "), and mlc_llm does not");
        }
        if (!c.reasoning_equal)
            all.push_back("the checkpoint treats <think>...</think> of earlier answers in its own way, and '" + t.name + "' " +
                          (t.strip_reasoning_in_history ? "leaves it out" : "keeps it"));
        const auto id = checkpoint_.bos_id();
        if (starts_with_bos_ && !adds_bos(t))
            all.push_back("the checkpoint's prompts begin with " + shown(bos_) + ", and those of '" + t.name + "' do not");
        else if (!starts_with_bos_ && adds_bos(t))
            all.push_back("'" + t.name + "' puts BOS before the prompt, and the checkpoint's chat_template does not");
        else if (starts_with_bos_ && t.system_prefix_token_ids && id && t.system_prefix_token_ids->front() != *id)
            all.push_back("'" + t.name + "' puts token " + std::to_string(t.system_prefix_token_ids->front()) +
                          " before the prompt, but the checkpoint's BOS is " + std::to_string(*id));
        if (stop_fit(t) == 0) {
            std::string ids;
            for (const auto eos : checkpoint_.eos_ids()) ids += (ids.empty() ? "" : ", ") + std::to_string(eos);
            all.push_back("the checkpoint ends answers with token " + ids + ", which is none of the stop tokens of '" + t.name + "'");
        }
        return all;
    }

    // --- A template of its own: in derive.hpp

    void derive(detection& d) const;
    [[nodiscard]] std::string derive_into(model::conversation_template& t, std::vector<std::string>& notes) const;
    [[nodiscard]] std::string derive_system(model::conversation_template& t, std::vector<std::string>& notes, std::string_view before,
                                            std::string_view user_head) const;
    void derive_tokens(model::conversation_template& t, std::vector<std::string>& notes, std::string_view turn_end) const;

    const checkpoint_template& checkpoint_;
    std::string bos_;
    std::vector<probe> probes_;
    bool takes_system_ = false;
    bool starts_with_bos_ = false;
    bool dated_ = false;
};

}  // namespace detail

}  // namespace nibble::chat
