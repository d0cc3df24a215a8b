// SPDX-License-Identifier: Apache-2.0
// Every golden mapping (what mlc_llm's loaders say of a small model) against ours, and configs that are wrong.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "nibble/model/architectures.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::model;

namespace {

const std::filesystem::path data = std::filesystem::path(NIBBLE_TEST_DATA) / "mlc";

json read_json(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    auto parsed = parse_json(bytes_view{reinterpret_cast<const std::byte*>(text.data()), text.size()});
    INFO(path);
    REQUIRE(parsed);
    return std::move(*parsed);
}

/// The config of a golden: the model's own where the converter's tests have the model, else one made for its mapping.
json read_config(std::string_view golden) {
    const auto model = data / "models" / golden / "config.json";
    return read_json(std::filesystem::exists(model) ? model : data / "configs" / (std::string(golden) + ".json"));
}

std::vector<std::string> golden_names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(data / "mappings")) names.push_back(entry.path().stem().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// The golden's schemes of q4f16_1, q4f16_0 and q4f16_2 that quantize a parameter of this kind. mlc_llm has no "_0" for any
/// part of a mixture of experts.
std::set<std::string> quantized_in(role kind, bool has_experts) {
    std::set<std::string> schemes;
    if (kind == role::other) return schemes;
    schemes.insert("q4f16_1");
    if (!has_experts) schemes.insert("q4f16_0");
    if (kind == role::linear || kind == role::experts) schemes.insert("q4f16_2");
    return schemes;
}

std::string operation(const parameter& p) {
    if (p.transpose) return "transpose";
    if (p.plus_one) return "plus_one";
    if (!p.row_order.empty()) return "custom";
    if (p.kind == role::experts) return p.sources.size() == p.dims[0] ? "stack" : "stack_of_concat_pairs";
    return p.sources.size() > 1 ? "concat_axis0" : "copy";
}

bool is_permutation_of_rows(const parameter& p) {
    std::vector<bool> seen(p.row_order.size());
    for (const auto row : p.row_order) {
        if (row >= seen.size() || seen[row]) return false;
        seen[row] = true;
    }
    return p.row_order.size() == p.dims[0];
}

/// A golden's config with some keys changed.
config changed(std::string_view golden, const json& changes = json::object()) {
    auto values = read_config(golden);
    values.update(changes);
    return {std::move(values), "config.json"};
}

std::vector<std::string> names(const mapping& m) {
    std::vector<std::string> all;
    for (const auto& p : m.parameters) all.push_back(p.name);
    return all;
}

const parameter& find(const mapping& m, std::string_view name) {
    const auto at = std::find_if(m.parameters.begin(), m.parameters.end(), [&](const auto& p) { return p.name == name; });
    INFO(name);
    REQUIRE(at != m.parameters.end());
    return *at;
}

mapping map_good(config c, std::string_view model_type = {}) {
    auto m = map_model(c, model_type);
    for (const auto& e : c.problems()) UNSCOPED_INFO(e.message());
    REQUIRE(c.problems().empty());
    REQUIRE(m);
    return std::move(*m);
}

}  // namespace

