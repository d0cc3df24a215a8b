// SPDX-License-Identifier: Apache-2.0
#pragma once
// README.md of a package: a model card with the front matter that the Hugging Face Hub reads, what the package is, how it is loaded and
// checked, and where it differs from what mlc_llm writes.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/convert/model_record.hpp"
#include "nibble/convert/webllm_config.hpp"
#include "nibble/version.hpp"

namespace nibble::convert {

/// What a card says.
struct card_facts {
    std::string title;
    std::string base_model;                                    ///< "OWNER/NAME", or a name that is not the Hub's; may be empty
    std::vector<std::pair<std::string, std::string>> license;  ///< "license", "license_name", "license_link" of the base model's own card
    std::string quantization;
    double bits_per_parameter = 0;
    std::size_t n_shards = 0;
    std::uint64_t shard_bytes = 0;
    const webllm_folder* folder = nullptr;
    memory_need memory;
    json record;
    std::vector<json> records;  ///< it alone, or those of both halves of a pair, the one for shader-f16 first
    std::vector<std::string> notes;
    bool params_layout = false;
    bool weights_of_mlc_llm = true;  ///< byte for byte
};

namespace detail {

/// A scalar for YAML: every JSON string is one.
[[nodiscard]] inline std::string yaml(const std::string& text) { return json(text).dump(-1, ' ', false, json::error_handler_t::replace); }

/// Text for Markdown, on one line.
[[nodiscard]] inline std::string markdown(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\n' || c == '\r') {
            out += ' ';
            continue;
        }
        if (std::string_view("\\`*[]<>|").find(c) != std::string_view::npos) out += '\\';
        out += c;
    }
    return out;
}

[[nodiscard]] inline std::string megabytes_text(double bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f MB", bytes / 1e6);
    return text;
}

/// Whether a name is one of the Hub's, "OWNER/NAME".
[[nodiscard]] inline bool is_hub_name(std::string_view name) {
    const auto slash = name.find('/');
    if (slash == 0 || slash == name.npos || slash + 1 == name.size() || name.size() > 200 || name.find('/', slash + 1) != name.npos || name[0] == '.')
        return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';
    });
}

/// The lines about the license in the front matter of a model card.
[[nodiscard]] inline std::vector<std::pair<std::string, std::string>> license_of(std::string_view card) {
    std::vector<std::pair<std::string, std::string>> found;
    if (!card.starts_with("---")) return found;
    bool first = true;
    while (!card.empty()) {
        const auto end = std::min(card.find('\n'), card.size());
        auto line = card.substr(0, end);
        card.remove_prefix(std::min(end + 1, card.size()));
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
        if (line == "---" && !first) break;
        first = false;
        for (const std::string_view key : {"license", "license_name", "license_link"}) {
            if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
            auto value = line.substr(key.size() + 1);
            while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
            const bool quoted = value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
            if (quoted) value = value.substr(1, value.size() - 2);
            if (!value.empty() && value.size() <= 300 && value.find_first_of("\"'[]{}|>&*!#") == value.npos) found.emplace_back(key, value);
        }
    }
    return found;
}

}  // namespace detail

