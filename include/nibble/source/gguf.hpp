// SPDX-License-Identifier: Apache-2.0
#pragma once
// A GGUF file as a Hugging Face checkpoint: llama.cpp's tensor names and metadata become HF's names and a config.json. What llama.cpp's
// converter (convert_hf_to_gguf.py) changed in the weights is written down in the tensors, to be undone as they are used.

#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nibble/source/gguf_header.hpp"

namespace nibble::source {

/// One row of the table of GGUF architectures that can be named in Hugging Face's way.
struct gguf_architecture {
    std::string_view name;        ///< general.architecture
    std::string_view model_type;  ///< in config.json
    std::string_view class_name;  ///< its "architectures"
    bool permuted = false;        ///< rows of q and k are stored in the order of interleaved rotary pairs
    bool gemma = false;           ///< norms are stored with 1 added; head_dim and the activation have Gemma's defaults
    bool four_norms = false;      ///< norms before and after both attention and MLP
};
inline constexpr std::array gguf_architectures{
    gguf_architecture{"llama", "llama", "LlamaForCausalLM", true},
    gguf_architecture{"qwen2", "qwen2", "Qwen2ForCausalLM"},
    gguf_architecture{"qwen3", "qwen3", "Qwen3ForCausalLM"},
    gguf_architecture{"gemma", "gemma", "GemmaForCausalLM", false, true},
    gguf_architecture{"gemma2", "gemma2", "Gemma2ForCausalLM", false, true, true},
    gguf_architecture{"gemma3", "gemma3_text", "Gemma3ForCausalLM", false, true, true},
    gguf_architecture{"phi3", "phi3", "Phi3ForCausalLM"},
};

/// Opens a GGUF file, or all parts of a split one when one of them is given. Errors: those of read_gguf_header; unsupported for
/// other architectures; missing for parts and keys without which there is no model. Lesser faults are in checkpoint::problems.
[[nodiscard]] result<checkpoint> open_gguf(const std::string& path, const open_options& options = {});

namespace detail {

struct gguf_name {
    std::string_view stored;
    std::string_view hf;
};
inline constexpr std::array gguf_model_names{gguf_name{"token_embd", "model.embed_tokens"}, gguf_name{"output_norm", "model.norm"},
                                             gguf_name{"output", "lm_head"}};
inline constexpr std::array gguf_layer_names{
    gguf_name{"attn_norm", "input_layernorm"},
    gguf_name{"attn_q", "self_attn.q_proj"},
    gguf_name{"attn_k", "self_attn.k_proj"},
    gguf_name{"attn_v", "self_attn.v_proj"},
    gguf_name{"attn_qkv", "self_attn.qkv_proj"},
    gguf_name{"attn_output", "self_attn.o_proj"},
    gguf_name{"attn_q_norm", "self_attn.q_norm"},
    gguf_name{"attn_k_norm", "self_attn.k_norm"},
    gguf_name{"post_attention_norm", "post_attention_layernorm"},
    gguf_name{"post_ffw_norm", "post_feedforward_layernorm"},
    gguf_name{"ffn_gate", "mlp.gate_proj"},
    gguf_name{"ffn_up", "mlp.up_proj"},
    gguf_name{"ffn_down", "mlp.down_proj"},
};

/// The Hugging Face name of a stored tensor; a name that is not known stays as it is, and no parameter will ask for it.
[[nodiscard]] inline std::string hf_name(const gguf_architecture& a, std::string_view stored) {
    const auto dot = stored.rfind('.');
    if (dot == stored.npos) return std::string(stored);
    const auto suffix = stored.substr(dot);
    if (suffix != ".weight" && suffix != ".bias") return std::string(stored);
    auto stem = stored.substr(0, dot);
    for (const auto& n : gguf_model_names) {
        if (n.stored == stem) return std::string(n.hf).append(suffix);
    }
    if (!stem.starts_with("blk.")) return std::string(stored);
    const auto end = stem.find('.', 4);
    if (end == stem.npos) return std::string(stored);
    const auto layer = "model.layers." + std::string(stem.substr(4, end - 4)) + ".";
    stem.remove_prefix(end + 1);
    if (stem == "ffn_norm") return layer + (a.four_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm") + std::string(suffix);
    if (stem == "ffn_up" && a.name == "phi3") return layer + "mlp.gate_up_proj" + std::string(suffix);
    for (const auto& n : gguf_layer_names) {
        if (n.stored == stem) return layer + std::string(n.hf) + std::string(suffix);
    }
    return std::string(stored);
}

/// Where the rows of q or k are stored: within each head, the converter interleaves the two halves that a rotation pairs.
[[nodiscard]] inline std::vector<std::uint32_t> rotary_row_order(std::uint64_t n_rows, std::uint64_t n_heads) {
    std::vector<std::uint32_t> order;
    order.reserve(n_rows);
    const std::uint64_t head = n_rows / n_heads;
    for (std::uint64_t i = 0; i < n_rows; ++i) {
        const std::uint64_t in_head = i % head;
        order.push_back(static_cast<std::uint32_t>(i - in_head + 2 * (in_head % (head / 2)) + in_head / (head / 2)));
    }
    return order;
}

/// Derives config.json from the metadata, and from the tensors where these are surer.
class gguf_config {
public:
    gguf_config(const gguf_header& h, const gguf_architecture& a, checkpoint& c) : header_(h), arch_(a), out_(c) {}

    std::uint64_t n_heads = 0;
    std::uint64_t n_kv_heads = 0;

    /// Keys stand in alphabetical order, as transformers writes them. `stored` finds a tensor by its GGUF name.
    template <class Find>
    void derive(Find&& stored) {
        const auto hidden = need("embedding_length");
        n_heads = need("attention.head_count");
        n_kv_heads = get("attention.head_count_kv").value_or(n_heads);
        set("architectures", json::array({arch_.class_name}));
        set("model_type", arch_.model_type);
        set("hidden_size", hidden);
        set("intermediate_size", need("feed_forward_length"));
        set("num_hidden_layers", need("block_count"));
        set("num_attention_heads", n_heads);
        set("num_key_value_heads", n_kv_heads);
        set("max_position_embeddings", need("context_length"));
        set("rms_norm_eps", real("attention.layer_norm_rms_epsilon", arch_.gemma ? 1e-06 : 1e-05));
        set("rope_theta", real("rope.freq_base", 10000.0));
        set("rope_scaling", rope_scaling(stored));
        set("tie_word_embeddings", stored("output.weight") == nullptr);
        if (arch_.model_type == "llama") set("mlp_bias", stored("blk.0.ffn_up.bias") != nullptr);
        if (arch_.model_type != "qwen2") set("attention_bias", stored("blk.0.attn_q.bias") != nullptr || stored("blk.0.attn_qkv.bias") != nullptr);

        const auto head_dim = derive_head_dim(stored, hidden);
        if (const auto* embedding = stored("token_embd.weight"); embedding != nullptr) {
            set("vocab_size", embedding->dims.rows());
            set("torch_dtype", embedding->type == encoding::f32 ? "float32" : embedding->type == encoding::bf16 ? "bfloat16" : "float16");
            const auto* tokens = header_.find("tokenizer.ggml.tokens");
            if (tokens != nullptr && tokens->array.count > embedding->dims.rows()) {
                problem(errc::mismatch, "the tokenizer has " + std::to_string(tokens->array.count) + " tokens, token_embd.weight has " +
                                            std::to_string(embedding->dims.rows()) + " rows");
            }
        } else {
            problem(errc::missing, "token_embd.weight is missing, so the size of the vocabulary is not known");
        }
        for (const auto& [key, id] : {std::pair{"bos_token_id", "bos"}, {"eos_token_id", "eos"}, {"pad_token_id", "padding"}}) {
            if (const auto n = whole("tokenizer.ggml." + std::string(id) + "_token_id")) set(key, *n);
        }
        const auto window = get("attention.sliding_window");
        if (window && *window != 0) set("sliding_window", *window);
        if (arch_.gemma)
            derive_gemma(hidden, head_dim);
        else
            set("hidden_act", "silu");
        if (arch_.name == "phi3") derive_phi3(head_dim);

        out_.config = json::object();
        for (auto& [key, value] : values_) out_.config[key] = std::move(value);
    }

private:
    void set(std::string key, json value) { values_.insert_or_assign(std::move(key), std::move(value)); }
    void problem(errc code, std::string rule) {
        out_.problems.push_back(error{code, std::move(rule), header_.from->path(), {}, {}, "convert the model to GGUF again with current tools"});
    }
    [[nodiscard]] std::string full(std::string_view key) const { return std::string(arch_.name) + "." + std::string(key); }

    /// A whole number of any integer type that is not negative; an array of one number a layer counts where all are equal.
    [[nodiscard]] std::optional<std::uint64_t> whole(const std::string& key) {
        const auto* v = header_.find(key);
        if (v == nullptr) return std::nullopt;
        json value = v->value;
        if (v->type == gguf_type::array && v->array.count != 0 && v->array.count <= 65536) {
            if (auto each = header_.array(key)) {
                if (std::all_of(each->begin(), each->end(), [&](const json& e) { return e == each->front(); })) value = each->front();
            }
        }
        if (value.is_number_unsigned()) return value.get<std::uint64_t>();
        if (value.is_number_integer() && value.get<std::int64_t>() >= 0) return static_cast<std::uint64_t>(value.get<std::int64_t>());
        const bool is_array = v->type == gguf_type::array;
        problem(errc::unsupported, "metadata key \"" + key + "\" must be one whole number" + (is_array ? ", it differs from layer to layer" : ""));
        return std::nullopt;
    }
    [[nodiscard]] std::optional<std::uint64_t> get(std::string_view key) { return whole(full(key)); }
    [[nodiscard]] std::uint64_t need(std::string_view key) {
        if (header_.find(full(key)) == nullptr) problem(errc::missing, "metadata key \"" + full(key) + "\" is missing");
        return get(key).value_or(0);
    }
    [[nodiscard]] double real(std::string_view key, double fallback) {
        const auto* v = header_.find(full(key));
        if (v == nullptr) return fallback;
        const double x = v->value.is_number() ? v->value.get<double>() : -1.0;
        if (std::isfinite(x) && x > 0) return x;
        problem(errc::malformed, "metadata key \"" + full(key) + "\" must be a positive finite number");
        return fallback;
    }

    template <class Find>
    [[nodiscard]] std::uint64_t derive_head_dim(Find&& stored, std::uint64_t hidden) {
        const std::uint64_t usual = n_heads == 0 ? 0 : hidden / n_heads;
        const auto* q = stored("blk.0.attn_q.weight");
        const auto given = get("attention.key_length");
        const std::uint64_t head_dim = given ? *given : q != nullptr && n_heads != 0 ? q->dims.rows() / n_heads : usual;
        if (given || head_dim != usual) set("head_dim", head_dim);
        return head_dim;
    }

    /// What llama.cpp computes in its graph rather than keeps: see llm_load_hparams for gemma, gemma2 and gemma3.
    void derive_gemma(std::uint64_t hidden, std::uint64_t head_dim) {
        set("head_dim", head_dim);
        set("hidden_activation", "gelu_pytorch_tanh");
        if (arch_.model_type != "gemma3_text") set("hidden_act", "gelu_pytorch_tanh");
        if (!arch_.four_norms) return;
        const bool is_27b = values_["num_hidden_layers"] == (arch_.name == "gemma2" ? 46 : 62);
        set("query_pre_attn_scalar", is_27b && n_heads != 0 ? hidden / n_heads : head_dim);
        if (arch_.name == "gemma2") {
            set("attn_logit_softcapping", real("attn_logit_softcapping", 50.0));
            set("final_logit_softcapping", real("final_logit_softcapping", 30.0));
            return;
        }
        set("attn_logit_softcapping", nullptr);
        set("final_logit_softcapping", nullptr);
        set("rope_local_base_freq", real("rope.freq_base_swa", 10000.0));
        const auto* pattern = header_.find(full("attention.sliding_window_pattern"));
        set("sliding_window_pattern", pattern != nullptr && pattern->type == gguf_type::u32 ? pattern->value : json(6U));
    }

    void derive_phi3(std::uint64_t head_dim) {
        const auto rotary = get("rope.dimension_count");
        if (rotary && head_dim != 0 && *rotary < head_dim) set("partial_rotary_factor", static_cast<double>(*rotary) / static_cast<double>(head_dim));
        if (const auto n = get("rope.scaling.original_context_length")) set("original_max_position_embeddings", *n);
    }

    template <class Find>
    [[nodiscard]] json rope_scaling(Find&& stored) {
        if (const auto* t = stored("rope_freqs.weight"); t != nullptr) return llama3_scaling(factors(*t));
        const auto* long_factors = stored("rope_factors_long.weight");
        const auto* short_factors = stored("rope_factors_short.weight");
        if (long_factors != nullptr && short_factors != nullptr) {
            const json type = "longrope";
            return json{
                {"long_factor", decimals(factors(*long_factors))}, {"rope_type", type}, {"short_factor", decimals(factors(*short_factors))}, {"type", type}};
        }
        const auto type = header_.text(full("rope.scaling.type"));
        if (type == "linear") return json{{"factor", real("rope.scaling.factor", 1.0)}, {"rope_type", type}};
        if (type == "yarn") {
            json scaling{{"factor", real("rope.scaling.factor", 1.0)}, {"rope_type", type}};
            if (const auto n = get("rope.scaling.original_context_length")) scaling["original_max_position_embeddings"] = *n;
            return scaling;
        }
        if (!type.empty() && type != "none") out_.notes.push_back("rope scaling of type \"" + type.substr(0, 80) + "\" is not carried over to config.json");
        return nullptr;
    }

    /// The values of a small f32 tensor; anything else is a problem, and empty.
    [[nodiscard]] std::vector<float> factors(const tensor& t) {
        std::vector<float> values;
        if (t.type != encoding::f32 || t.dims.rank() != 1 || t.dims[0] > 4096) {
            problem(errc::unsupported, "rope factors must be at most 4096 numbers of type F32");
            return values;
        }
        std::vector<std::byte> scratch;
        auto bytes = out_.bytes(t, 0, t.n_bytes, scratch);
        if (!bytes) {
            out_.problems.push_back(std::move(bytes.error()));
            return values;
        }
        for (std::uint64_t i = 0; i < t.dims[0]; ++i) {
            values.push_back(load<float>(bytes->data() + 4 * i));
            if (std::isfinite(values.back())) continue;
            problem(errc::malformed, "a rope factor is not finite");
            return {};
        }
        return values;
    }
    [[nodiscard]] static json decimals(const std::vector<float>& values) {
        json out = json::array();
        for (const float x : values) out.push_back(shortest_decimal(x));
        return out;
    }

    /// rope_freqs holds what Llama 3's rule makes of its parameters. The last factor is the parameter `factor`; the others are the same in
    /// all published models, which is checked by making the factors again.
    [[nodiscard]] json llama3_scaling(const std::vector<float>& given) {
        constexpr double low = 1.0, high = 4.0, context = 8192.0;
        if (given.empty()) return nullptr;
        const auto factor = static_cast<double>(given.back());
        const auto theta = real("rope.freq_base", 10000.0);
        for (std::size_t i = 0; i < given.size(); ++i) {
            const double wavelength = 2 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / static_cast<double>(given.size()));
            const double smooth = (context / wavelength - low) / (high - low);
            const double expected = wavelength < context / high ? 1.0 : wavelength > context / low ? factor : 1 / ((1 - smooth) / factor + smooth);
            if (std::abs(static_cast<double>(given[i]) - expected) <= 1e-3 * expected) continue;
            out_.notes.push_back(
                "rope_freqs.weight is not what Llama 3's rule gives with its published parameters; rope_scaling is left out of config.json: "
                "take it from the model's original repository");
            return nullptr;
        }
        return json{{"factor", shortest_decimal(given.back())},
                    {"high_freq_factor", high},
                    {"low_freq_factor", low},
                    {"original_max_position_embeddings", 8192U},
                    {"rope_type", "llama3"}};
    }

    const gguf_header& header_;
    const gguf_architecture& arch_;
    checkpoint& out_;
    std::map<std::string, json> values_;
};

/// "prefix-00001-of-00003.gguf"
[[nodiscard]] inline std::string part_name(std::string_view prefix, std::uint64_t number, std::uint64_t count) {
    const auto five = [](std::uint64_t n) {
        const auto digits = std::to_string(n);
        return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
    };
    return std::string(prefix) + "-" + five(number) + "-of-" + five(count) + ".gguf";
}

/// The headers of all parts, in order; one for a file that is not split. Parts are opened one by one, so that a false count costs nothing.
[[nodiscard]] inline result<std::vector<gguf_header>> open_parts(const std::string& path, const open_options& options) {
    const auto open = [&](const std::string& name) -> result<gguf_header> {
        auto f = file::open(name, options.access);
        if (!f) return pass(f);
        return read_gguf_header(std::move(*f));
    };
    auto given = open(path);
    if (!given) return pass(given);
    const auto number = [](const gguf_header& h, std::string_view key) -> std::uint64_t {
        const auto* v = h.find(key);
        return v != nullptr && v->type == gguf_type::u16 ? v->value.get<std::uint64_t>() : v != nullptr ? 65536 : 0;
    };
    const auto refuse = [](const gguf_header& h, std::string rule) {
        return fail(error{errc::mismatch, std::move(rule), h.from->path(), {}, {}, "download all parts again, under the names that they were published with"});
    };
    const auto count = number(*given, "split.count");
    std::vector<gguf_header> parts;
    if (count <= 1) {
        parts.push_back(std::move(*given));
        return parts;
    }
    const auto own = number(*given, "split.no");
    if (count > 65535 || own >= count) return refuse(*given, "split.no and split.count must be u16, the first below the second");
    const auto suffix = part_name("", own + 1, count);
    if (!path.ends_with(suffix))
        return refuse(*given, "it is part " + std::to_string(own + 1) + " of " + std::to_string(count) + ", its name must end in " + suffix);
    const auto prefix = path.substr(0, path.size() - suffix.size());
    std::uint64_t n_tensors = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        auto part = i == own ? std::move(given) : open(part_name(prefix, i + 1, count));
        if (!part) return fail(std::move(part.error()).advise("all " + std::to_string(count) + " parts are needed, in one folder"));
        if (number(*part, "split.count") != count || number(*part, "split.no") != i) {
            return refuse(*part, "by its name it is part " + std::to_string(i + 1) + " of " + std::to_string(count) + ", by its metadata it is another");
        }
        n_tensors += part->tensors.size();
        parts.push_back(std::move(*part));
    }
    const auto* total = parts[0].find("split.tensors.count");
    if (total != nullptr && total->value != n_tensors) {
        return refuse(parts[0], "split.tensors.count is " + total->value.dump() + ", the parts have " + std::to_string(n_tensors) + " tensors");
    }
    return parts;
}

}  // namespace detail

