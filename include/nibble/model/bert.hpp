// SPDX-License-Identifier: Apache-2.0
#pragma once
// BERT encoders for embeddings. Names: mlc_llm/model/bert/bert_loader.py.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

inline mapping bert(config& c) {
    decoder_sizes d;
    d.layers = c.layers("num_hidden_layers");
    d.hidden = c.need("hidden_size");
    d.intermediate = c.need("intermediate_size");
    d.vocab = c.need("vocab_size");
    d.heads = d.kv_heads = c.need("num_attention_heads");
    d.split_heads(c, "hidden_size by num_attention_heads");
    const auto context = positions(c, {"context_window_size", "max_position_embeddings", "max_sequence_length"});
    const auto types = c.get("type_vocab_size", 2, 1);

    draft rows;
    const block root(rows), embeddings = root.in("embeddings");
    embeddings.embedding("word_embeddings", d.vocab, d.hidden);
    embeddings.embedding("position_embeddings", context, d.hidden);
    embeddings.embedding("token_type_embeddings", types, d.hidden);
    embeddings.norm("LayerNorm", d.hidden, with_bias);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = root.in("encoder.layer", i);
        layer.in("attention.self").fused("qkv", {"query", "key", "value"}, d.qkv(), d.hidden, with_bias);
        layer.linear("attention.output.dense", d.hidden, d.hidden, with_bias);
        layer.norm("attention.output.LayerNorm", d.hidden, with_bias);
        layer.linear("intermediate.dense", d.intermediate, d.hidden, with_bias);
        layer.linear("output.dense", d.hidden, d.intermediate, with_bias);
        layer.norm("output.LayerNorm", d.hidden, with_bias);
    }
    return std::move(rows).finish();
}

/// bert-bge: bert, knowing what BGE's checkpoints hold beside it.
inline mapping bert_bge(config& c) {
    auto m = bert(c);
    m.unused = {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"};
    return m;
}

}  // namespace nibble::model
