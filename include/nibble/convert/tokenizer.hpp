// SPDX-License-Identifier: Apache-2.0
#pragma once
// What mlc-chat-config.json says of a tokenizer: how its tokens become text, as mlc_llm detects it from tokenizer.json
// (cpp/tokenizers/tokenizers.cc), and how many tokens it has, as transformers counts them (len of AutoTokenizer, 5.x).

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/core/result.hpp"

namespace nibble::convert {

/// "tokenizer_info" of mlc-chat-config.json.
struct tokenizer_info {
    std::string token_postproc_method = "byte_fallback";  ///< or "byte_level"
    bool prepend_space_in_encode = false;
    bool strip_space_in_decode = false;
};

[[nodiscard]] inline json to_json(const tokenizer_info& info) {
    return {{"token_postproc_method", info.token_postproc_method},
            {"prepend_space_in_encode", info.prepend_space_in_encode},
            {"strip_space_in_decode", info.strip_space_in_decode}};
}

namespace detail {

[[nodiscard]] inline const json* member(const json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    const auto at = object.find(key);
    return at == object.end() ? nullptr : &*at;
}
[[nodiscard]] inline const std::string* text_member(const json& object, const char* key) {
    const auto* v = member(object, key);
    return v == nullptr ? nullptr : v->get_ptr<const std::string*>();
}
[[nodiscard]] inline bool is_number(const json& object, const char* key, int n) {
    const auto* v = member(object, key);
    return v != nullptr && v->is_number_integer() && *v == n;
}

/// A "decoder" or "normalizer" as the list of its steps: those of a Sequence, or itself. Errors: malformed.
[[nodiscard]] inline result<std::vector<const json*>> steps_of(const json& part, const char* name, const char* list) {
    const auto bad = [&](const std::string& what) { return fail(errc::malformed, std::string("\"") + name + "\" " + what); };
    const auto* type = text_member(part, "type");
    if (type == nullptr) return bad("has no \"type\"");
    if (*type != "Sequence") return std::vector<const json*>{&part};
    const auto* steps = member(part, list);
    if (steps == nullptr || !steps->is_array()) return bad(std::string("is a Sequence without \"") + list + "\"");
    std::vector<const json*> all;
    for (const auto& step : *steps) {
        if (text_member(step, "type") == nullptr) return bad("has a step without \"type\"");
        all.push_back(&step);
    }
    return all;
}

}  // namespace detail

/// The tokenizer_info of a tokenizer.json. Errors: malformed, without the file's name.
[[nodiscard]] inline result<tokenizer_info> detect_tokenizer_info(const json& tokenizer) {
    if (!tokenizer.is_object()) return fail(errc::malformed, "a JSON object is needed");
    tokenizer_info info;
    if (const auto* decoder = detail::member(tokenizer, "decoder"); decoder != nullptr && decoder->is_object()) {
        const auto steps = detail::steps_of(*decoder, "decoder", "decoders");
        if (!steps) return fail(steps.error());
        for (const auto* step : *steps) {
            const auto& type = *detail::text_member(*step, "type");
            if (type == "ByteLevel") info.token_postproc_method = "byte_level";  // the last one wins
            if (type == "ByteFallback") info.token_postproc_method = "byte_fallback";
            const auto* content = detail::text_member(*step, "content");
            if (type == "Strip" && content != nullptr && *content == " " && detail::is_number(*step, "start", 1) && detail::is_number(*step, "stop", 0))
                info.strip_space_in_decode = true;
        }
    }
    if (const auto* normalizer = detail::member(tokenizer, "normalizer"); normalizer != nullptr && normalizer->is_object()) {
        const auto steps = detail::steps_of(*normalizer, "normalizer", "normalizers");
        if (!steps) return fail(steps.error());
        for (const auto* step : *steps) {
            const auto* prepended = detail::text_member(*step, "prepend");
            if (*detail::text_member(*step, "type") == "Prepend" && prepended != nullptr && *prepended == "\xe2\x96\x81") info.prepend_space_in_encode = true;
        }
    }
    return info;
}

/// The content of the first added token that stands twice, which spoils the tokenizer's ids; mlc_llm refuses it.
/// Errors: malformed, without the file's name.
[[nodiscard]] inline result<std::optional<std::string>> duplicate_added_token(const json& tokenizer) {
    std::unordered_set<std::string> seen;
    const auto* added = detail::member(tokenizer, "added_tokens");
    if (added == nullptr) return std::nullopt;
    if (!added->is_array()) return fail(errc::malformed, "\"added_tokens\" must be a list");
    for (const auto& token : *added) {
        const auto* content = detail::text_member(token, "content");
        if (content == nullptr) return fail(errc::malformed, "an added token has no \"content\"");
        if (!seen.insert(*content).second) return *content;
    }
    return std::nullopt;
}

/// The special tokens that a tokenizer class of transformers brings along, unless tokenizer_config.json says otherwise.
struct tokenizer_class {
    std::string_view name;  ///< without "Fast"
    std::array<std::pair<std::string_view, std::string_view>, 8> tokens;
    std::array<std::string_view, 6> model_types{};  ///< that have this class where tokenizer_config.json names none
};
inline constexpr std::array tokenizer_classes{
    tokenizer_class{"Qwen2Tokenizer",
                    {{{"unk_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"pad_token", "<|endoftext|>"}}},
                    {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe"}},
    tokenizer_class{
        "Qwen3_5Tokenizer", {{{"unk_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"pad_token", "<|endoftext|>"}}}, {"qwen3_5", "qwen3_5_text"}},
    tokenizer_class{"GemmaTokenizer",
                    {{{"unk_token", "<unk>"}, {"bos_token", "<bos>"}, {"eos_token", "<eos>"}, {"pad_token", "<pad>"}, {"mask_token", "<mask>"}}},
                    {"gemma", "gemma2", "gemma3", "gemma3_text"}},
    tokenizer_class{"LlamaTokenizer", {{{"unk_token", "<unk>"}, {"bos_token", "<s>"}, {"eos_token", "</s>"}}}},
    tokenizer_class{"GPT2Tokenizer",
                    {{{"unk_token", "<|endoftext|>"}, {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}}},
                    {"gpt2", "phi", "starcoder2", "gptj"}},
    tokenizer_class{"CodeGenTokenizer", {{{"unk_token", "<|endoftext|>"}, {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}}}},
    tokenizer_class{"GPTNeoXTokenizer",
                    {{{"unk_token", "<|endoftext|>"}, {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"pad_token", "<|padding|>"}}},
                    {"gpt_neox", "olmo"}},
    tokenizer_class{"BertTokenizer",
                    {{{"unk_token", "[UNK]"}, {"sep_token", "[SEP]"}, {"pad_token", "[PAD]"}, {"cls_token", "[CLS]"}, {"mask_token", "[MASK]"}}},
                    {"bert"}},
    tokenizer_class{"CohereTokenizer",
                    {{{"unk_token", "<UNK>"},
                      {"bos_token", "<BOS_TOKEN>"},
                      {"eos_token", "<|END_OF_TURN_TOKEN|>"},
                      {"pad_token", "<PAD>"},
                      {"cls_token", "<CLS>"},
                      {"sep_token", "<SEP>"},
                      {"mask_token", "<MASK_TOKEN>"}}},
                    {"cohere"}},
    tokenizer_class{"RobertaTokenizer",
                    {{{"bos_token", "<s>"},
                      {"eos_token", "</s>"},
                      {"sep_token", "</s>"},
                      {"cls_token", "<s>"},
                      {"unk_token", "<unk>"},
                      {"pad_token", "<pad>"},
                      {"mask_token", "<mask>"}}}},
    tokenizer_class{"CodeLlamaTokenizer",
                    {{{"unk_token", "<unk>"},
                      {"bos_token", "<s>"},
                      {"eos_token", "</s>"},
                      {"prefix_token", "\xe2\x96\x81<PRE>"},
                      {"middle_token", "\xe2\x96\x81<MID>"},
                      {"suffix_token", "\xe2\x96\x81<SUF>"},
                      {"eot_token", "\xe2\x96\x81<EOT>"},
                      {"fill_token", "<FILL_ME>"}}}},
};

/// The files of a checkpoint that decide on the number of its tokens; a file that is absent is null.
struct tokenizer_sources {
    const json& tokenizer;           ///< tokenizer.json
    const json& settings;            ///< tokenizer_config.json
    const json& added_tokens;        ///< added_tokens.json
    const json& special_tokens_map;  ///< special_tokens_map.json
    const json& config;              ///< config.json
};

namespace detail {

/// Whether a tokenizer.json splits or joins text by bytes anywhere.
[[nodiscard]] inline bool has_byte_level(const json& tokenizer) {
    for (const auto& [name, list] : {std::pair{"pre_tokenizer", "pretokenizers"}, std::pair{"decoder", "decoders"}}) {
        const auto* part = member(tokenizer, name);
        if (part == nullptr || !part->is_object()) continue;
        const auto steps = steps_of(*part, name, list);
        if (steps && std::any_of(steps->begin(), steps->end(), [](const json* step) { return *text_member(*step, "type") == "ByteLevel"; })) return true;
    }
    return false;
}

/// The class that transformers takes for a checkpoint; nothing: one without tokens of its own.
[[nodiscard]] inline const tokenizer_class* class_of(const tokenizer_sources& s) {
    const auto* type = text_member(s.config, "model_type");
    const std::string_view model_type = type == nullptr ? "" : std::string_view(*type);
    const auto is_one_of = [](const auto& list, std::string_view name) { return !name.empty() && std::find(list.begin(), list.end(), name) != list.end(); };
    // Types that always get the class without tokens of its own, and those whose checkpoints are known to state wrong ones.
    constexpr std::array<std::string_view, 11> plain{"gpt_bigcode", "internlm2", "llava", "ministral3", "mistral", "mixtral",
                                                     "nemotron",    "olmo2",     "phi3",  "phi3_v",     "stablelm"};
    constexpr std::array<std::string_view, 2> overruled{"qwen2", "qwen3_5"};
    if (is_one_of(plain, model_type)) return nullptr;
    const auto* stated = text_member(s.settings, "tokenizer_class");
    if (stated == nullptr) stated = text_member(s.config, "tokenizer_class");
    if (stated == nullptr || is_one_of(overruled, model_type)) {
        for (const auto& c : tokenizer_classes) {
            if (is_one_of(c.model_types, model_type)) return &c;
        }
        return nullptr;
    }
    std::string_view name = *stated;
    if (name.ends_with("Fast")) name.remove_suffix(4);
    for (const auto& c : tokenizer_classes) {
        if (c.name == name) return name == "LlamaTokenizer" && has_byte_level(s.tokenizer) ? nullptr : &c;
    }
    return nullptr;
}

/// A token in one of the files: a text, or an object with "content".
[[nodiscard]] inline const std::string* token_text(const json& v) { return v.is_string() ? v.get_ptr<const std::string*>() : text_member(v, "content"); }

}  // namespace detail

/// How many tokens a tokenizer has.
struct token_count {
    std::uint64_t by_transformers = 0;  ///< what mlc_llm writes as "active_vocab_size"
    std::uint64_t in_file = 0;          ///< those that tokenizer.json knows, which is all that WebLLM and mlc_llm's runtime load
};

/// The vocabulary and the added tokens of tokenizer.json; and with them the special tokens that tokenizer_config.json names or the
/// tokenizer's class brings along, to which transformers gives ids of their own (Qwen2's "<|endoftext|>" is the usual one, where a
/// tokenizer.json lacks it). Nothing, if the vocabulary has a form that is not known.
[[nodiscard]] inline std::optional<token_count> count_tokens(const tokenizer_sources& s) {
    const auto* model = detail::member(s.tokenizer, "model");
    const auto* vocabulary = model == nullptr ? nullptr : detail::member(*model, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_structured()) return std::nullopt;
    std::unordered_set<std::string_view> in_file;
    if (vocabulary->is_object()) {
        for (const auto& [token, id] : vocabulary->get_ref<const json::object_t&>()) in_file.insert(token);
    } else {
        for (const auto& piece : *vocabulary) {  // Unigram: [token, score]
            if (!piece.is_array() || piece.empty() || !piece[0].is_string()) return std::nullopt;
            in_file.insert(piece[0].get_ref<const std::string&>());
        }
    }
    auto names = in_file;
    const auto add = [&](const json& v) {
        if (const auto* text = detail::token_text(v); text != nullptr && !text->empty()) names.insert(*text);
    };
    const auto add_all = [&](const json* list) {
        if (list == nullptr || !list->is_structured()) return;
        for (const auto& v : *list) add(v);
    };
    if (const auto* listed = detail::member(s.tokenizer, "added_tokens"); listed != nullptr && listed->is_structured()) {
        for (const auto& v : *listed) {
            if (const auto* text = detail::token_text(v)) in_file.insert(*text);
        }
    }
    // A class of its own builds the tokenizer anew, with the added tokens of tokenizer_config.json where it lists any.
    const auto* own = detail::class_of(s);
    const auto* decoder = detail::member(s.settings, "added_tokens_decoder");
    if (own == nullptr || decoder == nullptr) names = in_file;
    add_all(decoder);
    const json nothing;
    const json& map = decoder == nullptr ? s.special_tokens_map : nothing;
    if (decoder == nullptr && s.added_tokens.is_object()) {
        for (const auto& [token, id] : s.added_tokens.get_ref<const json::object_t&>()) names.insert(token);
    }
    for (const auto* file : {&s.settings, &map}) {
        if (!file->is_object()) continue;
        for (const auto& [key, value] : file->items()) {
            const bool replaced = file == &s.settings && map.is_object() && map.contains(key);
            if (key.ends_with("_token") && !replaced) add(value);
        }
        for (const auto* key : {"additional_special_tokens", "extra_special_tokens"}) add_all(detail::member(*file, key));
    }
    if (own != nullptr) {
        for (const auto& [key, token] : own->tokens) {
            const std::string name(key);
            if (!name.empty() && !(s.settings.is_object() && s.settings.contains(name)) && !(map.is_object() && map.contains(name))) names.insert(token);
        }
    }
    return token_count{names.size(), in_file.size()};
}

}  // namespace nibble::convert
