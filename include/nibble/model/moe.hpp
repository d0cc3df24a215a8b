// SPDX-License-Identifier: Apache-2.0
#pragma once
// Mixtures of experts on Llama's frame: Mixtral, MiniCPM (dense or mixed) and DeepSeek 1.
// Names: the loaders of mlc_llm/model/{mixtral,minicpm,deepseek}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

namespace detail {

/// Mixtral's experts w1, w2 and w3 and their gate, which the loader maps with them.
inline void mixtral_experts(const block& moe, std::uint64_t count, const decoder_sizes& d) {
    moe.experts("e1_e3", {"w1", "w3"}, count, 2 * d.intermediate, d.hidden);
    moe.experts("e2", {"w2"}, count, d.hidden, d.intermediate);
    moe.linear("gate", count, d.hidden);
}

}  // namespace detail

inline mapping mixtral(config& c) {
    const auto d = decoder_sizes::read(c);
    const auto experts = c.experts("num_local_experts", d.layers);
    const auto moe = [&](const block& layer, const decoder_sizes&) { detail::mixtral_experts(layer.in({"moe", "block_sparse_moe"}).in_pass(0), experts, d); };
    return decoder(d, {.lm_head = !tied(c), .open_vocab = true, .inv_freq_unused = true}, fused_attention{}, moe);
}

/// minicpm: the loader walks the layers once for the attention and again for the MLP.
inline mapping minicpm(config& c) {
    const auto d = decoder_sizes::read(c);
    const bool dense = c.get("num_experts", 0) == 0;
    const auto experts = dense ? 0 : c.experts("num_experts", d.layers);
    const auto mlp = [&](const block& layer, const decoder_sizes&) {
        if (dense)
            llama_mlp(layer.fusing_in_pass(1), d);
        else
            detail::mixtral_experts(layer.in("mlp").in_pass(1), experts, d);
    };
    return decoder(d, {.lm_head = !tied(c)}, fused_attention{.qkv = "wqkv_pack"}, mlp);
}

/// deepseek: the first layers are dense, later ones have shared experts (one MLP as wide as all of them) and routed ones.
inline mapping deepseek(config& c) {
    const auto d = decoder_sizes::read(c);
    const auto experts = c.experts("n_routed_experts", d.layers);
    const auto width = c.need("moe_intermediate_size");
    const auto shared = c.need("n_shared_experts");
    const auto first_dense = c.need("first_k_dense_replace", 0);
    const auto every = c.need("moe_layer_freq");
    if (c.flag("attention_bias", false)) c.problem("\"attention_bias\" is true: mlc_llm does not join the biases of q_proj, k_proj and v_proj");
    const auto mlp = [&](const block& layer, const decoder_sizes&, std::uint64_t i) {
        if (i < first_dense || i % every != 0) return llama_mlp(layer.fusing_in_pass(1), d);
        const auto moe = layer.in("mlp").fusing_in_pass(1);
        moe.linear("gate", experts, d.hidden);
        gated_mlp(moe.in("shared_experts"), d.hidden, width * shared);
        moe.experts("moe_gate_up_proj", {"gate_proj", "up_proj"}, experts, 2 * width, d.hidden);
        moe.experts("moe_down_proj", {"down_proj"}, experts, d.hidden, width);
    };
    return decoder(d, {}, fused_attention{.qkv = "wqkv_pack"}, mlp);
}

}  // namespace nibble::model
