// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a Hugging Face checkpoint says about chats: its chat_template, in tokenizer_config.json or in a file of its own, its special tokens
// and the tokens that end an answer.

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nibble/chat/jinja.hpp"
#include "nibble/chat/render.hpp"
#include "nibble/core/file.hpp"

namespace nibble::chat {

/// Facts that lie outside the tokenizer's configuration. All may be absent.
struct checkpoint_facts {
    std::string model_type;                    ///< of config.json
    std::vector<std::int64_t> eos_token_ids;   ///< of generation_config.json, else config.json
    std::optional<std::int64_t> bos_token_id;  ///< of config.json
    std::optional<std::string> chat_template;  ///< of chat_template.jinja or chat_template.json, which go before tokenizer_config.json's
};

/// A checkpoint's chat_template, ready to render.
class checkpoint_template {
public:
    /// `tokenizer_config` is the parsed tokenizer_config.json. Errors: missing (no chat_template), and those of jinja_template::parse.
    [[nodiscard]] static result<checkpoint_template> from(const json& tokenizer_config, checkpoint_facts facts = {}) {
        std::string text;
        if (facts.chat_template) {
            text = *facts.chat_template;
        } else {
            const auto found = tokenizer_config.is_object() ? tokenizer_config.find("chat_template") : tokenizer_config.end();
            if (found == tokenizer_config.end() || found->is_null())
                return fail(error{errc::missing, "the checkpoint has no chat_template", {}, {}, {}, "name a conversation template with --conv-template"});
            if (found->is_string()) text = found->get<std::string>();
            if (found->is_array()) {  // several, with names: transformers takes "default"
                const json* chosen = nullptr;
                for (const auto& t : *found) {
                    const bool named = t.is_object() && t.contains("name") && t.contains("template") && t["name"].is_string() && t["template"].is_string();
                    if (named && t["name"] == "default") chosen = &t;
                }
                if (!chosen) return fail(errc::missing, "chat_template is a list, and none of its templates is named \"default\"");
                text = (*chosen)["template"].get<std::string>();
            } else if (!found->is_string()) {
                return fail(errc::malformed, "chat_template must be a string, or a list of templates with names");
            }
        }
        auto parsed = jinja_template::parse(text);
        if (!parsed) return pass(parsed);
        checkpoint_template made(std::move(*parsed));
        made.facts = std::move(facts);
        made.read_tokens(tokenizer_config);
        return made;
    }

    /// What transformers' apply_chat_template gives, as text. Without `now`, strftime_now is undefined.
    [[nodiscard]] result<std::string> render(const conversation& messages, bool add_generation_prompt = true,
                                             const std::optional<std::tm>& now = std::nullopt) const {
        json variables = json::object();
        for (const auto& [name, text] : special_tokens_) variables[name] = text;
        json list = json::array();
        for (const auto& m : messages) {
            if (!detail::utf8_valid(m.role) || !detail::utf8_valid(m.content)) return fail(errc::malformed, "a message is not valid UTF-8");
            list.push_back({{"role", m.role}, {"content", m.content}});
        }
        variables["messages"] = std::move(list);
        variables["add_generation_prompt"] = add_generation_prompt;
        return template_.render(variables, now);
    }

    /// Text of a special token by its name in tokenizer_config.json ("bos_token"); empty where there is none.
    [[nodiscard]] std::string special_token(const std::string& name) const {
        const auto at = special_tokens_.find(name);
        return at == special_tokens_.end() ? std::string() : at->second;
    }
    /// Id of an added token by its text, and the text of an id, as added_tokens_decoder tells them.
    [[nodiscard]] std::optional<std::int64_t> id_of(const std::string& text) const {
        for (const auto& [id, t] : added_tokens_) {
            if (t == text) return id;
        }
        return std::nullopt;
    }
    [[nodiscard]] std::optional<std::string> text_of(std::int64_t id) const {
        const auto at = added_tokens_.find(id);
        return at == added_tokens_.end() ? std::nullopt : std::optional(at->second);
    }
    [[nodiscard]] std::optional<std::int64_t> bos_id() const {
        const auto id = id_of(special_token("bos_token"));
        return id ? id : facts.bos_token_id;
    }
    /// The ids that end an answer, where they are known.
    [[nodiscard]] std::vector<std::int64_t> eos_ids() const {
        auto ids = facts.eos_token_ids;
        const auto id = id_of(special_token("eos_token"));
        if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
        return ids;
    }

    checkpoint_facts facts;

private:
    explicit checkpoint_template(jinja_template t) : template_(std::move(t)) {}

