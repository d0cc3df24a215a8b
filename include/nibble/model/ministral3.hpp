// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ministral 3, alone or as the text model of a mistral3 checkpoint. Names: mlc_llm/model/ministral3/ministral3_loader.py.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

/// ministral3: text_config is laid over the top level, whose tie_word_embeddings wins. A checkpoint with a vision tower has
/// its text tensors below "language_model.".
inline mapping ministral3(config& c) {
    const bool vision = c.has("vision_config");
    const bool outer_tie_decides = c.has("tie_word_embeddings");
    const bool outer_tie = tied(c);
    if (c.has_object("text_config")) c.enter("text_config", true);
    const auto d = decoder_sizes::read(c);
    const bool tie = outer_tie_decides ? outer_tie : tied(c);

    const auto attention = [](const block& layer, const decoder_sizes& s) {
        layer.in("self_attn").fused("qkv_proj", {"q_proj", "k_proj", "v_proj"}, s.qkv(), s.hidden);
    };
    const auto mlp = [](const block& layer, const decoder_sizes& s) {
        const auto early = layer.in_pass(0);  // this loader maps all Linears before the rest
        early.in("mlp").fused("gate_up_proj", {"gate_proj", "up_proj"}, 2 * s.intermediate, s.hidden);
        early.in("self_attn").linear("o_proj", s.hidden, s.q());
        early.in("mlp").linear("down_proj", s.hidden, s.intermediate);
    };
    auto m = decoder(d, {.lm_head = !tie, .hf_prefix = vision ? "language_model." : ""}, attention, mlp);
    for (std::uint64_t i = 0; i < d.layers; ++i) m.unused.push_back(at("model.layers.{}.self_attn.rotary_emb.inv_freq", i));
    if (vision) {
        m.unused_prefixes = {"vision_tower.", "multi_modal_projector."};
        m.notes.push_back("only the text model is converted; the vision tower and its projector are left out");
    }
    return m;
}

/// mistral3: mlc_llm does not know this type, but converts its text model under the name ministral3.
inline mapping mistral3(config& c) {
    auto m = ministral3(c);
    m.notes.push_back("mistral3 is converted as mlc_llm's ministral3: pass --model-type ministral3 there for the same result");
    return m;
}

}  // namespace nibble::model
