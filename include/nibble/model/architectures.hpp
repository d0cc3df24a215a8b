// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table of architectures: one row a model type of mlc_llm's registry (mlc_llm/model/model.py), and the way from a
// config.json to its mapping. A new family is a header and a row here.

#include <array>
#include <numeric>

#include "nibble/model/bert.hpp"
#include "nibble/model/chatglm.hpp"
#include "nibble/model/gemma.hpp"
#include "nibble/model/gpt.hpp"
#include "nibble/model/llama.hpp"
#include "nibble/model/llama_like.hpp"
#include "nibble/model/ministral3.hpp"
#include "nibble/model/moe.hpp"
#include "nibble/model/phi.hpp"
#include "nibble/model/qwen.hpp"
#include "nibble/model/qwen3_5.hpp"

namespace nibble::model {

inline constexpr std::array architectures{
    architecture{"baichuan", baichuan},
    architecture{"bert", bert},
    architecture{"bert-bge", bert_bge},
    architecture{"chatglm", chatglm},
    architecture{"cohere", cohere},
    architecture{"deepseek", deepseek},
    architecture{"eagle", eagle},
    architecture{"gemma", gemma},
    architecture{"gemma2", gemma2},
    architecture{"gemma3", gemma3},
    architecture{"gemma3_text", gemma3},
    architecture{"gpt2", gpt2},
    architecture{"gpt_bigcode", gpt_bigcode},
    architecture{"gpt_neox", gpt_neox},
    architecture{"gptj", gptj},
    architecture{"internlm", internlm},
    architecture{"internlm2", internlm2},
    architecture{"llama", llama, true},
    architecture{"llama4", llama4, true},
    architecture{"minicpm", minicpm},
    architecture{"ministral3", ministral3},
    architecture{"mistral", mistral},
    architecture{"mistral3", mistral3},
    architecture{"mixformer-sequential", phi_msft},
    architecture{"mixtral", mixtral, true},
    architecture{"nemotron", nemotron, true},
    architecture{"olmo", olmo, true},
    architecture{"olmo2", olmo2, true},
    architecture{"orion", orion},
    architecture{"phi", phi},
    architecture{"phi-msft", phi_msft},
    architecture{"phi3", phi3},
    architecture{"phi3_v", phi3_v},
    architecture{"qwen", qwen},
    architecture{"qwen2", qwen2},
    architecture{"qwen2_moe", qwen2_moe},
    architecture{"qwen3", qwen3},
    architecture{"qwen3-embedding", qwen3_embedding},
    architecture{"qwen3_5", qwen3_5},
    architecture{"qwen3_5_text", qwen3_5},
    architecture{"qwen3_moe", qwen3_moe},
    architecture{"stablelm", stablelm},
    architecture{"starcoder2", starcoder2},
};

/// Model types that mlc_llm registers and that have no mapping here, with the reason for the user.
struct unmapped_type {
    std::string_view model_type, why;
};
inline constexpr std::array unmapped_types{
    unmapped_type{"deepseek_v2", "its attention needs kv_b_proj split and transposed head by head"},
    unmapped_type{"deepseek_v3", "its attention needs kv_b_proj split and transposed head by head"},
    unmapped_type{"llava", "its text_config refers to the config of another repository"},
    unmapped_type{"medusa", "it is a set of decoding heads, which mlc_llm does not quantize"},
    unmapped_type{"rwkv5", "its weights are rescaled layer by layer"},
    unmapped_type{"rwkv6", "its weights are rescaled layer by layer"},
};

[[nodiscard]] constexpr const architecture* find_architecture(std::string_view model_type) {
    for (const auto& row : architectures)
        if (row.model_type == model_type) return &row;
    return nullptr;
}

namespace detail {

/// How many characters to insert, delete or replace (Levenshtein).
[[nodiscard]] inline std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        auto diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const auto replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
        }
    }
    return row.back();
}

}  // namespace detail

/// Up to three known model types that are spelled most like `name`, nearest first; none if none comes near.
[[nodiscard]] inline std::vector<std::string_view> nearest_model_types(std::string_view name) {
    std::vector<std::pair<std::size_t, std::string_view>> ranked;
    if (name.size() > 64) return {};
    for (const auto& row : architectures) {
        const auto distance = detail::edit_distance(name, row.model_type);
        if (2 * distance <= std::max(name.size(), row.model_type.size())) ranked.emplace_back(distance, row.model_type);
    }
    std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, ranked.size()); ++i) names.push_back(ranked[i].second);
    return names;
}

/// The model type that config.json states, at its top level or in "model_config" as in mlc_llm's own configs; empty if none.
[[nodiscard]] inline std::string stated_model_type(const config& c) {
    if (c.has("model_type") || !c.has_object("model_config")) return c.text("model_type");
    const auto& inner = *c.find("model_config");
    const auto at = inner.find("model_type");
    return at != inner.end() && at->is_string() ? at->get<std::string>() : "";
}

/// The architecture of a checkpoint. `model_type` overrides the config's. Errors: missing, unsupported.
[[nodiscard]] inline result<const architecture*> architecture_of(const config& c, std::string_view model_type = {}) {
    const auto type = model_type.empty() ? stated_model_type(c) : std::string(model_type);
    error e{errc::missing, "\"model_type\" is missing or not a string", c.file(), {}, {}, "name the model type"};
    if (type.empty()) return fail(std::move(e));
    if (const auto* found = find_architecture(type)) return found;

    e.code = errc::unsupported;
    e.rule = "model type \"" + type.substr(0, 64) + "\" is unknown";
    e.remedy.clear();
    for (const auto& row : unmapped_types)
        if (row.model_type == type) e.rule = "model type \"" + type + "\" cannot be converted: " + std::string(row.why);
    for (const auto near : nearest_model_types(type)) e.remedy += (e.remedy.empty() ? "known ones like it: " : ", ") + std::string(near);
    return fail(std::move(e));
}

/// The mapping of a checkpoint. Errors: those of architecture_of. What is wrong with config.json is in c.problems(), which
/// must be empty for the mapping to mean anything.
[[nodiscard]] inline result<mapping> map_model(config& c, std::string_view model_type = {}) {
    auto row = architecture_of(c, model_type);
    if (!row) return pass(row);
    auto m = (*row)->map(c);
    m.model_type = (*row)->model_type;
    return m;
}

}  // namespace nibble::model
