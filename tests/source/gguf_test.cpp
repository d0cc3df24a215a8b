// SPDX-License-Identifier: Apache-2.0
#include "nibble/source/gguf.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "support/catch.hpp"

using namespace nibble;
using source::gguf_type;

namespace {

template <class T>
std::string raw(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}
std::string text(std::string_view s) { return raw<std::uint64_t>(s.size()).append(s); }

/// One metadata pair of each kind, as bytes.
template <class T>
std::string pair(std::string_view key, gguf_type type, T value) {
    return text(key) + raw(static_cast<std::uint32_t>(type)) + raw(value);
}
std::string u32(std::string_view key, std::uint32_t value) { return pair(key, gguf_type::u32, value); }
std::string f32(std::string_view key, float value) { return pair(key, gguf_type::f32, value); }
std::string string_pair(std::string_view key, std::string_view value) { return text(key) + raw(static_cast<std::uint32_t>(gguf_type::text)) + text(value); }
std::string array(std::string_view key, std::uint32_t type, std::uint64_t count, std::string_view elements) {
    return (text(key) + raw(static_cast<std::uint32_t>(gguf_type::array)) + raw(type) + raw(count)).append(elements);
}
std::string array(std::string_view key, gguf_type type, std::uint64_t count, std::string_view elements) {
    return array(key, static_cast<std::uint32_t>(type), count, elements);
}

/// A GGUF file in the making; its parts may be spoiled before bytes() joins them.
struct writer {
    struct record {
        std::string name;
        std::vector<std::uint64_t> ne;  ///< K first
        std::uint32_t type = 0;
        std::uint64_t offset = 0;
        std::uint32_t n_dims = 0;
    };
    std::uint32_t magic = 0x46554747;
    std::uint32_t version = 3;
    std::vector<std::string> pairs;
    std::vector<record> records;
    std::string data;
    std::uint64_t alignment = 32;
    std::uint64_t more_tensors = 0, more_pairs = 0;

    record& tensor(std::string name, std::vector<std::uint64_t> ne, std::uint32_t type, std::string bytes = {}) {
        const auto* row = std::find_if(source::detail::ggml_types.begin(), source::detail::ggml_types.end(), [&](const auto& t) { return t.id == type; });
        std::uint64_t n = 1;
        for (const auto d : ne) n *= d;
        bytes.resize(n / row->block_values * row->block_bytes, '\x21');
        const auto rank = static_cast<std::uint32_t>(ne.size());
        records.push_back({std::move(name), std::move(ne), type, data.size(), rank});
        data += bytes;
        data.resize((data.size() + alignment - 1) / alignment * alignment);
        return records.back();
    }
    [[nodiscard]] std::string bytes() const {
        std::string out = raw(magic) + raw(version) + raw<std::uint64_t>(records.size() + more_tensors) + raw<std::uint64_t>(pairs.size() + more_pairs);
        for (const auto& p : pairs) out += p;
        for (const auto& r : records) {
            out += text(r.name) + raw(r.n_dims);
            for (const auto d : r.ne) out += raw(d);
            out += raw(r.type) + raw(r.offset);
        }
        out.resize((out.size() + alignment - 1) / alignment * alignment);
        return out + data;
    }
};

constexpr std::uint32_t f32_type = 0, q4_0_type = 2, q8_0_type = 8;

/// A Llama of one layer: hidden 32, 2 heads of 16, 1 of keys and values, 4 tokens.
writer small_llama() {
    writer w;
    w.pairs = {string_pair("general.architecture", "llama"),
               u32("llama.block_count", 1),
               u32("llama.context_length", 128),
               u32("llama.embedding_length", 32),
               u32("llama.feed_forward_length", 64),
               u32("llama.attention.head_count", 2),
               u32("llama.attention.head_count_kv", 1),
               f32("llama.attention.layer_norm_rms_epsilon", 1e-5F),
               f32("llama.rope.freq_base", 10000.0F),
               string_pair("tokenizer.ggml.model", "llama"),
               array("tokenizer.ggml.tokens", gguf_type::text, 4, text("<s>") + text("<0x0A>") + text("a") + text("b")),
               array("tokenizer.ggml.scores", gguf_type::f32, 4, std::string(16, '\0')),
               array("tokenizer.ggml.token_type", gguf_type::i32, 4, raw(3) + raw(6) + raw(1) + raw(1)),
               u32("tokenizer.ggml.bos_token_id", 0)};
    w.tensor("token_embd.weight", {32, 4}, q8_0_type);
    w.tensor("blk.0.attn_norm.weight", {32}, f32_type);
    w.tensor("blk.0.attn_q.weight", {32, 32}, q4_0_type);
    w.tensor("blk.0.attn_k.weight", {32, 16}, q4_0_type);
    w.tensor("blk.0.attn_v.weight", {32, 16}, q4_0_type);
    w.tensor("blk.0.attn_output.weight", {32, 32}, q4_0_type);
    w.tensor("blk.0.ffn_norm.weight", {32}, f32_type);
    w.tensor("blk.0.ffn_gate.weight", {32, 64}, q4_0_type);
    w.tensor("output_norm.weight", {32}, f32_type);
    return w;
}

/// A folder of this process's own, gone at its end.
struct scratch_folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / ("nibble_gguf_test_" + std::to_string(::getpid()));
    scratch_folder() { std::filesystem::create_directories(path); }
    ~scratch_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
};
std::string put(const std::string& name, std::string_view bytes) {
    static const scratch_folder folder;
    const auto path = (folder.path / name).string();
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
}
result<source::checkpoint> open(const std::string& path, file_access access = file_access::map) {
    source::open_options options;
    options.access = access;
    return source::open_gguf(path, options);
}
/// All that is wrong with a file, or nothing; both ways of reading must say the same.
std::string faults(std::string_view bytes) {
    const auto path = put("faulty.gguf", bytes);
    std::string said[2];
    for (const auto access : {file_access::map, file_access::read}) {
        auto& text = said[access == file_access::read];
        const auto c = open(path, access);
        if (!c) {
            CHECK(!c.error().file.empty());
            text = c.error().message();
            continue;
        }
        for (const auto& p : c->problems) text += p.message() + "\n";
    }
    CHECK(said[0] == said[1]);
    return said[0];
}
const source::tensor& tensor_of(const source::checkpoint& c, std::string_view name) {
    const auto index = c.by_name();
    REQUIRE(index.contains(name));
    return c.tensors[index.at(name)];
}

}  // namespace