TEST_CASE("mappings are those of mlc_llm") {
    const auto name = GENERATE(from_range(golden_names()));
    CAPTURE(name);
    const auto golden = read_json(data / "mappings" / (name + ".json"));
    config c(read_config(name), name);
    CHECK(c.text("model_type") == golden["model_type"].get<std::string>());
    const auto m = map_model(c);
    for (const auto& e : c.problems()) UNSCOPED_INFO(e.message());
    REQUIRE(c.problems().empty());
    REQUIRE(m);

    const auto vocab = c.get("vocab_size", 96);
    const auto& params = golden["params"];
    REQUIRE(m->parameters.size() == params.size());
    const bool has_experts = std::any_of(m->parameters.begin(), m->parameters.end(), [](const auto& p) { return p.kind == role::experts; });
    for (std::size_t i = 0; i < params.size(); ++i) {
        const auto& want = params[i];
        const auto& got = m->parameters[i];
        CAPTURE(i, got.name);
        REQUIRE(got.name == want["mlc"].get<std::string>());
        CHECK(got.sources == want["sources"].get<std::vector<std::string>>());
        REQUIRE(got.dims.rank() == want["shape"].size());
        for (std::size_t axis = 0; axis < got.dims.rank(); ++axis) {
            const auto entry = want["shape"][axis].get<std::string>();
            const bool open = entry == "vocab_size";
            CHECK(got.dims[axis] == (open ? vocab : std::stoull(entry)));
            if (axis == 0) CHECK(got.free_rows == open);
        }
        CHECK(operation(got) == want["op"].get<std::string>());
        CHECK(got.keep_f32 == (want["f16_model_dtype"] == "float32"));
        CHECK(quantized_in(got.kind, has_experts) == want["quantized_in"].get<std::set<std::string>>());
        CHECK((got.row_order.empty() || is_permutation_of_rows(got)));
    }
    const auto unused = golden["unused"].get<std::vector<std::string>>();
    CHECK(std::set(m->unused.begin(), m->unused.end()) == std::set(unused.begin(), unused.end()));
    CHECK(m->unused.size() == unused.size());
}

TEST_CASE("row orders regroup heads") {
    CHECK(model::detail::neox_row_order(2, 1) == std::vector<std::uint32_t>{0, 3, 1, 4, 2, 5});
    CHECK(model::detail::neox_row_order(2, 2) == std::vector<std::uint32_t>{0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11});
    // stored: q0 q1 k0 v0 q2 q3 k1 v1
    CHECK(model::detail::internlm2_row_order(4, 2, 1) == std::vector<std::uint32_t>{0, 1, 4, 5, 2, 6, 3, 7});
    CHECK(model::detail::internlm2_row_order(2, 2, 2) == std::vector<std::uint32_t>{0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11});
}

TEST_CASE("row orders are permutations of the rows") {
    for (const auto heads : {1U, 3U, 8U}) {
        const json changes{{"hidden_size", heads * 8}, {"num_attention_heads", heads}, {"num_key_value_heads", 1}};
        for (const auto* golden : {"gpt_neox_f16", "internlm2_bf16"}) {
            std::size_t ordered = 0;
            for (const auto& p : map_good(changed(golden, changes)).parameters) {
                if (p.row_order.empty()) continue;
                CHECK(is_permutation_of_rows(p));
                ++ordered;
            }
            CHECK(ordered != 0);
        }
    }
}

TEST_CASE("the table of architectures is consistent") {
    std::set<std::string_view> seen;
    for (const auto& row : architectures) {
        CHECK(seen.insert(row.model_type).second);
        CHECK(find_architecture(row.model_type) == &row);
    }
    for (const auto& row : unmapped_types) CHECK(seen.insert(row.model_type).second);
    for (const auto& name : golden_names())
        CHECK(find_architecture(read_json(data / "mappings" / (name + ".json"))["model_type"].get<std::string>()) != nullptr);
}

TEST_CASE("an unknown model type is answered with those like it") {
    using list = std::vector<std::string_view>;
    CHECK(nearest_model_types("lama").front() == "llama");
    CHECK(nearest_model_types("qwen33").front() == "qwen3");
    CHECK(nearest_model_types("Gemma_3").front() == "gemma3");
    CHECK(nearest_model_types("gemma").size() == 3);
    CHECK(nearest_model_types("xlm-roberta-prelayernorm") == list{});
    CHECK(nearest_model_types(std::string(1 << 20, 'a')) == list{});

    auto c = changed("qwen2_bf16", {{"model_type", "qwen2_vl"}});
    auto m = map_model(c);
    REQUIRE_FALSE(m);
    CHECK(m.error().code == errc::unsupported);
    CHECK(m.error().message() == "config.json: model type \"qwen2_vl\" is unknown; known ones like it: qwen2, qwen2_moe, qwen3_5");
    m = map_model(c, "qwen2");
    CHECK(m);
    m = map_model(c, "deepseek_v3");
    REQUIRE_FALSE(m);
    CHECK(m.error().rule.starts_with("model type \"deepseek_v3\" cannot be converted: its attention"));
    for (const auto& none : {json{{"model_type", nullptr}}, json{{"model_type", 3}}, json{{"model_type", ""}}}) {
        auto d = changed("qwen2_bf16", none);
        m = map_model(d);
        REQUIRE_FALSE(m);
        CHECK(m.error().code == errc::missing);
    }
    auto nested = changed("qwen2_bf16", {{"model_type", nullptr}, {"model_config", {{"model_type", "qwen2"}}}});
    CHECK(stated_model_type(nested) == "qwen2");
}

