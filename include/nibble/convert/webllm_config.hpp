// SPDX-License-Identifier: Apache-2.0
#pragma once
// mlc-chat-config.json and the tokenizer as WebLLM runs them. Where mlc_llm's own output stops WebLLM, or makes it run wrong, it is
// changed here, and each change is listed with its reason.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/convert/gen_config.hpp"

namespace nibble::convert {

/// One place where a package is not what mlc_llm gen_config writes.
struct difference {
    std::string field;            ///< "sliding_window_size", "model_config.rope_theta", "tokenizer.json: model.merges"
    std::optional<json> mlc_llm;  ///< nothing: mlc_llm fails
    json here;
    std::string reason;

    [[nodiscard]] std::string message() const {
        const auto shown = [](const json& v) {
            const auto text = v.dump(-1, ' ', false, json::error_handler_t::replace);
            return text.size() <= 80 ? text : text.substr(0, 77) + "...";
        };
        return field + " is " + shown(here) + (mlc_llm ? ", mlc_llm writes " + shown(*mlc_llm) : ", where mlc_llm fails") + ": " + reason;
    }
};

/// What is written beside the weights.
struct webllm_folder {
    chat_folder chat;  ///< notes and problems included
    std::vector<difference> differences;
    std::vector<std::string> warnings;  ///< what WebLLM will do worse than the user expects
};

namespace detail {

/// Whether a name of a checkpoint's config.json is absent, or null.
[[nodiscard]] inline bool lacks(const json& object, const char* key) { return !object.contains(key) || object[key].is_null(); }

/// transformers 5 writes rope_theta, rope_scaling and partial_rotary_factor into "rope_parameters", which most of mlc_llm's classes do
/// not know: puts them where transformers 4 had them.
inline void respell_rope(json& scope) {
    const auto at = scope.find("rope_parameters");
    if (at == scope.end() || !at->is_object()) return;
    json rope = *at;
    // Gemma 3 has one for each kind of layer; its libraries know one for all, that of full attention.
    if (rope.contains("full_attention") && rope["full_attention"].is_object()) rope = json(rope["full_attention"]);
    if (rope.contains("rope_theta") && lacks(scope, "rope_theta") && lacks(scope, "position_embedding_base")) scope["rope_theta"] = rope["rope_theta"];
    if (rope.contains("partial_rotary_factor") && lacks(scope, "partial_rotary_factor")) scope["partial_rotary_factor"] = rope["partial_rotary_factor"];
    const json kind = rope.contains("rope_type") ? rope["rope_type"] : rope.contains("type") ? rope["type"] : json("default");
    if (kind == "default" || kind.is_null() || !lacks(scope, "rope_scaling")) return;
    for (const auto* name : {"rope_theta", "partial_rotary_factor"}) rope.erase(name);
    rope["rope_type"] = kind;
    if (kind == "longrope" || kind == "su") {
        rope["type"] = kind;
        if (rope.contains("original_max_position_embeddings") && lacks(scope, "original_max_position_embeddings"))
            scope["original_max_position_embeddings"] = rope["original_max_position_embeddings"];
    }
    scope["rope_scaling"] = std::move(rope);
}

/// The places in which two configurations differ, of the same shape but for what is listed.
inline void list_differences(const json& theirs, const json& ours, const std::string& at, const std::string& reason, std::vector<difference>& out) {
    if (theirs == ours) return;
    if (!theirs.is_object() || !ours.is_object()) {
        out.push_back({at, theirs, ours, reason});
        return;
    }
    const auto below = [&](const std::string& key) { return at.empty() ? key : at + "." + key; };
    for (const auto& [key, value] : ours.items()) {
        if (theirs.contains(key))
            list_differences(theirs[key], value, below(key), reason, out);
        else
            out.push_back({below(key), json(nullptr), value, reason});
    }
    for (const auto& [key, value] : theirs.items()) {
        if (!ours.contains(key)) out.push_back({below(key), value, json(nullptr), reason});
    }
}

/// Where the array "merges" of a tokenizer.json holds pairs: whether any of them needs to, because a part has a blank in it.
enum class merge_form : std::uint8_t { texts, pairs, only_pairs };

/// Looks for pairs without parsing: most files need no more than that.
[[nodiscard]] inline bool may_have_pairs(std::string_view text) {
    for (auto at = text.find("\"merges\""); at != text.npos; at = text.find("\"merges\"", at + 1)) {
        std::size_t i = at + 8;
        std::string next;
        for (; i < text.size() && next.size() < 3; ++i) {
            if (std::string_view(" \t\r\n").find(text[i]) == std::string_view::npos) next += text[i];
        }
        if (next == ":[[") return true;
    }
    return false;
}

/// Turns the merges of a tokenizer.json from pairs into texts, where no part has a blank in it.
[[nodiscard]] inline merge_form join_merges(json& tokenizer) {
    const auto model = tokenizer.find("model");
    if (model == tokenizer.end() || !model->is_object() || !model->contains("merges")) return merge_form::texts;
    auto& merges = (*model)["merges"];
    if (!merges.is_array() || merges.empty() || !merges[0].is_array()) return merge_form::texts;
    json joined = json::array();
    for (const auto& m : merges) {
        if (!m.is_array() || m.size() != 2 || !m[0].is_string() || !m[1].is_string()) return merge_form::only_pairs;
        const auto& a = m[0].get_ref<const std::string&>();
        const auto& b = m[1].get_ref<const std::string&>();
        if (a.empty() || b.empty() || a.find(' ') != a.npos || b.find(' ') != b.npos) return merge_form::only_pairs;
        joined.push_back(a + " " + b);
    }
    merges = std::move(joined);
    return merge_form::pairs;
}

inline void look_at_tokenizer(webllm_folder& out) {
    auto& files = out.chat.files;
    const auto find = [&](std::string_view name) { return std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.name == name; }); };
    const auto file = find("tokenizer.json");
    if (file == files.end()) {
        if (find("tokenizer.model") != files.end()) {
            out.warnings.emplace_back(
                "there is no tokenizer.json: WebLLM will read tokenizer.model, and ignore added_tokens.json and tokenizer_config.json, so that added tokens "
                "become plain text. If the model has any (most chat models do), save a tokenizer.json with transformers "
                "(AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)) and package again");
        } else {
            out.chat.problems.push_back(
                {errc::missing,
                 "the checkpoint has neither tokenizer.json nor tokenizer.model, and WebLLM reads nothing else",
                 {},
                 {},
                 {},
                 "save a tokenizer.json with transformers (AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)), or copy it from "
                 "the original model"});
        }
        return;
    }
    if (!may_have_pairs({reinterpret_cast<const char*>(file->content.data()), file->content.size()})) return;
    auto tokenizer = parse_json(file->content);
    if (!tokenizer) return;  // gen-config has said so
    const auto form = join_merges(*tokenizer);
    if (form == merge_form::pairs) {
        const auto text = tokenizer->dump(2, ' ', false, json::error_handler_t::replace);
        file->content.assign(reinterpret_cast<const std::byte*>(text.data()), reinterpret_cast<const std::byte*>(text.data()) + text.size());
        out.differences.push_back({"tokenizer.json: model.merges", json("pairs [\"a\", \"b\"]"), json("texts \"a b\""),
                                   "WebLLM 0.2.51 cannot read pairs, and every version reads texts; they mean the same, as no part has a blank in it"});
    } else if (form == merge_form::only_pairs) {
        out.warnings.emplace_back("the merges of tokenizer.json are pairs of which some cannot be written as one text: WebLLM before 0.2.79 cannot read it");
    }
}