TEST_CASE("a GGUF file opens under Hugging Face's names", "[source][gguf]") {
    const auto w = small_llama();
    const auto path = put("small.gguf", w.bytes());
    for (const auto access : {file_access::map, file_access::read}) {
        const auto c = open(path, access);
        REQUIRE(c);
        CHECK(c->problems.empty());
        CHECK(c->format == "gguf");
        REQUIRE(c->tensors.size() == 9);
        CHECK(c->tensors[0].name == "model.embed_tokens.weight");
        CHECK(tensor_of(*c, "model.layers.0.mlp.gate_proj.weight").dims == shape{64, 32});
        CHECK(tensor_of(*c, "model.layers.0.self_attn.o_proj.weight").type == encoding::q4_0);
        CHECK(tensor_of(*c, "model.layers.0.self_attn.v_proj.weight").row_order.empty());
        CHECK(!tensor_of(*c, "model.norm.weight").plus_one_stored);
        CHECK(tensor_of(*c, "model.layers.0.post_attention_layernorm.weight").n_bytes == 128);

        const auto& order = tensor_of(*c, "model.layers.0.self_attn.q_proj.weight").row_order;
        REQUIRE(order.size() == 32);
        CHECK(order[0] == 0);
        CHECK(order[1] == 2);
        CHECK(order[8] == 1);
        CHECK(order[16] == 16);
        CHECK(order[31] == 31);
        CHECK(tensor_of(*c, "model.layers.0.self_attn.k_proj.weight").row_order.size() == 16);

        std::vector<std::byte> scratch;
        const auto& q = tensor_of(*c, "model.layers.0.self_attn.q_proj.weight");
        const auto bytes = c->bytes(q, 0, q.n_bytes, scratch);
        REQUIRE(bytes);
        CHECK(bytes->size() == 32 * 18);
        CHECK((*bytes)[0] == std::byte{0x21});
        CHECK(c->config.dump() ==
              R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":0,"hidden_act":"silu","hidden_size":32,"intermediate_size":64,)"
              R"("max_position_embeddings":128,"mlp_bias":false,"model_type":"llama","num_attention_heads":2,"num_hidden_layers":1,"num_key_value_heads":1,)"
              R"("rms_norm_eps":1e-05,"rope_scaling":null,"rope_theta":10000.0,"tie_word_embeddings":true,"torch_dtype":"float16","vocab_size":4})");
    }
    auto older = w;
    older.version = 2;
    CHECK(faults(older.bytes()).empty());
}

