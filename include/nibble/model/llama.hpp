// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Llama family: llama and those that differ from it by a row or a prefix. Names: mlc_llm/model/llama/llama_loader.py.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

/// llama: fused qkv and gate_up, lm_head unless the embedding is tied.
inline mapping llama(config& c) {
    const auto d = decoder_sizes::read(c);
    mapping m;
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const std::string layer = at("model.layers.{}.", i);
        m.fuse(layer + "self_attn.qkv_proj.weight", layer + "self_attn.", {"q_proj.weight", "k_proj.weight", "v_proj.weight"}, {d.qkv(), d.hidden});
        m.fuse(layer + "mlp.gate_up_proj.weight", layer + "mlp.", {"gate_proj.weight", "up_proj.weight"}, {2 * d.intermediate, d.hidden});
        m.unused.push_back(layer + "self_attn.rotary_emb.inv_freq");
    }
    m.same("model.embed_tokens.weight", {d.vocab, d.hidden}, role::embedding);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const std::string layer = at("model.layers.{}.", i);
        m.same(layer + "self_attn.o_proj.weight", {d.hidden, d.q()}, role::linear);
        m.same(layer + "mlp.down_proj.weight", {d.hidden, d.intermediate}, role::linear);
        m.same(layer + "input_layernorm.weight", {d.hidden});
        m.same(layer + "post_attention_layernorm.weight", {d.hidden});
    }
    m.same("model.norm.weight", {d.hidden});
    if (!c.flag("tie_word_embeddings", false)) m.same("lm_head.weight", {d.vocab, d.hidden}, role::final_linear);
    return m;
}

}  // namespace nibble::model
