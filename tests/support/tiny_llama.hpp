// SPDX-License-Identifier: Apache-2.0
#pragma once
// A llama of one layer with normally distributed weights, small enough to be written, converted and compared in a test.

#include <algorithm>
#include <random>
#include <stdexcept>

#include "nibble/core/number.hpp"
#include "support/files.hpp"

namespace nibble::test {

struct tiny_llama {
    static constexpr std::uint64_t hidden = 64, intermediate = 96, vocab = 48;
    struct tensor {
        std::string name;
        std::vector<std::uint64_t> dims;
        std::vector<float> values;
    };
    std::vector<tensor> tensors;

    explicit tiny_llama(unsigned seed = 1) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal(0.0F, 0.05F);
        const auto add = [&](const std::string& name, std::vector<std::uint64_t> dims) {
            std::uint64_t n = 1;
            for (const auto d : dims) n *= d;
            tensor t{name, std::move(dims), std::vector<float>(n)};
            for (auto& v : t.values) v = normal(random);
            tensors.push_back(std::move(t));
        };
        const std::string layer = "model.layers.0.";
        add("model.embed_tokens.weight", {vocab, hidden});
        add(layer + "self_attn.q_proj.weight", {hidden, hidden});
        add(layer + "self_attn.k_proj.weight", {hidden / 2, hidden});
        add(layer + "self_attn.v_proj.weight", {hidden / 2, hidden});
        add(layer + "self_attn.o_proj.weight", {hidden, hidden});
        add(layer + "mlp.gate_proj.weight", {intermediate, hidden});
        add(layer + "mlp.up_proj.weight", {intermediate, hidden});
        add(layer + "mlp.down_proj.weight", {hidden, intermediate});
        add(layer + "input_layernorm.weight", {hidden});
        add(layer + "post_attention_layernorm.weight", {hidden});
        add("model.norm.weight", {hidden});
        add("lm_head.weight", {vocab, hidden});
    }

    [[nodiscard]] std::vector<float>& values(const std::string& name) {
        for (auto& t : tensors) {
            if (t.name == name) return t.values;
        }
        throw std::out_of_range(name);
    }

    void write(const std::filesystem::path& folder) const {
        write_text(folder / "config.json",
                   R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 48, "rms_norm_eps": 1e-05, "max_position_embeddings": 64, "tie_word_embeddings": false})");
        safetensors_maker maker;
        for (const auto& t : tensors) maker.add(t.name, "F32", t.dims, t.values);
        write_text(folder / "model.safetensors", maker.bytes());
    }
};

}  // namespace nibble::test