TEST_CASE("GGUF arrays are read when they are asked for", "[source][gguf]") {
    const auto f = file::open(put("small.gguf", small_llama().bytes()), file_access::read);
    REQUIRE(f);
    const auto h = source::read_gguf_header(*f);
    REQUIRE(h);
    const auto tokens = h->array("tokenizer.ggml.tokens");
    REQUIRE(tokens);
    CHECK(tokens->dump() == R"(["<s>","<0x0A>","a","b"])");
    CHECK(h->array("tokenizer.ggml.token_type")->dump() == "[3,6,1,1]");
    CHECK(!h->array("llama.block_count"));
    CHECK(!h->array("nothing"));
    CHECK(h->text("tokenizer.ggml.model") == "llama");
    CHECK(h->text("llama.block_count").empty());
}

TEST_CASE("each GGUF rule that is broken is named", "[source][gguf]") {
    struct row {
        const char* what;
        std::function<void(writer&)> spoil;
        const char* message;
    };
    const auto add = [](std::string p) { return [p](writer& w) { w.pairs.push_back(p); }; };
    const auto spoil_record = [](auto change) { return [change](writer& w) { change(w.records[2]); }; };
    const row rows[] = {
        {"D1 magic", [](writer& w) { w.magic = 0x46554748; }, "not a GGUF file"},
        {"D1 version 0", [](writer& w) { w.version = 0; }, "GGUF version 0"},
        {"D1 version 1", [](writer& w) { w.version = 1; }, "GGUF version 1"},
        {"D1 version 4", [](writer& w) { w.version = 4; }, "GGUF version 4"},
        {"D1 big-endian", [](writer& w) { w.version = 0x03000000; }, "big-endian"},
        {"D1 tensors 2^62", [](writer& w) { w.more_tensors = 1ull << 62; }, "number of tensors"},
        {"D1 tensors negative", [](writer& w) { w.more_tensors = ~0ull - 100; }, "number of tensors"},
        {"D1 pairs 2^62", [](writer& w) { w.more_pairs = 1ull << 62; }, "number of metadata keys"},
        {"D1 more pairs than bytes", [](writer& w) { w.more_pairs = 1000; }, "number of metadata keys"},
        {"D1 one tensor too many", [](writer& w) { w.more_tensors = 1; }, ""},
        {"D1 one pair too many", [](writer& w) { w.more_pairs = 1; }, ""},
        {"D2 key of 2^63 bytes", [](writer& w) { w.pairs.insert(w.pairs.begin(), raw(1ull << 63)); }, "a metadata key needs 9223372036854775808 bytes"},
        {"D2 string past the end", add(text("k") + raw(8u) + raw(1ull << 20) + "x"), "needs 1048576 bytes"},
        {"D2 array of 2^63", add(array("k", gguf_type::u8, 1ull << 63, "")), "array of 9223372036854775808 elements"},
        {"D2 array of u64, product wraps", add(array("k", gguf_type::u64, 1ull << 61, "")), "elements"},
        {"D2 strings past the end", add(array("k", gguf_type::text, 2, text("a") + raw(1ull << 40))), "a string of an array needs"},
        {"D2 array of arrays", add(array("k", gguf_type::array, 1, raw(0u) + raw(0ull))), "array of arrays"},
        {"D2 element type 13", add(array("k", 13, 1, "x")), "type 13"},
        {"D2 value type 13", add(text("k") + raw(13u)), "type 13"},
        {"D2 boolean 2", add(pair("k", gguf_type::boolean, std::uint8_t{2})), "a boolean is 2"},
        {"D2 boolean 7 in an array", add(array("k", gguf_type::boolean, 3, std::string("\0\1\7", 3))), "a boolean is 7"},
        {"D2 empty key", add(u32("", 1)), "printable text"},
        {"D2 key with a control character", add(u32("a\nb", 1)), "printable text"},
        {"D2 key not UTF-8", add(u32("a\xC0\x80", 1)), "printable text"},
        {"D2 value not UTF-8", add(string_pair("k", "\xED\xA0\x80")), "not valid UTF-8"},
        {"D2 duplicate key", add(u32("llama.block_count", 1)), "stands twice"},
        {"D3 alignment 0", add(u32("general.alignment", 0)), "general.alignment is 0"},
        {"D3 alignment 3", add(u32("general.alignment", 3)), "general.alignment is 3"},
        {"D3 alignment 4", add(u32("general.alignment", 4)), "general.alignment is 4"},
        {"D3 alignment 2^30", add(u32("general.alignment", 1u << 30)), "power of two from 8 to 65536"},
        {"D3 alignment of another type", add(pair("general.alignment", gguf_type::u64, std::uint64_t{32})), "is of type u64, it must be u32"},
        {"D3 alignment as an array", add(array("general.alignment", gguf_type::u32, 1, raw(32u))), "is of type array"},
        {"D3 split of another type", add(u32("split.count", 2)), "must be u16"},
        {"D3 split name", add(pair("split.count", gguf_type::u16, std::uint16_t{3})), "its name must end in -00001-of-00003.gguf"},
        {"D4 rank 0", spoil_record([](auto& r) { r.n_dims = 0; }), "0 dimensions"},
        {"D4 rank 5", spoil_record([](auto& r) { r.n_dims = 5; }), "5 dimensions"},
        {"D4 rank 2^32 - 1", spoil_record([](auto& r) { r.n_dims = ~0u; }), "4294967295 dimensions"},
        {"D4 dimension 0", spoil_record([](auto& r) { r.ne[1] = 0; }), "dimension 1 is 0"},
        {"D4 dimension negative", spoil_record([](auto& r) { r.ne[0] = ~0ull; }), "dimension 0 is 18446744073709551615"},
        {"D4 product wraps", spoil_record([](auto& r) { r.ne = {1ull << 32, 1ull << 32}; }), "63 bits"},
        {"D4 product is 2^63", spoil_record([](auto& r) { r.ne = {1ull << 32, 1ull << 31}; }), "63 bits"},
        {"D4 bytes wrap", spoil_record([](auto& r) {
             r.ne = {1ull << 31, 1ull << 31};
             r.type = 28;
         }),
         "exceed 64 bits"},
        {"D4 row is no whole number of blocks", spoil_record([](auto& r) { r.ne = {31, 32}; }), "rows of 31 values"},
        {"D4 type 4", spoil_record([](auto& r) { r.type = 4; }), "ggml type 4 was removed"},
        {"D4 type 5", spoil_record([](auto& r) { r.type = 5; }), "ggml type 5 was removed"},
        {"D4 type 36", spoil_record([](auto& r) { r.type = 36; }), "ggml type 36 was removed"},
        {"D4 type 2^31", spoil_record([](auto& r) { r.type = 1u << 31; }), "ggml type 2147483648"},
        {"D4 name of 64 bytes", spoil_record([](auto& r) { r.name = std::string(64, 'x'); }), "1 to 63 bytes"},
        {"D4 empty name", spoil_record([](auto& r) { r.name = ""; }), "1 to 63 bytes"},
        {"D4 name with NUL", spoil_record([](auto& r) { r.name = std::string("a\0b", 3); }), "printable text"},
        {"D4 duplicate name", spoil_record([](auto& r) { r.name = "token_embd.weight"; }), "tensor 'token_embd.weight': at byte"},
        {"D4 a name that another maps to", spoil_record([](auto& r) { r.name = "model.embed_tokens.weight"; }), "both have this name"},
        {"D5 offset unaligned", spoil_record([](auto& r) { r.offset += 1; }), "without gap or overlap"},
        {"D5 offset past the end", spoil_record([](auto& r) { r.offset += 1ull << 40; }), "without gap or overlap"},
        {"D5 overlap", spoil_record([](auto& r) { r.offset -= 32; }), "without gap or overlap"},
        {"D5 not in order", [](writer& w) { std::swap(w.records[2], w.records[3]); }, "without gap or overlap"},
        {"D5 sum wraps",
         [](writer& w) {
             w.records[1].ne = {1ull << 60};
             w.records[1].type = 28;
             w.records[2].ne = {1ull << 60, 1};
             w.records[2].type = 28;
             w.records[2].offset = w.records[1].offset + (1ull << 63);
         },
         "exceed 64 bits"},
        {"D5 data short by one", [](writer& w) { w.data.pop_back(); }, "the file ends at byte"},
        {"D5 no data at all", [](writer& w) { w.data.clear(); }, "the file ends at byte"},
        {"D6 fewer scores than tokens", [](writer& w) { w.pairs[11] = array("tokenizer.ggml.scores", gguf_type::f32, 3, std::string(12, '\0')); },
         "has 3 entries for 4 tokens"},
        {"D6 scores of bytes", [](writer& w) { w.pairs[11] = array("tokenizer.ggml.scores", gguf_type::u8, 4, "abcd"); }, "must be an array of f32, it is one of u8"},
        {"D6 types of u32", [](writer& w) { w.pairs[12] = array("tokenizer.ggml.token_type", gguf_type::u32, 4, std::string(16, '\0')); }, "array of i32"},
        {"D6 tokens no array", [](writer& w) { w.pairs[10] = u32("tokenizer.ggml.tokens", 4); }, "must be an array of string, it is of type u32"},
        {"D6 no tokens", [](writer& w) { w.pairs[10] = u32("k", 4); }, "no tokens to belong to"},
        {"D6 merges of numbers", add(array("tokenizer.ggml.merges", gguf_type::u32, 1, raw(1u))), "merges must be an array of string"},
        {"D6 byte token -1",
         [](writer& w) { w.pairs[10] = array("tokenizer.ggml.tokens", gguf_type::text, 4, text("<s>") + text("<0x-1>") + text("a") + text("b")); },
         "token 1 is a byte token"},
        {"D6 byte token ZZ",
         [](writer& w) { w.pairs[10] = array("tokenizer.ggml.tokens", gguf_type::text, 4, text("<s>") + text("<0xZZ>") + text("a") + text("b")); },
         "token 1 is a byte token"},
        {"more tokens than rows",
         [](writer& w) {
             w.pairs[10] = array("tokenizer.ggml.tokens", gguf_type::text, 5, text("<s>") + text("<0x0A>") + text("a") + text("b") + text("c"));
             w.pairs[11] = u32("k", 1);
             w.pairs[12] = u32("l", 1);
         },
         "the tokenizer has 5 tokens, token_embd.weight has 4 rows"},
        {"no architecture", [](writer& w) { w.pairs[0] = u32("k", 1); }, "general.architecture is missing"},
        {"an architecture that is not known", [](writer& w) { w.pairs[0] = string_pair("general.architecture", "rwkv6"); }, "\"rwkv6\" has no Hugging Face names"},
        {"experts", add(u32("llama.expert_count", 8)), "mixture of experts"},
        {"a missing size", [](writer& w) { w.pairs[3] = u32("k", 1); }, "\"llama.embedding_length\" is missing"},
        {"a size that is text", [](writer& w) { w.pairs[1] = string_pair("llama.block_count", "1"); }, "must be one whole number"},
        {"a negative size", [](writer& w) { w.pairs[1] = pair("llama.block_count", gguf_type::i32, -1); }, "must be one whole number"},
        {"sizes that differ", [](writer& w) { w.pairs[5] = array("llama.attention.head_count", gguf_type::u32, 2, raw(2u) + raw(4u)); }, "differs from layer to layer"},
        {"no heads", [](writer& w) { w.pairs[5] = u32("llama.attention.head_count", 0); }, "rotary pairs of 0 heads"},
        {"heads that do not divide", [](writer& w) { w.pairs[5] = u32("llama.attention.head_count", 3); }, "rotary pairs of 3 heads"},
        {"epsilon not finite", [](writer& w) { w.pairs[7] = f32("llama.attention.layer_norm_rms_epsilon", std::nanf("")); }, "positive finite number"},
        {"theta negative", [](writer& w) { w.pairs[8] = f32("llama.rope.freq_base", -1.0F); }, "positive finite number"},
        {"no embedding", [](writer& w) { w.records[0].name = "x.weight"; }, "token_embd.weight is missing"},
        {"no tensors",
         [](writer& w) {
             w.records.clear();
             w.data.clear();
         },
         "holds no tensors"},
    };
    CHECK(faults(small_llama().bytes()).empty());
    for (const auto& r : rows) {
        INFO(r.what);
        auto w = small_llama();
        r.spoil(w);
        const auto said = faults(w.bytes());
        INFO(said);
        CHECK(!said.empty());
        CHECK(said.find(r.message) != std::string::npos);
    }
    CHECK(faults("").find("needs 4 bytes, 0 are left") != std::string::npos);
    CHECK(!open("/nonexistent/x.gguf"));
    CHECK(!open("/dev/zero"));
}

