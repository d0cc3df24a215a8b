// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/verify.hpp"

#include "nibble/convert/run.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;
using test::all;
using test::has;
using test::temp_folder;
using test::tiny_llama;

namespace {

/// A model and the folder that is made of it.
struct converted {
    temp_folder home;
    tiny_llama model;
    std::string source = home / "model";
    std::string out = home / "out";

    explicit converted(std::string_view quantization = "q4f16_1", encode_options encode = {}, unsigned seed = 1) : model(seed) {
        model.write(source);
        convert(quantization, encode);
    }
    void convert(std::string_view quantization, encode_options encode = {}) const {
        convert::plan_options options;
        options.quantization = quantization;
        options.encode = encode;
        const auto plan = convert::make_plan(source, options);
        REQUIRE(plan);
        REQUIRE(plan->problems.empty());
        convert::run_options run;
        run.overwrite = true;
        REQUIRE(convert::run(*plan, out, run));
    }
    [[nodiscard]] convert::verify_report verify(const convert::verify_options& options = {}) const {
        auto report = convert::verify(out, source, options);
        if (!report) FAIL(report.error().message());
        return std::move(*report);
    }
    [[nodiscard]] convert::verify_report exact(bool md5 = true) const {
        convert::verify_options options;
        options.exact = true;
        options.md5 = md5;
        options.threads = 2;
        return verify(options);
    }
    [[nodiscard]] convert::verify_report without_md5() const {
        convert::verify_options options;
        options.md5 = false;
        return verify(options);
    }
    /// Calls f(bytes of the record) and writes the shard back. The index keeps its old md5.
    template <class F>
    void bend(const std::string& record, F&& f) const {
        std::uint64_t offset = 0;
        std::uint64_t n_bytes = 0;
        std::string path;
        {
            const auto folder = *shard::open_folder(out);
            const auto at = folder.by_name.at(record);
            offset = folder.at(at).offset;
            n_bytes = folder.at(at).n_bytes;
            path = out + "/" + folder.manifest.shards[at.shard].path;
        }
        auto bytes = test::read_text(path);
        f(std::span(bytes).subspan(offset, n_bytes));
        test::write_text(path, bytes);
    }
    [[nodiscard]] std::vector<float> values(const std::string& record) const {
        const auto folder = *shard::open_folder(out);
        return *shard::values(folder, folder.by_name.at(record));
    }
};

const convert::tensor_report& tensor(const convert::verify_report& r, const std::string& name) {
    for (const auto& t : r.source->tensors) {
        if (t.name == name) return t;
    }
    throw std::out_of_range(name);
}

}  // namespace

TEST_CASE("every scheme is recognised, and its errors lie between bounds", "[verify]") {
    const converted c;
    for (const auto& s : schemes) {
        CAPTURE(s.name);
        c.convert(s.name);
        convert::verify_options options;
        options.exact = true;
        options.threads = 2;
        options.folder.access = s.name == std::string_view("q4f16_0") ? file_access::read : file_access::map;
        const auto r = c.verify(options);
        CHECK(all(r.problems) == "");
        REQUIRE(r.source);
        CHECK(r.source->recognised);
        CHECK(r.source->quantization == s.name);
        CHECK(r.source->model_type == "llama");
        CHECK(r.n_md5 == r.n_shards);
        CHECK(r.source->tensors.size() == 9);
        for (const auto& t : r.source->tensors) CHECK(t.encoder == convert::written_by::absmax);
        const auto& q = r.source->quantized;
        CHECK(q.gain() == 0);
        if (s.name.starts_with("q4")) {
            CHECK(q.relative_rms() > 0.06);
            CHECK(q.relative_rms() < 0.12);
            CHECK(q.cosine() > 0.99);
            CHECK(q.cosine() < 0.9999);
            CHECK(q.max_error_scales > 0.49);
            CHECK(q.max_error_scales < 0.53);
        } else if (s.name.starts_with("q3")) {
            CHECK(q.relative_rms() > 0.15);
            CHECK(q.relative_rms() < 0.30);
        } else if (s.name.starts_with("q0")) {
            CHECK(q.n == 0);
        } else {
            CHECK(q.relative_rms() > 0.001);
            CHECK(q.relative_rms() < 0.1);
        }
    }
}

