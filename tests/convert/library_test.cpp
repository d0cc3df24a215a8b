// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/library.hpp"

#include "support/errors.hpp"
#include "support/tiny_library.hpp"

// A namespace of its own: the tests of this room are compiled as one file.
namespace library_tests {

using namespace nibble;
using namespace nibble::convert;

namespace {

bytes_view view(const std::string& text) { return std::as_bytes(std::span(text)); }

const std::string metadata =
    R"({"model_type": "llama", "quantization": "q4f16_1", "context_window_size": 4096, "sliding_window_size": -1, "attention_sink_size": -1,
        "prefill_chunk_size": 1024, "max_batch_size": 80, "params": [
        {"name": "embed.q_weight", "shape": ["vocab_size", 8], "dtype": "uint32"}, {"name": "embed.q_scale", "shape": ["vocab_size", 2], "dtype": "float16"},
        {"name": "norm.weight", "shape": [64], "dtype": "float16"}], "memory_usage": {"a \"quoted\" } name": 1}})";

shard::manifest folder(std::uint64_t vocab = 100, std::uint64_t scales = 100, std::uint64_t norm = 64, encoding type = encoding::f16) {
    shard::shard_file s;
    s.path = "params_shard_0.bin";
    s.records = {{"embed.q_weight", shape({vocab, 8}), encoding::u32, 0, 0, false},
                 {"embed.q_scale", shape({scales, 2}), encoding::f16, 0, 0, false},
                 {"norm.weight", shape({norm}), type, 0, 0, false}};
    shard::manifest m;
    m.shards = {s};
    return m;
}

const json config{{"model_type", "llama"},       {"quantization", "q4f16_1"}, {"vocab_size", 100},
                  {"context_window_size", 4096}, {"sliding_window_size", -1}, {"prefill_chunk_size", 1024}};

library_metadata library(const std::string& calls = "TVMFFIWasmSafeCall", const std::string& path = "x.wasm") {
    auto m = parse_library(view(test::library_module(metadata, calls)), path);
    REQUIRE(m);
    return *m;
}

json with(const char* key, const json& value) {
    auto c = config;
    c[key] = value;
    return c;
}

}  // namespace

TEST_CASE("library: metadata is found among other data, whole and strict") {
    const auto m = library();
    CHECK(m.model_type == "llama");
    CHECK(m.quantization == "q4f16_1");
    CHECK(m.context_window_size == 4096);
    CHECK(m.prefill_chunk_size == 1024);
    CHECK(m.interface == library_metadata::calls::ffi);
    CHECK(library("TVMWasmPackedCFunc").interface == library_metadata::calls::packed);
    CHECK(library("other").interface == library_metadata::calls::unknown);
    REQUIRE(m.parameters.size() == 3);
    CHECK(m.parameters[0].shape_text() == "[vocab_size, 8]");
    CHECK(m.parameters[2].dtype == "float16");
}

TEST_CASE("library: what is no library says so") {
    const auto message = [](const std::string& bytes) {
        const auto m = parse_library(view(bytes), "x.wasm");
        return m ? std::string("read") : m.error().message();
    };
    CHECK(test::has(message(""), "not a WebAssembly module"));
    CHECK(test::has(message("<html>not found</html>"), "not a WebAssembly module"));
    CHECK(test::has(message(std::string("\0asm\2\0\0\0", 8)), "not a WebAssembly module"));
    CHECK(test::has(message(std::string("\0asm\1\0\0\0", 8)), "no metadata"));
    CHECK(test::has(message(test::wasm_module({"a"}, {"nothing"})), "no metadata"));
    CHECK(test::has(message(test::library_module(R"({"model_type": "x"})")), "no metadata"));
    CHECK(test::has(message(test::library_module(R"({"model_type": "x", "params": 1})")), "\"params\" is not an array"));
    CHECK(test::has(message(test::library_module(R"({"model_type": "x", "params": [{"name": "a", "shape": [-1], "dtype": "f"}]})")), "holds -1"));
    CHECK(test::has(message(test::library_module(R"({"model_type": "x", "params": [{"name": "a", "shape": [1]}]})")), "needs a name"));
    const auto twice = R"({"name": "a", "shape": [1], "dtype": "f"})";
    CHECK(test::has(message(test::library_module(std::string(R"({"model_type": "x", "params": [)") + twice + "," + twice + "]}")), "stands twice"));
    const auto whole = test::library_module(metadata);
    for (std::size_t n = 0; n < whole.size(); ++n) {
        INFO(n);
        const auto m = parse_library(view(whole.substr(0, n)), "x.wasm");
        REQUIRE_FALSE(m);
    }
    // Numbers and counts that lead beyond the module.
    CHECK(test::has(message(std::string("\0asm\1\0\0\0\x0b\xff\xff\xff\xff\x7f", 14)), "cut short"));
    CHECK(test::has(message(std::string("\0asm\1\0\0\0", 8) + test::wasm_section(11, "\xff\xff\xff\xff\x0f")), "data is malformed"));
    CHECK(test::has(message(std::string("\0asm\1\0\0\0", 8) + test::wasm_section(2, "\x05\x01x")), "imports are malformed"));
}