TEST_CASE("a GGUF error names file, tensor and offset", "[source][gguf]") {
    auto w = small_llama();
    w.records[2].type = 5;
    const auto c = open(put("named.gguf", w.bytes()));
    REQUIRE(!c);
    CHECK(c.error().code == errc::malformed);
    CHECK(c.error().file.ends_with("named.gguf"));
    CHECK(c.error().tensor == "blk.0.attn_q.weight");
    CHECK(c.error().offset.has_value());
    CHECK(!c.error().remedy.empty());
}

TEST_CASE("GGUF types without a codec are kept by name", "[source][gguf]") {
    auto w = small_llama();
    w.tensor("blk.0.ffn_up.weight", {32, 64}, 20);
    w.tensor("blk.0.ffn_down.weight", {32, 2}, 28);
    w.tensor("something.else", {3}, 24);
    const auto c = open(put("types.gguf", w.bytes()));
    REQUIRE(c);
    CHECK(tensor_of(*c, "model.layers.0.mlp.up_proj.weight").stored_type == "IQ4_NL");
    CHECK(tensor_of(*c, "model.layers.0.mlp.up_proj.weight").n_bytes == 64 * 18);
    CHECK(tensor_of(*c, "model.layers.0.mlp.down_proj.weight").type == encoding::f64);
    CHECK(tensor_of(*c, "something.else").n_bytes == 3);
}