TEST_CASE("a flipped bit is found, and named with its tensor and place", "[verify]") {
    const converted c;
    const auto plane = GENERATE(std::string("q_weight"), std::string("q_scale"));
    c.bend("model.layers.0.self_attn.o_proj." + plane, [&](std::span<char> bytes) { bytes[101] = static_cast<char>(bytes[101] ^ 0x40); });
    const auto r = c.verify();
    const auto text = all(r.problems);
    CHECK(r.problems.size() == 2);
    CHECK(has(text, "params_shard_0.bin: its md5 is "));
    CHECK(has(text, "tensor 'model.layers.0.self_attn.o_proj.weight': at byte "));
    CHECK(has(text, plane == "q_weight" ? "from row 3, column 0: off by" : "from row 25, column 0: off by"));
    const auto& t = tensor(r, "model.layers.0.self_attn.o_proj.weight");
    CHECK(t.groups_bad == 1);
    CHECK(t.groups_other == 1);
    CHECK(tensor(r, "lm_head.weight").problems.empty());
    CHECK_FALSE(convert::verify(c.out)->good());  // the md5 alone tells, too

    c.convert("q0f16");
    c.bend("model.norm.weight", [&](std::span<char> bytes) { bytes[6] = static_cast<char>(bytes[6] ^ 1); });
    CHECK(has(all(c.without_md5().problems), "tensor 'model.norm.weight': at byte "));
}

TEST_CASE("a zeroed scale plane is found", "[verify]") {
    const converted c;
    c.bend("lm_head.q_scale", [](std::span<char> bytes) { std::fill(bytes.begin(), bytes.end(), '\0'); });
    const auto r = c.without_md5();
    REQUIRE(r.problems.size() == 1);
    CHECK(has(all(r.problems), "tensor 'lm_head.weight'"));
    CHECK(has(all(r.problems), "its scale is 0, where rounding explains 0.5 of the scale"));
    CHECK(has(all(r.problems), "the first of 96 groups, out of 96"));
    c.convert("q4f16_1");
    c.bend("lm_head.q_scale", [](std::span<char> bytes) {  // NaN
        bytes[8] = '\0';
        bytes[9] = '\x7e';
    });
    CHECK(has(all(c.without_md5().problems), "tensor 'lm_head.weight'"));
}

TEST_CASE("a scale that is twice too large is found although the codes are the nearest to it", "[verify]") {
    converted c;
    c.bend("lm_head.q_scale", [&](std::span<char> bytes) {
        for (std::size_t i = 0; i < bytes.size(); i += 2) {
            auto* at = reinterpret_cast<std::byte*>(bytes.data() + i);
            store(at, to_f16(2 * to_f32(load<f16>(at))));
        }
    });
    const auto scales = c.values("lm_head.q_scale");
    const auto& w = c.model.values("lm_head.weight");
    c.bend("lm_head.q_weight", [&](std::span<char> bytes) {
        for (std::size_t g = 0; g < scales.size(); ++g) {
            const auto b = q4f16_1::encode_nearest(w.data() + 32 * g, 32, to_f16(scales[g]));
            std::memcpy(bytes.data() + 16 * g, &std::get<0>(b), 16);
        }
    });
    const auto r = c.without_md5();
    REQUIRE(r.problems.size() == 1);
    CHECK(tensor(r, "lm_head.weight").sums.max_error_scales < 0.51);
    CHECK(tensor(r, "lm_head.weight").groups_bad > 90);
}

