// SPDX-License-Identifier: Apache-2.0
#pragma once
// Gemma 1 to 3: tied embeddings, and norms to which one is added. Names: the loaders of mlc_llm/model/{gemma,gemma2,gemma3}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

namespace detail {

inline const std::vector<const char*> gemma2_norms{"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"};

inline void refuse_gemma_bias(config& c) {
    if (c.flag("attention_bias", false)) c.problem("\"attention_bias\" is true, but mlc_llm's Gemma has no biases");
}

/// Sizes with the defaults of Gemma3TextConfig, which configs of whole models leave out.
inline decoder_sizes gemma3_sizes(config& c, std::uint64_t vocab) {
    decoder_sizes d;
    d.layers = c.layers("num_hidden_layers");
    d.hidden = c.need("hidden_size");
    d.intermediate = c.need("intermediate_size");
    d.vocab = c.get_nonzero("vocab_size", vocab);
    d.heads = c.get("num_attention_heads", 8, 1);
    d.kv_heads = c.get("num_key_value_heads", 4, 1);
    d.head_dim = c.get("head_dim", 256, 1);
    (void)c.divide("num_attention_heads by num_key_value_heads", d.heads, d.kv_heads);
    return d;
}

}  // namespace detail

inline mapping gemma(config& c) {
    (void)c.need("head_dim");
    detail::refuse_gemma_bias(c);
    return decoder(decoder_sizes::read(c), {.norm = norm_kind::rms_plus_one, .lm_head = false, .open_vocab = true}, fused_attention{}, llama_mlp);
}

/// gemma2: gemma with norms before and after each half of a layer.
inline mapping gemma2(config& c) {
    (void)c.need("head_dim");
    detail::refuse_gemma_bias(c);
    return decoder(decoder_sizes::read(c), {.norm = norm_kind::rms_plus_one, .layer_norms = detail::gemma2_norms, .lm_head = false, .open_vocab = true},
                   fused_attention{}, llama_mlp);
}

/// gemma3 and gemma3_text: MLC's names are always below "language_model.", the checkpoint's only if the config has a text_config.
inline mapping gemma3(config& c) {
    const bool multimodal = c.has("text_config");
    const auto outer_vocab = c.get_nonzero("vocab_size", 262208);
    if (multimodal && !c.has_object("text_config")) c.problem("\"text_config\" is not an object");
    if (multimodal) c.enter("text_config", false);
    detail::refuse_gemma_bias(c);
    const auto d = detail::gemma3_sizes(c, outer_vocab);

    const auto attention = [](const block& layer, const decoder_sizes& s) {
        const auto self = layer.in("self_attn");
        self.linear("q_proj", s.q(), s.hidden);
        self.linear("k_proj", s.kv(), s.hidden);
        self.linear("v_proj", s.kv(), s.hidden);
        self.linear("o_proj", s.hidden, s.q());
        self.norm("q_norm", s.head_dim).plus_one = true;
        self.norm("k_norm", s.head_dim).plus_one = true;
    };
    auto m = decoder(d,
                     {.norm = norm_kind::rms_plus_one,
                      .layer_norms = detail::gemma2_norms,
                      .lm_head = false,
                      .open_vocab = true,
                      .mlc_prefix = "language_model.",
                      .hf_prefix = multimodal ? "language_model." : ""},
                     attention, llama_mlp);
    if (multimodal) {
        m.unused_prefixes = {"vision_tower.", "multi_modal_projector."};
        m.notes.push_back("only the text model of this Gemma 3 is converted; the vision tower and its projector are left out");
    }
    return m;
}

}  // namespace nibble::model
