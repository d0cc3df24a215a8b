// SPDX-License-Identifier: Apache-2.0
// What is detected in a tokenizer.json, and how many tokens transformers 5 counts in it. The counts are those of
// transformers 5.23 for whole files of these contents.

#include "nibble/convert/tokenizer.hpp"

#include <span>

#include "support/catch.hpp"

using namespace nibble;

namespace tokenizer_test {

json parsed(std::string_view text) {
    auto value = parse_json(std::as_bytes(std::span(text)));
    REQUIRE(value);
    return std::move(*value);
}

std::string detected(std::string_view text) {
    const auto info = convert::detect_tokenizer_info(parsed(text));
    if (!info) return info.error().rule;
    return info->token_postproc_method + (info->prepend_space_in_encode ? " prepend" : "") + (info->strip_space_in_decode ? " strip" : "");
}

/// Two words, "a" and "<x>", of which "<x>" is an added token.
std::uint64_t counted(std::string_view config, std::string_view settings, std::string_view added = "null", std::string_view map = "null") {
    const auto tokenizer = parsed(R"({"added_tokens":[{"id":1,"content":"<x>"}],"model":{"vocab":{"a":0,"<x>":1}}})");
    const auto n = convert::count_tokens({tokenizer, parsed(settings), parsed(added), parsed(map), parsed(config)});
    REQUIRE(n);
    CHECK(n->in_file == 2);
    return n->by_transformers;
}

TEST_CASE("tokenizer_info is detected as mlc_llm does", "[tokenizer]") {
    CHECK(detected("{}") == "byte_fallback");
    CHECK(detected(R"({"decoder":null,"normalizer":null})") == "byte_fallback");
    CHECK(detected(R"({"decoder":{"type":"ByteLevel"}})") == "byte_level");
    CHECK(detected(R"({"decoder":{"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"ByteFallback"}]}})") == "byte_fallback");
    CHECK(detected(R"({"decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"ByteLevel"},{"type":"Fuse"}]}})") == "byte_level");
    CHECK(detected(R"({"decoder":{"type":"Strip","content":" ","start":1,"stop":0}})") == "byte_fallback strip");
    CHECK(detected(R"({"decoder":{"type":"Strip","content":" ","start":1,"stop":1}})") == "byte_fallback");
    CHECK(detected(R"({"normalizer":{"type":"Prepend","prepend":"▁"}})") == "byte_fallback prepend");
    CHECK(detected(R"({"normalizer":{"type":"Prepend","prepend":" "}})") == "byte_fallback");
    CHECK(detected(R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Prepend","prepend":"▁"}]}})") == "byte_fallback prepend");
    CHECK(detected(R"({"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"always"},"decoder":{"type":"Metaspace"}})") == "byte_fallback");
    CHECK_THAT(detected("[]"), Catch::Contains("object"));
    CHECK_THAT(detected(R"({"decoder":{}})"), Catch::Contains("\"decoder\" has no \"type\""));
    CHECK_THAT(detected(R"({"normalizer":{"type":"Sequence"}})"), Catch::Contains("\"normalizers\""));
    CHECK_THAT(detected(R"({"decoder":{"type":"Sequence","decoders":[1]}})"), Catch::Contains("step"));
}

TEST_CASE("an added token that stands twice is found", "[tokenizer]") {
    const auto twice = [](std::string_view text) { return convert::duplicate_added_token(parsed(text)); };
    CHECK_FALSE(twice("{}").value());
    CHECK_FALSE(twice(R"({"added_tokens":[{"content":"a"},{"content":"b"}]})").value());
    CHECK(twice(R"({"added_tokens":[{"content":"a"},{"content":"b"},{"content":"a"}]})").value() == "a");
    CHECK_FALSE(twice(R"({"added_tokens":{}})").has_value());
    CHECK_FALSE(twice(R"({"added_tokens":[{"id":1}]})").has_value());
}

TEST_CASE("tokens are counted as transformers does", "[tokenizer]") {
    constexpr auto llama = R"({"model_type":"llama"})";
    constexpr auto qwen2 = R"({"model_type":"qwen2"})";
    CHECK(counted(llama, "null") == 2);
    // Special tokens of tokenizer_config.json that have no entry in tokenizer.json get one.
    CHECK(counted(llama, R"({"pad_token":"<p>"})") == 3);
    CHECK(counted(llama, R"({"pad_token":{"content":"<p>"},"eos_token":"a","bos_token":null,"add_bos_token":true})") == 3);
    CHECK(counted(llama, R"({"additional_special_tokens":["<p>","<x>"],"extra_special_tokens":{"image_token":"<i>"}})") == 4);
    CHECK(counted(llama, R"({"added_tokens_decoder":{"2":{"content":"<p>"}}})") == 3);
    CHECK(counted(llama, "{}", R"({"<q>":2})", R"({"pad_token":"<p>"})") == 4);
    CHECK(counted(llama, R"({"added_tokens_decoder":{}})", R"({"<q>":2})", R"({"pad_token":"<p>"})") == 2);  // then the older files do not count
    CHECK(counted(llama, R"({"pad_token":"<p>"})", "null", R"({"pad_token":"<r>"})") == 3);
    // Those that the class brings along: Qwen2's <|endoftext|>, whatever class the file states.
    CHECK(counted(qwen2, "null") == 3);
    CHECK(counted(qwen2, R"({"tokenizer_class":"PreTrainedTokenizerFast"})") == 3);
    CHECK(counted(qwen2, R"({"eos_token":"a","pad_token":"a","unk_token":null})") == 2);
    CHECK(counted(llama, R"({"tokenizer_class":"Qwen2TokenizerFast"})") == 3);
    CHECK(counted(R"({"model_type":"qwen3"})", R"({"tokenizer_class":"PreTrainedTokenizerFast"})") == 2);
    CHECK(counted(R"({"model_type":"qwen3"})", "{}") == 3);
    CHECK(counted(R"({"model_type":"gemma2"})", "{}") == 7);
    CHECK(counted(R"({"model_type":"mistral"})", R"({"tokenizer_class":"GemmaTokenizer"})") == 2);
    CHECK(counted(llama, R"({"tokenizer_class":"NobodysTokenizer"})") == 2);
    CHECK(counted(R"({"model_type":"llama","tokenizer_class":"GPTNeoXTokenizerFast"})", "{}") == 4);

    const auto stated_llama = [](std::string_view tokenizer) {
        const json none;
        const auto settings = parsed(R"({"tokenizer_class":"LlamaTokenizer"})");
        return convert::count_tokens({parsed(tokenizer), settings, none, none, none})->by_transformers;
    };
    CHECK(stated_llama(R"({"model":{"vocab":{"a":0}}})") == 4);
    CHECK(stated_llama(R"({"model":{"vocab":{"a":0}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"}]}})") == 1);
    CHECK(stated_llama(R"({"model":{"vocab":{"a":0}},"decoder":{"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"ByteFallback"}]}})") == 1);

    const json none;
    const auto unigram = parsed(R"({"model":{"vocab":[["a",0.0],["b",-1.5]]}})");
    CHECK(convert::count_tokens({unigram, none, none, none, none})->by_transformers == 2);
    CHECK_FALSE(convert::count_tokens({parsed(R"({"model":{"vocab":[1]}})"), none, none, none, none}));
    CHECK_FALSE(convert::count_tokens({parsed("{}"), none, none, none, none}));
}

}  // namespace tokenizer_test