TEST_CASE("config.json states what its family needs, or a problem names the key") {
    const auto key = GENERATE("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size");
    CAPTURE(key);
    for (const auto& bad :
         {json("64"), json(0), json(-1), json(1.5), json(nullptr), json(true), json::array(), json::object(), json(std::uint64_t{1} << 63), json("\xff")}) {
        auto c = changed("llama_gqa_bf16", {{key, bad}});
        REQUIRE(map_model(c));
        REQUIRE_FALSE(c.problems().empty());
        const auto says = c.problems().front().message();
        CAPTURE(says);
        CHECK(says.find(std::string("\"") + key + "\"") != std::string::npos);
        CHECK(says.size() < 300);
    }
}

TEST_CASE("sizes that do not divide are problems") {
    const auto changes = GENERATE(json{{"hidden_size", 65}}, json{{"num_key_value_heads", 3}}, json{{"num_key_value_heads", -2}},
                                  json{{"tie_word_embeddings", 1}}, json{{"num_hidden_layers", 1000000000}}, json{{"head_dim", "16"}});
    auto c = changed("llama_gqa_bf16", changes);
    const auto m = map_model(c);
    REQUIRE(m);
    CHECK(c.problems().size() == 1);
    CHECK(m->parameters.size() < 100);
}

TEST_CASE("all problems of a config are reported at once") {
    config c(json{{"model_type", "mixtral"}}, "config.json");
    REQUIRE(map_model(c));
    CHECK(c.problems().size() == 6);
    config list(json::array({1, 2}), "config.json");
    REQUIRE(map_model(list, "llama"));
    CHECK(list.problems().size() == 5);
}

TEST_CASE("no value of any key makes a mapping fail or grow without bound") {
    const std::vector<json> values{nullptr, "x", 0, 1, 3, -1, 1.5, 4096, 1000000000, 2147483647, std::uint64_t{1} << 63, true, json::array(), json::object()};
    const auto name = GENERATE(from_range(golden_names()));
    CAPTURE(name);
    const auto whole = read_config(name);
    const auto attempt = [](json values_of_config) {
        config c(std::move(values_of_config), "config.json");
        const auto m = map_model(c);
        if (!m || !c.problems().empty()) return;
        std::uint64_t ordered = 0;
        for (const auto& p : m->parameters) ordered += p.row_order.size();
        REQUIRE(m->parameters.size() < 200000);
        REQUIRE(ordered <= 1 << 24);
    };
    for (const auto& [key, old] : whole.items()) {
        for (const auto& value : values) {
            auto changed_values = whole;
            changed_values[key] = value;
            attempt(std::move(changed_values));
            if (!old.is_object()) continue;
            for (const auto& inner : old.items()) {
                changed_values = whole;
                changed_values[key][inner.key()] = value;
                attempt(std::move(changed_values));
            }
        }
        auto without = whole;
        without.erase(key);
        attempt(std::move(without));
    }
}

TEST_CASE("huge heads do not make huge row orders") {
    const json changes{{"num_attention_heads", 1 << 30}, {"hidden_size", 1 << 30}, {"num_key_value_heads", 1 << 30}};
    for (const auto* golden : {"gpt_neox_f16", "internlm2_bf16"}) {
        auto c = changed(golden, changes);
        const auto m = map_model(c);
        REQUIRE(m);
        CHECK(c.problems().size() == 1);
        CHECK(m->parameters.empty());
    }
}

