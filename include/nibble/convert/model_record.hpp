// SPDX-License-Identifier: Apache-2.0
#pragma once
// WebLLM's ModelRecord for a package: what it needs of a GPU, computed from its tensors and its context; its model library; the hashes
// that WebLLM checks. The memory is that of WebLLM's own published records (prebuiltAppConfig of 0.2.79) to within 4 % for 33 of the
// records of Llama 3, Mistral, Phi 3.5, SmolLM2, Gemma 2, Qwen 2, 2.5 and 3, and TinyLlama; phi-2 and stablelm-2 are up to 28 % above
// what this gives, because their libraries hold more at a time.

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nibble/convert/library.hpp"
#include "nibble/core/sha256.hpp"
#include "nibble/model/model_libs.hpp"
#include "nibble/serve/record.hpp"
#include "nibble/shard/manifest.hpp"

namespace nibble::convert {

/// What a model takes on the GPU, in bytes.
///   weights      every tensor as it lies there: as stored, but float32 in four bytes a value
///   cache        2 · layers · key-value heads · head size · bytes of the model's type, for each token of the context (in the sliding
///                window, if there is one); what multi-head latent attention keeps instead; nothing for embedding models
///   activations  prefill chunk · bytes of the type · (6 · hidden + (heads + 2 · key-value heads) · head size + 3 · intermediate), which is
///                what a layer holds at a time: and f32 logits of one token, or of the whole chunk, as Qwen's and StableLM's libraries
///                make them. Embedding models take four texts at a time.
struct memory_need {
    std::uint64_t weights = 0;
    std::uint64_t cache = 0;
    std::uint64_t activations = 0;
    std::uint64_t largest_buffer = 0;  ///< that is bound at once: the largest tensor, or one layer's cache
    std::uint64_t context = 0;         ///< tokens that the cache is for
    std::uint64_t chunk = 0;

