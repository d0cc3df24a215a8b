// SPDX-License-Identifier: Apache-2.0
#pragma once
// Families that differ from Llama by norms, biases or names: StableLM, InternLM, Baichuan, Orion, OLMo, Cohere and Nemotron.
// Names: the loaders of mlc_llm/model/{stable_lm,internlm,internlm2,baichuan,orion,olmo,olmo2,cohere,nemotron}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

inline mapping stablelm(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.norm = norm_kind::layer}, fused_attention{.qkv_biased = c.flag("use_qkv_bias", false)}, llama_mlp);
}

inline mapping orion(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.norm = norm_kind::layer, .open_vocab = true, .inv_freq_unused = true}, fused_attention{}, llama_mlp);
}

/// baichuan: the checkpoint has qkv fused as W_pack.
inline mapping baichuan(config& c) {
    const auto attention = [](const block& layer, const decoder_sizes& d) {
        layer.linear("self_attn.W_pack", d.qkv(), d.hidden);
        layer.linear("self_attn.o_proj", d.hidden, d.q());
    };
    return decoder(decoder_sizes::read_ungrouped(c), {}, attention, llama_mlp);
}

/// internlm: "bias" is of all four attention projections.
inline mapping internlm(config& c) {
    const bool biased = c.flag("bias", false);
    return decoder(decoder_sizes::read_ungrouped(c), {.inv_freq_unused = true},
                   fused_attention{.qkv = "wqkv_pack", .qkv_biased = biased, .output_biased = biased}, llama_mlp);
}

namespace detail {

/// From groups of (queries of a key-value head, its key, its value) to all queries, all keys, all values.
inline std::vector<std::uint32_t> internlm2_row_order(std::uint64_t heads, std::uint64_t kv_heads, std::uint64_t head_dim) {
    const auto queries = heads / kv_heads;
    std::vector<std::uint32_t> order;
    const auto take = [&](std::uint64_t first, std::uint64_t count) {  // `count` heads from the `first` of each group
        for (std::uint64_t group = 0; group < kv_heads; ++group)
            for (std::uint64_t i = 0; i < count * head_dim; ++i) order.push_back(static_cast<std::uint32_t>((group * (queries + 2) + first) * head_dim + i));
    };
    take(0, queries);
    take(queries, 1);
    take(queries + 1, 1);
    return order;
}

}  // namespace detail

/// internlm2: as mlc_llm does, only the weight of wqkv is put in order, not its bias.
inline mapping internlm2(config& c) {
    const auto d = decoder_sizes::read(c);
    const bool biased = c.flag("bias", false);
    if (!c.problems().empty() || !row_order_fits(c, d.qkv(), d.layers)) return {};
    const auto order = detail::internlm2_row_order(d.heads, d.kv_heads, d.head_dim);
    draft rows;
    const block model = block(rows).in("model");
    model.embedding("tok_embeddings", d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("layers", i);
        layer.in("feed_forward").fused("gate_up_proj", {"w1", "w3"}, 2 * d.intermediate, d.hidden);
        layer.in_pass(0).linear("attention.wqkv", d.qkv(), d.hidden).row_order = order;
        if (biased) layer.bias("attention.wqkv", d.qkv());
        layer.linear("attention.wo", d.hidden, d.q(), biased);
        layer.linear("feed_forward.w2", d.hidden, d.intermediate);
        layer.norm("attention_norm", d.hidden);
        layer.norm("ffn_norm", d.hidden);
    }
    model.norm("norm", d.hidden);
    block(rows).linear("output", d.vocab, d.hidden);
    return std::move(rows).finish();
}

/// olmo: norms without parameters.
inline mapping olmo(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.norm = norm_kind::without_parameters, .lm_head = !tied(c), .inv_freq_unused = true}, fused_attention{}, llama_mlp);
}

/// olmo2: norms after attention and MLP, and over all queries and all keys.
inline mapping olmo2(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.layer_norms = {"post_attention_layernorm", "post_feedforward_layernorm"}, .lm_head = !tied(c), .inv_freq_unused = true},
                   fused_attention{.q_norm = d.q(), .k_norm = d.kv()}, llama_mlp);
}

/// cohere: one norm a layer, attention and MLP side by side, the embedding tied.
inline mapping cohere(config& c) {
    const auto mlp = [](const block& layer, const decoder_sizes& d) {
        layer.linear("mlp.gate_proj", d.intermediate, d.hidden);
        layer.linear("mlp.up_proj", d.intermediate, d.hidden);
        layer.linear("mlp.down_proj", d.hidden, d.intermediate);
    };
    return decoder(decoder_sizes::read(c), {.layer_norms = {"input_layernorm"}, .lm_head = false, .open_vocab = true},
                   fused_attention{.output = {"out_proj", "o_proj"}}, mlp);
}

/// nemotron: an MLP without a gate.
inline mapping nemotron(config& c) {
    const auto d = decoder_sizes::read(c);
    const bool biased = c.flag("mlp_bias", false);
    const auto mlp = [&](const block& layer, const decoder_sizes&) {
        layer.linear("mlp.up_proj", d.intermediate, d.hidden, biased);
        layer.linear("mlp.down_proj", d.hidden, d.intermediate, biased);
    };
    return decoder(d, {.norm = norm_kind::layer, .lm_head = !tied(c), .open_vocab = true, .inv_freq_unused = true}, fused_attention{}, mlp);
}

}  // namespace nibble::model
