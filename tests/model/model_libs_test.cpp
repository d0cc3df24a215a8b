// SPDX-License-Identifier: Apache-2.0
#include "nibble/model/model_libs.hpp"

#include <set>
#include <span>

#include "support/errors.hpp"

using namespace nibble;
using namespace nibble::model;

namespace {

json parsed(std::string_view text) {
    auto value = parse_json(std::as_bytes(std::span(text)));
    REQUIRE(value);
    return *value;
}

const char* const qwen = R"({"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                            "intermediate_size": 4864, "vocab_size": 151936, "rope_theta": 1000000.0})";

}  // namespace

TEST_CASE("model_libs: the library of each line of WebLLM") {
    const auto q = library_query_of(parsed(qwen));
    REQUIRE(q);
    const auto name = [&](const char* quantization, const char* version) {
        const auto c = find_library(*q, quantization, *parse_webllm_version(version));
        return c ? c->folder + "/" + c->file : c.error().message();
    };
    CHECK(name("q4f16_1", "0.2.79") == "v0_2_48/Qwen2-0.5B-Instruct-q4f16_1-ctx4k_cs1k-webgpu.wasm");
    CHECK(name("q4f32_1", "0.2.51") == "v0_2_48/Qwen2-0.5B-Instruct-q4f32_1-ctx4k_cs1k-webgpu.wasm");
    CHECK(name("q4f16_1", "0.2.80") == "v0_2_80/Qwen2-0.5B-Instruct-q4f16_1-ctx4k_cs1k-webgpu.wasm");
    CHECK(name("q4f16_1", "0.2.83") == "v0_2_83/base/Qwen2-0.5B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    CHECK(name("q4f16_1", "0.2.85") == "v0_2_84/base/Qwen2-0.5B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    CHECK(name("q4f16_1", "0.2.86") == "v0_2_86/base/Qwen2-0.5B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    CHECK(name("q4f16_1", "0.3.0") == "v0_2_86/base/Qwen2-0.5B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    CHECK(test::has(name("q4f16_1", "0.2.40"), "0.2.43 and newer"));
    CHECK(test::has(name("q4f16_0", "0.2.86"), "none for q4f16_0"));
    CHECK(find_library(*q, "q4f16_1")->url() ==
          "https://raw.githubusercontent.com/mlc-ai/binary-mlc-llm-libs/main/web-llm-models/v0_2_86/base/Qwen2-0.5B-Instruct-q4f16_1_cs1k-webgpu.wasm");
}

TEST_CASE("model_libs: what is compiled into a library must be the same, and a difference is named") {
    const auto of = [](const char* key, const json& value) {
        auto config = parsed(qwen);
        config[key] = value;
        const auto q = library_query_of(config);
        const auto c = q ? find_library(*q, "q4f16_1") : result<library_choice>(fail(q.error()));
        return c ? std::string() : c.error().message();
    };
    CHECK(of("tie_word_embeddings", true).empty());
    CHECK(test::has(of("rope_theta", 10000), "Qwen2-0.5B-Instruct: rope theta 1000000 instead of 10000"));
    CHECK(test::has(of("num_hidden_layers", 23), "layers 24 instead of 23"));
    CHECK(test::has(of("vocab_size", 152000), "vocabulary 151936 instead of 152000"));
    CHECK(test::has(of("rope_scaling", json{{"type", "yarn"}}), "rope scaling none instead of yarn"));
    CHECK(test::has(of("model_type", "mamba"), "no prebuilt library is known for this mamba model"));
    CHECK(test::has(of("hidden_size", "896"), "hidden_size is \"896\""));
    CHECK(test::has(of("hidden_size", nullptr), "hidden_size is not there"));
}

TEST_CASE("model_libs: llama 3 and 3.1 differ by rope scaling alone, and a vocabulary of a llama may grow") {
    auto config = parsed(R"({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
                             "intermediate_size": 14336, "vocab_size": 128256, "rope_theta": 500000.0})");
    const auto file = [&] { return find_library(*library_query_of(config), "q4f16_1")->file; };
    CHECK(file() == "Llama-3-8B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    config["vocab_size"] = 128300;
    CHECK(file() == "Llama-3-8B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    config["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}};
    CHECK(file() == "Llama-3_1-8B-Instruct-q4f16_1_cs1k-webgpu.wasm");
    config.erase("rope_theta");
    config.erase("rope_scaling");
    config["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
    CHECK(file() == "Llama-3-8B-Instruct-q4f16_1_cs1k-webgpu.wasm");
}

TEST_CASE("model_libs: an mlc-chat-config.json says the same as a config.json") {
    const auto q = library_query_of(json{{"model_type", "qwen2"}, {"vocab_size", 151936}, {"model_config", parsed(qwen)}});
    REQUIRE(q);
    CHECK(find_library(*q, "q4f16_1"));
}

TEST_CASE("model_libs: no two rows have a library for the same model, and each has one somewhere") {
    std::set<std::string> keys;
    for (const auto& r : libraries::rows) {
        const auto& s = r.sizes;
        std::string key = std::string(r.model_type) + std::string(r.rope_scaling) + std::to_string(r.rope_theta);
        for (const auto n : {s.hidden, s.layers, s.heads, s.kv_heads, s.intermediate}) {
            CHECK(n != 0);
            key += " " + std::to_string(n);
        }
        CHECK(s.vocab != 0);
        INFO(r.name);
        int any = 0;
        for (std::size_t line = 0; line < r.have.size(); ++line) {
            any |= r.have[line];
            for (const auto& [name, bit] : libraries::quantizations) {
                if ((r.have[line] & bit) != 0) CHECK(keys.insert(key + " " + std::string(name) + " " + std::to_string(line)).second);
            }
        }
        CHECK(any != 0);
        CHECK((r.context == 512 || r.context == 1024 || r.context == 2048 || r.context == 4096));
        CHECK(r.prefill_chunk <= r.context);
        CHECK((r.batch != 0) == (r.model_type == "bert"));
    }
}

TEST_CASE("model_libs: names as in prebuiltAppConfig, of each kind") {
    const auto name = [](const char* config, const char* quantization, const char* version) {
        const auto q = library_query_of(parsed(config));
        REQUIRE(q);
        const auto c = find_library(*q, quantization, *parse_webllm_version(version));
        return c ? c->folder + "/" + c->file : c.error().message();
    };
    const char* const snowflake = R"({"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536,
                                      "vocab_size": 30522})";
    CHECK(name(snowflake, "q0f32", "0.2.79") == "v0_2_48/snowflake-arctic-embed-s-q0f32-ctx512_cs512_batch4-webgpu.wasm");
    CHECK(name(snowflake, "q0f32", "0.2.86") == "v0_2_86/base/snowflake-arctic-embed-s-q0f32-ctx512_cs512_batch4-webgpu.wasm");
    const auto embedding = find_library(*library_query_of(parsed(snowflake)), "q0f32");
    CHECK(embedding->context == 512);
    CHECK(embedding->prefill_chunk == 512);

    // as transformers 5 writes it, with a vision tower beside it
    const char* const ministral = R"({"model_type": "mistral3", "text_config": {"model_type": "ministral3", "hidden_size": 3072, "num_hidden_layers": 26,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 9216, "vocab_size": 131072,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "yarn", "factor": 16.0}}, "vision_config": {"hidden_size": 1024}})";
    CHECK(name(ministral, "q4f16_1", "0.2.80") == "v0_2_80/Ministral-3-3B-Instruct-2512-BF16-q4f16_1-ctx4k_cs1k-webgpu.wasm");
    CHECK(name(ministral, "q4f32_1", "0.2.86") == "v0_2_86/base/Ministral-3-3B-Instruct-2512-BF16-q4f32_1_cs1k-webgpu.wasm");
    CHECK(test::has(name(ministral, "q4f32_1", "0.2.80"), "none for q4f32_1"));

    const char* const qwen35 = R"({"model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_text", "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 3584, "vocab_size": 248320,
        "rope_parameters": {"rope_theta": 10000000, "rope_type": "default", "partial_rotary_factor": 0.25}}})";
    CHECK(name(qwen35, "q0f16", "0.2.83") == "v0_2_83/base/Qwen3.5-0.8B-q0f16_cs1k-webgpu.wasm");
    CHECK(test::has(name(qwen35, "q4f16_1", "0.2.82"), "none for q4f16_1 in v0_2_80"));

    const char* const vision = R"({"model_type": "phi3_v", "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 8192, "vocab_size": 32064, "rope_theta": 10000.0, "rope_scaling": {"type": "su"}})";
    CHECK(name(vision, "q4f16_1", "0.2.79") == "v0_2_48/Phi-3.5-vision-instruct-q4f16_1-ctx4k_cs2k-webgpu.wasm");
    CHECK(name(vision, "q4f16_1", "0.2.85") == "v0_2_84/base/Phi-3.5-vision-instruct-q4f16_1_cs2k-webgpu.wasm");
    CHECK(name(vision, "q4f16_1", "0.2.86") == "v0_2_86/base/Phi-3.5-vision-instruct-q4f16_1_cs4k-webgpu.wasm");
    CHECK(find_library(*library_query_of(parsed(vision)), "q4f16_1")->prefill_chunk == 4096);

    const char* const gpt2 = R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": null, "vocab_size": 50257})";
    CHECK(name(gpt2, "q0f16", "0.2.51") == "v0_2_48/gpt2-q0f16-ctx1k_cs1k-webgpu.wasm");
    const char* const tiny = R"({"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "intermediate_size": 5632, "vocab_size": 32000})";
    CHECK(name(tiny, "q0f16", "0.2.79") == "v0_2_48/TinyLlama-1.1B-Chat-v0.4-q0f16-ctx2k_cs1k-webgpu.wasm");
    CHECK(name(tiny, "q4f16_1", "0.2.79") == "v0_2_48/TinyLlama-1.1B-Chat-v1.0-q4f16_1-ctx2k_cs1k-webgpu.wasm");
    const char* const gemma3 =
        R"({"model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
        "intermediate_size": 6912, "vocab_size": 262144, "rope_theta": 1000000.0})";
    CHECK(name(gemma3, "q4f16_1", "0.2.82") == "v0_2_80/gemma-3-1b-it-q4f16_1-ctx4k_cs1k-webgpu.wasm");
    CHECK(name(gemma3, "q4f16_1", "0.2.83") == "v0_2_83/base/gemma3-1b-it-q4f16_1_cs1k-webgpu.wasm");
}

TEST_CASE("model_libs: versions") {
    CHECK(parse_webllm_version("0.2.79") == webllm_version{0, 2, 79});
    CHECK(*parse_webllm_version("0.2.9") < *parse_webllm_version("0.2.10"));
    for (const char* bad : {"", "0.2", "0.2.", "0.2.x", "0.2.3.4", "v0.2.3", "0.2.-3", "0.2.99999999999"}) CHECK_FALSE(parse_webllm_version(bad));
    CHECK(index_read_by({0, 2, 79}) == "ndarray-cache.json");
    CHECK(index_read_by({0, 2, 80}) == "tensor-cache.json");
}