TEST_CASE("library: a folder that fits") {
    const auto r = compare_with_library(library(), folder(), config, "out", model::webllm_version{0, 2, 86});
    CHECK(test::all(r.problems) == "");
    CHECK(test::all(r.warnings) == "");
    CHECK(r.n_matching == 3);
}

TEST_CASE("library: names, shapes, types, quantization and windows that do not") {
    const auto problems = [&](const shard::manifest& m, const json& c) { return test::all(compare_with_library(library(), m, c, "out").problems); };
    CHECK(problems(folder(120, 120), with("vocab_size", 120)).empty());
    CHECK(test::has(problems(folder(100, 99), config), "its vocab_size is 99, that of 'embed.q_weight' is 100"));
    CHECK(test::has(problems(folder(120, 120), config), "vocab_size 100, the embedding has 120 rows"));
    CHECK(test::has(problems(folder(100, 100, 65), config), "wants the shape [64], the folder has [65]"));
    CHECK(test::has(problems(folder(100, 100, 64, encoding::f32), config), "wants float16, the folder has float32"));
    CHECK(test::has(problems(folder(), with("quantization", "q4f32_1")), "for q4f16_1, mlc-chat-config.json says q4f32_1"));
    CHECK(test::has(problems(folder(), with("sliding_window_size", 512)), "without a sliding window"));
    auto less = folder();
    less.shards[0].records.pop_back();
    CHECK(test::has(problems(less, config), "'norm.weight': the library wants it"));
    auto more = folder();
    more.shards[0].records.push_back({"lm_head.weight", shape({1}), encoding::f16, 0, 0, false});
    const auto warnings = [&](const shard::manifest& m, const json& c) { return test::all(compare_with_library(library(), m, c, "out").warnings); };
    CHECK(test::has(warnings(more, config), "'lm_head.weight' first"));
    CHECK(test::has(warnings(folder(), with("context_window_size", 8192)), "compiled for a context of 4096"));
    CHECK(test::has(warnings(folder(), with("prefill_chunk_size", 2048)), "prefill chunk is 1024"));
    CHECK(test::has(warnings(folder(), with("model_type", "mistral")), "is for a llama"));
    CHECK(compare_with_library(library(), folder(), nullptr, "out").problems.empty());
}

TEST_CASE("library: one of another line of WebLLM") {
    const auto problems = [&](const std::string& calls, const std::string& path, int patch) {
        return test::all(compare_with_library(library(calls, path), folder(), config, "out", model::webllm_version{0, 2, patch}).problems);
    };
    CHECK(problems("TVMWasmPackedCFunc", "x.wasm", 79).empty());
    CHECK(test::has(problems("TVMWasmPackedCFunc", "x.wasm", 80), "for WebLLM up to 0.2.79, and does not link in 0.2.80"));
    CHECK(test::has(problems("TVMFFIWasmSafeCall", "x.wasm", 79), "for WebLLM from 0.2.80 on"));
    CHECK(problems("TVMFFIWasmSafeCall", "libs/v0_2_83/base/x.wasm", 83).empty());
    CHECK(test::has(problems("TVMFFIWasmSafeCall", "libs/v0_2_83/base/x.wasm", 86), "of the line v0_2_83"));
}

}  // namespace library_tests
