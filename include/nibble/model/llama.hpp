// SPDX-License-Identifier: Apache-2.0
#pragma once
// Llama, Mistral and Llama 4, and the draft model Eagle. Names: the loaders of mlc_llm/model/{llama,mistral,llama4,eagle}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

/// llama: lm_head unless the embedding is tied.
inline mapping llama(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.lm_head = !tied(c), .open_vocab = true, .inv_freq_unused = true}, fused_attention{}, llama_mlp);
}

/// mistral: llama with an lm_head, tied or not.
inline mapping mistral(config& c) {
    const auto d = decoder_sizes::read(c);
    return decoder(d, {.open_vocab = true, .inv_freq_unused = true}, fused_attention{}, llama_mlp);
}

/// eagle: llama's layers without "model.", the first one without its input norm, and one Linear that joins two hidden states.
inline mapping eagle(config& c) {
    const auto d = decoder_sizes::read(c);
    draft rows;
    const block root(rows);
    root.embedding("embed_tokens", d.vocab, d.hidden).free_rows = true;
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = root.in("layers", i);
        fused_attention{}(layer, d);
        llama_mlp(layer, d);
        if (i != 0) layer.norm("input_layernorm", d.hidden);
        layer.norm("post_attention_layernorm", d.hidden);
        layer.unused("self_attn.rotary_emb.inv_freq");
    }
    root.linear("fc", d.hidden, 2 * d.hidden, c.flag("bias", true));
    return std::move(rows).finish();
}

namespace detail {

/// Whether each layer is a mixture of experts: "moe_layers" if given, else every interleave_moe_layer_step-th.
inline bool all_llama4_layers_are_moe(config& c, std::uint64_t layers) {
    const auto* listed = c.find("moe_layers");
    if (listed == nullptr) return c.get("interleave_moe_layer_step", 1, 1) == 1;
    std::vector<bool> moe(layers);
    for (const auto& i : *listed)
        if (i.is_number_integer() && i.get<std::uint64_t>() < layers) moe[i.get<std::uint64_t>()] = true;
    return std::find(moe.begin(), moe.end(), false) == moe.end();
}

}  // namespace detail

/// llama4 (the text model of Scout): the routed experts are plain tensors, which no scheme quantizes.
inline mapping llama4(config& c) {
    c.enter("text_config", false);
    if (!c.has("hidden_size")) c.problem("\"text_config\" is missing or has no \"hidden_size\"");
    const auto d = decoder_sizes::read(c);
    const auto experts = c.experts("num_local_experts", d.layers);
    const bool biased = c.flag("attention_bias", false);
    if (!detail::all_llama4_layers_are_moe(c, d.layers))
        c.problem("not every layer is a mixture of experts (interleave_moe_layer_step, moe_layers), which mlc_llm needs",
                  "only llama4 models like Scout can be converted");
    const auto attention = [&](const block& layer, const decoder_sizes&) {
        const auto self = layer.in("self_attn");
        self.linear("q_proj", d.q(), d.hidden, biased);
        self.linear("k_proj", d.kv(), d.hidden, biased);
        self.linear("v_proj", d.kv(), d.hidden, biased);
        self.linear("o_proj", d.hidden, d.q(), biased);
    };
    const auto moe = [&](const block& layer, const decoder_sizes&) {
        const auto ffn = layer.in("feed_forward");
        gated_mlp(ffn.in("shared_expert"), d.hidden, d.intermediate);
        ffn.in_pass(0).linear({"router.router", "router"}, experts, d.hidden);
        ffn.in_pass(0).tensor("experts.gate_up_proj", {experts, d.hidden, 2 * d.intermediate});
        ffn.in_pass(0).tensor("experts.down_proj", {experts, d.intermediate, d.hidden});
    };
    auto m = decoder(d, {.lm_head = !tied(c), .open_vocab = true, .hf_prefix = "language_model."}, attention, moe);
    m.unused_prefixes = {"vision_model.", "multi_modal_projector."};
    m.notes.push_back("only the text model of this Llama 4 is converted; its vision model is left out");
    return m;
}

}  // namespace nibble::model
