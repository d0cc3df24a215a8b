// SPDX-License-Identifier: Apache-2.0
// The facts that graphs are made of, against the mappings of the same models, and the rules of rope against numbers worked out elsewhere.
#include "nibble/model/facts.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "nibble/model/architectures.hpp"
#include "support/errors.hpp"

using namespace nibble;
using namespace nibble::model;
using nibble::test::all;
using nibble::test::has;

namespace {

json parsed(const std::string& text) {
    auto j = parse_json(bytes_view{reinterpret_cast<const std::byte*>(text.data()), text.size()});
    REQUIRE(j);
    return std::move(*j);
}

/// A config of 4 layers with these further members: "\"x\": 1, ...".
json config_with(const std::string& type, const std::string& further) {
    auto j = parsed(R"({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 100, "max_position_embeddings": 65536)" +
                    (further.empty() ? "" : ", " + further) + "}");
    j["model_type"] = type;
    return j;
}

struct read_result {
    decoder_facts facts;
    std::string problems;
};
read_result read(const std::string& type, const std::string& further = {}) {
    config c(config_with(type, further), "config.json");
    auto d = read_facts(c);
    REQUIRE(d);
    return {std::move(*d), all(c.problems())};
}

}  // namespace

TEST_CASE("facts and mapping of a model agree", "[model]") {
    const std::filesystem::path data = std::filesystem::path(NIBBLE_TEST_DATA) / "mlc";
    std::size_t compared = 0;
    for (const auto& entry : std::filesystem::directory_iterator(data / "mappings")) {
        const auto golden = entry.path().stem().string();
        const auto model = data / "models" / golden / "config.json";
        std::ifstream file(std::filesystem::exists(model) ? model : data / "configs" / (golden + ".json"), std::ios::binary);
        const auto json = parsed(std::string{std::istreambuf_iterator<char>(file), {}});
        const auto type = json.value("model_type", "");
        if (std::none_of(decoders.begin(), decoders.end(), [&](const auto& row) { return row.model_type == type; })) continue;
        INFO(golden);
        config for_facts(json, "config.json");
        config for_mapping(json, "config.json");
        const auto d = read_facts(for_facts);
        const auto m = map_model(for_mapping);
        REQUIRE(d);
        REQUIRE(m);
        INFO(all(for_facts.problems()));
        const auto source = [&](const std::string& name) -> const parameter* {
            for (const auto& p : m->parameters)
                if (std::find(p.sources.begin(), p.sources.end(), d->prefix + name) != p.sources.end()) return &p;
            return nullptr;
        };
        const auto* embedding = source("model.embed_tokens.weight");
        REQUIRE(embedding != nullptr);
        CHECK(embedding->dims == shape{d->sizes.vocab, d->sizes.hidden});
        // mlc_llm takes each mistral as not tied and each gemma as tied, whatever its config says.
        if (type != "mistral" && !type.starts_with("gemma")) CHECK((source("lm_head.weight") == nullptr) == d->tied);
        const std::string layer = "model.layers.0.";
        const auto* qkv = source(layer + (d->qkv_fused ? "self_attn.qkv_proj.weight" : "self_attn.q_proj.weight"));
        REQUIRE(qkv != nullptr);
        const bool together = d->qkv_fused || qkv->sources.size() == 3;
        CHECK(qkv->dims == shape{together ? d->sizes.qkv() : d->sizes.q(), d->sizes.hidden});
        CHECK((source(layer + "self_attn.q_proj.bias") != nullptr) == d->qkv_biased);
        CHECK((source(layer + "self_attn.q_norm.weight") != nullptr) == d->qk_norm);
        CHECK((source(layer + "pre_feedforward_layernorm.weight") != nullptr) == d->sandwich);
        CHECK(source("model.norm.weight")->plus_one == d->norm_plus_one);
        ++compared;
    }
    CHECK(compared >= 8);
}

TEST_CASE("windows: layer_types, else the family's rule", "[model]") {
    using list = std::vector<std::uint64_t>;
    CHECK(read("llama", R"("sliding_window": 16)").facts.windows == list{0, 0, 0, 0});
    CHECK(read("mistral", R"("sliding_window": 16)").facts.windows == list{16, 16, 16, 16});
    CHECK(read("mistral", R"("sliding_window": null)").facts.windows == list{0, 0, 0, 0});
    CHECK(read("gemma2", R"("sliding_window": 16)").facts.windows == list{16, 0, 16, 0});
    CHECK(read("gemma3_text", R"("sliding_window": 16, "sliding_window_pattern": 3)").facts.windows == list{16, 16, 0, 16});
    CHECK(read("qwen2", R"("sliding_window": 16, "use_sliding_window": false, "max_window_layers": 2)").facts.windows == list{0, 0, 0, 0});
    CHECK(read("qwen2", R"("sliding_window": 16, "use_sliding_window": true, "max_window_layers": 2)").facts.windows == list{0, 0, 16, 16});
    const std::string types = R"("layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"])";
    CHECK(read("gemma2", R"("sliding_window": 16, )" + types).facts.windows == list{0, 16, 0, 0});
    CHECK(has(read("gemma2", R"("layer_types": ["full_attention"])").problems, "each of the 4 layers"));
    CHECK(has(read("qwen3", R"("layer_types": ["full_attention", "linear_attention", "x", "y"])").problems, "layer 1 is neither"));
}

