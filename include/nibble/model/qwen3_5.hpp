// SPDX-License-Identifier: Apache-2.0
#pragma once
// Qwen 3.5, whose layers are gated delta nets but for every fourth, an attention with gated output. Text model only.
// Names: mlc_llm/model/qwen35/qwen35_loader.py.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

namespace detail {

/// Sizes of a gated delta net: keys and values have their own heads.
struct delta_net {
    std::uint64_t key_heads, value_heads, key_dim, value_dim, kernel;

    explicit delta_net(config& c)
        : key_heads(c.get("linear_num_key_heads", 16, 1)),
          value_heads(c.get("linear_num_value_heads", 16, 1)),
          key_dim(c.get("linear_key_head_dim", 128, 1)),
          value_dim(c.get("linear_value_head_dim", 128, 1)),
          kernel(c.get("linear_conv_kernel_dim", 4, 1)) {}

    void operator()(const block& layer, const decoder_sizes& d) const {
        const auto net = layer.in("linear_attn"), early = net.in_pass(0);
        const auto values = value_heads * value_dim, qkv = 2 * key_heads * key_dim + values;
        early.linear("in_proj_qkv", qkv, d.hidden);
        net.linear("in_proj_z", values, d.hidden);
        net.linear("in_proj_a", value_heads, d.hidden);
        net.linear("in_proj_b", value_heads, d.hidden);
        net.linear("out_proj", d.hidden, values);
        early.tensor("A_log", {value_heads});
        early.tensor("dt_bias", {value_heads});
        early.tensor({"conv1d_weight", "conv1d.weight"}, {qkv, 1, kernel});
        net.norm("norm", value_dim);
    }
};

/// The weights of these norms are stored minus one, and one is added in float32.
inline void qwen3_5_norm(const block& in, const char* name, std::uint64_t width) {
    auto& p = in.norm(name, width);
    p.plus_one = p.plus_one_in_f32 = true;
}

}  // namespace detail

/// qwen3_5 and qwen3_5_text: the loader looks for the text model below "model.language_model." whatever the type.
inline mapping qwen3_5(config& c) {
    if (c.has_object("text_config")) c.enter("text_config", true);
    decoder_sizes d;
    d.layers = c.layers("num_hidden_layers");
    d.hidden = c.need("hidden_size");
    d.intermediate = c.need("intermediate_size");
    d.vocab = c.need("vocab_size");
    d.heads = c.need("num_attention_heads");
    d.kv_heads = c.need("num_key_value_heads");
    d.head_dim = c.get("head_dim", 256, 1);
    (void)c.divide("num_attention_heads by num_key_value_heads", d.heads, d.kv_heads);
    const auto interval = c.get("full_attention_interval", 4, 1);
    const detail::delta_net net(c);
    if (c.flag("attention_bias", false)) c.problem("\"attention_bias\" is true: mlc_llm does not join the biases of q_proj, k_proj and v_proj");

    draft rows;
    const block root(rows), model = root.in({"model", "model.language_model"});
    model.embedding("embed_tokens", d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("layers", i), attention = layer.in("self_attn");
        if ((i + 1) % interval != 0) {
            net(layer, d);
        } else {
            attention.fused("c_attn", {"q_proj", "k_proj", "v_proj"}, d.q() + d.qkv(), d.hidden);  // q_proj makes a gate too
            attention.linear("o_proj", d.hidden, d.q());
            detail::qwen3_5_norm(attention, "q_norm", d.head_dim);
            detail::qwen3_5_norm(attention, "k_norm", d.head_dim);
        }
        llama_mlp(layer, d);
        detail::qwen3_5_norm(layer, "input_layernorm", d.hidden);
        detail::qwen3_5_norm(layer, "post_attention_layernorm", d.hidden);
    }
    detail::qwen3_5_norm(model, "norm", d.hidden);
    if (!tied(c)) root.linear("lm_head", d.vocab, d.hidden);
    auto m = std::move(rows).finish();
    m.unused_prefixes = {"model.visual.", "mtp."};
    m.notes.push_back("only the text model of this Qwen 3.5 is converted; vision and multi-token prediction, if any, are left out");
    return m;
}

}  // namespace nibble::model
