// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which prebuilt model library (.wasm of mlc-ai/binary-mlc-llm-libs) runs a model in which version of WebLLM. Taken from
// - prebuiltAppConfig of npm @mlc-ai/web-llm 0.2.43, 0.2.46, 0.2.51, 0.2.61, 0.2.66, 0.2.77, 0.2.79, 0.2.80 and 0.2.82 to 0.2.86: every
//   library that one of them names has its row, but for those below;
// - the folders v0_2_43, v0_2_48 and v0_2_80 of that repository as of 2026-01, which hold some more. The newer folders are known by the
//   configurations alone;
// - for the sizes, the models' own configurations (mlc_llm's model_preset.py has many), compared with the libraries' metadata where a
//   library was at hand; for Qwen3.5, published model cards.
// A fine-tune of the same sizes and quantization uses the same library, and so some named ones need no row: gemma-2-2b-jpn-it is
// gemma-2-2b-it, the Base and Reasoning models of Ministral 3 are the Instruct one, TinyLlama v0.4 in 4 bits is v1.0. Left out: gemma-4-E2B-it
// (nibble does not know the architecture), Snowflake's batch of 32 (the batch of 4 needs an eighth of the memory), RedPajama's second
// build for 4096 tokens.

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nibble/core/json.hpp"
#include "nibble/core/result.hpp"

namespace nibble::model {

/// The version of WebLLM, as in "0.2.79".
struct webllm_version {
    int major = 0;
    int minor = 2;
    int patch = 86;

    [[nodiscard]] constexpr auto operator<=>(const webllm_version&) const = default;
    [[nodiscard]] std::string text() const { return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch); }
};
inline constexpr webllm_version newest_webllm{0, 2, 86};
[[nodiscard]] inline std::optional<webllm_version> parse_webllm_version(std::string_view text) {
    webllm_version v;
    for (int* part : {&v.major, &v.minor, &v.patch}) {
        const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), *part);
        if (failed != std::errc{} || *part < 0) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        const bool last = part == &v.patch;
        if (last != text.empty() || (!last && text.front() != '.')) return std::nullopt;
        if (!last) text.remove_prefix(1);
    }
    return v;
}

/// The index that a version reads; none reads both.
[[nodiscard]] constexpr std::string_view index_read_by(webllm_version v) { return v < webllm_version{0, 2, 80} ? "ndarray-cache.json" : "tensor-cache.json"; }

/// Versions of WebLLM that run the same libraries. A library of one line does not link, or does not run, in another.
struct library_line {
    std::string_view folder;  ///< below web-llm-models/
    webllm_version first;
    webllm_version last;
};
inline constexpr std::array library_lines{
    library_line{"v0_2_43", {0, 2, 43}, {0, 2, 46}},      library_line{"v0_2_48", {0, 2, 48}, {0, 2, 79}},
    library_line{"v0_2_80", {0, 2, 80}, {0, 2, 82}},      library_line{"v0_2_83/base", {0, 2, 83}, {0, 2, 83}},
    library_line{"v0_2_84/base", {0, 2, 84}, {0, 2, 85}}, library_line{"v0_2_86/base", {0, 2, 86}, {0, 2, 86}},
};
/// The line of a version: for one that is newer than all that are known, the newest. Nothing before 0.2.43.
[[nodiscard]] constexpr std::optional<std::size_t> line_of(webllm_version v) {
    for (std::size_t i = library_lines.size(); i-- > 0;) {
        if (v >= library_lines[i].first) return i;
    }
    return std::nullopt;
}

/// What of a model's configuration is compiled into a library.
struct model_sizes {
    std::uint64_t hidden = 0;
    std::uint64_t layers = 0;
    std::uint64_t heads = 0;
    std::uint64_t kv_heads = 0;
    std::uint64_t intermediate = 0;
    std::uint64_t vocab = 0;

    [[nodiscard]] constexpr bool operator==(const model_sizes&) const = default;
};

