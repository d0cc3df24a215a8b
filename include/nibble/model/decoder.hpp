// SPDX-License-Identifier: Apache-2.0
#pragma once
// What decoder-only models share: the sizes in a config.json with mlc_llm's defaults, and the stack of decoder layers,
// composed of an attention and an MLP, in the order of mlc_llm/loader/standard_loader.py.

#include "nibble/model/rows.hpp"

namespace nibble::model {

/// The sizes of a decoder-only model.
struct decoder_sizes {
    std::uint64_t layers = 1, hidden = 1, intermediate = 1, vocab = 1, heads = 1, kv_heads = 1, head_dim = 1;

    [[nodiscard]] std::uint64_t q() const { return heads * head_dim; }
    [[nodiscard]] std::uint64_t kv() const { return kv_heads * head_dim; }
    [[nodiscard]] std::uint64_t qkv() const { return q() + 2 * kv(); }

    /// The Hugging Face names that most families use; head_dim is hidden / heads where the config has none.
    [[nodiscard]] static decoder_sizes read(config& c) {
        decoder_sizes d;
        d.layers = c.layers("num_hidden_layers");
        d.hidden = c.need("hidden_size");
        d.intermediate = c.need("intermediate_size");
        d.vocab = c.need("vocab_size");
        d.heads = c.need("num_attention_heads");
        d.kv_heads = c.get_nonzero("num_key_value_heads", d.heads);
        d.split_heads(c, "hidden_size by num_attention_heads");
        return d;
    }
    /// The same for models without grouped queries, whatever num_key_value_heads says.
    [[nodiscard]] static decoder_sizes read_ungrouped(config& c) {
        auto d = read(c);
        d.kv_heads = d.heads;
        return d;
    }
    /// GPT-2's names; the MLP is 4 * n_embd wide where n_inner is absent, null, 0 or -1.
    [[nodiscard]] static decoder_sizes read_gpt(config& c) {
        decoder_sizes d;
        d.layers = c.layers("n_layer");
        d.hidden = c.need("n_embd");
        const auto* inner = c.find("n_inner");
        d.intermediate = inner != nullptr && *inner != -1 ? c.get_nonzero("n_inner", 4 * d.hidden) : 4 * d.hidden;
        d.vocab = c.need("vocab_size");
        d.heads = d.kv_heads = c.need("n_head");
        d.split_heads(c, "n_embd by n_head");
        return d;
    }
    void split_heads(config& c, std::string_view what) {
        head_dim = c.get("head_dim", 0);
        if (head_dim == 0) head_dim = c.divide(what, hidden, heads);
        (void)c.divide("attention heads by key-value heads", heads, kv_heads);
    }
};

/// Whether the output layer is the embedding, so that there is no lm_head.
[[nodiscard]] inline bool tied(config& c) { return c.flag("tie_word_embeddings", false); }

/// How many learned positions there are: the first of these keys that is there and not 0; the second is the usual one.
[[nodiscard]] inline std::uint64_t positions(config& c, std::initializer_list<std::string_view> keys) {
    for (const auto key : keys)
        if (const auto n = c.get(key, 0); n != 0) return n;
    return c.need(keys.begin()[1]);
}

/// Row orders are the only numbers that a mapping holds per row, so false sizes must not make billions of them.
[[nodiscard]] inline bool row_order_fits(config& c, std::uint64_t rows, std::uint64_t layers) {
    constexpr std::uint64_t most = 1 << 24;
    if (rows <= most && rows * layers <= most) return true;
    c.problem("the query, key and value rows of all layers are more than " + std::to_string(most) + " (num_attention_heads, head_dim, num_hidden_layers)");
    return false;
}

/// Query, key and value projections in one Linear, and o_proj.
struct fused_attention {
    std::string_view qkv = "qkv_proj";  ///< MLC's name of the fused projection
    name_pair output = "o_proj";
    bool qkv_biased = false;
    bool output_biased = false;
    std::uint64_t q_norm = 0, k_norm = 0;  ///< widths of the norms of queries and keys, 0 if there are none

    void operator()(const block& layer, const decoder_sizes& d) const {
        const auto attention = layer.in("self_attn");
        attention.fused(qkv, {"q_proj", "k_proj", "v_proj"}, d.qkv(), d.hidden, qkv_biased);
        attention.linear(output, d.hidden, d.q(), output_biased);
        if (q_norm != 0) attention.norm("q_norm", q_norm);
        if (k_norm != 0) attention.norm("k_norm", k_norm);
    }
};

/// The gated MLP of one module: gate and up in one Linear, and down.
inline void gated_mlp(const block& mlp, std::uint64_t hidden, std::uint64_t intermediate) {
    mlp.fused("gate_up_proj", {"gate_proj", "up_proj"}, 2 * intermediate, hidden);
    mlp.linear("down_proj", hidden, intermediate);
}

/// Llama's MLP, as the `mlp` of a decoder.
inline void llama_mlp(const block& layer, const decoder_sizes& d) { gated_mlp(layer.in("mlp"), d.hidden, d.intermediate); }

/// RMSNorm has a weight, LayerNorm a bias too, Gemma's stores its weight minus one, and OLMo's has no parameters.
enum class norm_kind : std::uint8_t { rms, layer, rms_plus_one, without_parameters };

inline void add_norm(const block& in, name_pair name, std::uint64_t width, norm_kind kind) {
    if (kind != norm_kind::without_parameters) in.norm(name, width, kind == norm_kind::layer).plus_one = kind == norm_kind::rms_plus_one;
}

/// What a decoder is beside its attention and MLP.
struct decoder_style {
    norm_kind norm = norm_kind::rms;
    std::vector<const char*> layer_norms{"input_layernorm", "post_attention_layernorm"};
    bool lm_head = true;
    bool open_vocab = false;                ///< MLC declares the vocabulary as a symbol (parameter::free_rows)
    bool inv_freq_unused = false;           ///< the rotary frequencies of old checkpoints are in the explicit unused set
    std::string mlc_prefix{}, hf_prefix{};  ///< before "model." and "lm_head."
    name_pair model = "model";
};

/// Embedding, layers, final norm and lm_head. `attention` and `mlp` list their part of one layer: f(block, sizes), or
/// f(block, sizes, index of the layer).
template <class Attention, class Mlp>
[[nodiscard]] mapping decoder(const decoder_sizes& d, const decoder_style& style, const Attention& attention, const Mlp& mlp) {
    draft rows;
    const block root(rows, style.mlc_prefix, style.hf_prefix);
    const block model = style.model.hf.empty() ? block(rows, root.mlc() + "model.", root.hf()) : root.in(style.model);
    const auto call = [&](const auto& part, const block& layer, std::uint64_t i) {
        if constexpr (requires { part(layer, d, i); })
            part(layer, d, i);
        else
            part(layer, d);
    };
    model.embedding("embed_tokens", d.vocab, d.hidden).free_rows = style.open_vocab;
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("layers", i);
        call(attention, layer, i);
        call(mlp, layer, i);
        for (const auto* name : style.layer_norms) add_norm(layer, name, d.hidden, style.norm);
        if (style.inv_freq_unused) layer.unused("self_attn.rotary_emb.inv_freq");
    }
    add_norm(model, "norm", d.hidden, style.norm);
    if (style.lm_head) root.linear("lm_head", d.vocab, d.hidden).free_rows = style.open_vocab;
    return std::move(rows).finish();
}

}  // namespace nibble::model