TEST_CASE("every truncation of a GGUF file is an error", "[source][gguf]") {
    const auto bytes = small_llama().bytes();
    std::size_t unnoticed = 0;
    for (std::size_t n = 0; n < bytes.size(); ++n) {
        const auto path = put("short.gguf", std::string_view(bytes).substr(0, n));
        for (const auto access : {file_access::map, file_access::read}) unnoticed += open(path, access).has_value();
    }
    CHECK(unnoticed == 0);
}

TEST_CASE("random damage to a GGUF file never gets through the checks of ranges", "[source][gguf]") {
    const auto whole = small_llama().bytes();
    const std::size_t header = whole.size() - small_llama().data.size();
    std::mt19937 random(1);
    std::size_t n_open = 0;
    for (int i = 0; i < 20000; ++i) {
        auto bytes = whole;
        for (auto flips = 1 + random() % 3; flips > 0; --flips) {
            auto& byte = bytes[random() % header];
            byte = static_cast<char>(random() % 2 != 0 ? random() : static_cast<unsigned>(byte) ^ (1u << random() % 8));
        }
        const auto path = put("flipped.gguf", bytes);
        const auto c = open(path, i % 2 != 0 ? file_access::map : file_access::read);
        if (!c) {
            if (c.error().message().empty()) FAIL("an error without a message");
            continue;
        }
        ++n_open;
        (void)c->config.dump();
        std::vector<std::byte> scratch;
        for (const auto& t : c->tensors) {
            const auto view = c->bytes(t, 0, t.n_bytes, scratch);
            if (!view || view->size() != t.n_bytes) FAIL("a tensor beyond the file");
            for (const auto row : t.row_order) {
                if (row >= t.row_order.size()) FAIL("a row beyond the tensor");
            }
        }
    }
    CHECK(n_open > 100);
    CHECK(n_open < 19000);
}

