// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/onnx_export.hpp"

#include "nibble/codec/quantize.hpp"
#include "nibble/convert/inspect.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;

namespace {
namespace onnx_tests {

using namespace nibble::test;

/// A model file as its reader sees it, with the bytes of its constants.
struct read_back {
    onnx::model m;
    std::vector<std::byte> scratch;

    explicit read_back(const std::string& path) {
        auto f = file::open(path);
        REQUIRE(f);
        auto read = onnx::read_model(*f, scratch);
        INFO((read ? "" : read.error().message()));
        REQUIRE(read);
        m = std::move(*read);
        onnx::external_files files(m);
        CHECK(all(onnx::check_model(m, files)).empty());
    }
    [[nodiscard]] const onnx::read_tensor* find(const std::string& name) const {
        for (const auto& t : m.graph.initializers)
            if (t.name == name) return &t;
        return nullptr;
    }
    [[nodiscard]] std::vector<std::byte> bytes(const std::string& name) const {
        const auto* t = find(name);
        INFO(name);
        REQUIRE(t != nullptr);
        std::vector<std::byte> copy;
        onnx::external_files files(m);
        const auto at = files.find(*t);
        REQUIRE(at);
        const auto view = at->from->bytes(at->at.begin, t->n_bytes, copy);
        REQUIRE(view);
        return {view->begin(), view->end()};
    }
    [[nodiscard]] const onnx::read_node* node(const std::string& name) const {
        for (const auto& n : m.graph.nodes)
            if (n.name == name) return &n;
        return nullptr;
    }
    [[nodiscard]] std::size_t count(const std::string& op_type) const {
        return static_cast<std::size_t>(std::count_if(m.graph.nodes.begin(), m.graph.nodes.end(), [&](const auto& n) { return n.op_type == op_type; }));
    }
};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
    const auto view = std::as_bytes(std::span(values));
    return {view.begin(), view.end()};
}

template <class C>
void check_nbits(const read_back& file, const std::string& name, const std::vector<float>& w, std::uint64_t n, std::uint64_t k,
                 const std::string& suffix = "_Q4") {
    const auto q = quantize<C>(w, {n, k});
    REQUIRE(q);
    INFO(name);
    CHECK(file.bytes(name + suffix) == q->planes[0]);
    CHECK(file.bytes(name + "_scales") == q->planes[1]);
}

std::vector<float> joined(tiny_llama& model, const std::vector<std::string>& names) {
    std::vector<float> all;
    for (const auto& name : names) {
        const auto& part = model.values(name);
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

const std::string layer = "model.layers.0.";

/// A graph of MatMuls written to a file.
void write_model(const onnx::graph& g, const std::string& path, const std::string& external = {}) {
    onnx::model_options form;
    form.opsets = {{"", 21}};
    form.external_name = external;
    const auto parts = onnx::model_writer::write(g, form);
    REQUIRE(parts);
    for (const auto& p : *parts)
        REQUIRE(convert::write_assembly(p.content, p.name.empty() ? path : (std::filesystem::path(path).parent_path() / p.name).string()));
}

std::vector<float> numbers(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.1F);
    std::vector<float> w(n);
    for (auto& x : w) x = normal(random);
    return w;
}
std::vector<float> turned(const std::vector<float>& w, std::size_t k, std::size_t n) {
    std::vector<float> out(w.size());
    for (std::size_t i = 0; i < k; ++i)
        for (std::size_t j = 0; j < n; ++j) out[j * k + i] = w[i * n + j];
    return out;
}

}  // namespace onnx_tests
}  // namespace