inline void look_at_windows(webllm_folder& out) {
    auto& config = out.chat.config;
    const auto integer = [&](const char* key) { return config.value(key, std::int64_t{-1}); };
    const auto change = [&](const char* key, std::int64_t to, const char* reason) {
        out.differences.push_back({key, config[key], json(to), reason});
        config[key] = to;
    };
    if (integer("context_window_size") > 0 && integer("sliding_window_size") > 0)
        change("sliding_window_size", -1,
               "WebLLM stops with a WindowSizeConfigurationError where context_window_size and sliding_window_size are both positive");
    if (integer("sliding_window_size") > 0 && integer("attention_sink_size") < 0)
        change("attention_sink_size", 0, "WebLLM wants an attention_sink_size of 0 or more beside a sliding window");
    if (integer("context_window_size") <= 0 && integer("sliding_window_size") <= 0) {
        out.chat.problems.push_back({errc::mismatch,
                                     "neither context_window_size nor sliding_window_size is positive, and WebLLM stops there",
                                     {},
                                     {},
                                     {},
                                     "give --context-window-size, 4096 say"});
    }
    const auto chunk = integer("prefill_chunk_size");
    if (config["model_task"] == "embedding" && chunk > 0 && integer("context_window_size") > 0 && chunk != integer("context_window_size"))
        change("context_window_size", chunk, "of an embedding model WebLLM takes a whole text in one prefill: the context must be the prefill chunk");
}

}  // namespace detail

