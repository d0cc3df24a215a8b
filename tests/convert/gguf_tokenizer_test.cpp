// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/gguf_tokenizer.hpp"

#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;

namespace {
namespace tokenizer_tests {

using namespace nibble::test;
using source::gguf_type;

template <class T>
std::string raw(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}
std::string text(std::string_view s) { return raw<std::uint64_t>(s.size()).append(s); }
std::string head(std::string_view key, gguf_type type) { return text("tokenizer." + std::string(key)) + raw(static_cast<std::uint32_t>(type)); }

/// The metadata of a tokenizer as a file without tensors.
struct tokenizer_metadata {
    std::uint64_t n = 0;
    std::string pairs;

    tokenizer_metadata& string(std::string_view key, std::string_view value) { return add(head(key, gguf_type::text) + text(value)); }
    tokenizer_metadata& number(std::string_view key, std::uint32_t value) { return add(head(key, gguf_type::u32) + raw(value)); }
    tokenizer_metadata& flag(std::string_view key, bool value) { return add(head(key, gguf_type::boolean) + raw<std::uint8_t>(value)); }
    tokenizer_metadata& strings(std::string_view key, const std::vector<std::string>& values) {
        std::string all;
        for (const auto& v : values) all += text(v);
        return list(key, gguf_type::text, values.size(), all);
    }
    tokenizer_metadata& types(const std::vector<std::int32_t>& values) {
        std::string all;
        for (const auto v : values) all += raw(v);
        return list("ggml.token_type", gguf_type::i32, values.size(), all);
    }
    tokenizer_metadata& scores(const std::vector<float>& values) {
        std::string all;
        for (const auto v : values) all += raw(v);
        return list("ggml.scores", gguf_type::f32, values.size(), all);
    }

    [[nodiscard]] result<convert::gguf_tokenizer> read() const {
        const temp_folder folder;
        write_text(folder / "t.gguf", raw<std::uint32_t>(0x46554747) + raw<std::uint32_t>(3) + raw<std::uint64_t>(0) + raw(n) + pairs + std::string(64, '\0'));
        auto f = file::open(folder / "t.gguf");
        REQUIRE(f);
        auto h = source::read_gguf_header(*f);
        if (!h) return tl::unexpected<error>(h.error());
        return convert::read_gguf_tokenizer(*h);
    }

private:
    tokenizer_metadata& add(const std::string& bytes) {
        ++n;
        pairs += bytes;
        return *this;
    }
    tokenizer_metadata& list(std::string_view key, gguf_type type, std::uint64_t count, const std::string& elements) {
        return add(head(key, gguf_type::array) + raw(static_cast<std::uint32_t>(type)) + raw(count) + elements);
    }
};

tokenizer_metadata bytes_bpe() {
    tokenizer_metadata m;
    m.string("ggml.model", "gpt2").string("ggml.pre", "smollm").strings("ggml.tokens", {"<|end|>", "a", "b", "ab", "<tool>"}).types({3, 1, 1, 1, 4});
    m.strings("ggml.merges", {"a b"}).number("ggml.bos_token_id", 0).number("ggml.eos_token_id", 0).string("chat_template", "{{ x }}");
    return m;
}

}  // namespace tokenizer_tests
}  // namespace

TEST_CASE("byte-level BPE of a GGUF becomes tokenizer.json", "[convert][onnx]") {
    using namespace tokenizer_tests;
    const auto t = bytes_bpe().read();
    INFO((t ? "" : t.error().message()));
    REQUIRE(t);
    const auto& j = t->tokenizer;
    CHECK(j["model"]["type"] == "BPE");
    CHECK(j["model"]["vocab"]["ab"] == 3);
    CHECK(j["model"]["merges"] == json::array({"a b"}));
    CHECK(j["model"]["byte_fallback"] == false);
    CHECK(j["pre_tokenizer"]["pretokenizers"][0]["type"] == "Digits");
    CHECK(j["pre_tokenizer"]["pretokenizers"][1]["use_regex"] == true);
    REQUIRE(j["added_tokens"].size() == 2);
    CHECK(j["added_tokens"][0]["special"] == true);
    CHECK(j["added_tokens"][1]["content"] == "<tool>");
    CHECK(j["added_tokens"][1]["special"] == false);
    CHECK(j["post_processor"].is_null());
    CHECK(t->config["eos_token"] == "<|end|>");
    CHECK(t->config["chat_template"] == "{{ x }}");
    CHECK(t->generation == json{{"bos_token_id", 0}, {"eos_token_id", 0}});
}

TEST_CASE("the merges of SentencePiece's BPE follow from its scores", "[convert][onnx]") {
    using namespace tokenizer_tests;
    tokenizer_metadata m;
    m.string("ggml.model", "llama").strings("ggml.tokens", {"<unk>", "<s>", "a", "b", "c", "ab", "bc", "abc"}).types({2, 3, 1, 1, 1, 1, 1, 1});
    m.scores({0, 0, -9, -9, -9, -2, -1, -3}).number("ggml.bos_token_id", 1).number("ggml.unknown_token_id", 0);
    const auto t = m.read();
    INFO((t ? "" : t.error().message()));
    REQUIRE(t);
    const auto& j = t->tokenizer;
    // Best score first; of one piece's two ways the one whose left part is longer
    CHECK(j["model"]["merges"].dump() == R"([["b","c"],["a","b"],["ab","c"],["a","bc"]])");
    CHECK(j["model"]["byte_fallback"] == true);
    CHECK(j["model"]["unk_token"] == "<unk>");
    CHECK(j["normalizer"]["normalizers"][0]["type"] == "Prepend");
    CHECK(j["post_processor"]["special_tokens"]["<s>"]["ids"] == json::array({1}));
    CHECK(t->config["add_bos_token"] == true);
    auto without = m;
    without.flag("ggml.add_space_prefix", false).flag("ggml.add_bos_token", false);
    const auto u = without.read();
    REQUIRE(u);
    CHECK(u->tokenizer["normalizer"]["normalizers"].size() == 1);
    CHECK(u->tokenizer["post_processor"].is_null());
}

TEST_CASE("a tokenizer that is not known is told", "[convert][onnx]") {
    using namespace tokenizer_tests;
    CHECK(has(tokenizer_metadata().read().error().message(), "no tokenizer"));
    CHECK(has(tokenizer_metadata().string("ggml.model", "bert").strings("ggml.tokens", {"a"}).read().error().message(), "of the kind \"bert\""));
    tokenizer_metadata m;
    m.string("ggml.model", "gpt2").string("ggml.pre", "viking").strings("ggml.tokens", {"a"});
    CHECK(has(m.read().error().message(), "\"viking\" is not known"));
    tokenizer_metadata twice;
    twice.string("ggml.model", "gpt2").string("ggml.pre", "qwen2").strings("ggml.tokens", {"a", "a"}).strings("ggml.merges", {});
    CHECK(has(twice.read().error().message(), "there twice"));
}