TEST_CASE("rope in both spellings", "[model]") {
    const auto old = read("llama", R"("rope_theta": 5e5, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"})");
    const auto now = read("llama", R"("rope_parameters": {"rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"})");
    CHECK(old.problems.empty());
    CHECK(old.facts.rope.type == "llama3");
    const auto f = rope_frequencies(old.facts.rope, 64, 100);
    CHECK(f == rope_frequencies(now.facts.rope, 64, 100));
    CHECK(f[0] == 1.0F);
    CHECK(f[14] == static_cast<float>(std::pow(5e5, -28.0 / 64)));      // a wave of 1957 positions, less than 8192 / 4
    CHECK(f[18] == static_cast<float>(std::pow(5e5, -36.0 / 64) / 8));  // one of 10085, more than 8192
    CHECK(f[16] < static_cast<float>(std::pow(5e5, -32.0 / 64)));       // one of 4443, between
    CHECK(f[16] > static_cast<float>(std::pow(5e5, -32.0 / 64) / 8));

    const auto gemma =
        read("gemma3_text", R"("rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0})");
    CHECK(gemma.facts.has_local_rope);
    CHECK(rope_frequencies(gemma.facts.rope, 4, 1)[0] == 0.125F);
    CHECK(rope_frequencies(gemma.facts.local_rope, 4, 1) == std::vector<float>{1.0F, 0.01F});
    const auto nested = read("gemma3_text", R"("rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}})");
    CHECK(nested.facts.rope.theta == 1e6);
    CHECK(nested.facts.local_rope.theta == 1e4);
}

TEST_CASE("YaRN and longrope", "[model]") {
    const auto yarn = read("ministral3", R"("head_dim": 128, "rope_parameters": {"type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1})");
    CHECK(yarn.problems.empty());
    CHECK(yarn.facts.exact_positions == 16384);
    CHECK(yarn.facts.rope.attention_factor == 1);
    const auto f = rope_frequencies(yarn.facts.rope, 128, 1);
    // Between pairs 20 (of 32 turns in 16384) and 37 (of one) the frequencies go over to those of a sixteenth.
    CHECK(f[20] == Approx(std::pow(1e6, -20.0 / 64)));
    CHECK(f[21] < static_cast<float>(std::pow(1e6, -21.0 / 64)));
    CHECK(f[37] == Approx(std::pow(1e6, -37.0 / 64) / 16));
    CHECK(f[36] > static_cast<float>(std::pow(1e6, -36.0 / 64) / 16));
    CHECK(read("mistral", R"("rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16384})").facts.rope.attention_factor ==
          Approx(1 + 0.1 * std::log(4.0)));

    const std::string eight = "[1, 1, 1, 1, 1, 1, 1, 1]";
    const auto longrope = read("phi3", R"("original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", "short_factor": )" + eight +
                                           R"(, "long_factor": [2, 2, 2, 2, 2, 2, 2, 4]})");
    CHECK(longrope.problems.empty());
    CHECK(longrope.facts.rope.attention_factor == Approx(std::sqrt(1 + std::log(16.0) / std::log(4096.0))));
    CHECK(rope_frequencies(longrope.facts.rope, 16, 4096)[0] == 1.0F);
    CHECK(rope_frequencies(longrope.facts.rope, 16, 4097)[0] == 0.5F);
    CHECK(read("phi3", R"("partial_rotary_factor": 0.75)").facts.rotary_dim == 12);
}

TEST_CASE("what a config says wrongly of its graph is told", "[model]") {
    CHECK(has(read("llama", R"("rope_scaling": {"type": "dynamic", "factor": 2.0})").problems, "rope of type \"dynamic\""));
    CHECK(has(read("llama", R"("rope_scaling": {"type": "linear"})").problems, "\"factor\" of the rope parameters is missing"));
    CHECK(has(read("llama", R"("rope_scaling": {"type": "linear", "factor": "2"})").problems, "is not a number"));
    CHECK(has(read("llama", R"("rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})").problems, "not complete"));
    CHECK(has(read("phi3", R"("rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": []})").problems, "must be 8 positive numbers"));
    CHECK(has(read("llama", R"("hidden_act": "relu")").problems, "activation \"relu\""));
    CHECK(has(read("llama", R"("rope_theta": 0)").problems, "more than 1"));
    config c(config_with("bloom", ""), "config.json");
    const auto d = read_facts(c);
    REQUIRE(!d);
    CHECK(has(d.error().message(), "has no graph here"));
    CHECK(has(d.error().message(), "gemma3_text, llama"));
}
