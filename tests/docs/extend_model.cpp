// SPDX-License-Identifier: Apache-2.0
// The architecture of docs/add.md: rows for a family with fused attention and a gated MLP.
#include <algorithm>
#include <cstdio>
#include <string>

// [family]
#include "nibble/model/decoder.hpp"

namespace nibble::model {

/// "lumen", a family like llama whose queries and keys are normed, head by head.
inline mapping lumen(config& c) {
    const auto sizes = decoder_sizes::read(c);  // hidden_size, num_hidden_layers, ...: what is missing becomes a problem of c
    const fused_attention attention{.q_norm = sizes.head_dim, .k_norm = sizes.head_dim};
    return decoder(sizes, {.lm_head = !tied(c)}, attention, llama_mlp);
}

}  // namespace nibble::model
// [/family]

int main() {
    using namespace nibble;
    model::config c(json{{"num_hidden_layers", 2},
                         {"hidden_size", 64},
                         {"intermediate_size", 96},
                         {"vocab_size", 48},
                         {"num_attention_heads", 4},
                         {"num_key_value_heads", 2}},
                    "config.json");
    const auto mapping = model::lumen(c);
    const auto find = [&](const std::string& name) {
        return std::find_if(mapping.parameters.begin(), mapping.parameters.end(), [&](const auto& p) { return p.name == name; });
    };
    const auto qkv = find("model.layers.1.self_attn.qkv_proj.weight");
    const auto norm = find("model.layers.1.self_attn.q_norm.weight");
    const bool right = c.problems().empty() && mapping.parameters.size() == 2 * 8 + 3 && qkv != mapping.parameters.end() && norm != mapping.parameters.end() &&
                       qkv->dims == shape{128, 64} && qkv->sources.size() == 3 && qkv->sources[1] == "model.layers.1.self_attn.k_proj.weight" &&
                       qkv->kind == model::role::linear && norm->dims == shape{16} && norm->kind == model::role::other;
    if (!right) std::puts("the mapping is not what the page says");
    return right ? 0 : 1;
}
