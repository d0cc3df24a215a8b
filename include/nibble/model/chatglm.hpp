// SPDX-License-Identifier: Apache-2.0
#pragma once
// ChatGLM 2 and 3, with their own names in config.json. Names: mlc_llm/model/chatglm3/chatglm3_loader.py.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

inline mapping chatglm(config& c) {
    decoder_sizes d;
    d.layers = c.layers("num_layers");
    d.hidden = c.need("hidden_size");
    d.intermediate = c.need("ffn_hidden_size");
    d.vocab = c.get("vocab_size", 0) != 0 ? c.need("vocab_size") : c.need("padded_vocab_size");
    d.heads = c.need("num_attention_heads");
    d.kv_heads = c.flag("multi_query_attention", false) ? c.need("multi_query_group_num") : d.heads;
    d.split_heads(c, "hidden_size by num_attention_heads");
    const bool biased = c.flag("add_bias_linear", false);
    const bool qkv_biased = c.flag("add_qkv_bias", false) || biased;
    const bool rms = c.flag("rmsnorm", true);

    draft rows;
    const block model = block(rows).in("transformer"), encoder = model.in("encoder");
    model.embedding({"embedding", "embedding.word_embeddings"}, d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = encoder.in("layers", i);
        layer.linear("self_attention.query_key_value", d.qkv(), d.hidden, qkv_biased);
        layer.linear("self_attention.dense", d.hidden, d.q(), biased);
        layer.linear("mlp.dense_h_to_4h", 2 * d.intermediate, d.hidden, biased);
        layer.linear("mlp.dense_4h_to_h", d.hidden, d.intermediate, biased);
        layer.norm("input_layernorm", d.hidden);
        layer.norm("post_attention_layernorm", d.hidden);
    }
    if (c.flag("post_layer_norm", true)) encoder.norm("final_layernorm", d.hidden, !rms);
    model.linear("output_layer", d.vocab, d.hidden);
    return std::move(rows).finish();
}

}  // namespace nibble::model