[[nodiscard]] inline std::string model_card(const card_facts& f) {
    using detail::markdown;
    const auto& config = f.folder->chat.config;
    const bool embedding = webllm_model_of(config) == webllm_model::embedding;
    std::string out = "---\nlibrary_name: mlc-llm\n";
    if (detail::is_hub_name(f.base_model)) out += "base_model: " + detail::yaml(f.base_model) + "\nbase_model_relation: quantized\n";
    for (const auto& [key, value] : f.license) out += key + ": " + detail::yaml(value) + "\n";
    out += "pipeline_tag: " + std::string(embedding ? "feature-extraction" : "text-generation") + "\ntags:\n- mlc-llm\n- web-llm\n- webgpu\n- " +
           detail::yaml(f.quantization) + "\n---\n\n# " + markdown(f.title) + "\n\n";
    out += (f.base_model.empty() ? std::string("A model") : markdown(f.base_model)) + " in the quantization `" + f.quantization +
           "`, for [WebLLM](https://github.com/mlc-ai/web-llm) and MLC LLM. Made by nibble " NIBBLE_VERSION ".\n\n| | |\n|---|---|\n";
    const auto row = [&](std::string_view name, const std::string& value) { out += "| " + std::string(name) + " | " + value + " |\n"; };
    const auto number = [](double x, const char* format) {
        char text[64];
        std::snprintf(text, sizeof text, format, x);
        return std::string(text);
    };
    row("model type", "`" + config.value("model_type", std::string()) + "`");
    row("quantization", "`" + f.quantization + "`, " + number(f.bits_per_parameter, "%.3f") + " bits a parameter");
    row("weights", detail::megabytes_text(static_cast<double>(f.shard_bytes)) + " in " + std::to_string(f.n_shards) + (f.n_shards == 1 ? " shard" : " shards"));
    row("context window", std::to_string(f.memory.context) + " tokens" +
                              (config.value("context_window_size", std::int64_t{-1}) > static_cast<std::int64_t>(f.memory.context)
                                   ? " (the record's; the model has " + std::to_string(config.value("context_window_size", std::int64_t{-1})) + ")"
                                   : ""));
    row("prefill chunk", std::to_string(f.memory.chunk) + " tokens");
    const auto& conversation = config["conv_template"];
    if (!embedding && conversation.is_object()) row("conversation template", "`" + conversation.value("name", std::string("custom")) + "`");
    const auto mib = [&](std::uint64_t bytes) { return number(static_cast<double>(bytes) / (1 << 20), "%.1f MiB"); };
    row("GPU memory",
        mib(f.memory.total()) + ": weights " + mib(f.memory.weights) + ", cache " + mib(f.memory.cache) + ", activations " + mib(f.memory.activations));
    row("largest buffer",
        mib(f.memory.largest_buffer) + (f.memory.largest_buffer > (1u << 27) ? ", more than the 128 MiB that every WebGPU device binds" : ""));
    row("needs", f.record.contains("required_features") ? "a GPU with `shader-f16`" : "any device with WebGPU");

    for (const auto& w : f.folder->warnings) out += "\n> **" + markdown(w) + ".**\n";
    out += "\n## Load it in WebLLM\n\n";
    if (!f.record.contains("model_lib"))
        out += "No prebuilt model library is known for it: compile one (`mlc_llm compile --device webgpu`), and put its URL where `model_lib` is.\n\n";
    if (f.params_layout)
        out +=
            "The shards and their index lie in `params/`, as in older MLC folders. WebLLM looks for them beside `mlc-chat-config.json`: serve this folder "
            "with `nibble serve`, which finds them, or package it with `--layout flat` or `hub` for other servers.\n\n";
    out += "```js\n" + serve::snippet(f.records) +
           "```\n\n`model` is where the folder is served (`nibble serve` uses http://127.0.0.1:8000): an absolute URL, to "
           "which WebLLM appends `resolve/main/` unless it has a `/resolve/REVISION/` in it. ";
    if (f.records.size() == 2) out += "The two records are a pair: the second one is for GPUs without `shader-f16`. ";
    out += "The record alone is in `" + std::string(serve::record_file_name) + "`.\n\nWebLLM before 0.2.40 has other names for the fields:\n\n```js\n" +
           serve::older_snippet(f.record) + "```\n";

    out += "\n## Where it differs from what mlc_llm writes\n\n";
    out += f.weights_of_mlc_llm ? "The weights are byte for byte those of `mlc_llm convert_weight`. "
                                : "The weights have the format of `mlc_llm convert_weight`, and scales with the least squared error (`--fit mse`). ";
    if (f.folder->differences.empty()) {
        out += "`mlc-chat-config.json` and the tokenizer are those of `mlc_llm gen_config`.\n";
    } else {
        out += "`mlc-chat-config.json` and the tokenizer are changed for WebLLM:\n\n";
        for (const auto& d : f.folder->differences) out += "- " + markdown(d.message()) + "\n";
    }
    if (!f.notes.empty()) {
        out += "\n## Notes\n\n";
        for (const auto& n : f.notes) out += "- " + markdown(n) + "\n";
    }
    out +=
        "\n## Check it\n\n```sh\nnibble doctor .                        # would WebLLM load it? Sizes, hashes of all files (nibble-manifest.json), tokenizer, "
        "template\n"
        "nibble verify " +
        std::string(f.params_layout ? "params" : ".") +
        " --source MODEL         # the error of every tensor against the original checkpoint\n"
        "nibble serve .                         # serve it to a page on this machine\n```\n";
    return out;
}

}  // namespace nibble::convert
