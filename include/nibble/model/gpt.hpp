// SPDX-License-Identifier: Apache-2.0
#pragma once
// The GPT family: GPT-2, GPTBigCode, GPT-J, GPT-NeoX and StarCoder 2.
// Names: the loaders of mlc_llm/model/{gpt2,gpt_bigcode,gpt_j,gpt_neox,starcoder2}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

namespace detail {

/// From [heads, 3, head_dim] to [3, heads, head_dim].
inline std::vector<std::uint32_t> neox_row_order(std::uint64_t heads, std::uint64_t head_dim) {
    std::vector<std::uint32_t> order;
    for (std::uint64_t part = 0; part < 3; ++part)
        for (std::uint64_t head = 0; head < heads; ++head)
            for (std::uint64_t i = 0; i < head_dim; ++i) order.push_back(static_cast<std::uint32_t>((head * 3 + part) * head_dim + i));
    return order;
}

}  // namespace detail

/// gpt2: the checkpoint has no "transformer." and its Conv1D weights are [K, N]; lm_head is the embedding again.
inline mapping gpt2(config& c) {
    const auto d = decoder_sizes::read_gpt(c);
    const auto context = positions(c, {"context_window_size", "n_positions", "max_sequence_length"});
    draft rows;
    block(rows).in_pass(0).linear({"lm_head", "wte"}, d.vocab, d.hidden).free_rows = true;
    const block model(rows, "transformer.");
    model.embedding("wte", d.vocab, d.hidden).free_rows = true;
    model.embedding("wpe", context, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("h", i), early = layer.in_pass(0);
        early.linear("attn.c_attn", d.qkv(), d.hidden).transpose = true;
        early.linear("attn.c_proj", d.hidden, d.q()).transpose = true;
        early.linear("mlp.c_proj", d.hidden, d.intermediate).transpose = true;
        early.linear("mlp.c_fc", d.intermediate, d.hidden).transpose = true;
        layer.norm("ln_1", d.hidden, with_bias);
        layer.bias("attn.c_attn", d.qkv());
        layer.bias("attn.c_proj", d.hidden);
        layer.norm("ln_2", d.hidden, with_bias);
        layer.bias("mlp.c_fc", d.intermediate);
        layer.bias("mlp.c_proj", d.hidden);
        layer.unused("attn.bias");
    }
    model.norm("ln_f", d.hidden, with_bias);
    return std::move(rows).finish();
}

/// gpt_bigcode: one key-value head, Linears stored as [N, K].
inline mapping gpt_bigcode(config& c) {
    auto d = decoder_sizes::read_gpt(c);
    d.kv_heads = 1;
    const auto context = c.need("n_positions");
    draft rows;
    const block root(rows), model = root.in("transformer");
    model.embedding("wte", d.vocab, d.hidden).free_rows = true;
    model.embedding("wpe", context, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("h", i);
        layer.linear("attn.c_attn", d.qkv(), d.hidden, with_bias);
        layer.linear("attn.c_proj", d.hidden, d.q(), with_bias);
        layer.linear("mlp.c_fc", d.intermediate, d.hidden, with_bias);
        layer.linear("mlp.c_proj", d.hidden, d.intermediate, with_bias);
        layer.norm("ln_1", d.hidden, with_bias);
        layer.norm("ln_2", d.hidden, with_bias);
    }
    model.norm("ln_f", d.hidden, with_bias);
    root.linear("lm_head", d.vocab, d.hidden).free_rows = true;
    return std::move(rows).finish();
}

/// gptj: attention and MLP side by side after one norm, and an lm_head with a bias.
inline mapping gptj(config& c) {
    const auto d = decoder_sizes::read_gpt(c);
    draft rows;
    const block root(rows), model = root.in("transformer");
    model.embedding("wte", d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("h", i);
        layer.norm("ln_1", d.hidden, with_bias);
        layer.in("attn").fused("c_attn", {"q_proj", "k_proj", "v_proj"}, 3 * d.hidden, d.hidden);
        layer.linear("attn.out_proj", d.hidden, d.hidden);
        layer.linear("mlp.fc_in", d.intermediate, d.hidden, with_bias);
        layer.linear("mlp.fc_out", d.hidden, d.intermediate, with_bias);
    }
    model.norm("ln_f", d.hidden, with_bias);
    root.linear("lm_head", d.vocab, d.hidden, with_bias);
    auto m = std::move(rows).finish();
    m.notes.push_back("mlc_llm's own gptj loader looks for \"self_attn\" and fails; names here are those of its model definition");
    return m;
}

/// gpt_neox: each head's query, key and value lie together in the checkpoint; the MLP's biases stay float32.
inline mapping gpt_neox(config& c) {
    const auto d = decoder_sizes::read_ungrouped(c);
    if (!row_order_fits(c, d.qkv(), 2 * d.layers)) return {};
    const auto order = detail::neox_row_order(d.heads, d.head_dim);
    draft rows;
    const block root(rows), model = root.in("gpt_neox");
    model.embedding("embed_in", d.vocab, d.hidden).free_rows = true;
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("layers", i), early = layer.in_pass(0);
        early.linear("attention.query_key_value", d.qkv(), d.hidden).row_order = order;
        early.bias("attention.query_key_value", d.qkv()).row_order = order;
        layer.norm("input_layernorm", d.hidden, with_bias);
        layer.norm("post_attention_layernorm", d.hidden, with_bias);
        layer.linear("attention.dense", d.hidden, d.q(), with_bias);
        layer.linear("mlp.dense_h_to_4h", d.intermediate, d.hidden);
        layer.bias("mlp.dense_h_to_4h", d.intermediate).keep_f32 = true;
        layer.linear("mlp.dense_4h_to_h", d.hidden, d.intermediate);
        layer.bias("mlp.dense_4h_to_h", d.hidden).keep_f32 = true;
        for (const auto* name : {"rotary_emb.inv_freq", "masked_bias", "bias"}) layer.in("attention").unused(name);
    }
    model.norm("final_layer_norm", d.hidden, with_bias);
    root.linear("embed_out", d.vocab, d.hidden).free_rows = true;
    return std::move(rows).finish();
}

/// starcoder2: a plain MLP on Llama's frame; lm_head is the embedding again.
inline mapping starcoder2(config& c) {
    const auto d = decoder_sizes::read(c);
    const bool biased = c.flag("use_bias", true);
    draft rows;
    block(rows).in_pass(0).linear({"lm_head", "model.embed_tokens"}, d.vocab, d.hidden);
    const block model = block(rows).in("model");
    model.embedding("embed_tokens", d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("layers", i);
        fused_attention{.qkv = "wqkv_pack", .qkv_biased = biased, .output_biased = biased}(layer, d);
        layer.linear("mlp.c_fc", d.intermediate, d.hidden, biased);
        layer.linear("mlp.c_proj", d.hidden, d.intermediate, biased);
        layer.norm("input_layernorm", d.hidden, with_bias);
        layer.norm("post_attention_layernorm", d.hidden, with_bias);
    }
    model.norm("norm", d.hidden, with_bias);
    return std::move(rows).finish();
}

}  // namespace nibble::model