TEST_CASE("a llama becomes the folder that Transformers.js loads", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    tiny_llama model;
    model.write(folder / "in");
    write_text(folder / "in/tokenizer.json", "{\"version\": \"1.0\"}");
    write_text(folder / "in/tokenizer_config.json", "{\"eos_token\": \"</s>\"}");
    write_text(folder / "in/chat_template.jinja", "{{ messages }}\n");
    convert::onnx_export_options options;
    options.dtypes = {"fp32", "q4", "q4f16", "q8", "fp16", "q4"};
    options.max_context = 48;
    const auto report = convert::export_onnx(folder / "in", folder / "out", options);
    INFO((report ? all(report->problems) : report.error().message()));
    REQUIRE(report);
    REQUIRE(report->problems.empty());
    CHECK(report->positions == 48);
    CHECK(entries(folder / "out") == std::vector<std::string>{"config.json", "onnx", "tokenizer.json", "tokenizer_config.json"});
    CHECK(entries(folder / "out/onnx") ==
          std::vector<std::string>{"model.onnx", "model_fp16.onnx", "model_q4.onnx", "model_q4f16.onnx", "model_quantized.onnx"});
    CHECK(read_text(folder / "out/tokenizer.json") == "{\"version\": \"1.0\"}");
    CHECK(json::parse(read_text(folder / "out/tokenizer_config.json"))["chat_template"] == "{{ messages }}\n");
    const auto config = json::parse(read_text(folder / "out/config.json"));
    CHECK(config["transformers.js_config"]["dtype"] == "fp32");
    CHECK(config["max_position_embeddings"] == 48);
    CHECK(config["model_type"] == "llama");

    const auto qkv = joined(model, {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"});
    const read_back q4(folder / "out/onnx/model_q4.onnx");
    check_nbits<nbits<4, f32_scale, 32>>(q4, layer + "self_attn.qkv_proj.weight", qkv, 128, 64);
    check_nbits<nbits<4, f32_scale, 32>>(q4, layer + "mlp.down_proj.weight", model.values(layer + "mlp.down_proj.weight"), 64, 96);
    check_nbits<nbits<4, f32_scale, 32>>(q4, "lm_head.weight", model.values("lm_head.weight"), 48, 64);
    CHECK(q4.bytes("model.embed_tokens.weight") == bytes_of(model.values("model.embed_tokens.weight")));
    CHECK(q4.count("MatMulNBits") == 6);
    CHECK(q4.count("MatMul") == 0);
    const auto* attention = q4.node("/model/layers/0/self_attn/out");
    REQUIRE(attention != nullptr);
    CHECK(attention->find("num_heads")->i == 4);
    CHECK(attention->find("scale")->f == 0.25F);
    CHECK(attention->find("local_window_size") == nullptr);
    CHECK(q4.find("cos_cache")->dims == shape{48, 8});

    const read_back q4f16(folder / "out/onnx/model_q4f16.onnx");
    check_nbits<nbits<4, f16_scale, 32>>(q4f16, layer + "self_attn.qkv_proj.weight", qkv, 128, 64);
    const read_back q8(folder / "out/onnx/model_quantized.onnx");
    check_nbits<nbits<8, f32_scale, 32>>(q8, layer + "self_attn.qkv_proj.weight", qkv, 128, 64, "_Q8");
    const read_back plain(folder / "out/onnx/model.onnx");
    CHECK(plain.bytes(layer + "self_attn.qkv_proj.weight") == bytes_of(turned(qkv, 128, 64)));
    CHECK(plain.count("MatMul") == 6);
}

TEST_CASE("inspect tells what an ONNX model is made of", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    tiny_llama model;
    model.write(folder / "in");
    REQUIRE(convert::export_onnx(folder / "in", folder / "out"));
    const auto r = convert::inspect(folder / "out/onnx/model_q4.onnx");
    REQUIRE(r);
    CHECK(r->format == "ONNX");
    CHECK(all(r->problems).empty());
    CHECK(r->n_files == 1);
    CHECK(r->by_type.contains("q4 in 32s"));
    CHECK(r->by_type.at("q4 in 32s") == (128 * 64 + 64 * 64 + 3 * 96 * 64 + 48 * 64) / 2);
    CHECK(has(r->notes.at(0), "6 MatMulNBits"));
    const auto* down = &*std::find_if(r->tensors.begin(), r->tensors.end(), [](const auto& t) { return t.name == layer + "mlp.down_proj.weight_Q4"; });
    CHECK(down->dims == shape{64, 96});
    CHECK(down->n_values == 64 * 96);
    write_text(folder / "cut.onnx", read_text(folder / "out/onnx/model_q4.onnx").substr(0, 1000));
    CHECK(has(convert::inspect(folder / "cut.onnx").error().message(), "longer than what is left"));
}

TEST_CASE("a tied embedding is quantized once", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    tiny_llama model;
    model.tensors.pop_back();
    model.write(folder / "in");
    auto config = json::parse(read_text(folder / "in/config.json"));
    config["tie_word_embeddings"] = true;
    write_text(folder / "in/config.json", config.dump());
    for (const bool symmetric : {true, false}) {
        convert::onnx_export_options options;
        options.symmetric = symmetric;
        options.overwrite = true;
        options.name = "model";
        const auto report = convert::export_onnx(folder / "in", folder / "out", options);
        REQUIRE(report);
        CHECK(all(report->problems).empty());
        CHECK(entries(folder / "out/onnx") == std::vector<std::string>{"model.onnx"});
        CHECK(json::parse(read_text(folder / "out/config.json"))["transformers.js_config"]["dtype"] == "fp32");  // the one whose file has no suffix
        const read_back q4(folder / "out/onnx/model.onnx");
        CHECK(q4.find("model.embed_tokens.weight") == nullptr);
        CHECK((q4.find("lm_head.weight_zero_points") == nullptr) == symmetric);
        if (symmetric)
            check_nbits<nbits<4, f32_scale, 32>>(q4, "lm_head.weight", model.values("model.embed_tokens.weight"), 48, 64);
        else
            check_nbits<nbits_with_zero<4, f32_scale, 32>>(q4, "lm_head.weight", model.values("model.embed_tokens.weight"), 48, 64);
        CHECK(q4.count("GatherBlockQuantized") == 0);
    }
}

TEST_CASE("an export that cannot be right is refused, and nothing is written", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    tiny_llama model;
    const auto problems = [&](convert::onnx_export_options options = {}) {
        const auto report = convert::export_onnx(folder / "in", folder / "out", options);
        CHECK(!std::filesystem::exists(folder / "out"));
        return report ? all(report->problems) : report.error().message();
    };
    const auto with = [](auto change) {
        convert::onnx_export_options o;
        change(o);
        return o;
    };
    model.write(folder / "in");
    CHECK(has(problems(with([](auto& o) { o.dtypes = {"q3"}; })), "unknown dtype \"q3\""));
    CHECK(has(problems(with([](auto& o) { o.dtypes = {}; })), "no dtype is given"));
    CHECK(has(problems(with([](auto& o) { o.block = 24; })), "a block of 24"));
    CHECK(has(problems(with([](auto& o) { o.name = "../x"; })), "plain file name"));
    CHECK(has(problems(with([](auto& o) { o.accuracy_level = 9; })), "accuracy level 9"));
    CHECK(has(problems(with([](auto& o) { o.model_type = "gpt2"; })), "has no graph here"));
    {
        auto lacking = model;
        lacking.tensors.erase(lacking.tensors.begin() + 3);  // v_proj
        lacking.write(folder / "in");
        CHECK(has(problems(), "self_attn.v_proj.weight': no such tensor"));
    }
    {
        auto more = model;
        more.tensors.push_back({layer + "self_attn.q_proj.bias", {64}, std::vector<float>(64)});
        more.write(folder / "in");
        CHECK(has(problems(), "has no place for this tensor"));
    }
    model.write(folder / "in");
    auto config = json::parse(read_text(folder / "in/config.json"));
    config["head_dim"] = 24;
    write_text(folder / "in/config.json", config.dump());
    CHECK(has(problems(), "takes multiples of 16"));
    config.erase("head_dim");
    config["intermediate_size"] = 128;
    config["quantization_config"] = {{"quant_method", "awq"}};
    write_text(folder / "in/config.json", config.dump());
    CHECK(has(problems(), "already quantized"));
    config.erase("quantization_config");
    write_text(folder / "in/config.json", config.dump());
    CHECK(has(problems(), "shape [96, 64] where config.json makes"));
}

TEST_CASE("weights that no number of the model's type can be are refused", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    const auto exported = [&](const std::string& tensor, float value, const std::string& dtype) {
        tiny_llama model;
        model.values(tensor)[7] = value;
        model.write(folder / "in");
        convert::onnx_export_options options;
        options.dtypes = {dtype};
        options.overwrite = true;
        const auto report = convert::export_onnx(folder / "in", folder / "out", options);
        CHECK(std::filesystem::exists(folder / "out/config.json") == report.has_value());
        return report ? all(report->problems) : report.error().message();
    };
    const float infinity = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(has(exported(layer + "mlp.up_proj.weight", nan, "q4"), "mlp.up_proj.weight': it has values that are NaN or infinite"));
    CHECK(has(exported(layer + "mlp.up_proj.weight", -infinity, "fp32"), "NaN or infinite"));
    CHECK(has(exported("model.embed_tokens.weight", infinity, "q8"), "NaN or infinite"));
    CHECK(has(exported("model.norm.weight", nan, "q4"), "NaN or infinite"));
    CHECK(has(exported("lm_head.weight", 65520.0F, "q4f16"), "beyond the range of f16"));
    CHECK(has(exported(layer + "input_layernorm.weight", -1e5F, "fp16"), "beyond the range of f16"));
    CHECK(exported("lm_head.weight", 65519.0F, "q4f16").empty());
    CHECK(exported("lm_head.weight", 1e5F, "q4").empty());
}

TEST_CASE("the MatMuls of a model are quantized, the rest of it is copied", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    const auto w0 = numbers(64 * 48, 1);
    const auto w1 = numbers(48 * 40, 2);
    onnx::graph g;
    g.input("x", onnx::element::f32, {"n", 64});
    g.input("free", onnx::element::f32, {40, 8});
    const auto a = g.add(onnx::node{"MatMul", {"x", g.numbers("w0", onnx::element::f32, {64, 48}, w0)}, {"a"}, {}, {}, "first"});
    const auto b = g.add(onnx::node{"MatMul", {a, g.numbers("w1", onnx::element::f32, {48, 40}, w1)}, {"b"}, {}, {}, "second"});
    g.add(onnx::node{"MatMul", {a, "w1"}, {"again"}, {}, {}, "third"});
    const auto c = g.add("MatMul", {b, "free"}, "c");
    g.add("Add", {c, g.numbers("bias", onnx::element::f32, {8}, numbers(8, 3))}, "y");
    g.output("y", onnx::element::f32, {"n", 8});
    g.output("again", onnx::element::f32, {"n", 40});
    for (const bool external : {false, true}) {
        write_model(g, folder / "in.onnx", external ? "in.onnx_data" : "");
        convert::onnx_quantize_options options;
        options.weights = {4, 16, true};
        options.overwrite = true;
        auto report = convert::quantize_onnx(folder / "in.onnx", folder / "out.onnx", options);
        INFO((report ? "" : report.error().message()));
        REQUIRE(report);
        CHECK(report->n_quantized == 3);
        CHECK(report->bytes_before == (w0.size() + w1.size()) * 4);
        const read_back out(folder / "out.onnx");
        check_nbits<nbits<4, f32_scale, 16>>(out, "w0", turned(w0, 64, 48), 48, 64);
        check_nbits<nbits<4, f32_scale, 16>>(out, "w1", turned(w1, 48, 40), 40, 48);
        CHECK(out.find("w0") == nullptr);
        CHECK(out.find("w1") == nullptr);
        CHECK(out.bytes("bias") == bytes_of(numbers(8, 3)));
        CHECK(out.m.opset(onnx::microsoft) == 1);
        CHECK(out.node("first_Q4") != nullptr);
        CHECK(out.count("MatMul") == 1);

        options.excluded = {"second", "nobody"};
        options.weights = {8, 32, false};
        report = convert::quantize_onnx(folder / "in.onnx", folder / "out.onnx", options);
        REQUIRE(report);
        CHECK(report->n_quantized == 2);
        CHECK(report->notes == std::vector<std::string>{"there is no node named \"nobody\" to exclude"});
        const read_back some(folder / "out.onnx");
        check_nbits<nbits_with_zero<8, f32_scale, 32>>(some, "w0", turned(w0, 64, 48), 48, 64, "_Q8");
        CHECK(some.bytes("w1") == bytes_of(w1));  // the excluded node needs it
        CHECK(some.find("w1_Q8") != nullptr);
    }
}

TEST_CASE("what cannot be quantized is told, and no output is half written", "[convert][onnx]") {
    using namespace onnx_tests;
    const temp_folder folder;
    onnx::graph g;
    g.input("x", onnx::element::f32, {"n", 64});
    g.add("MatMul", {"x", g.numbers("w", onnx::element::f32, {64, 48}, numbers(64 * 48, 1))}, "y");
    g.output("y", onnx::element::f32, {"n", 48});
    write_model(g, folder / "in.onnx", "in.onnx_data");
    const auto refused = [&](const std::string& in, const std::string& out, convert::onnx_quantize_options options = {}) {
        const auto report = convert::quantize_onnx(in, out, options);
        REQUIRE(!report);
        CHECK(!std::filesystem::exists(folder / "out.onnx"));
        CHECK(!std::filesystem::exists(folder / "out.onnx.part"));
        return report.error().message();
    };
    convert::onnx_quantize_options odd;
    odd.weights.block = 24;
    CHECK(has(refused(folder / "in.onnx", folder / "out.onnx", odd), "a block of 24"));
    odd.weights = {3, 32, true};
    CHECK(has(refused(folder / "in.onnx", folder / "out.onnx", odd), "of 3 bits"));
    CHECK(has(refused(folder / "in.onnx", folder / "in.onnx"), "the output is the model itself"));
    CHECK(has(refused(folder / "in.onnx", folder.path().string()), "a folder"));
    CHECK(has(refused(folder / "in.onnx", folder / "in.onnx_data"), "there already"));
    write_text(folder / "bad.onnx", "no model");
    CHECK(has(refused(folder / "bad.onnx", folder / "out.onnx"), "at byte"));
    std::filesystem::resize_file(folder / "in.onnx_data", 100);
    CHECK(has(refused(folder / "in.onnx", folder / "out.onnx"), "which has 100"));
}