TEST_CASE("expert counts are bounded") {
    auto c = changed("mixtral_bf16", {{"num_local_experts", 1000000000}});
    const auto m = map_model(c);
    REQUIRE(m);
    CHECK(c.problems().size() == 1);
    CHECK(m->parameters.size() < 100);
}

TEST_CASE("a gate of more than 256 experts is quantized as any Linear") {
    CHECK(find(map_good(changed("qwen3_moe_bf16", {{"num_experts", 256}})), "model.layers.0.mlp.gate.weight").kind == role::other);
    CHECK(find(map_good(changed("qwen3_moe_bf16", {{"num_experts", 257}})), "model.layers.0.mlp.gate.weight").kind == role::linear);
}

TEST_CASE("mistral3 is ministral3 with a note") {
    const auto m = map_good(changed("ministral3_bf16", {{"model_type", "mistral3"}}));
    const auto same = map_good(changed("ministral3_bf16"));
    CHECK(m.model_type == "mistral3");
    CHECK(names(m) == names(same));
    CHECK(m.unused == same.unused);
    CHECK(m.notes.size() == same.notes.size() + 1);
    CHECK(m.unused_prefixes == std::vector<std::string>{"vision_tower.", "multi_modal_projector."});
    CHECK(map_good(changed("ministral3_text_bf16")).unused_prefixes.empty());
}

TEST_CASE("ministral3 takes tie_word_embeddings from the top level first") {
    CHECK(names(map_good(changed("ministral3_bf16"))).back() == "lm_head.weight");
    CHECK(names(map_good(changed("ministral3_bf16", {{"tie_word_embeddings", true}}))).back() == "model.norm.weight");
}

TEST_CASE("phi-msft reads the numbered layers of mixformer-sequential") {
    const auto m = map_good(changed("phi_msft_f16", {{"model_type", "mixformer-sequential"}}));
    CHECK(names(m) == names(map_good(changed("phi_msft_f16"))));
    CHECK(find(m, "transformer.embd.weight").sources.front() == "layers.0.wte.weight");
    CHECK(find(m, "transformer.h.0.mixer.Wqkv.weight").sources.front() == "layers.1.mixer.Wqkv.weight");
    CHECK(find(m, "lm_head.linear.bias").sources.front() == "layers.2.linear.bias");
    CHECK(m.unused == std::vector<std::string>{"layers.1.mixer.rotary_emb.inv_freq"});
}

TEST_CASE("minicpm with experts is mapped in two walks") {
    const auto m = map_good(changed("minicpm_bf16", {{"num_experts", 2}, {"num_hidden_layers", 2}}));
    const auto all = names(m);
    CHECK(std::vector(all.begin(), all.begin() + 9) ==
          std::vector<std::string>{"model.layers.0.self_attn.wqkv_pack.weight", "model.layers.1.self_attn.wqkv_pack.weight", "model.layers.0.mlp.e1_e3.weight",
                                   "model.layers.0.mlp.e2.weight", "model.layers.0.mlp.gate.weight", "model.layers.1.mlp.e1_e3.weight",
                                   "model.layers.1.mlp.e2.weight", "model.layers.1.mlp.gate.weight", "model.embed_tokens.weight"});
    CHECK(find(m, "model.layers.1.mlp.e1_e3.weight").sources.back() == "model.layers.1.mlp.experts.1.w3.weight");
    CHECK(find(m, "model.layers.1.mlp.gate.weight").kind == role::other);
}

TEST_CASE("llama4 needs experts in every layer") {
    auto inner = read_json(data / "configs" / "llama4_bf16.json")["text_config"];
    inner.erase("moe_layers");
    inner["interleave_moe_layer_step"] = 2;
    auto c = changed("llama4_bf16", {{"text_config", inner}});
    REQUIRE(map_model(c));
    CHECK(c.problems().size() == 1);
    inner["moe_layers"] = {0};
    (void)map_good(changed("llama4_bf16", {{"text_config", inner}}));
}

