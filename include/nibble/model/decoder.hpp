// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sizes that decoder-only models share, read from a config.json with mlc_llm's defaults.

#include "nibble/model/model.hpp"

namespace nibble::model {

struct decoder_sizes {
    std::uint64_t layers = 1, hidden = 1, intermediate = 1, vocab = 1, heads = 1, kv_heads = 1, head_dim = 1;

    [[nodiscard]] std::uint64_t q() const { return heads * head_dim; }
    [[nodiscard]] std::uint64_t kv() const { return kv_heads * head_dim; }
    [[nodiscard]] std::uint64_t qkv() const { return q() + 2 * kv(); }

    /// The Hugging Face names that most families use; head_dim is hidden / heads where the config has none.
    [[nodiscard]] static decoder_sizes read(config& c) {
        decoder_sizes d;
        d.layers = c.layers("num_hidden_layers");
        d.hidden = c.need("hidden_size");
        d.intermediate = c.need("intermediate_size");
        d.vocab = c.need("vocab_size");
        d.heads = c.need("num_attention_heads");
        d.kv_heads = c.get("num_key_value_heads", d.heads, 1);
        d.head_dim = c.get("head_dim", 0);
        if (d.head_dim == 0) d.head_dim = c.divide("hidden_size by num_attention_heads", d.hidden, d.heads);
        (void)c.divide("num_attention_heads by num_key_value_heads", d.heads, d.kv_heads);
        return d;
    }
};

}  // namespace nibble::model