TEST_CASE("another scheme or another model is told", "[verify]") {
    const converted c;
    convert::verify_options options;
    options.quantization = "q4f32_1";
    const auto text = all(c.verify(options).problems);
    CHECK(has(text, "the folder is not model type \"llama\" in q4f32_1: 9 records differ"));
    CHECK(has(text, "it is float16 [48, 2], the model needs float32 [48, 2]"));
    options.quantization = "q9";
    CHECK(convert::verify(c.out, c.source, options).error().code == errc::unsupported);
    CHECK_FALSE(convert::verify(c.out, c.home / "nothing"));

    const converted other("q4f16_1", {}, 2);
    const auto r = convert::verify(c.out, other.source);
    REQUIRE(r);
    CHECK(r->problems.size() == 9);  // every parameter
    CHECK(std::fabs(tensor(*r, "lm_head.weight").sums.cosine()) < 0.2);

    test::write_text(other.source + "/config.json", "{\"model_type\": \"llama\"}");
    CHECK_FALSE(convert::verify(c.out, other.source)->good());
    auto index = test::read_text(c.out + "/tensor-cache.json");
    index.replace(index.find("\"lm_head.q_scale\""), 17, "\"lm_hood.q_scale\"");
    test::write_text(c.out + "/tensor-cache.json", index);
    std::filesystem::remove(c.out + "/ndarray-cache.json");
    const auto renamed = all(c.verify().problems);
    CHECK(has(renamed, "the folder has no such record, the model needs it as float16 [48, 2]"));
    CHECK(has(renamed, "tensor 'lm_hood.q_scale': the model has no such parameter"));
}

TEST_CASE("which encoder wrote a folder, and what the mse fit gains", "[verify]") {
    const auto name = GENERATE(std::string("q4f16_1"), std::string("q4f32_1"), std::string("q3f16_0"), std::string("q4bf16_1"));
    const converted c(name, {.fit = fit::mse});
    const auto mse = c.exact();
    CHECK(all(mse.problems).empty());
    CHECK(mse.source->quantized.gain() > 0.02);
    CHECK(mse.source->quantized.gain() < 0.3);
    for (const auto& t : mse.source->tensors) {
        if (t.quantized) CHECK(t.encoder == convert::written_by::mse);
        if (t.quantized) CHECK(t.sums.gain() > 0);
    }
    c.convert("q4f16_1", {.rounding = rounding::half_away});
    const auto away = c.exact();
    CHECK(all(away.problems).empty());
    CHECK(tensor(away, "model.layers.0.mlp.gate_up_proj.weight").encoder == convert::written_by::absmax_away);
}

TEST_CASE("as near as it should be, but not what this version writes", "[verify]") {
    const converted c;
    c.bend("lm_head.q_scale", [](std::span<char> bytes) { bytes[0] = static_cast<char>(bytes[0] ^ 1); });  // the neighbouring scale: another machine's division
    CHECK(all(c.without_md5().problems).empty());
    CHECK(has(all(c.exact(false).problems), "tensor 'lm_head.weight': 1 of 96 groups are not the bytes that this version writes"));
}

TEST_CASE("an error that is too small is a fault", "[verify]") {
    converted c;
    // Codes of 15 can be decoded, but no encoder writes them. The scales are a power of two, that f16 holds all products.
    c.bend("lm_head.q_weight", [](std::span<char> bytes) {
        for (std::size_t i = 0; i < bytes.size(); i += 16) bytes[i] = static_cast<char>(bytes[i] | 0x0f);
    });
    c.bend("lm_head.q_scale", [](std::span<char> bytes) {
        for (std::size_t i = 0; i < bytes.size(); i += 2) store(reinterpret_cast<std::byte*>(bytes.data() + i), to_f16(1.0F / 64));
    });
    {
        auto& source = c.model.values("lm_head.weight");
        const auto f = *shard::open_folder(c.out);
        const auto view = convert::stored_view<q4f16_1>::open(f, {f.by_name.at("lm_head.q_weight"), f.by_name.at("lm_head.q_scale")});
        REQUIRE(view);
        for (std::uint64_t g = 0; g < source.size() / 32; ++g) q4f16_1::decode(view->block(g / 2, g % 2, tiny_llama::vocab, 2), source.data() + 32 * g);
    }
    c.model.write(c.source);
    const auto r = c.without_md5();
    CHECK(tensor(r, "lm_head.weight").sums.e2 == 0);
    REQUIRE(r.problems.size() == 1);
    CHECK(has(all(r.problems), "tensor 'lm_head.weight': too good: its RMS error 0 is below "));
}

