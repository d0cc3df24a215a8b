// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a decoder computes, as far as families differ: norms, rope, windows, scales, activations, and the names of its tensors. One row a
// model type in `decoders`. Read from config.json in the spellings of transformers 4 and 5 (rope_theta and rope_scaling, or
// rope_parameters). Sources: transformers' modeling_*.py of each family.

#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>

#include "nibble/model/gemma.hpp"

namespace nibble::model {

/// How positions turn queries and keys. The halves of a head are turned against each other ("rotate_half").
struct rope_facts {
    std::string type = "default";  ///< default, linear, llama3, yarn or longrope
    double theta = 10000;
    double factor = 1;
    double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
    double beta_fast = 32, beta_slow = 1;              ///< yarn
    bool truncate = true;                              ///< yarn: its borders are whole numbers
    double attention_factor = 1;                       ///< on cosines and sines
    std::uint64_t original_positions = 0;
    std::vector<double> short_factor{}, long_factor{};  ///< longrope
};

/// The activation of an MLP.
enum class activation : std::uint8_t { silu, gelu_tanh, gelu };

/// What a graph of a decoder needs to know of a config.json.
struct decoder_facts {
    std::string model_type{};
    decoder_sizes sizes{};
    std::string prefix{};  ///< of tensor names, before "model." and "lm_head."
    double norm_epsilon = 1e-6;
    bool norm_plus_one = false;  ///< Gemma stores its norms' weights minus one
    bool sandwich = false;       ///< norms after attention and MLP too
    bool qk_norm = false;        ///< norms over each head of queries and keys
    bool wide_residual = false;  ///< what is added up layer by layer needs the range of f32
    bool qkv_fused = false;      ///< the checkpoint has "qkv_proj" and "gate_up_proj"
    bool qkv_biased = false, output_biased = false, mlp_biased = false;
    activation act = activation::silu;
    double attention_scale = 1;
    double attention_softcap = 0;  ///< 0: none
    double logit_softcap = 0;
    double embedding_scale = 1;
    bool tied = false;
    std::uint64_t positions = 0;                     ///< that the model was made for
    std::uint64_t rotary_dim = 0;                    ///< of a head, those values that are turned
    std::optional<std::uint64_t> exact_positions{};  ///< up to which rope is what is described here
    rope_facts rope{};
    rope_facts local_rope{};  ///< of layers with a window, where they have their own
    bool has_local_rope = false;
    std::vector<std::uint64_t> windows{};  ///< of each layer the keys that it sees, itself among them; 0: all
};

namespace detail {

[[nodiscard]] inline double real(config& c, const json& scope, const char* key, double fallback, bool needed = false) {
    const auto at = scope.find(key);
    if (at == scope.end() || at->is_null()) {
        if (needed) c.problem(std::string("\"") + key + "\" of the rope parameters is missing");
        return fallback;
    }
    const double x = at->is_number() ? at->get<double>() : -1;
    if (std::isfinite(x) && x >= 0) return x;
    c.problem(std::string("\"") + key + "\" is not a number from 0 on");
    return fallback;
}
[[nodiscard]] inline double real(config& c, const char* key, double fallback) {
    const auto* v = c.find(key);
    return v == nullptr ? fallback : real(c, json{{key, *v}}, key, fallback);
}

[[nodiscard]] inline std::vector<double> factors(config& c, const json& scope, const char* key, std::uint64_t n) {
    std::vector<double> list;
    const auto at = scope.find(key);
    if (at != scope.end() && at->is_array())
        for (const auto& x : *at)
            if (x.is_number() && x.get<double>() > 0) list.push_back(x.get<double>());
    if (list.size() != n) c.problem(std::string("\"") + key + "\" of the rope parameters must be " + std::to_string(n) + " positive numbers");
    return list;
}

/// One set of rope parameters; `theta` is taken where they do not say it.
[[nodiscard]] inline rope_facts read_rope(config& c, const json& p, double theta, const decoder_facts& d) {
    rope_facts r;
    r.theta = real(c, p, "rope_theta", theta);
    if (!(r.theta > 1)) c.problem("\"rope_theta\" must be more than 1");
    for (const char* key : {"type", "rope_type"})
        if (const auto at = p.find(key); at != p.end() && at->is_string()) r.type = at->get<std::string>();
    if (r.type == "su") r.type = "longrope";
    if (r.type == "default" || r.type == "none") {
        r.type = "default";
        return r;
    }
    r.original_positions = static_cast<std::uint64_t>(std::min(1e9, real(c, p, "original_max_position_embeddings", 0)));
    if (r.original_positions == 0) r.original_positions = c.get("original_max_position_embeddings", 0);
    if (r.type == "linear") {
        r.factor = real(c, p, "factor", 1, true);
    } else if (r.type == "llama3") {
        r.factor = real(c, p, "factor", 1, true);
        r.low_freq_factor = real(c, p, "low_freq_factor", 1, true);
        r.high_freq_factor = real(c, p, "high_freq_factor", 4, true);
        if (r.original_positions == 0 || !(r.high_freq_factor > r.low_freq_factor)) c.problem("the rope parameters of type llama3 are not complete");
    } else if (r.type == "yarn") {
        r.factor = real(c, p, "factor", 1, true);
        r.beta_fast = real(c, p, "beta_fast", 32);
        r.beta_slow = real(c, p, "beta_slow", 1);
        if (const auto at = p.find("truncate"); at != p.end() && at->is_boolean()) r.truncate = at->get<bool>();
        if (r.original_positions == 0) r.original_positions = d.positions;
        const auto scaled = [&](double m) { return r.factor <= 1 ? 1.0 : 0.1 * m * std::log(r.factor) + 1.0; };
        const double m = real(c, p, "mscale", 0);
        const double all = real(c, p, "mscale_all_dim", 0);
        r.attention_factor = real(c, p, "attention_factor", m != 0 && all != 0 ? scaled(m) / scaled(all) : scaled(1));
    } else if (r.type == "longrope") {
        r.short_factor = factors(c, p, "short_factor", d.rotary_dim / 2);
        r.long_factor = factors(c, p, "long_factor", d.rotary_dim / 2);
        if (r.original_positions == 0) c.problem("\"original_max_position_embeddings\" is missing");
        r.factor = r.original_positions == 0 ? 1 : static_cast<double>(d.positions) / static_cast<double>(r.original_positions);
        const double grown = r.factor <= 1 ? 1 : std::sqrt(1 + std::log(r.factor) / std::log(static_cast<double>(r.original_positions)));
        r.attention_factor = real(c, p, "attention_factor", grown);
    } else {
        c.problem("rope of type \"" + r.type.substr(0, 40) + "\" is not known", "known are default, linear, llama3, yarn and longrope");
    }
    if (!(r.factor > 0)) c.problem("\"factor\" of the rope parameters must be positive");
    return r;
}

/// Rope of all layers, or of those without and with a window.
inline void read_ropes(config& c, decoder_facts& d, double theta, std::optional<double> local_theta = {}) {
    const auto* parameters = c.find("rope_parameters");
    const json none = json::object();
    if (parameters != nullptr && parameters->is_object() && parameters->contains("full_attention")) {
        const auto part = [&](const char* key) -> const json& {
            const auto at = parameters->find(key);
            return at != parameters->end() && at->is_object() ? *at : none;
        };
        d.rope = read_rope(c, part("full_attention"), theta, d);
        d.local_rope = read_rope(c, part("sliding_attention"), local_theta.value_or(theta), d);
        d.has_local_rope = parameters->contains("sliding_attention");
        return;
    }
    const auto* old = c.find("rope_scaling");
    const json& all = parameters != nullptr && parameters->is_object() ? *parameters : old != nullptr && old->is_object() ? *old : none;
    d.rope = read_rope(c, all, real(c, "rope_theta", theta), d);
    if (local_theta) {  // never scaled
        d.local_rope.theta = real(c, "rope_local_base_freq", *local_theta);
        d.has_local_rope = true;
    }
}

/// Windows of the layers: by "layer_types" where the config has them, else by the family's own rule.
template <class Slides>
void read_windows(config& c, decoder_facts& d, Slides slides) {
    const auto window = c.get("sliding_window", 0);
    d.windows.assign(d.sizes.layers, 0);
    const auto* types = c.find("layer_types");
    if (types != nullptr && (!types->is_array() || types->size() != d.sizes.layers)) {
        c.problem("\"layer_types\" must name the type of each of the " + std::to_string(d.sizes.layers) + " layers");
        return;
    }
    for (std::size_t i = 0; i < d.windows.size(); ++i) {
        bool sliding = slides(i);
        if (types != nullptr) {
            const auto& type = (*types)[i];
            sliding = type == "sliding_attention";
            if (!sliding && type != "full_attention") {
                c.problem("layer " + std::to_string(i) + " is neither \"full_attention\" nor \"sliding_attention\"");
                return;
            }
        }
        if (sliding) d.windows[i] = window;
    }
}

[[nodiscard]] inline decoder_facts common_facts(config& c, const decoder_sizes& sizes, std::uint64_t positions) {
    decoder_facts d;
    d.sizes = sizes;
    d.norm_epsilon = real(c, "rms_norm_eps", 1e-6);
    d.positions = positions;
    d.rotary_dim = d.sizes.head_dim;
    d.attention_scale = 1 / std::sqrt(static_cast<double>(d.sizes.head_dim));
    d.tied = tied(c);
    const auto act = c.text("hidden_activation", c.text("hidden_act", "silu"));
    if (act == "gelu_pytorch_tanh" || act == "gelu_new")
        d.act = activation::gelu_tanh;
    else if (act == "gelu")
        d.act = activation::gelu;
    else if (act != "silu" && act != "swish")
        c.problem("the activation \"" + act.substr(0, 40) + "\" is not known", "known are silu, gelu and gelu_pytorch_tanh");
    return d;
}
[[nodiscard]] inline decoder_facts common_facts(config& c) { return common_facts(c, decoder_sizes::read(c), c.need("max_position_embeddings")); }

[[nodiscard]] inline decoder_facts llama_facts(config& c) {
    auto d = common_facts(c);
    d.qkv_biased = d.output_biased = c.flag("attention_bias", false);
    d.mlp_biased = c.flag("mlp_bias", false);
    read_ropes(c, d, 10000);
    d.windows.assign(d.sizes.layers, 0);
    return d;
}
[[nodiscard]] inline decoder_facts mistral_facts(config& c) {
    auto d = common_facts(c);
    read_ropes(c, d, 10000);
    read_windows(c, d, [](std::size_t) { return true; });
    return d;
}
/// ministral3, whose queries grow with the position beyond the original ones (llama_4_scaling_beta), which no graph here does.
[[nodiscard]] inline decoder_facts ministral3_facts(config& c) {
    const bool vision = c.has("vision_config");
    const bool outer_tie_decides = c.has("tie_word_embeddings");
    const bool outer_tie = tied(c);
    if (c.has_object("text_config")) c.enter("text_config", true);
    auto d = mistral_facts(c);
    if (outer_tie_decides) d.tied = outer_tie;
    if (vision) d.prefix = "language_model.";
    if (const auto* p = c.find("rope_parameters"); p != nullptr && p->is_object() && real(c, *p, "llama_4_scaling_beta", 0) != 0)
        d.exact_positions = d.rope.original_positions;
    return d;
}
[[nodiscard]] inline decoder_facts qwen_facts(config& c) {
    auto d = common_facts(c);
    read_ropes(c, d, 10000);
    const bool used = c.flag("use_sliding_window", false);
    const auto from = c.get("max_window_layers", d.sizes.layers);
    read_windows(c, d, [&](std::size_t i) { return used && i >= from; });
    if (!used) d.windows.assign(d.sizes.layers, 0);
    return d;
}
[[nodiscard]] inline decoder_facts qwen2_facts(config& c) {
    auto d = qwen_facts(c);
    d.qkv_biased = true;
    return d;
}
[[nodiscard]] inline decoder_facts qwen3_facts(config& c) {
    auto d = qwen_facts(c);
    d.qk_norm = true;
    d.qkv_biased = d.output_biased = c.flag("attention_bias", false);
    return d;
}

/// What all Gemmas have in common. Their embeddings are tied.
inline void make_gemma(config& c, decoder_facts& d) {
    d.norm_plus_one = true;
    d.wide_residual = true;
    d.act = activation::gelu_tanh;
    d.embedding_scale = static_cast<double>(static_cast<float>(std::sqrt(static_cast<double>(d.sizes.hidden))));
    d.tied = c.flag("tie_word_embeddings", true);
    d.qkv_biased = d.output_biased = c.flag("attention_bias", false);
}
[[nodiscard]] inline decoder_facts gemma_facts(config& c) {
    auto d = common_facts(c);
    make_gemma(c, d);
    read_ropes(c, d, 10000);
    d.windows.assign(d.sizes.layers, 0);
    return d;
}
inline void make_gemma2(config& c, decoder_facts& d, double query_scalar) {
    make_gemma(c, d);
    d.sandwich = true;
    d.attention_scale = 1 / std::sqrt(real(c, "query_pre_attn_scalar", query_scalar));
    d.attention_softcap = real(c, "attn_logit_softcapping", 0);
    d.logit_softcap = real(c, "final_logit_softcapping", 0);
}
/// gemma2: even layers slide.
[[nodiscard]] inline decoder_facts gemma2_facts(config& c) {
    auto d = common_facts(c);
    make_gemma2(c, d, 256);
    read_ropes(c, d, 10000);
    read_windows(c, d, [](std::size_t i) { return i % 2 == 0; });
    return d;
}
/// gemma3_text, alone or in a gemma3: each sixth layer sees all.
[[nodiscard]] inline decoder_facts gemma3_facts(config& c) {
    const bool inner = c.has_object("text_config");
    const auto outer_vocab = c.get_nonzero("vocab_size", 262208);
    if (inner) c.enter("text_config", false);
    auto d = common_facts(c, gemma3_sizes(c, outer_vocab), c.get_nonzero("max_position_embeddings", 131072));
    make_gemma2(c, d, 256);
    d.qk_norm = true;
    if (inner) d.prefix = "language_model.";
    read_ropes(c, d, 1e6, 10000);
    const auto pattern = c.get("sliding_window_pattern", c.get("_sliding_window_pattern", 6, 1), 1);
    read_windows(c, d, [&](std::size_t i) { return (i + 1) % pattern != 0; });
    return d;
}
[[nodiscard]] inline decoder_facts phi3_facts(config& c) {
    auto d = common_facts(c);
    d.qkv_fused = true;
    double part = real(c, "partial_rotary_factor", 1);
    if (const auto* p = c.find("rope_parameters"); p != nullptr && p->is_object()) part = real(c, *p, "partial_rotary_factor", part);
    d.rotary_dim = static_cast<std::uint64_t>(static_cast<double>(d.sizes.head_dim) * std::min(part, 1.0)) / 2 * 2;
    read_ropes(c, d, 10000);
    read_windows(c, d, [](std::size_t) { return true; });
    return d;
}

}  // namespace detail

/// One row of the table: a model type and how its config.json is read.
struct decoder_row {
    std::string_view model_type;
    decoder_facts (*read)(config&);
};
inline constexpr std::array decoders{
    decoder_row{"gemma", detail::gemma_facts},        decoder_row{"gemma2", detail::gemma2_facts},       decoder_row{"gemma3", detail::gemma3_facts},
    decoder_row{"gemma3_text", detail::gemma3_facts}, decoder_row{"llama", detail::llama_facts},         decoder_row{"ministral3", detail::ministral3_facts},
    decoder_row{"mistral", detail::mistral_facts},    decoder_row{"mistral3", detail::ministral3_facts}, decoder_row{"phi3", detail::phi3_facts},
    decoder_row{"qwen2", detail::qwen2_facts},        decoder_row{"qwen3", detail::qwen3_facts},
};

[[nodiscard]] inline std::string decoder_names() {
    std::string names;
    for (const auto& row : decoders) names += (names.empty() ? "" : ", ") + std::string(row.model_type);
    return names;
}

/// The facts of a checkpoint. Errors: missing, unsupported. What is wrong with config.json is in c.problems().
[[nodiscard]] inline result<decoder_facts> read_facts(config& c, std::string_view model_type = {}) {
    const auto type = model_type.empty() ? c.text("model_type") : std::string(model_type);
    if (type.empty()) return fail(error{errc::missing, "\"model_type\" is missing or not a string", c.file(), {}, {}, "name the model type"});
    for (const auto& row : decoders) {
        if (row.model_type != type) continue;
        auto d = row.read(c);
        d.model_type = type;
        return d;
    }
    return fail(error{errc::unsupported, "model type \"" + type.substr(0, 64) + "\" has no graph here", c.file(), {}, {}, "known are " + decoder_names()});
}

/// Angles per position of each turned pair, [rotary_dim / 2], for a table of `positions`.
[[nodiscard]] inline std::vector<float> rope_frequencies(const rope_facts& r, std::uint64_t rotary_dim, std::uint64_t positions) {
    const std::uint64_t half = rotary_dim / 2;
    std::vector<float> out(half);
    const auto dim = static_cast<double>(rotary_dim);
    double low = 0;
    double high = 1;
    if (r.type == "yarn") {
        const auto border = [&](double turns) {
            return dim * std::log(static_cast<double>(r.original_positions) / (turns * 2 * std::numbers::pi)) / (2 * std::log(r.theta));
        };
        low = border(r.beta_fast);
        high = border(r.beta_slow);
        if (r.truncate) {
            low = std::floor(low);
            high = std::ceil(high);
        }
        low = std::max(low, 0.0);
        high = std::min(high, dim - 1);
        if (low == high) high += 0.001;
    }
    for (std::uint64_t i = 0; i < half; ++i) {
        double f = 1 / std::pow(r.theta, 2 * static_cast<double>(i) / dim);
        if (r.type == "linear") f /= r.factor;
        if (r.type == "llama3") {
            const double wave = 2 * std::numbers::pi / f;
            const auto original = static_cast<double>(r.original_positions);
            const double smooth = (original / wave - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor);
            if (wave > original / r.low_freq_factor)
                f /= r.factor;
            else if (wave >= original / r.high_freq_factor)
                f = (1 - smooth) * f / r.factor + smooth * f;
        }
        if (r.type == "yarn") {
            const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
            f = f / r.factor * ramp + f * (1 - ramp);
        }
        if (r.type == "longrope") f /= (positions > r.original_positions ? r.long_factor : r.short_factor)[i];
        out[i] = static_cast<float>(f);
    }
    return out;
}

}  // namespace nibble::model
