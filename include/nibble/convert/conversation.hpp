// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which conversation template a model gets: the one that is named, the registered one that renders as the checkpoint's chat_template
// does, or one derived from the checkpoint.

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "nibble/chat/detect.hpp"
#include "nibble/model/conv_templates.hpp"
#include "nibble/source/folder.hpp"
#include "nibble/source/open.hpp"

namespace nibble::convert {

/// The name that asks for a template derived from the checkpoint.
inline constexpr std::string_view custom_template_name = "custom";

/// A conversation template, and what a user should know about how it was chosen.
struct chosen_template {
    model::conversation_template conversation;
    std::vector<std::string> notes{};
};

namespace detail {

[[nodiscard]] inline std::string template_names() {
    std::string names;
    for (const auto& t : model::conversation_templates()) names += (names.empty() ? "" : ", ") + t.name;
    return names;
}

[[nodiscard]] inline std::optional<std::int64_t> gguf_token_id(const source::gguf_header& header, std::string_view key) {
    const auto* v = header.find(key);
    if (v == nullptr || !v->value.is_number_integer()) return std::nullopt;
    return v->value.get<std::int64_t>();
}

/// What a GGUF file says about chats, in the form of a checkpoint's files.
[[nodiscard]] inline result<chat::checkpoint_files> read_gguf_chat(const std::string& path, const source::open_options& options) {
    auto f = file::open(path, options.access);
    if (!f) return pass(f);
    const auto header = source::read_gguf_header(std::move(*f));
    if (!header) return fail(header.error());
    chat::checkpoint_files files;
    files.tokenizer_config = json::object();
    files.facts.model_type = header->text("general.architecture");  // llama.cpp's name, most often that of the model type
    if (auto text = header->text("tokenizer.chat_template"); !text.empty()) files.facts.chat_template = std::move(text);
    json tokens = json::array();
    if (header->find("tokenizer.ggml.tokens") != nullptr) {
        auto read = header->array("tokenizer.ggml.tokens");
        if (!read) return pass(read);
        tokens = std::move(*read);
    }
    const auto text_of = [&](std::optional<std::int64_t> id) {
        return id && *id >= 0 && static_cast<std::uint64_t>(*id) < tokens.size() && tokens[static_cast<std::size_t>(*id)].is_string()
                   ? tokens[static_cast<std::size_t>(*id)]
                   : json();
    };
    auto& added = files.tokenizer_config["added_tokens_decoder"] = json::object();
    for (const std::string name : {"bos", "eos", "eot", "unknown", "padding"}) {
        const auto id = gguf_token_id(*header, "tokenizer.ggml." + name + "_token_id");
        auto text = text_of(id);
        if (text.is_null()) continue;
        added[std::to_string(*id)] = {{"content", text}};
        files.tokenizer_config[(name == "unknown" ? "unk" : name == "padding" ? "pad" : name) + "_token"] = std::move(text);
        if (name == "bos") files.facts.bos_token_id = id;
        if (name == "eos" || name == "eot") files.facts.eos_token_ids.push_back(*id);
    }
    // Control tokens and those that users added have ids of their own in a derived template.
    if (header->find("tokenizer.ggml.token_type") != nullptr) {
        auto types = header->array("tokenizer.ggml.token_type");
        if (!types) return pass(types);
        for (std::size_t i = 0; i < types->size() && i < tokens.size(); ++i) {
            const bool special = (*types)[i] == 3 || (*types)[i] == 4;
            if (special && tokens[i].is_string()) added[std::to_string(i)] = {{"content", tokens[i]}};
        }
    }
    return files;
}

}  // namespace detail

/// What a model says about chats. `model`: a folder, a file in one (its config.json), or a .gguf file.
/// Errors: missing, io, malformed, refused (a link that leads out of the folder).
[[nodiscard]] inline result<chat::checkpoint_files> read_chat_files(const std::string& model, const source::open_options& options = {}) {
    namespace fs = std::filesystem;
    if (source::detail::is_gguf(model)) return detail::read_gguf_chat(model, options);
    std::error_code ec;
    fs::path folder = model;
    if (fs::is_regular_file(folder, ec)) folder = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
    for (const auto* name : {"tokenizer_config.json", "chat_template.jinja", "chat_template.json", "config.json", "generation_config.json"}) {
        const auto path = folder / name;
        if (!options.follow_links && fs::exists(path, ec) && !stays_inside(path, folder)) return fail(source::detail::leads_out(path));
    }
    return chat::read_checkpoint_files(folder);
}

/// The conversation template of a model. `name`: a registered one; "custom": derived from the checkpoint; empty: the registered one that
/// renders as the checkpoint does. `model_type`: in place of the one that config.json says, where not empty.
/// Errors: unsupported (no such template; a chat_template that cannot be rendered), missing (no chat_template), mismatch (no registered
/// template renders as it does), and those of read_chat_files.
[[nodiscard]] inline result<chosen_template> choose_template(const std::string& model, const std::string& name, const std::string& model_type = {},
                                                             const source::open_options& options = {}) {
    const bool derives = name == custom_template_name;
    if (!name.empty() && !derives) {
        if (const auto* found = model::find_conversation_template(name)) return chosen_template{*found};
        error e{errc::unsupported,
                "unknown conversation template \"" + name.substr(0, 64) + "\"",
                {},
                {},
                {},
                "known are " + detail::template_names() + ", and custom, which is derived from the checkpoint"};
        if (name == "llama_default") {
            e.rule = "mlc_llm lists the conversation template \"llama_default\" but does not have it, and fails";
            e.remedy = "take llama-2, llama-3 or llama-3_1, whichever the model was trained with";
        }
        return fail(std::move(e));
    }
    auto files = read_chat_files(model, options);
    if (!files) return pass(files);
    if (!model_type.empty()) files->facts.model_type = model_type;
    const auto checkpoint = chat::checkpoint_template::from(files->tokenizer_config, std::move(files->facts));
    if (!checkpoint && checkpoint.error().code == errc::missing) {
        return fail(error{errc::missing,
                          checkpoint.error().rule + ", and so no conversation template can be " + (derives ? "derived" : "found"),
                          model,
                          {},
                          {},
                          "name one with --conv-template: " + detail::template_names() + " (LM adds nothing to the text, for models that do not chat)"});
    }
    const auto unreadable = [&](error e) { return fail(std::move(e).in_file(model).advise("name a conversation template with --conv-template")); };
    if (!checkpoint) return unreadable(checkpoint.error());
    auto found = chat::detect_template(*checkpoint);
    if (!found) return unreadable(std::move(found.error()));
    if (derives) {
        auto derived = found->derived();
        if (!derived) return fail(std::move(derived.error()).in_file(model));
        chosen_template chosen{std::move(*derived), std::move(found->custom_notes)};
        if (found->matched)
            chosen.notes.insert(chosen.notes.begin(), "the registered conversation template '" + found->name + "' renders as the checkpoint too");
        return chosen;
    }
    auto match = found->match();
    if (!match) return fail(std::move(match.error()).in_file(model));
    chosen_template chosen{**match, std::move(found->notes)};
    chosen.notes.insert(chosen.notes.begin(), "conversation template '" + found->name + "': it renders as the checkpoint's chat_template does");
    return chosen;
}

}  // namespace nibble::convert
