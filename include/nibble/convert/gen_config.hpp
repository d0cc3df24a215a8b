// SPDX-License-Identifier: Apache-2.0
#pragma once
// mlc-chat-config.json and the tokenizer beside it, byte for byte as mlc_llm gen_config writes them (mlc_llm/interface/gen_config.py,
// mlc_llm/protocol/mlc_chat_config.py). What it would refuse is refused here, before anything is written.

#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "nibble/codec/registry.hpp"
#include "nibble/convert/conversation.hpp"
#include "nibble/convert/tokenizer.hpp"
#include "nibble/core/file.hpp"
#include "nibble/core/python_json.hpp"
#include "nibble/model/architectures.hpp"
#include "nibble/model/chat_config.hpp"
#include "nibble/model/conv_templates.hpp"
#include "nibble/shard/output.hpp"
#include "nibble/source/folder.hpp"

namespace nibble::convert {

inline constexpr std::string_view chat_config_name = "mlc-chat-config.json";

/// What gen_config can be told. A number that is not given leaves the model's own.
struct gen_config_options {
    std::string quantization;
    std::string conv_template;                                   ///< a registered one; "custom": derived; empty: found
    std::optional<model::conversation_template> conversation{};  ///< one of your own, in place of a registered one
    std::string model_type;                                      ///< empty: what config.json says
    std::optional<std::int64_t> context_window_size{};
    std::optional<std::int64_t> sliding_window_size{};
    std::optional<std::int64_t> prefill_chunk_size{};
    std::optional<std::int64_t> attention_sink_size{};
    std::int64_t max_batch_size = 128;
    std::optional<std::int64_t> tensor_parallel_shards{};
    std::optional<std::int64_t> pipeline_parallel_stages{};
    std::optional<bool> disaggregation{};
    source::open_options source{};               ///< follow_links
    std::function<void(json&)> adjust_config{};  ///< changes what config.json says before anything is derived from it
};

/// A file of the checkpoint that goes to the output as it is.
struct copied_file {
    std::string name;
    std::vector<std::byte> content;
};

/// What gen_config would write, complete.
struct chat_folder {
    json config;  ///< of mlc-chat-config.json
    std::vector<copied_file> files;
    error_list problems;  ///< nothing may be written while there are any
    std::vector<std::string> notes;