    [[nodiscard]] std::uint64_t total() const { return weights + cache + activations; }
    /// In units of 1024 · 1024 bytes, rounded to hundredths, as WebLLM's records have it.
    [[nodiscard]] double megabytes() const { return std::round(static_cast<double>(total()) / (1 << 20) * 100) / 100; }
};

namespace detail {

/// A field of a chat config's "model_config", or of its text model; 0 if it is none of these, or not positive.
[[nodiscard]] inline std::uint64_t size_of(const json& config, std::initializer_list<const char*> names) {
    const auto model = config.find("model_config");
    if (model == config.end() || !model->is_object()) return 0;
    const auto text = model->find("text_config");
    for (const auto* scope : {text != model->end() && text->is_object() ? &*text : &*model, &*model}) {
        for (const auto* name : names) {
            const auto at = scope->find(name);
            if (at != scope->end() && at->is_number_integer() && at->get<std::int64_t>() > 0)
                return std::min<std::uint64_t>(at->get<std::uint64_t>(), 1u << 24);
        }
    }
    return 0;
}

}  // namespace detail

/// `config`: an mlc-chat-config.json. `context` and `chunk` as the library will run it. `type`: of the model's activations.
[[nodiscard]] inline memory_need memory_of(const shard::manifest& manifest, const json& config, std::uint64_t context, std::uint64_t chunk, encoding type) {
    memory_need need;
    need.context = context;
    need.chunk = chunk;
    for (const auto& s : manifest.shards) {
        for (const auto& r : s.records) {
            const auto n = r.dims.elements() * info(r.type).block_bytes;
            need.weights += n;
            need.largest_buffer = std::max(need.largest_buffer, n);
        }
    }
    const auto size = [&](std::initializer_list<const char*> names) { return detail::size_of(config, names); };
    const std::uint64_t bytes = info(type).block_bytes;
    const auto hidden = size({"hidden_size", "n_embd"});
    const auto layers = size({"num_hidden_layers", "n_layer", "num_layers"});
    const auto heads = size({"num_attention_heads", "n_head"});
    auto kv_heads = size({"num_key_value_heads", "n_head_kv", "multi_query_group_num"});
    if (kv_heads == 0) kv_heads = heads;
    auto head = size({"head_dim", "kv_channels"});
    if (head == 0 && heads != 0) head = hidden / heads;
    auto inner = size({"intermediate_size", "n_inner", "ffn_hidden_size"});
    if (inner == 0) inner = 4 * hidden;
    const std::string kind = config.value("model_type", std::string());
    const bool embedding = config.value("model_task", std::string()) == "embedding";
    const bool recurrent = kind.starts_with("rwkv");
    if (!embedding && !recurrent) {
        const auto latent = size({"kv_lora_rank"});
        const auto layer = context * bytes * (latent != 0 ? latent + size({"qk_rope_head_dim"}) : 2 * kv_heads * head);
        need.cache = layers * layer;
        need.largest_buffer = std::max(need.largest_buffer, layer);
    }
    const bool all_logits = kind.starts_with("qwen") || kind == "stablelm";
    const std::uint64_t vocab = embedding ? 0
                                : size({"vocab_size"}) != 0
                                    ? size({"vocab_size"})
                                    : static_cast<std::uint64_t>(std::max<std::int64_t>(0, config.value("vocab_size", std::int64_t{0})));
    need.activations = chunk * bytes * (6 * hidden + (heads + 2 * kv_heads) * head + 3 * inner) * (embedding ? 4 : 1) + 4 * vocab * (all_logits ? chunk : 1);
    return need;
}

/// "sha256-…" of bytes, as browsers write it.
[[nodiscard]] inline std::string integrity_of(bytes_view bytes) {
    sha256 sum;
    sum.update(bytes);
    return sum.integrity();
}

/// WebLLM's numbers for what a model does.
enum class webllm_model : std::uint8_t { chat = 0, embedding = 1, vision = 2 };
[[nodiscard]] inline webllm_model webllm_model_of(const json& config) {
    if (config.value("model_task", std::string()) == "embedding") return webllm_model::embedding;
    const auto type = config.value("model_type", std::string());
    return type == "phi3_v" || type == "llava" ? webllm_model::vision : webllm_model::chat;
}

/// What a user says of the place and the name of a package.
struct record_options {
    std::string model_id;
    std::string base_url;
    std::optional<std::int64_t> context_window_size{};  ///< that the user asked for
    std::string library_url{};                          ///< empty: the prebuilt one, if any is known
    std::string library_hash{};
    const library_metadata* library = nullptr;  ///< of the library, where it is at hand
    model::webllm_version webllm = model::newest_webllm;
};

/// WebLLM's ModelRecord of a package, and what it rests on.
struct model_record {
    json record;  ///< "model_lib" is absent where no library is known
    memory_need memory;
    std::vector<std::string> notes;
};

/// A default of WebLLM's own records: its cache is as long as the context, whatever a conversation needs of it.
inline constexpr std::int64_t usual_context = 4096;
/// Below this a model counts as one for devices with little memory, phones for example.
inline constexpr double low_resource_megabytes = 3000;

/// The record of a package. `integrity`: {"config": …, "tokenizer": {…}}.
[[nodiscard]] inline model_record make_record(const shard::manifest& manifest, const json& config, encoding type, json integrity,
                                              const record_options& options) {
    model_record out;
    const auto integer = [&](const char* key) { return config.value(key, std::int64_t{-1}); };
    const auto quantization = config.value("quantization", std::string());
    const auto kind = webllm_model_of(config);
    std::string url = options.library_url;
    std::int64_t library_context = 0;
    std::int64_t chunk = 0;
    if (options.library != nullptr) {
        library_context = options.library->context_window_size;
        chunk = options.library->prefill_chunk_size;
    }
    if (url.empty()) {
        const auto query = model::library_query_of(config);
        const auto found = query ? model::find_library(*query, quantization, options.webllm) : result<model::library_choice>(fail(query.error()));
        if (found) {
            url = found->url();
            library_context = found->context;
            chunk = found->prefill_chunk;
            const auto& line = model::library_lines[*model::line_of(options.webllm)];
            out.notes.push_back("the prebuilt library " + found->file + " runs it in WebLLM " + line.first.text() + " to " + line.last.text() +
                                "; for other versions name them with --webllm");
        } else {
            out.notes.push_back(found.error().rule + ": \"model_lib\" is left for you; " +
                                "compile one with mlc_llm compile --device webgpu, and name it with --lib");
        }
    }

    // WebLLM makes room for the whole context at once, and a library has one that it was built for.
    std::int64_t context = integer("context_window_size");
    json overrides = json::object();
    if (context > 0 && kind != webllm_model::embedding) {
        std::int64_t most = options.context_window_size ? context : library_context > 0 ? library_context : usual_context;
        if (library_context > 0) most = std::min(most, library_context);
        if (context > most) {
            overrides["context_window_size"] = most;
            out.notes.push_back("the record limits the context of " + std::to_string(context) + " to " + std::to_string(most) +
                                ", for which WebLLM makes its cache at the start (\"overrides\"); --context-window-size chooses another");
            context = most;
        }
    }
    if (context <= 0) context = std::max<std::int64_t>(integer("sliding_window_size"), 0);
    if (chunk <= 0) chunk = std::max<std::int64_t>(integer("prefill_chunk_size"), 0);
    if (context > 0) chunk = std::min(chunk, context);
    out.memory = memory_of(manifest, config, static_cast<std::uint64_t>(context), static_cast<std::uint64_t>(chunk), type);

    auto& r = out.record;
    r = json::object();
    r["model"] = options.base_url;
    r["model_id"] = options.model_id;
    if (!url.empty()) r["model_lib"] = url;
    r["model_type"] = static_cast<int>(kind);
    r["vram_required_MB"] = out.memory.megabytes();
    r["low_resource_required"] = out.memory.megabytes() <= low_resource_megabytes;
    if (type == encoding::f16) r["required_features"] = json::array({"shader-f16"});
    r["buffer_size_required_bytes"] = out.memory.largest_buffer;
    if (!overrides.empty()) r["overrides"] = std::move(overrides);
    if (!options.library_hash.empty()) integrity["model_lib"] = options.library_hash;
    integrity["onFailure"] = "error";
    r["integrity"] = std::move(integrity);
    return out;
}

}  // namespace nibble::convert
