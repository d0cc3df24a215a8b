// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tokenizer in a GGUF's metadata as the files of a Hugging Face folder: tokenizer.json (the format of the library tokenizers),
// tokenizer_config.json with the chat template, and generation_config.json. Byte-level BPE by the names that llama.cpp gives to its
// pre-tokenizers (llama-vocab.cpp), and SentencePiece's BPE, whose merges follow from its scores as transformers' converter has them.

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "nibble/source/gguf_header.hpp"

namespace nibble::convert {

/// The files of a tokenizer, made of a GGUF's metadata.
struct gguf_tokenizer {
    json tokenizer;
    json config;
    json generation;
};

namespace detail {

/// A pre-tokenizer of byte-level BPE.
struct split_rule {
    std::string_view name;
    std::string_view pattern;    ///< empty: ByteLevel's own
    bool single_digits = false;  ///< digits are split off one by one before
    bool composed = false;       ///< NFC comes first
    bool whole_words = false;    ///< a word that is in the vocabulary is not merged from its parts
};
inline constexpr std::string_view llama3_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
inline constexpr std::string_view qwen2_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
inline constexpr std::array split_rules{
    split_rule{"smollm", {}, true},
    split_rule{"starcoder", {}, true},
    split_rule{"refact", {}, true},
    split_rule{"gpt-2", {}},
    split_rule{"llama-bpe", llama3_pattern, false, false, true},
    split_rule{"qwen2", qwen2_pattern, false, true},
};

/// The lengths in bytes of the characters of a UTF-8 text.
inline std::vector<std::size_t> character_ends(const std::string& text) {
    std::vector<std::size_t> ends;
    for (std::size_t i = 1; i <= text.size(); ++i)
        if (i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ends.push_back(i);
    return ends;
}

/// Merges of a SentencePiece BPE: each piece that two others make, the best score first.
inline json merges_of(const std::vector<std::string>& tokens, const std::vector<double>& scores) {
    std::unordered_map<std::string_view, std::size_t> ids;
    for (std::size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], i);
    struct merge {
        std::size_t left, right;
        double score;
        std::size_t left_length, right_length;
    };
    std::vector<merge> all;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto ends = character_ends(tokens[i]);
        const auto first = all.size();
        for (std::size_t c = 0; c + 1 < ends.size() && ends.size() <= 256; ++c) {
            const std::string_view piece = tokens[i];
            const auto left = ids.find(piece.substr(0, ends[c]));
            const auto right = ids.find(piece.substr(ends[c]));
            if (left != ids.end() && right != ids.end()) all.push_back({left->second, right->second, scores[i], c + 1, ends.size() - c - 1});
        }
        std::sort(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(),
                  [](const merge& a, const merge& b) { return std::tie(a.left, a.right) < std::tie(b.left, b.right); });
    }
    std::stable_sort(all.begin(), all.end(), [](const merge& a, const merge& b) {
        return std::tie(a.score, a.left_length, a.right_length) > std::tie(b.score, b.left_length, b.right_length);
    });
    json list = json::array();
    for (const auto& m : all) list.push_back({tokens[m.left], tokens[m.right]});
    return list;
}

inline json byte_level(bool by_regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", by_regex}}; }

/// Ids and contents of special tokens that the metadata names: "bos" and so on.
inline std::optional<std::size_t> named_token(const source::gguf_header& h, const std::string& name, std::size_t n_tokens) {
    const auto* v = h.find("tokenizer.ggml." + name + "_token_id");
    if (v == nullptr || !v->value.is_number_unsigned() || v->value.get<std::uint64_t>() >= n_tokens) return {};
    return v->value.get<std::size_t>();
}
inline std::optional<bool> said(const source::gguf_header& h, const std::string& key) {
    const auto* v = h.find("tokenizer.ggml." + key);
    if (v == nullptr || !v->value.is_boolean()) return {};
    return v->value.get<bool>();
}

}  // namespace detail

/// Errors: missing (there is no tokenizer in it), unsupported (of a kind that is not known here), malformed.
[[nodiscard]] inline result<gguf_tokenizer> read_gguf_tokenizer(const source::gguf_header& h) {
    const auto bad = [&](errc code, std::string rule) {
        return fail(error{code, std::move(rule), h.from->path(), {}, {}, "take tokenizer.json and tokenizer_config.json from the model's original repository"});
    };
    const auto kind = h.text("tokenizer.ggml.model");
    if (kind.empty() || h.find("tokenizer.ggml.tokens") == nullptr) return bad(errc::missing, "there is no tokenizer in this file");
    const bool sentencepiece = kind == "llama";
    if (!sentencepiece && kind != "gpt2")
        return bad(errc::unsupported, "its tokenizer is of the kind \"" + kind.substr(0, 40) + "\", known are gpt2 and llama");
    auto list = h.array("tokenizer.ggml.tokens");
    if (!list) return pass(list);
    std::vector<std::string> tokens;
    for (auto& t : *list) {
        if (!t.is_string()) return bad(errc::malformed, "tokenizer.ggml.tokens must be an array of strings");
        tokens.push_back(std::move(t.get_ref<std::string&>()));
    }
    std::vector<int> types(tokens.size(), 1);
    if (h.find("tokenizer.ggml.token_type") != nullptr) {
        auto values = h.array("tokenizer.ggml.token_type");
        if (!values) return pass(values);
        if (values->size() != tokens.size()) return bad(errc::mismatch, "there are not as many token types as tokens");
        for (std::size_t i = 0; i < types.size(); ++i) types[i] = (*values)[i].is_number_integer() ? (*values)[i].get<int>() : 1;
    }

    json vocabulary = json::object();
    auto& members = vocabulary.get_ref<json::object_t&>();
    json added = json::array();
    std::unordered_map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (!seen.emplace(tokens[i], i).second) return bad(errc::malformed, "the token \"" + tokens[i].substr(0, 60) + "\" is there twice");
        members.push_back({tokens[i], i});
        constexpr int unknown = 2;
        constexpr int control = 3;
        constexpr int user_defined = 4;
        if (types[i] != unknown && types[i] != control && types[i] != user_defined) continue;
        added.push_back({{"id", i},
                         {"content", tokens[i]},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", types[i] != user_defined}});
    }
    const auto bos = detail::named_token(h, "bos", tokens.size());
    const auto eos = detail::named_token(h, "eos", tokens.size());
    const auto unknown = detail::named_token(h, "unknown", tokens.size());
    const auto padding = detail::named_token(h, "padding", tokens.size());

    json normalizer;
    json splitter;
    json decoder;
    json merges;
    bool whole_words = false;
    if (sentencepiece) {
        auto scores = h.array("tokenizer.ggml.scores");
        if (!scores) return pass(scores);
        std::vector<double> values;
        for (const auto& s : *scores) values.push_back(s.is_number() ? s.get<double>() : 0);
        if (values.size() != tokens.size()) return bad(errc::mismatch, "there are not as many scores as tokens");
        merges = detail::merges_of(tokens, values);
        const bool prefix = detail::said(h, "add_space_prefix").value_or(true);
        json steps = json::array();
        if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
        steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
        normalizer = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
        json back = json::array(
            {json{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}}, json{{"type", "ByteFallback"}}, json{{"type", "Fuse"}}});
        if (prefix) back.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
        decoder = {{"type", "Sequence"}, {"decoders", std::move(back)}};
    } else {
        const auto name = h.text("tokenizer.ggml.pre");
        const auto rule = std::find_if(detail::split_rules.begin(), detail::split_rules.end(), [&](const auto& r) { return r.name == name; });
        if (rule == detail::split_rules.end()) return bad(errc::unsupported, "its pre-tokenizer \"" + name.substr(0, 40) + "\" is not known here");
        auto read = h.array("tokenizer.ggml.merges");
        if (!read) return pass(read);
        merges = std::move(*read);
        whole_words = rule->whole_words;
        if (rule->composed) normalizer = {{"type", "NFC"}};
        json steps = json::array();
        if (rule->single_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
        if (!rule->pattern.empty())
            steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", std::string(rule->pattern)}}}, {"behavior", "Isolated"}, {"invert", false}});
        steps.push_back(detail::byte_level(rule->pattern.empty()));
        splitter = {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
        decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    }
    const bool add_bos = bos && detail::said(h, "add_bos_token").value_or(sentencepiece || h.text("tokenizer.ggml.pre") == "llama-bpe");
    json after;
    if (add_bos) {
        const json special{{"SpecialToken", {{"id", tokens[*bos]}, {"type_id", 0}}}};
        const auto sequence = [](const char* id, int type) { return json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
        after = {{"type", "TemplateProcessing"},
                 {"single", json::array({special, sequence("A", 0)})},
                 {"pair", json::array({special, sequence("A", 0), sequence("B", 1)})},
                 {"special_tokens", {{tokens[*bos], {{"id", tokens[*bos]}, {"ids", json::array({*bos})}, {"tokens", json::array({tokens[*bos]})}}}}}};
    }
    gguf_tokenizer out;
    out.tokenizer = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", std::move(added)},
                     {"normalizer", std::move(normalizer)},
                     {"pre_tokenizer", std::move(splitter)},
                     {"post_processor", std::move(after)},
                     {"decoder", std::move(decoder)},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", sentencepiece && unknown ? json(tokens[*unknown]) : json(nullptr)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", sentencepiece},
                       {"byte_fallback", sentencepiece},
                       {"ignore_merges", whole_words},
                       {"vocab", std::move(vocabulary)},
                       {"merges", std::move(merges)}}}};
    out.config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}, {"add_bos_token", add_bos}};
    out.generation = json::object();
    const auto name_token = [&](const char* key, const std::optional<std::size_t>& id) {
        if (!id) return;
        out.config[std::string(key) + "_token"] = tokens[*id];
        if (std::string_view(key) != "unk") out.generation[std::string(key) + "_token_id"] = *id;
    };
    name_token("bos", bos);
    name_token("eos", eos);
    name_token("unk", unknown);
    name_token("pad", padding);
    if (const auto chat = h.text("tokenizer.chat_template"); !chat.empty()) out.config["chat_template"] = chat;
    return out;
}

}  // namespace nibble::convert