TEST_CASE("a source of four-bit values is exact, which is no fault but worth a word", "[verify]") {
    converted c;
    std::mt19937 random(3);
    for (auto& t : c.model.tensors) {
        for (std::size_t i = 0; i < t.values.size(); ++i) t.values[i] = (i % 16 == 0 ? 7.0F : static_cast<float>(random() % 15) - 7.0F) / 64;
    }
    c.model.write(c.source);
    c.convert("q4f16_1");
    const auto r = c.verify();
    CHECK(all(r.problems) == "");
    CHECK(r.source->quantized.e2 == 0);
    CHECK(has(all(r.warnings), "every quantized value is exactly the source's"));
    for (auto& v : c.model.values("model.embed_tokens.weight")) v = std::copysign(0.3F, v);  // ternary weights: mse represents them, absmax does not
    c.model.write(c.source);
    c.convert("q4f16_1", {.fit = fit::mse});
    CHECK(all(c.verify().problems).empty());
}

TEST_CASE("values that are not finite are counted", "[verify]") {
    converted c;
    auto& w = c.model.values("lm_head.weight");
    w[5] = std::numeric_limits<float>::quiet_NaN();
    w[70] = 70000.0F;  // beyond f16
    w[200] = -std::numeric_limits<float>::infinity();
    c.model.values("model.norm.weight")[3] = std::numeric_limits<float>::quiet_NaN();
    c.model.write(c.source);
    for (const auto& s : schemes) {
        CAPTURE(s.name);
        c.convert(s.name);
        const auto r = c.exact();
        CHECK(all(r.problems) == "");
        CHECK(r.source->n_nonfinite == (s.model_type == encoding::f16 ? 4u : 3u));
    }
}

TEST_CASE("interrupted conversions are recognised", "[verify]") {
    const converted c;
    std::filesystem::create_directory(c.out + ".nibble-work");
    CHECK(convert::verify(c.out)->partial);
    CHECK(convert::verify(c.out)->good());
    std::filesystem::remove(c.out + "/tensor-cache.json");
    std::filesystem::remove(c.out + "/ndarray-cache.json");
    CHECK(has(convert::verify(c.out).error().message(), "has not come to its end"));
}

TEST_CASE("E8: the chat configuration", "[verify]") {
    const converted c;
    const auto problems = [&](const std::string& text) {
        test::write_text(c.out + "/mlc-chat-config.json", text);
        return all(convert::verify(c.out)->problems);
    };
    CHECK(has(all(convert::verify(c.out)->warnings), "mlc-chat-config.json: the file is not there"));
    CHECK(has(problems(R"({"tokenizer_files": ["tokenizer.json"]})"), "names tokenizer.json, which is not there"));
    CHECK(has(problems(R"({"tokenizer_files": ["../tokenizer.json"]})"), "is not a plain file name"));
    CHECK(has(problems(R"({"tokenizer_files": "tokenizer.json"})"), "is not an array"));
    CHECK(has(problems(R"({"context_window_size": 64, "sliding_window_size": 64})"), "are both set"));
    CHECK(has(problems(R"({"conv_template": "llama-2"})"), "\"conv_template\" is string"));
    CHECK(has(problems(R"({"vocab_size": 49})"), "vocab_size is 49, the embedding model.embed_tokens.q_weight has 48 rows"));
    CHECK(has(problems("[]"), "must be a JSON object"));
    CHECK(has(problems("{"), "not valid JSON"));
    test::write_text(c.out + "/tokenizer.json", "{}");
    CHECK(problems(R"({"tokenizer_files": ["tokenizer.json"], "context_window_size": 64, "sliding_window_size": -1, "vocab_size": 48, "conv_template": {}})")
              .empty());
}