TEST_CASE("a split GGUF file is opened from any of its parts", "[source][gguf]") {
    const auto u16 = [](std::string_view key, std::uint16_t value) { return pair(key, gguf_type::u16, value); };
    auto first = small_llama();
    first.pairs.insert(first.pairs.end(), {u16("split.count", 2), u16("split.no", 0), pair("split.tensors.count", gguf_type::i32, 10)});
    writer second;
    second.pairs = {u16("split.count", 2), u16("split.no", 1)};
    second.tensor("output.weight", {32, 4}, q8_0_type, "second");
    const auto one = put("model-00001-of-00002.gguf", first.bytes());
    const auto missing = open(one);
    REQUIRE(!missing);
    CHECK(missing.error().code == errc::missing);
    const auto two = put("model-00002-of-00002.gguf", second.bytes());
    for (const auto& path : {one, two}) {
        const auto c = open(path);
        REQUIRE(c);
        CHECK(c->problems.empty());
        CHECK(c->files.size() == 2);
        const auto& head = tensor_of(*c, "lm_head.weight");
        CHECK(head.file == 1);
        CHECK(c->config["tie_word_embeddings"] == false);
        std::vector<std::byte> scratch;
        CHECK((*c->bytes(head, 0, 6, scratch))[0] == std::byte{'s'});
    }
    auto repeated = second;
    repeated.records[0].name = "token_embd.weight";
    put("model-00002-of-00002.gguf", repeated.bytes());
    CHECK(open(one).error().message().find("two parts have a tensor of this name") != std::string::npos);
    put("model-00002-of-00002.gguf", first.bytes());
    CHECK(open(one).error().message().find("by its metadata it is another") != std::string::npos);
    second.tensor("x.weight", {32}, f32_type);
    put("model-00002-of-00002.gguf", second.bytes());
    CHECK(open(one).error().message().find("split.tensors.count is 10, the parts have 11") != std::string::npos);
}