inline result<checkpoint> open_gguf(const std::string& path, const open_options& options) {
    auto parts = detail::open_parts(path, options);
    if (!parts) return pass(parts);
    const auto& header = parts->front();

    const auto name = header.text("general.architecture");
    const auto* arch = std::find_if(gguf_architectures.begin(), gguf_architectures.end(), [&](const auto& a) { return a.name == name; });
    if (arch == gguf_architectures.end()) {
        std::string known;
        for (const auto& a : gguf_architectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
        const auto rule = name.empty() ? "general.architecture is missing" : "GGUF architecture \"" + name.substr(0, 80) + "\" has no Hugging Face names here";
        return fail(error{name.empty() ? errc::missing : errc::unsupported, rule, path, {}, {}, "give the model as safetensors, or one of: " + known});
    }
    const auto* experts = header.find(name + ".expert_count");
    if (experts != nullptr && experts->value != 0) {
        return fail(error{errc::unsupported, "a mixture of experts cannot be read from GGUF", path, {}, {}, "give the model as safetensors"});
    }

    checkpoint c;
    c.format = "gguf";
    c.config_file = path;
    std::unordered_map<std::string, std::size_t> index;  // by stored name
    for (auto& part : *parts) {
        const auto file = static_cast<std::uint32_t>(c.files.size());
        c.files.push_back(part.from);
        for (auto& t : part.tensors) {
            if (!index.emplace(t.name, c.tensors.size()).second) {
                return fail(error{errc::malformed, "two parts have a tensor of this name", part.from->path(), t.name, t.offset, "download all parts again"});
            }
            t.file = file;
            c.tensors.push_back(std::move(t));
        }
    }
    if (c.tensors.empty())
        return fail(error{errc::missing, "the file holds no tensors, perhaps only a vocabulary", path, {}, {}, "give the file with the model's weights"});

    detail::gguf_config config(header, *arch, c);
    config.derive([&](std::string_view stored) -> const tensor* {
        const auto at = index.find(std::string(stored));
        return at == index.end() ? nullptr : &c.tensors[at->second];
    });

    std::unordered_set<std::string> names;
    bool quantized = false;
    for (auto& t : c.tensors) {
        const bool q = t.name.ends_with(".attn_q.weight") || t.name.ends_with(".attn_q.bias");
        const bool k = t.name.ends_with(".attn_k.weight") || t.name.ends_with(".attn_k.bias");
        const auto stored = std::exchange(t.name, detail::hf_name(*arch, t.name));
        if (!names.insert(t.name).second) {
            return fail(error{errc::malformed, "tensor " + stored + " and another one both have this name", c.files[t.file]->path(), t.name, t.offset, {}});
        }
        quantized |= is_ggml_block(t.type) || !t.stored_type.empty();
        t.plus_one_stored = arch->gemma && t.name.ends_with("norm.weight");
        if (!arch->permuted || (!q && !k)) continue;
        const auto n_heads = q ? config.n_heads : config.n_kv_heads;
        const auto n_rows = t.dims.rank() == 1 ? t.dims[0] : t.dims.rows();
        if (n_heads == 0 || n_rows % n_heads != 0 || n_rows / n_heads % 2 != 0 || n_rows >> 32 != 0) {
            c.problems.push_back(error{errc::mismatch, std::to_string(n_rows) + " rows cannot be the rotary pairs of " + std::to_string(n_heads) + " heads",
                                       c.files[t.file]->path(), t.name, t.offset, "convert the model to GGUF again with current tools"});
            continue;
        }
        t.row_order = detail::rotary_row_order(n_rows, n_heads);
    }
    // Made by the converter for llama.cpp's graph; rope_scaling says the same.
    std::erase_if(c.tensors, [](const tensor& t) {
        return t.name == "rope_freqs.weight" || t.name == "rope_factors_long.weight" || t.name == "rope_factors_short.weight";
    });
    c.notes.push_back("config.json is derived from the metadata of the GGUF file");
    if (quantized)
        c.notes.push_back(
            "the GGUF file's weights are quantized already: they are decoded and quantized again, which loses more than from the original weights");
    return c;
}

}  // namespace nibble::source