namespace libraries {

/// Quantizations for which a library exists, as bits.
enum quantization : std::uint8_t { none = 0, q0f16 = 1, q0f32 = 2, q3f16_1 = 4, q4f16_1 = 8, q4f32_1 = 16 };
inline constexpr std::array<std::pair<std::string_view, quantization>, 5> quantizations{
    {{"q0f16", q0f16}, {"q0f32", q0f32}, {"q3f16_1", q3f16_1}, {"q4f16_1", q4f16_1}, {"q4f32_1", q4f32_1}}};

/// A prebuilt library of WebLLM.
struct row {
    std::string_view name;  ///< of the model, as in the library's file name
    std::string_view model_type;
    model_sizes sizes;
    double rope_theta;
    std::string_view rope_scaling;  ///< its type; empty: none
    int context;                    ///< of the library up to the line v0_2_80; later ones take what the configuration says
    std::array<int, library_lines.size()> have;
    int prefill_chunk = 1024;
    int batch = 0;  ///< embedding models: texts at a time; their libraries have one context in all lines
};

// clang-format off
inline constexpr row rows[] = {
//   name, model type, {hidden, layers, heads, key-value heads, intermediate, vocabulary}, rope theta, rope scaling, context,
//   {v0_2_43, v0_2_48, v0_2_80, v0_2_83, v0_2_84, v0_2_86}
    {"Llama-2-7b-chat-hf", "llama", {4096, 32, 32, 32, 11008, 32000}, 10000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Llama-2-13b-chat-hf", "llama", {5120, 40, 40, 40, 13824, 32000}, 10000, "", 4096,
     {q4f16_1, q4f16_1, q4f16_1, q4f16_1, q4f16_1, q4f16_1}},
    {"Llama-3-8B-Instruct", "llama", {4096, 32, 32, 8, 14336, 128256}, 500000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Llama-3_1-8B-Instruct", "llama", {4096, 32, 32, 8, 14336, 128256}, 500000, "llama3", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Llama-3-70B-Instruct", "llama", {8192, 80, 64, 8, 28672, 128256}, 500000, "", 4096,
     {q3f16_1, q3f16_1, q3f16_1, q3f16_1, q3f16_1, q3f16_1}},
    {"Llama-3_1-70B-Instruct", "llama", {8192, 80, 64, 8, 28672, 128256}, 500000, "llama3", 4096,
     {none, q3f16_1, q3f16_1, q3f16_1, q3f16_1, q3f16_1}},
    {"Llama-3.2-1B-Instruct", "llama", {2048, 16, 32, 8, 8192, 128256}, 500000, "llama3", 4096,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1}},
    {"Llama-3.2-3B-Instruct", "llama", {3072, 28, 24, 8, 8192, 128256}, 500000, "llama3", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"TinyLlama-1.1B-Chat-v1.0", "llama", {2048, 22, 32, 4, 5632, 32000}, 10000, "", 2048,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"TinyLlama-1.1B-Chat-v0.4", "llama", {2048, 22, 32, 4, 5632, 32003}, 10000, "", 2048,
     {q0f16 | q0f32, q0f16 | q0f32, q0f16 | q0f32, none, none, none}},
    {"SmolLM-135M-Instruct", "llama", {576, 30, 9, 3, 1536, 49152}, 10000, "", 2048,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, none, none, none, none}},
    {"SmolLM-360M-Instruct", "llama", {960, 32, 15, 5, 2560, 49152}, 10000, "", 2048,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, none, none, none, none}},
    {"SmolLM-1.7B-Instruct", "llama", {2048, 24, 32, 32, 8192, 49152}, 10000, "", 2048,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, none, none, none, none}},
    {"SmolLM2-135M-Instruct", "llama", {576, 30, 9, 3, 1536, 49152}, 100000, "", 4096,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32, q0f16 | q0f32, q0f16 | q0f32}},
    {"SmolLM2-360M-Instruct", "llama", {960, 32, 15, 5, 2560, 49152}, 100000, "", 4096,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1}},
    {"SmolLM2-1.7B-Instruct", "llama", {2048, 24, 32, 32, 8192, 49152}, 130000, "", 4096,
     {none, q0f16 | q4f16_1 | q4f32_1, q0f16 | q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Mistral-7B-Instruct-v0.3", "mistral", {4096, 32, 32, 8, 14336, 32768}, 1000000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Ministral-3-3B-Instruct-2512-BF16", "ministral3", {3072, 26, 32, 8, 9216, 131072}, 1000000, "yarn", 4096,
     {none, none, q4f16_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen2-0.5B-Instruct", "qwen2", {896, 24, 14, 2, 4864, 151936}, 1000000, "", 4096,
     {q0f16 | q0f32, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1}},
    {"Qwen2-1.5B-Instruct", "qwen2", {1536, 28, 12, 2, 8960, 151936}, 1000000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen2.5-3B-Instruct", "qwen2", {2048, 36, 16, 2, 11008, 151936}, 1000000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen2-7B-Instruct", "qwen2", {3584, 28, 28, 4, 18944, 152064}, 1000000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3-0.6B", "qwen3", {1024, 28, 16, 8, 3072, 151936}, 1000000, "", 4096,
     {none, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1, q0f16 | q0f32 | q4f16_1 | q4f32_1}},
    {"Qwen3-1.7B", "qwen3", {2048, 28, 16, 8, 6144, 151936}, 1000000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3-4B", "qwen3", {2560, 36, 32, 8, 9728, 151936}, 1000000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3-4B-Instruct-2507", "qwen3", {2560, 36, 32, 8, 9728, 151936}, 5000000, "", 4096,
     {none, none, q4f16_1 | q4f32_1, none, none, none}},
    {"Qwen3-8B", "qwen3", {4096, 36, 32, 8, 12288, 151936}, 1000000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3.5-0.8B", "qwen3_5", {1024, 24, 8, 2, 3584, 248320}, 10000000, "", 4096,
     {none, none, none, q0f16 | q4f16_1 | q4f32_1, q0f16 | q4f16_1 | q4f32_1, q0f16 | q4f16_1 | q4f32_1}},
    {"Qwen3.5-2B", "qwen3_5", {2048, 24, 8, 2, 6144, 248320}, 10000000, "", 4096,
     {none, none, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3.5-4B", "qwen3_5", {2560, 32, 16, 4, 9216, 248320}, 10000000, "", 4096,
     {none, none, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Qwen3.5-9B", "qwen3_5", {4096, 32, 16, 4, 12288, 248320}, 10000000, "", 4096,
     {none, none, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"gemma-2b-it", "gemma", {2048, 18, 8, 1, 16384, 256000}, 10000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"gemma-2-2b-it", "gemma2", {2304, 26, 8, 4, 9216, 256000}, 10000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"gemma-2-9b-it", "gemma2", {3584, 42, 16, 8, 14336, 256000}, 10000, "", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"gemma3-1b-it", "gemma3_text", {1152, 26, 4, 1, 6912, 262144}, 1000000, "", 4096,
     {none, none, none, q4f16_1, q4f16_1, q4f16_1}},
    {"gemma-3-1b-it", "gemma3_text", {1152, 26, 4, 1, 6912, 262144}, 1000000, "", 4096,
     {none, none, q4f16_1, none, none, none}},
    {"Phi-3-mini-4k-instruct", "phi3", {3072, 32, 32, 32, 8192, 32064}, 10000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Phi-3.5-mini-instruct", "phi3", {3072, 32, 32, 32, 8192, 32064}, 10000, "longrope", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"Phi-3.5-vision-instruct", "phi3_v", {3072, 32, 32, 32, 8192, 32064}, 10000, "longrope", 4096,
     {none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, none}, 2048},
    {"Phi-3.5-vision-instruct", "phi3_v", {3072, 32, 32, 32, 8192, 32064}, 10000, "longrope", 4096,
     {none, none, none, none, none, q4f16_1 | q4f32_1}, 4096},
    {"Phi-4-mini-instruct", "phi3", {3072, 32, 24, 8, 8192, 200064}, 10000, "longrope", 4096,
     {none, q4f16_1 | q4f32_1, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"phi-1_5", "phi", {2048, 24, 32, 32, 8192, 51200}, 10000, "", 2048,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"phi-2", "phi", {2560, 32, 32, 32, 10240, 51200}, 10000, "", 2048,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"RedPajama-INCITE-Chat-3B-v1", "gpt_neox", {2560, 32, 32, 32, 10240, 50432}, 10000, "", 2048,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"stablelm-2-zephyr-1_6b", "stablelm", {2048, 24, 32, 32, 5632, 100352}, 10000, "", 4096,
     {q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"OLMo-2-0425-1B-Instruct", "olmo2", {2048, 16, 16, 16, 8192, 100352}, 500000, "", 4096,
     {none, none, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"OLMo-2-1124-7B-Instruct", "olmo2", {4096, 32, 32, 32, 11008, 100352}, 500000, "", 4096,
     {none, none, none, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1, q4f16_1 | q4f32_1}},
    {"gpt2", "gpt2", {768, 12, 12, 12, 3072, 50257}, 10000, "", 1024,
     {q0f16, q0f16, q0f16, none, none, none}},
    {"gpt2-medium", "gpt2", {1024, 24, 16, 16, 4096, 50257}, 10000, "", 1024,
     {q0f16, q0f16, q0f16, none, none, none}},
    {"snowflake-arctic-embed-s", "bert", {384, 12, 12, 12, 1536, 30522}, 10000, "", 512,
     {none, q0f32, q0f32, q0f32, q0f32, q0f32}, 512, 4},
    {"snowflake-arctic-embed-m", "bert", {768, 12, 12, 12, 3072, 30522}, 10000, "", 512,
     {none, q0f32, q0f32, q0f32, q0f32, q0f32}, 512, 4},
};
// clang-format on

}  // namespace libraries

/// What a library is chosen by.
struct library_query {
    std::string model_type;
    model_sizes sizes;
    double rope_theta = 10000;
    std::string rope_scaling;
};

/// Reads it from a checkpoint's config.json, or from an mlc-chat-config.json. Errors: missing, malformed (a size that is no number).
[[nodiscard]] inline result<library_query> library_query_of(const json& config) {
    const auto member = [](const json& object, const char* key) -> const json* {
        if (!object.is_object()) return nullptr;
        const auto at = object.find(key);
        return at == object.end() || at->is_null() ? nullptr : &*at;
    };
    library_query q;
    const auto* type = member(config, "model_type");
    if (type == nullptr || !type->is_string()) return fail(errc::missing, "the configuration has no model_type");
    q.model_type = type->get<std::string>();
    // mlc-chat-config.json keeps the model's own fields one level below, and Gemma 3's text model one further.
    const json* model = member(config, "model_config");
    if (model == nullptr) model = &config;
    const json* text = member(*model, "text_config");
    const auto find = [&](std::initializer_list<const char*> keys) -> const json* {
        for (const auto* object : {text, model, &config}) {
            for (const auto* key : keys) {
                if (const auto* v = object == nullptr ? nullptr : member(*object, key)) return v;
            }
        }
        return nullptr;
    };
    const auto size = [&](std::initializer_list<const char*> keys, std::uint64_t otherwise) -> result<std::uint64_t> {
        const auto* v = find(keys);
        if (v == nullptr && otherwise != 0) return otherwise;
        if (v != nullptr && v->is_number_integer() && v->get<std::int64_t>() > 0) return v->get<std::uint64_t>();
        // mlc_llm writes 0, and gpt2's n_inner -1, for what follows from the other sizes.
        if (v != nullptr && v->is_number_integer() && v->get<std::int64_t>() <= 0 && otherwise != 0) return otherwise;
        return fail(v == nullptr ? errc::missing : errc::malformed,
                    "the configuration's " + std::string(*keys.begin()) + " is " + (v == nullptr ? "not there" : v->dump()));
    };
    const auto set = [](std::uint64_t& to, result<std::uint64_t> from) -> result<void> {
        if (!from) return pass(from);
        to = *from;
        return {};
    };
    for (auto done : {set(q.sizes.hidden, size({"hidden_size", "n_embd"}, 0)), set(q.sizes.layers, size({"num_hidden_layers", "n_layer"}, 0)),
                      set(q.sizes.heads, size({"num_attention_heads", "n_head"}, 0)), set(q.sizes.vocab, size({"vocab_size"}, 0))}) {
        if (!done) return pass(done);
    }
    if (auto done = set(q.sizes.kv_heads, size({"num_key_value_heads"}, q.sizes.heads)); !done) return pass(done);
    if (auto done = set(q.sizes.intermediate, size({"intermediate_size", "n_inner"}, 4 * q.sizes.hidden)); !done) return pass(done);
    // transformers 5 writes the base in rope_parameters.
    const auto* parameters = find({"rope_parameters"});
    const auto* theta = find({"rope_theta", "position_embedding_base"});
    if (theta == nullptr && parameters != nullptr) theta = member(*parameters, "rope_theta");
    if (theta != nullptr && theta->is_number() && theta->get<double>() > 0) q.rope_theta = theta->get<double>();
    const auto* scaling = find({"rope_scaling"});
    if (scaling == nullptr) scaling = parameters;
    if (scaling != nullptr) {
        const auto* kind = member(*scaling, "rope_type");
        if (kind == nullptr) kind = member(*scaling, "type");
        if (kind != nullptr && kind->is_string()) q.rope_scaling = kind->get<std::string>();
        if (q.rope_scaling == "default") q.rope_scaling.clear();
        if (q.rope_scaling == "su") q.rope_scaling = "longrope";
    }
    return q;
}

/// A prebuilt library.
struct library_choice {
    std::string file;    ///< "Qwen2-0.5B-Instruct-q4f16_1-ctx4k_cs1k-webgpu.wasm"
    std::string folder;  ///< "v0_2_48"
    int context = 0;     ///< the longest that it was built for; 0: what the configuration says
    int prefill_chunk = 1024;

    [[nodiscard]] std::string url() const { return "https://raw.githubusercontent.com/mlc-ai/binary-mlc-llm-libs/main/web-llm-models/" + folder + "/" + file; }
};

/// Finds the prebuilt library for a model. Errors: missing, with what comes nearest and where it differs.
[[nodiscard]] inline result<library_choice> find_library(const library_query& q, std::string_view quantization, webllm_version version = newest_webllm) {
    const auto line = line_of(version);
    if (!line) return fail(error{errc::missing, "prebuilt libraries are known for WebLLM 0.2.43 and newer, not for " + version.text(), {}, {}, {}, {}});
    // The libraries of these have no vocabulary of their own: their metadata says "vocab_size" instead of a number.
    const bool any_vocabulary = q.model_type == "llama" || q.model_type == "mistral" || q.model_type == "gemma" || q.model_type == "gemma2";
    // The same model by another name.
    constexpr std::pair<std::string_view, std::string_view> aliases[] = {
        {"gemma3", "gemma3_text"}, {"phi-msft", "phi"}, {"mistral3", "ministral3"}, {"qwen3_5_text", "qwen3_5"}};
    std::string_view type = q.model_type;
    for (const auto& [alias, known] : aliases) {
        if (q.model_type == alias) type = known;
    }
    const auto bit = [&] {
        for (const auto& [name, value] : libraries::quantizations) {
            if (name == quantization) return static_cast<int>(value);
        }
        return 0;
    }();
    std::string nearest;
    int nearest_at = 100;
    for (const auto& r : libraries::rows) {
        if (r.model_type != type) continue;
        std::string differs;
        int n = 0;
        const auto compare = [&](const char* what, bool same, const std::string& theirs, const std::string& ours) {
            if (same) return;
            ++n;
            differs += (differs.empty() ? "" : ", ") + std::string(what) + " " + theirs + " instead of " + ours;
        };
        const auto number = [](double x) {
            std::string text = std::to_string(x);
            text.erase(text.find_last_not_of('0') + 1);
            if (text.back() == '.') text.pop_back();
            return text;
        };
        const auto both = [&](const char* what, std::uint64_t theirs, std::uint64_t ours) {
            compare(what, theirs == ours, std::to_string(theirs), std::to_string(ours));
        };
        both("hidden size", r.sizes.hidden, q.sizes.hidden);
        both("layers", r.sizes.layers, q.sizes.layers);
        both("heads", r.sizes.heads, q.sizes.heads);
        both("key-value heads", r.sizes.kv_heads, q.sizes.kv_heads);
        both("intermediate size", r.sizes.intermediate, q.sizes.intermediate);
        if (!any_vocabulary) both("vocabulary", r.sizes.vocab, q.sizes.vocab);
        compare("rope theta", r.rope_theta == q.rope_theta, number(r.rope_theta), number(q.rope_theta));
        const auto kind = [](std::string_view scaling) { return scaling.empty() ? std::string("none") : std::string(scaling); };
        compare("rope scaling", r.rope_scaling == q.rope_scaling, kind(r.rope_scaling), kind(q.rope_scaling));
        if (n == 0 && (r.have[*line] & bit) != 0) {
            library_choice c;
            c.folder = library_lines[*line].folder;
            const bool named_by_context = *line < 3 || r.batch != 0;
            const auto size = [](int tokens) { return tokens % 1024 == 0 ? std::to_string(tokens / 1024) + "k" : std::to_string(tokens); };
            c.context = named_by_context ? r.context : 0;
            c.prefill_chunk = r.prefill_chunk;
            c.file = std::string(r.name) + "-" + std::string(quantization) + (named_by_context ? "-ctx" + size(r.context) : "") + "_cs" +
                     size(r.prefill_chunk) + (r.batch != 0 ? "_batch" + std::to_string(r.batch) : "") + "-webgpu.wasm";
            return c;
        }
        if (n == 0) {
            compare("quantizations", false, "", "");
            differs = "there are libraries of its sizes, but none for " + std::string(quantization) + " in " + std::string(library_lines[*line].folder);
        }
        if (n < nearest_at) {
            nearest_at = n;
            nearest = std::string(r.name) + ": " + differs;
        }
    }
    error e{errc::missing,
            "no prebuilt library is known for this " + q.model_type + " model in " + std::string(quantization) + " with WebLLM " + version.text(),
            {},
            {},
            {},
            {}};
    if (!nearest.empty() && nearest_at <= 4) e.rule += " (the nearest is " + nearest + ")";
    e.remedy = "compile one with mlc_llm compile --device webgpu, and name it with --lib";
    return fail(std::move(e));
}

}  // namespace nibble::model
