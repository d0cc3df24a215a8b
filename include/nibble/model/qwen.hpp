// SPDX-License-Identifier: Apache-2.0
#pragma once
// Qwen 1 to 3, dense and mixtures of experts. Names: the loaders of mlc_llm/model/{qwen,qwen2,qwen2_moe,qwen3,qwen3_moe}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

/// qwen (the first): its intermediate_size counts gate and up together.
inline mapping qwen(config& c) {
    const auto d = decoder_sizes::read_ungrouped(c);
    const auto half = c.divide("intermediate_size by 2", d.intermediate, 2);
    draft rows;
    const block root(rows), model = root.in("transformer");
    model.embedding("wte", d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("h", i);
        layer.linear("attn.c_attn", d.qkv(), d.hidden, with_bias);
        layer.linear("attn.c_proj", d.hidden, d.q());
        layer.in("mlp").fused("gate_up_proj", {"w1", "w2"}, d.intermediate, d.hidden);
        layer.linear("mlp.c_proj", d.hidden, half);
        layer.norm("ln_1", d.hidden);
        layer.norm("ln_2", d.hidden);
    }
    model.norm("ln_f", d.hidden);
    root.linear("lm_head", d.vocab, d.hidden);
    return std::move(rows).finish();
}

inline mapping qwen2(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.lm_head = !tied(c), .inv_freq_unused = true}, fused_attention{.qkv = "c_attn", .qkv_biased = true}, llama_mlp);
}

namespace detail {

inline fused_attention qwen3_attention(config& c, const decoder_sizes& d) {
    const bool biased = c.flag("attention_bias", false);
    return {.qkv = "c_attn", .qkv_biased = biased, .output_biased = biased, .q_norm = d.head_dim, .k_norm = d.head_dim};
}

/// The routed experts of Qwen's mixtures, in the layer's "mlp".
struct qwen_experts {
    std::uint64_t count, width;
    qwen_experts(config& c, const decoder_sizes& d) : count(c.experts("num_experts", d.layers)), width(c.need("moe_intermediate_size")) {
        if (c.get("decoder_sparse_step", 1) != 1) c.problem("\"decoder_sparse_step\" is not 1: layers without experts, which mlc_llm does not have");
    }
    void operator()(const block& layer, const decoder_sizes& d) const {
        const auto mlp = layer.in("mlp");
        mlp.linear("gate", count, d.hidden);
        mlp.experts("moe_gate_up_proj", {"gate_proj", "up_proj"}, count, 2 * width, d.hidden);
        mlp.experts("moe_down_proj", {"down_proj"}, count, d.hidden, width);
    }
};

}  // namespace detail

/// qwen2_moe: beside the routed experts one that each token passes, with its own gate.
inline mapping qwen2_moe(config& c) {
    const auto d = decoder_sizes::read(c);
    const detail::qwen_experts routed(c, d);
    const auto shared = c.get_nonzero("shared_expert_intermediate_size", d.intermediate);
    const auto mlp = [&](const block& layer, const decoder_sizes&) {
        gated_mlp(layer.in("mlp.shared_expert"), d.hidden, shared);
        layer.linear("mlp.shared_expert_gate", 1, d.hidden);
        routed(layer, d);
    };
    return decoder(d, {}, fused_attention{.qkv = "c_attn", .qkv_biased = true}, mlp);
}

inline mapping qwen3(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.lm_head = !tied(c)}, detail::qwen3_attention(c, d), llama_mlp);
}

/// qwen3-embedding: a checkpoint of the bare model, without "model.".
inline mapping qwen3_embedding(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.lm_head = !tied(c), .model = {"model", ""}}, detail::qwen3_attention(c, d), llama_mlp);
}

inline mapping qwen3_moe(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {}, detail::qwen3_attention(c, d), detail::qwen_experts(c, d));
}

}  // namespace nibble::model