    /// The bytes of mlc-chat-config.json.
    [[nodiscard]] std::string config_text() const { return python_json(config, 2); }
};

/// The files of a tokenizer that are copied, in the order in which "tokenizer_files" names them.
inline constexpr std::array<std::string_view, 6> tokenizer_file_names{"tokenizer.model", "tokenizer.json",    "vocab.json",
                                                                      "merges.txt",      "added_tokens.json", "tokenizer_config.json"};

namespace detail {

/// A JSON object in the checkpoint's folder; null if the file is not there.
inline result<json> read_object(const std::filesystem::path& folder, std::string_view name, const source::open_options& options) {
    std::error_code ec;
    const auto path = folder / name;
    if (!std::filesystem::exists(path, ec)) return json();
    auto text = source::detail::read_inside(folder, std::string(name), std::uint64_t{1} << 28, options);
    if (!text) return pass(text);
    auto parsed = parse_json(*text);
    if (!parsed) return fail(std::move(parsed.error()).in_file(path.string()));
    if (!parsed->is_object()) return fail(error{errc::malformed, "a JSON object is needed", path.string(), {}, {}, {}});
    return parsed;
}

/// The config.json that a GGUF file's metadata make. Errors: those of open_gguf, and the first of its faults.
inline result<json> gguf_config_of(const std::string& path, const source::open_options& options) {
    auto opened = source::open_gguf(path, options);
    if (!opened) return pass(opened);
    if (!opened->problems.empty()) return fail(std::move(opened->problems.front()));
    return std::move(opened->config);
}

/// A field of mlc-chat-config.json that must be an integer: 4096.0 counts as one, null does not.
inline json whole_number(model::chat_fields& fields, const char* name, std::int64_t absent) {
    if (!fields.own.contains(name)) return absent;
    const json& v = fields[name];
    if (v.is_number_integer()) return v;
    if (v.is_boolean()) return v.get<bool>() ? 1 : 0;
    if (v.is_number_float() && std::trunc(v.get<double>()) == v.get<double>() && std::fabs(v.get<double>()) < 9e18)
        return static_cast<std::int64_t>(v.get<double>());
    fields.problem(model::chat_fields::quoted(name) + " is " + model::chat_fields::shown(v) + ", an integer is needed");
    return absent;
}

/// The values of options that were given, by mlc_llm's names and in its order.
inline json overrides_of(const gen_config_options& o) {
    json given = json::object();
    const auto put = [&](const char* name, const auto& value) {
        if (value) given[name] = *value;
    };
    put("context_window_size", o.context_window_size);
    put("sliding_window_size", o.sliding_window_size);
    put("prefill_chunk_size", o.prefill_chunk_size);
    put("attention_sink_size", o.attention_sink_size);
    put("max_batch_size", std::optional(o.max_batch_size));
    put("tensor_parallel_shards", o.tensor_parallel_shards);
    put("pipeline_parallel_stages", o.pipeline_parallel_stages);
    put("disaggregation", o.disaggregation);
    return given;
}

/// The tokenizer's files, its tokenizer_info, and the number of its tokens, put into `out`.
inline result<void> add_tokenizer(chat_folder& out, const std::filesystem::path& folder, const std::filesystem::path& output, const json& config,
                                  const gen_config_options& options) {
    namespace fs = std::filesystem;
    std::error_code ec;
    for (const auto name : tokenizer_file_names) {
        if (!fs::exists(folder / name, ec)) continue;
        if (!output.empty() && fs::equivalent(folder / name, output / name, ec)) {
            return fail(error{errc::refused,
                              "the output folder is the checkpoint's own, and the tokenizer would be copied onto itself",
                              (output / name).string(),
                              {},
                              {},
                              "give another output folder with -o"});
        }
        auto content = source::detail::read_inside(folder, std::string(name), std::uint64_t{1} << 30, options.source);
        if (!content) return pass(content);
        out.files.push_back({std::string(name), std::move(*content)});
        out.config["tokenizer_files"].push_back(name);
    }
    auto tokenizer = read_object(folder, "tokenizer.json", options.source);
    if (!tokenizer) return pass(tokenizer);
    const bool in_source = !tokenizer->is_null();
    if (!in_source) {
        bool tiktoken = false;
        for (const auto& entry : fs::directory_iterator(folder, ec)) {
            const auto name = entry.path().filename().string();
            tiktoken = tiktoken || name.ends_with(".tiktoken");
            if (name.starts_with("rwkv_vocab_v") && (name.ends_with(".txt") || name.ends_with(".json")))
                out.notes.push_back(name + " is not converted: mlc_llm would also write \"tokenizer_model\" from it");
        }
        if (fs::exists(folder / "tokenizer.model", ec) || tiktoken) {
            out.notes.push_back(std::string(tiktoken ? "*.tiktoken" : "tokenizer.model") +
                                " is not converted: mlc_llm would also write tokenizer.json from it where the Python package transformers can. WebLLM loads "
                                "tokenizer.json best: save one with transformers (AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)) and run again");
        }
        // One that stands in the output already is looked at, as by mlc_llm, though it is not named.
        if (!output.empty()) tokenizer = read_object(output, "tokenizer.json", {.follow_links = true});
        if (!tokenizer) return pass(tokenizer);
    }
    const auto path = ((in_source ? folder : output) / "tokenizer.json").string();
    tokenizer_info info;
    if (!tokenizer->is_null()) {
        auto detected = detect_tokenizer_info(*tokenizer);
        if (!detected) return fail(std::move(detected.error()).in_file(path));
        info = std::move(*detected);
    }
    out.config["tokenizer_info"] = to_json(info);
    if (!in_source) return {};

    const auto twice = duplicate_added_token(*tokenizer);
    if (!twice) return fail(error(twice.error()).in_file(path));
    if (*twice) {
        return fail(error{errc::malformed,
                          "the added token " + python_string(**twice) + " stands there twice, which shifts the ids of the tokens after it",
                          path,
                          {},
                          {},
                          "remove the second one, or take the file from a later revision of the model"});
    }
    auto settings = read_object(folder, "tokenizer_config.json", options.source);
    auto added = read_object(folder, "added_tokens.json", options.source);
    auto map = read_object(folder, "special_tokens_map.json", options.source);
    for (auto* r : {&settings, &added, &map}) {
        if (!*r) return pass(*r);
    }
    const auto n = count_tokens({*tokenizer, *settings, *added, *map, config});
    if (!n) {
        out.notes.push_back(path + ": the vocabulary has a form that is not known, and \"active_vocab_size\" stays what config.json says");
        return {};
    }
    out.config["active_vocab_size"] = n->by_transformers;
    if (n->by_transformers != n->in_file) {
        out.notes.push_back("\"active_vocab_size\" is " + std::to_string(n->by_transformers) +
                            ", as mlc_llm writes it: it counts special tokens to which only " + "transformers gives ids; tokenizer.json has " +
                            std::to_string(n->in_file) + " tokens");
    }
    return {};
}

}  // namespace detail

/// What gen_config makes of a checkpoint: a folder, its config.json, or a .gguf file with the tokenizer beside it. `output` is where it is to be written, whose
/// files play a part in two cases (see add_tokenizer); empty: nowhere. Nothing is written. Errors: missing, malformed, unsupported, refused. What is wrong with
/// the model's fields is in chat_folder::problems.
[[nodiscard]] inline result<chat_folder> make_chat_folder(const std::string& model, const std::string& output, const gen_config_options& options) {
    namespace fs = std::filesystem;
    std::error_code ec;
    fs::path file = model;
    if (fs::is_directory(file, ec)) file /= "config.json";
    const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    if (!fs::exists(file, ec)) {
        return fail(error{errc::missing, "no such file", file.string(), {}, {}, "give the folder of a Hugging Face checkpoint, with its config.json"});
    }

    chat_folder out;
    if (find_scheme(options.quantization) == nullptr) {  // a config may name what only mlc_llm makes
        const auto left_out = std::find_if(schemes_left_out.begin(), schemes_left_out.end(), [&](const auto& s) { return s.name == options.quantization; });
        if (left_out == schemes_left_out.end()) return fail(unknown_scheme(options.quantization));
        out.notes.push_back("the weights must come from mlc_llm, nibble has no " + options.quantization + ": " + std::string(left_out->why));
    }
    auto conversation = options.conversation.value_or(model::conversation_template{});
    if (!options.conversation) {
        auto chosen = choose_template(model, options.conv_template, options.model_type, options.source);
        if (!chosen) return pass(chosen);
        out.notes.insert(out.notes.end(), chosen->notes.begin(), chosen->notes.end());
        conversation = std::move(chosen->conversation);
    }

    const bool gguf = source::detail::is_gguf(model);
    auto config = gguf ? detail::gguf_config_of(model, options.source) : detail::read_object(folder, file.filename().string(), options.source);
    if (!config) return pass(config);
    if (gguf) {
        std::string note = "config.json is derived from the metadata of the GGUF file";
        if (!fs::exists(folder / "tokenizer.json", ec)) note += "; WebLLM needs a tokenizer.json too: put the original model's beside it, and run again";
        out.notes.push_back(std::move(note));
    }
    if (options.adjust_config) options.adjust_config(*config);
    auto type = options.model_type.empty() ? model::stated_model_type(model::config(*config, file.string())) : options.model_type;
    const auto* row = model::find_chat_model(type);
    if (row == nullptr) {
        error e{errc::unsupported, "mlc_llm has no model type \"" + type.substr(0, 64) + "\"", file.string(), {}, {}, {}};
        if (type.empty()) e = {errc::missing, "\"model_type\" is missing or not a string", file.string(), {}, {}, "name the model type with --model-type"};
        if (type == "mistral3") e.remedy = "its text model is known by the name ministral3: --model-type ministral3";
        for (const auto near : model::nearest_model_types(type)) {
            if (type != "mistral3") e.remedy += (e.remedy.empty() ? "known ones like it: " : ", ") + std::string(near);
        }
        return fail(std::move(e));
    }

    const json overrides = detail::overrides_of(options);
    auto fields = model::derive_chat_fields(*row, *config, overrides, file.string());
    for (const auto& [name, value] : overrides.items()) {
        if (fields.problems.empty() && !fields.own.contains(name) && name != "max_batch_size")
            out.notes.push_back("model type \"" + std::string(row->model_type) + "\" has no " + name + ": the option does nothing");
    }
    out.config = {{"version", "0.1.0"}, {"model_type", row->model_type}, {"quantization", options.quantization}};
    out.config["model_config"] = nullptr;
    for (const auto* name : {"vocab_size", "context_window_size", "sliding_window_size", "prefill_chunk_size", "attention_sink_size", "tensor_parallel_shards"})
        out.config[name] = detail::whole_number(fields, name, -1);
    out.config["pipeline_parallel_stages"] = detail::whole_number(fields, "pipeline_parallel_stages", 1);
    out.config["model_config"] = fields.own;
    out.config["active_vocab_size"] = out.config["vocab_size"];
    for (const auto* name : {"temperature", "presence_penalty", "frequency_penalty", "repetition_penalty", "top_p"}) out.config[name] = nullptr;
    out.config["tokenizer_files"] = json::array();
    out.config["tokenizer_info"] = json::object();
    out.config["conv_template"] = to_json(conversation);
    for (const auto* name : {"pad_token_id", "bos_token_id", "eos_token_id"}) out.config[name] = nullptr;
    out.config["model_task"] = row->embedding_type.empty() ? "chat" : "embedding";
    out.config["embedding_metadata"] = nullptr;
    if (!row->embedding_type.empty())
        out.config["embedding_metadata"] = {{"model_type", row->embedding_type}, {"pooling_strategy", row->embedding_pooling}, {"normalize", true}};
    out.problems = std::move(fields.problems);

    // How to generate: generation_config.json speaks before config.json, whatever is still null has a default of mlc_llm's.
    for (const auto* name : {"generation_config.json", "config.json"}) {
        const bool derived = gguf && name == std::string_view("config.json");
        const auto values = derived ? config : detail::read_object(folder, name, options.source);
        if (!values) {
            out.problems.push_back(values.error());
            continue;
        }
        for (const auto& [key, value] : values->items()) {
            const auto at = out.config.find(key);
            if (at != out.config.end() && at->is_null()) *at = value;
        }
    }
    if (auto added = detail::add_tokenizer(out, folder, output, *config, options); !added) out.problems.push_back(std::move(added.error()));
    const json defaults{{"pad_token_id", 0},       {"bos_token_id", 1},        {"eos_token_id", 2},         {"temperature", 1.0},
                        {"presence_penalty", 0.0}, {"frequency_penalty", 0.0}, {"repetition_penalty", 1.0}, {"top_p", 1.0}};
    for (const auto& [key, value] : defaults.items()) {
        if (out.config[key].is_null()) out.config[key] = value;
    }
    return out;
}

/// Writes the tokenizer's files and, last, mlc-chat-config.json; each comes into being whole, in place of one that was there.
/// Errors: io, no_space.
[[nodiscard]] inline result<void> write_chat_folder(const chat_folder& f, const std::string& output) {
    std::error_code ec;
    std::filesystem::create_directories(output, ec);
    if (!std::filesystem::is_directory(output, ec))
        return fail(error{errc::io, "the output folder cannot be made", output, {}, {}, "give an output folder that you may write to"});
    const auto write = [&](const std::string& name, bytes_view content) -> result<void> {
        auto file = shard::output_file::create(output, name, content.size());
        if (!file) return pass(file);
        if (auto written = file->write(content); !written) return written;
        return file->finish();
    };
    for (const auto& file : f.files) {
        if (auto written = write(file.name, file.content); !written) return written;
    }
    const auto text = f.config_text();
    return write(std::string(chat_config_name), std::as_bytes(std::span(text)));
}

}  // namespace nibble::convert