    void read_tokens(const json& tokenizer_config) {
        if (!tokenizer_config.is_object()) return;
        for (const auto& [name, v] : tokenizer_config.items()) {
            if (!name.ends_with("_token")) continue;
            if (v.is_string()) special_tokens_[name] = v.get<std::string>();
            if (v.is_object() && v.contains("content") && v["content"].is_string()) special_tokens_[name] = v["content"].get<std::string>();
        }
        const auto decoder = tokenizer_config.find("added_tokens_decoder");
        if (decoder == tokenizer_config.end() || !decoder->is_object()) return;
        for (const auto& [id, token] : decoder->items()) {
            std::int64_t number = 0;
            const auto end = std::from_chars(id.data(), id.data() + id.size(), number);
            const bool read = end.ec == std::errc() && end.ptr == id.data() + id.size();
            if (read && token.is_object() && token.contains("content") && token["content"].is_string())
                added_tokens_[number] = token["content"].get<std::string>();
        }
    }

    jinja_template template_;
    std::map<std::string, std::string> special_tokens_;
    std::map<std::int64_t, std::string> added_tokens_;
};

namespace detail {

inline constexpr std::uint64_t chat_file_limit = 64u << 20;

/// A JSON object of the folder; null where the file is absent.
[[nodiscard]] inline result<json> read_object(const std::filesystem::path& path) {
    std::error_code unused;
    if (!std::filesystem::exists(path, unused)) return json();
    auto bytes = read_file(path.string(), chat_file_limit);
    if (!bytes) return pass(bytes);
    auto parsed = parse_json(*bytes);
    if (!parsed) return fail(std::move(parsed.error()).in_file(path.string()));
    if (!parsed->is_object()) return fail(error{errc::malformed, "must be a JSON object", path.string(), {}, {}, {}});
    return parsed;
}

[[nodiscard]] inline std::vector<std::int64_t> token_ids(const json& config, const char* key) {
    std::vector<std::int64_t> ids;
    const auto found = config.is_object() ? config.find(key) : config.end();
    if (found == config.end()) return ids;
    for (const auto& id : found->is_array() ? *found : json::array({*found})) {
        if (id.is_number_integer()) ids.push_back(id.get<std::int64_t>());
    }
    return ids;
}

}  // namespace detail

/// The files of a checkpoint that say how it chats.
struct checkpoint_files {
    json tokenizer_config;  ///< an object; empty where the file is absent
    checkpoint_facts facts;
};

/// Reads tokenizer_config.json, chat_template.jinja or .json, config.json and generation_config.json of a folder, as far as they are there.
/// Errors: io, malformed (which file, and where).
[[nodiscard]] inline result<checkpoint_files> read_checkpoint_files(const std::filesystem::path& folder) {
    checkpoint_files files;
    std::error_code unused;
    if (!std::filesystem::is_directory(folder, unused))
        return fail(error{errc::missing, "is no folder", folder.string(), {}, {}, "give the folder of a Hugging Face checkpoint"});
    auto tokenizer = detail::read_object(folder / "tokenizer_config.json");
    if (!tokenizer) return pass(tokenizer);
    files.tokenizer_config = tokenizer->is_object() ? std::move(*tokenizer) : json::object();
    auto config = detail::read_object(folder / "config.json");
    if (!config) return pass(config);
    auto generation = detail::read_object(folder / "generation_config.json");
    if (!generation) return pass(generation);
    if (config->is_object() && config->contains("model_type") && (*config)["model_type"].is_string())
        files.facts.model_type = (*config)["model_type"].get<std::string>();
    files.facts.eos_token_ids = detail::token_ids(*generation, "eos_token_id");
    if (files.facts.eos_token_ids.empty()) files.facts.eos_token_ids = detail::token_ids(*config, "eos_token_id");
    if (const auto bos = detail::token_ids(*config, "bos_token_id"); !bos.empty()) files.facts.bos_token_id = bos[0];
    const auto jinja = folder / "chat_template.jinja";
    if (std::filesystem::exists(jinja, unused)) {
        auto bytes = read_file(jinja.string(), detail::chat_file_limit);
        if (!bytes) return pass(bytes);
        files.facts.chat_template = std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    } else {
        auto object = detail::read_object(folder / "chat_template.json");
        if (!object) return pass(object);
        if (object->is_object() && object->contains("chat_template") && (*object)["chat_template"].is_string())
            files.facts.chat_template = (*object)["chat_template"].get<std::string>();
    }
    return files;
}

}  // namespace nibble::chat