TEST_CASE("eagle is llama without model., and joins two hidden states") {
    const auto m = map_good(changed("llama_gqa_bf16"), "eagle");
    CHECK(find(m, "fc.weight").dims == shape{64, 128});
    CHECK(find(m, "layers.1.self_attn.qkv_proj.weight").sources.front() == "layers.1.self_attn.q_proj.weight");
    const auto all = names(m);
    CHECK(std::count(all.begin(), all.end(), "layers.0.input_layernorm.weight") == 0);
    CHECK(std::count(all.begin(), all.end(), "layers.1.input_layernorm.weight") == 1);
    CHECK(std::count(all.begin(), all.end(), "lm_head.weight") == 0);
}

TEST_CASE("gptj, phi3_v, bert-bge and qwen3_5 have the names of their definitions") {
    const json gptj_values{{"model_type", "gptj"}, {"n_embd", 64}, {"n_head", 4}, {"n_layer", 1}, {"n_inner", nullptr}, {"vocab_size", 96}};
    const auto j = map_good({gptj_values, "config.json"});
    CHECK(find(j, "transformer.h.0.attn.c_attn.weight").sources.back() == "transformer.h.0.attn.v_proj.weight");
    CHECK(find(j, "transformer.h.0.mlp.fc_in.weight").dims == shape{256, 64});
    CHECK(find(j, "lm_head.bias").dims == shape{96});
    CHECK(j.notes.size() == 1);

    const auto v = map_good(changed("phi3_bf16", {{"img_processor", {{"image_dim_out", 1024}}}}), "phi3_v");
    CHECK(find(v, "model.h.1.mixer.qkv_proj.weight").sources.front() == "model.layers.1.self_attn.qkv_proj.weight");
    const auto& patch = find(v, "vision_embed_tokens.img_processor.vision_model.embeddings.patch_embedding.weight");
    CHECK(patch.sources.front() == "model.vision_embed_tokens.img_processor.vision_model.embeddings.patch_embedding.weight");
    CHECK(patch.dims == shape{1024, 3, 14, 14});
    CHECK(find(v, "vision_embed_tokens.img_processor.vision_model.encoder.layers.23.self_attn.q_proj.weight").kind == role::other);
    const auto& projection = find(v, "vision_embed_tokens.img_projection.linear_2.weight");
    CHECK(projection.sources.front() == "model.vision_embed_tokens.img_projection.2.weight");
    CHECK(find(v, "vision_embed_tokens.img_projection.linear_1.weight").kind == role::linear);
    CHECK(find(v, "lm_head.weight").kind == role::final_linear);

    const auto b = map_good(changed("bert_f32"), "bert-bge");
    CHECK(names(b) == names(map_good(changed("bert_f32"))));
    CHECK(b.unused.size() == 3);

    const auto q = map_good(changed("qwen3_bf16", {{"num_hidden_layers", 4}, {"tie_word_embeddings", true}}), "qwen3_5");
    CHECK(find(q, "model.layers.3.self_attn.c_attn.weight").dims == shape{(2 * 4 + 2 * 2) * 32, 64});
    CHECK(find(q, "model.layers.3.self_attn.c_attn.weight").sources.front() == "model.language_model.layers.3.self_attn.q_proj.weight");
    const auto& convolution = find(q, "model.layers.0.linear_attn.conv1d_weight");
    CHECK(convolution.sources.front() == "model.language_model.layers.0.linear_attn.conv1d.weight");
    CHECK(convolution.dims == shape{3 * 16 * 128, 1, 4});
    CHECK(find(q, "model.norm.weight").plus_one_in_f32);
    CHECK_FALSE(find(q, "model.layers.0.linear_attn.norm.weight").plus_one);
    const auto all = names(q);
    CHECK(std::vector(all.begin(), all.begin() + 5) ==
          std::vector<std::string>{"model.layers.0.linear_attn.in_proj_qkv.weight", "model.layers.0.linear_attn.A_log", "model.layers.0.linear_attn.dt_bias",
                                   "model.layers.0.linear_attn.conv1d_weight", "model.layers.0.mlp.gate_up_proj.weight"});
    CHECK(all.back() == "model.norm.weight");
}