/// What WebLLM needs of a checkpoint beside its weights: gen_config's folder with WebLLM's needs met. `output`, if not empty, is not read
/// or written, but must not be the checkpoint's own folder. Errors: as make_chat_folder; what is wrong with the model's fields, or
/// keeps WebLLM from it, is in the folder's problems.
[[nodiscard]] inline result<webllm_folder> make_webllm_folder(const std::string& model, const gen_config_options& options) {
    auto theirs = make_chat_folder(model, {}, options);
    if (!theirs) return pass(theirs);
    webllm_folder out;
    auto adjusted = options;
    bool respelled = false;
    adjusted.adjust_config = [&](json& config) {
        if (options.adjust_config) options.adjust_config(config);
        const auto type = options.model_type.empty() ? model::stated_model_type(model::config(config, {})) : options.model_type;
        if (type == "ministral3" || type == "qwen3_5" || type == "qwen3_5_text") return;  // they read it
        const json before = config;
        detail::respell_rope(config);
        if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) detail::respell_rope(*text);
        respelled = config != before;
    };
    // Looked at before all is done twice.
    std::error_code ec;
    std::filesystem::path file = model;
    if (std::filesystem::is_directory(file, ec)) file /= "config.json";
    auto config = detail::read_object(file.has_parent_path() ? file.parent_path() : ".", file.filename().string(), options.source);
    if (config && config->is_object()) adjusted.adjust_config(*config);
    if (respelled) {
        constexpr const char* reason = "transformers 5 wrote it into rope_parameters, where mlc_llm does not look";
        auto ours = make_chat_folder(model, {}, adjusted);
        if (!ours) return pass(ours);
        if (theirs->problems.empty()) {
            detail::list_differences(theirs->config, ours->config, {}, reason, out.differences);
        } else {
            const auto& fields = ours->config["model_config"];
            for (const auto* name : {"rope_theta", "rope_scaling", "partial_rotary_factor", "position_embedding_base"}) {
                if (fields.contains(name) && !fields[name].is_null())
                    out.differences.push_back({"model_config." + std::string(name), std::nullopt, fields[name], reason});
            }
        }
        out.chat = std::move(*ours);
    } else {
        out.chat = std::move(*theirs);
    }
    if (!out.chat.problems.empty()) return out;

    detail::look_at_windows(out);
    detail::look_at_tokenizer(out);
    const auto& type = out.chat.config["model_type"];
    const auto* scheme = find_scheme(options.quantization);
    if (scheme != nullptr && (scheme->model_type == encoding::bf16 || scheme->fp8)) {
        out.chat.problems.push_back({errc::unsupported,
                                     "WebGPU has neither bfloat16 nor fp8, and so WebLLM cannot run " + options.quantization,
                                     {},
                                     {},
                                     {},
                                     "take q4f16_1 or q4f32_1; for other back ends use nibble convert and nibble gen-config"});
    }
    if (scheme != nullptr && scheme->model_type == encoding::f16 && (type == "gemma3" || type == "gemma3_text")) {
        out.warnings.push_back(
            "Gemma 3 does not run in " + options.quantization +
            ": its activations grow beyond 65504, the largest f16 (1e5 at layer 14 of the 270M model), its logits become NaN, and WebLLM prints "
            "nonsense. Take q4f32_1 (or q0f32)");
    }
    return out;
}

}  // namespace nibble::convert
