// SPDX-License-Identifier: Apache-2.0
#pragma once
// Phi 1 to 3, whose loaders map each parameter by hand. Names: the loaders of mlc_llm/model/{phi,phi3}.

#include "nibble/model/decoder.hpp"

namespace nibble::model {

namespace detail {

/// One layer of phi-msft, which the older mixformer-sequential has too.
inline void phi_layer(const block& layer, const decoder_sizes& d) {
    layer.norm("ln", d.hidden, with_bias);
    layer.linear("mixer.Wqkv", d.qkv(), d.hidden, with_bias);
    layer.linear("mixer.out_proj", d.hidden, d.q(), with_bias);
    layer.linear("mlp.fc1", d.intermediate, d.hidden, with_bias);
    layer.linear("mlp.fc2", d.hidden, d.intermediate, with_bias);
}

}  // namespace detail

/// phi-msft: MLC's own names; a mixformer-sequential checkpoint numbers embedding, layers and head as one list of layers.
inline mapping phi_msft(config& c) {
    decoder_sizes d;
    d.layers = c.layers("n_layer", 32);
    d.hidden = c.get("n_embd", 2560, 1);
    d.intermediate = c.get_nonzero("n_inner", 4 * d.hidden);
    d.vocab = c.get("vocab_size", 51200, 1);
    d.heads = c.get("n_head", 32, 1);
    d.kv_heads = c.get_nonzero("n_head_kv", d.heads);
    d.split_heads(c, "n_embd by n_head");
    const bool sequential = c.text("model_type") == "mixformer-sequential";

    draft rows;
    const block root(rows), model = root.in("transformer");
    root.embedding({"transformer.embd", sequential ? "layers.0.wte" : "transformer.embd.wte"}, d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = model.in("h", i);
        const block listed(rows, layer.mlc(), at("layers.{}.", i + 1));
        detail::phi_layer(sequential ? listed : layer, d);
        if (sequential) listed.unused("mixer.rotary_emb.inv_freq");
    }
    const block head = sequential ? block(rows, "lm_head.", at("layers.{}.", d.layers + 1)) : root.in("lm_head");
    head.norm("ln", d.hidden, with_bias);
    head.linear("linear", d.vocab, d.hidden).free_rows = true;
    head.bias("linear", d.vocab).free_rows = true;
    return std::move(rows).finish();
}

/// phi (1, 1.5 and 2 as Hugging Face has them): mapped in this very order.
inline mapping phi(config& c) {
    decoder_sizes d;
    d.layers = c.layers("num_hidden_layers", 24);
    d.hidden = c.get("hidden_size", 2048, 1);
    d.intermediate = c.has("intermediate_size") ? c.get_nonzero("intermediate_size", 4 * d.hidden) : 8192;
    d.vocab = c.get("vocab_size", 51200, 1);
    d.heads = c.get("num_attention_heads", 32, 1);
    d.kv_heads = c.get_nonzero("num_key_value_heads", d.heads);
    d.split_heads(c, "hidden_size by num_attention_heads");

    draft rows;
    const block root = block(rows).in_pass(0);
    root.linear({"lm_head.linear", "lm_head"}, d.vocab, d.hidden).free_rows = true;
    root.bias({"lm_head.linear", "lm_head"}, d.vocab).free_rows = true;
    root.norm({"lm_head.ln", "model.final_layernorm"}, d.hidden, with_bias);
    root.embedding({"transformer.embd", "model.embed_tokens"}, d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) {
        const auto layer = root.in({"transformer.h", "model.layers"}, i);
        layer.norm({"ln", "input_layernorm"}, d.hidden, with_bias);
        layer.in({"mixer", "self_attn"}).fused("Wqkv", {"q_proj", "k_proj", "v_proj"}, d.qkv(), d.hidden, with_bias);
        layer.linear({"mixer.out_proj", "self_attn.dense"}, d.hidden, d.q(), with_bias);
        layer.linear("mlp.fc1", d.intermediate, d.hidden, with_bias);
        layer.linear("mlp.fc2", d.hidden, d.intermediate, with_bias);
        layer.unused("mixer.rotary_emb.inv_freq");
    }
    return std::move(rows).finish();
}

namespace detail {

/// A layer of phi3, in the order in which its loader maps it.
inline void phi3_layer(const block& layer, const decoder_sizes& d) {
    layer.norm({"ln", "input_layernorm"}, d.hidden);
    layer.linear("mlp.down_proj", d.hidden, d.intermediate);
    layer.linear("mlp.gate_up_proj", 2 * d.intermediate, d.hidden);
    layer.norm("post_attention_layernorm", d.hidden);
    layer.linear({"mixer.out_proj", "self_attn.o_proj"}, d.hidden, d.q());
    layer.linear({"mixer.qkv_proj", "self_attn.qkv_proj"}, d.qkv(), d.hidden);
}

/// The CLIP tower ViT-L/14 at 336 pixels, whose sizes are no part of the config. No scheme quantizes any of it.
inline void phi3_vision_tower(const block& tower) {
    constexpr std::uint64_t layers = 24, hidden = 1024, intermediate = 4096, patch = 14, positions = (336 / patch) * (336 / patch) + 1;
    for (std::uint64_t i = 0; i < layers; ++i) {
        const auto layer = tower.in("encoder.layers", i);
        const auto biased = [&](const char* module, shape dims) {
            layer.bias(module, dims[0]);
            layer.weight(module, dims);
        };
        biased("layer_norm1", {hidden});
        biased("layer_norm2", {hidden});
        biased("mlp.fc1", {intermediate, hidden});
        biased("mlp.fc2", {hidden, intermediate});
        for (const auto* projection : {"k_proj", "out_proj", "q_proj", "v_proj"}) biased((std::string("self_attn.") + projection).c_str(), {hidden, hidden});
    }
    tower.tensor("embeddings.class_embedding", {hidden});
    tower.weight("embeddings.patch_embedding", {hidden, 3, patch, patch});
    tower.weight("embeddings.position_embedding", {positions, hidden});
    tower.bias("post_layernorm", hidden);
    tower.weight("post_layernorm", {hidden});
    tower.bias("pre_layrnorm", hidden);
    tower.weight("pre_layrnorm", {hidden});
}

}  // namespace detail

/// phi3: qkv and gate_up are fused in the checkpoint already; mapped in this very order.
inline mapping phi3(config& c) {
    const auto d = decoder_sizes::read(c);
    draft rows;
    const block root = block(rows).in_pass(0);
    if (!tied(c)) root.linear("lm_head", d.vocab, d.hidden).free_rows = true;
    root.norm({"transformer.norm", "model.norm"}, d.hidden);
    root.embedding({"transformer.embd", "model.embed_tokens"}, d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) detail::phi3_layer(root.in({"transformer.h", "model.layers"}, i), d);
    return std::move(rows).finish();
}

/// phi3_v: phi3 with its vision tower, mapped in this very order.
inline mapping phi3_v(config& c) {
    const auto d = decoder_sizes::read(c);
    c.enter("img_processor", false);
    const auto image = 4 * c.need("image_dim_out");
    c.enter("", false);
    draft rows;
    const block root = block(rows).in_pass(0);
    root.embedding({"model.embd", "model.embed_tokens"}, d.vocab, d.hidden);
    for (std::uint64_t i = 0; i < d.layers; ++i) detail::phi3_layer(root.in({"model.h", "model.layers"}, i), d);
    const auto vision = root.in({"vision_embed_tokens", "model.vision_embed_tokens"});
    detail::phi3_vision_tower(vision.in("img_processor.vision_model"));
    vision.tensor("sub_GN", {1, 1, 1, image});
    vision.tensor("glb_GN", {1, 1, image});
    const auto projection = vision.in("img_projection");
    projection.bias({"linear_1", "0"}, d.hidden);
    projection.weight({"linear_1", "0"}, {d.hidden, 4 * 1024}, role::linear);
    projection.bias({"linear_2", "2"}, d.hidden);
    projection.weight({"linear_2", "2"}, {d.hidden, d.hidden}, role::linear);
    root.norm("model.norm", d.hidden);
    root.linear("lm_head", d.vocab, d.hidden).free_rows = true;
    root.unused("model.embed_tokens.weight");  // used, but in the explicit set all the same: it does not count in BitsPerParam
    return std::move(rows).finish();
}

}  // namespace nibble::model