TEST_CASE("Llama 3's rope factors become rope_scaling", "[source][gguf]") {
    auto w = small_llama();
    w.pairs[8] = f32("llama.rope.freq_base", 500000.0F);
    std::vector<float> factors;
    for (int i = 0; i < 32; ++i) {
        const double wavelength = 2 * 3.14159265358979 * std::pow(500000.0, i / 32.0);
        const double smooth = (8192 / wavelength - 1) / 3;
        factors.push_back(static_cast<float>(wavelength < 2048 ? 1 : wavelength > 8192 ? 32 : 1 / ((1 - smooth) / 32 + smooth)));
    }
    const auto bytes = [&] { return std::string(reinterpret_cast<const char*>(factors.data()), 128); };
    auto good = w;
    good.tensor("rope_freqs.weight", {32}, f32_type, bytes());
    const auto c = open(put("rope.gguf", good.bytes()));
    REQUIRE(c);
    CHECK(c->config["rope_scaling"].dump() ==
          R"({"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_type":"llama3"})");
    CHECK(!c->by_name().contains("rope_freqs.weight"));

    factors[20] += 1;
    w.tensor("rope_freqs.weight", {32}, f32_type, bytes());
    const auto other = open(put("rope.gguf", w.bytes()));
    REQUIRE(other);
    CHECK(other->config["rope_scaling"].is_null());
    CHECK(other->notes.front().find("rope_freqs.weight is not what") != std::string::npos);
}

TEST_CASE("Gemma's norms have one added, and its layers four norms", "[source][gguf]") {
    auto w = small_llama();
    w.pairs[0] = string_pair("general.architecture", "gemma3");
    for (auto& p : w.pairs) {
        if (p.compare(8, 6, "llama.") == 0)
            p = text("gemma3." + p.substr(14, static_cast<unsigned char>(p[0]) - 6u)) + p.substr(8 + static_cast<unsigned char>(p[0]));
    }
    w.pairs.push_back(u32("gemma3.attention.key_length", 16));
    w.pairs.push_back(u32("gemma3.attention.sliding_window", 512));
    w.tensor("blk.0.attn_q_norm.weight", {16}, f32_type);
    w.tensor("blk.0.post_attention_norm.weight", {32}, f32_type);
    w.tensor("blk.0.post_ffw_norm.weight", {32}, f32_type);
    const auto c = open(put("gemma.gguf", w.bytes()));
    REQUIRE(c);
    CHECK(c->problems.empty());
    for (const auto* name : {"model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_norm.weight",
                             "model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
                             "model.layers.0.post_feedforward_layernorm.weight"}) {
        CHECK(tensor_of(*c, name).plus_one_stored);
    }
    CHECK(tensor_of(*c, "model.layers.0.self_attn.q_proj.weight").row_order.empty());
    CHECK(c->config["model_type"] == "gemma3_text");
    CHECK(c->config["head_dim"] == 16);
    CHECK(c->config["query_pre_attn_scalar"] == 16);
    CHECK(c->config["sliding_window"] == 512);
}
