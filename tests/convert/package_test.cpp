// SPDX-License-Identifier: Apache-2.0
// A package is what its parts are: shards of convert, a configuration of gen_config but for what is listed, hashes of what lies there.
#include "nibble/convert/package.hpp"

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include <sys/mount.h>

#include "nibble/convert/doctor.hpp"
#include "nibble/shard/reader.hpp"
#include "support/catch.hpp"
#include "support/conversion.hpp"
#include "support/files.hpp"
#include "support/tiny_library.hpp"
#include "support/tiny_llama.hpp"

namespace package_tests {

using namespace nibble;
using namespace nibble::convert;
namespace fs = std::filesystem;
using test::read_text;
using test::write_text;

namespace {

/// A checkpoint with a tokenizer, and room beside it.
struct workshop {
    test::temp_folder root;
    std::string model = root / "model";
    json config;
    json tokenizer{{"added_tokens", {{{"id", 0}, {"content", "<|im_start|>"}}, {{"id", 1}, {"content", "<|im_end|>"}}}},
                   {"decoder", {{"type", "ByteLevel"}}},
                   {"model", {{"type", "BPE"}, {"vocab", {{"a", 2}, {"b", 3}, {"ab", 4}}}, {"merges", {"a b"}}}}};

    workshop() {
        test::tiny_llama(3).write(model);
        config = parsed(model + "/config.json");
        write();
    }
    void write() const {
        write_text(model + "/config.json", config.dump());
        write_text(model + "/tokenizer.json", tokenizer.dump());
        write_text(model + "/tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
    }
    static json parsed(const std::string& path) {
        const auto bytes = read_file(path, 64u << 20);
        if (!bytes) FAIL(bytes.error().message());
        auto value = parse_json(*bytes);
        if (!value) FAIL(path << ": " << value.error().message());
        return std::move(*value);
    }
    [[nodiscard]] std::string operator/(std::string_view name) const { return root / name; }
    [[nodiscard]] static package_options options(const std::string& quantization = "q4f16_1") {
        package_options o;
        o.plan.quantization = quantization;
        o.config.conv_template = "chatml";
        return o;
    }
    [[nodiscard]] package_plan plan(const package_options& o = options()) const {
        auto p = plan_package(model, o);
        if (!p) FAIL(p.error().message());
        for (const auto& e : p->problems) FAIL_CHECK(e.message());
        return std::move(*p);
    }
    package_report package(const std::string& out, const package_options& o = options()) const {
        auto report = write_package(plan(o), out);
        if (!report) FAIL(report.error().message());
        return std::move(*report);
    }
};

/// Every file below a folder, by its relative name.
std::map<std::string, std::string> contents(const std::string& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (entry.is_regular_file()) files[entry.path().lexically_relative(folder).generic_string()] = read_text(entry.path());
    }
    return files;
}

std::string sha256_of(const std::string& text) {
    sha256 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}

std::string integrity_of_text(const std::string& text) { return integrity_of(std::as_bytes(std::span(text))); }

/// Errors and warnings of the doctor, a line each.
std::string complaints(const std::string& folder, const doctor_options& options = {}) {
    const auto r = look_at_folder(folder, options);
    if (!r) return r.error().message();
    CHECK(r->n_hashed == r->n_shards);
    std::string all;
    for (const auto& f : r->findings) {
        if (f.level != finding::severity::note) all += f.code + ": " + f.what.message() + "\n";
    }
    return all;
}

template <class T>
error refused(const result<T>& got, errc code, const std::string& words, const std::string& remedy = {}) {
    REQUIRE(!got);
    INFO(got.error().message());
    CHECK(got.error().code == code);
    CHECK(got.error().rule.find(words) != std::string::npos);
    CHECK(got.error().remedy.find(remedy) != std::string::npos);
    return got.error();
}

}  // namespace

TEST_CASE("a package holds convert's shards and gen-config's files, and its manifest says what they are", "[package]") {
    const workshop w;
    for (const std::string quantization : {"q4f16_1", "q4f32_1", "q0f32", "q3f16_1"}) {
        CAPTURE(quantization);
        const auto converted = w / ("converted-" + quantization);
        test::convert_to(w.model, converted, quantization);
        const auto out = w / quantization;
        const auto report = w.package(out, workshop::options(quantization));
        const auto files = contents(out);
        for (const auto& [name, bytes] : contents(converted)) {
            CAPTURE(name);
            CHECK(files.at(name) == bytes);
        }
        CHECK(files.at("tensor-cache.json") == files.at("ndarray-cache.json"));

        gen_config_options chat;
        chat.quantization = quantization;
        chat.conv_template = "chatml";
        const auto theirs = make_chat_folder(w.model, {}, chat);
        REQUIRE(theirs);
        CHECK(files.at("mlc-chat-config.json") == theirs->config_text());
        CHECK(files.at("tokenizer.json") == w.tokenizer.dump());

        const auto manifest = workshop::parsed(out + "/nibble-manifest.json");
        CHECK(manifest["files"].size() == files.size() - 1);
        std::uint64_t total = 0;
        for (const auto& [name, bytes] : files) {
            total += bytes.size();
            if (name == "nibble-manifest.json") continue;
            CAPTURE(name);
            CHECK(manifest["files"][name] == json{{"bytes", bytes.size()}, {"sha256", sha256_of(bytes)}});
        }
        CHECK(report.bytes == total);
        CHECK(report.files.size() == files.size());
        CHECK(complaints(out).empty());
    }
}

TEST_CASE("each layout holds the same files, and readers find them", "[package]") {
    const workshop w;
    w.package(w / "flat");
    const auto flat = contents(w / "flat");
    for (const auto& [word, layout] : package_layouts) {
        CAPTURE(word);
        auto o = workshop::options();
        o.layout = layout;
        const auto out = w / ("out-" + std::string(word));
        w.package(out, o);
        CHECK(complaints(out).empty());
        std::map<std::string, std::string> expected;
        for (const auto& [name, bytes] : flat) {
            const bool below = name.starts_with("params_shard_") || name.find("-cache") != name.npos;
            const auto where = layout == package_layout::hub ? "resolve/main/" : layout == package_layout::params && below ? "params/" : "";
            expected[where + name] = bytes;
        }
        auto files = contents(out);
        // They tell of the layout.
        for (const auto* name : {"README.md", "nibble-manifest.json"}) {
            const auto at = (layout == package_layout::hub ? "resolve/main/" : "") + std::string(name);
            REQUIRE(files.contains(at));
            if (layout == package_layout::params) files[at] = expected[at];
        }
        CHECK(files == expected);
        const auto read = shard::open_folder(out);
        REQUIRE(read);
        CHECK(read->problems.empty());
        CHECK(read->warnings.empty());
        CHECK(shard::check_md5(*read).empty());
        const auto library = w / "no.wasm";
        if (layout == package_layout::params) {
            // A damaged shard is found there too, once.
            write_text(out + "/params/params_shard_0.bin", std::string(flat.at("params_shard_0.bin").size(), 'x'));
            const auto found = complaints(out);
            CHECK(found.find("hash: ") == 0);
            CHECK(std::count(found.begin(), found.end(), '\n') == 1);
        }
    }
}

TEST_CASE("a pair is two packages, made in one reading", "[package]") {
    const workshop w;
    const std::string storyteller = std::string(NIBBLE_EXAMPLE_DATA) + "/storyteller/storyteller-0.5m";
    auto o = workshop::options();
    o.run.threads = 1;
    o.plan.source.access = file_access::read;
    // What system calls read, in bytes.
    const auto read_so_far = []() -> std::uint64_t {
        const auto text = read_text("/proc/self/io");
        const auto at = text.find("rchar: ");
        return at == text.npos ? 0 : std::stoull(text.substr(at + 7));
    };
    for (const std::uint64_t shard_bytes : {shard::default_shard_bytes, std::uint64_t{40000}}) {  // in the second case scales lie apart from codes
        CAPTURE(shard_bytes);
        o.plan.shard_bytes = shard_bytes;
        std::map<std::string, std::map<std::string, std::string>> single;
        std::uint64_t bytes_read = 0;
        for (const auto scheme : pair_schemes) {
            auto one = o;
            one.plan.quantization = scheme;
            const auto out = w / ("single-" + std::string(scheme));
            one.run.overwrite = true;
            const auto plan = plan_package(storyteller, one);
            REQUIRE(plan);
            const auto before = read_so_far();
            REQUIRE(write_package(*plan, out));
            bytes_read = std::max(bytes_read, read_so_far() - before);
            single[std::string(scheme)] = contents(out);
        }
        auto both = o;
        both.pair = true;
        both.run.overwrite = true;
        both.base_url = "https://example.org/models/";
        const auto plan = plan_package(storyteller, both);
        REQUIRE(plan);
        REQUIRE(plan->problems.empty());
        const auto before = read_so_far();
        REQUIRE(write_package(*plan, w / "pair"));
        const auto pair_read = read_so_far() - before;
        if (bytes_read == 0) {
            WARN("skipped: this system does not say how much is read");
        } else {
            CHECK(bytes_read >= fs::file_size(storyteller + "/model.safetensors") * 9 / 10);
            CHECK(pair_read < bytes_read + 20000);
        }
        for (const auto scheme : pair_schemes) {
            CAPTURE(scheme);
            const auto out = w / ("pair/" + std::string(scheme));
            auto files = contents(out);
            CHECK(complaints(out).empty());
            const auto record = workshop::parsed(out + "/webllm-record.json");
            CHECK(record["model"] == "https://example.org/models/" + std::string(scheme));
            CHECK(record["model_id"] == "storyteller-0.5m-" + std::string(scheme) + "-MLC");
            CHECK(record.contains("required_features") == (scheme == "q4f16_1"));
            const auto& card = files["README.md"];
            CHECK(card.find("? \"storyteller-0.5m-q4f16_1-MLC\"\n  : \"storyteller-0.5m-q4f32_1-MLC\"") != card.npos);
            for (const auto* name : {"README.md", "webllm-record.json", "nibble-manifest.json"}) files[name] = single[std::string(scheme)][name];
            CHECK(files == single[std::string(scheme)]);
        }
    }
    // Schemes that lay a shard out differently cannot share a reading.
    auto checkpoint = source::open_checkpoint(w.model);
    REQUIRE(checkpoint);
    plan_options a, b;
    b.quantization = "q0f16";
    const auto x = make_plan(*checkpoint, a);
    const auto y = make_plan(*checkpoint, b);
    REQUIRE((x && y));
    refused(can_be_made_together({&*x, &*y}), errc::refused, "q4f16_1 and q0f16 cannot be made in one reading");
    b.quantization = "q4f16_0";
    const auto z = make_plan(*checkpoint, b);
    REQUIRE(z);
    CHECK(can_be_made_together({&*x, &*x}).has_value());
    refused(can_be_made_together({&*x, &*z}), errc::refused, "cannot be made in one reading");
}

namespace {

/// A checkpoint of any size whose weights are all holes in a file.
void write_sparse(const std::string& folder, const json& config, const std::vector<std::pair<std::string, std::vector<std::uint64_t>>>& tensors) {
    json header = json::object();
    std::uint64_t at = 0;
    for (const auto& [name, dims] : tensors) {
        std::uint64_t n = 2;
        for (const auto d : dims) n *= d;
        header[name] = {{"dtype", "BF16"}, {"shape", dims}, {"data_offsets", {at, at + n}}};
        at += n;
    }
    const auto text = header.dump();
    write_text(folder + "/model.safetensors", test::safetensors_bytes(text, ""));
    fs::resize_file(folder + "/model.safetensors", 8 + text.size() + at);
    write_text(folder + "/config.json", config.dump());
    write_text(folder + "/tokenizer.json", R"({"model": {"vocab": {"a": 0}, "merges": []}})");
}

struct published_model {
    const char* model_type;
    model::model_sizes sizes;
    std::uint64_t head_dim;
    bool tied;
    double rope_theta;
    const char* rope_scaling;
    std::map<std::string, double> megabytes;  ///< of prebuiltAppConfig in WebLLM 0.2.79, with a context of 4096
};

void write_published(const std::string& folder, const published_model& m) {
    const std::string type = m.model_type;
    const auto& z = m.sizes;
    json config{{"model_type", type},
                {"hidden_size", z.hidden},
                {"num_hidden_layers", z.layers},
                {"num_attention_heads", z.heads},
                {"num_key_value_heads", z.kv_heads},
                {"intermediate_size", z.intermediate},
                {"vocab_size", z.vocab},
                {"head_dim", m.head_dim},
                {"rope_theta", m.rope_theta},
                {"max_position_embeddings", 32768},
                {"rms_norm_eps", 1e-5},
                {"hidden_act", "silu"},
                {"tie_word_embeddings", m.tied},
                {"attention_bias", false}};
    if (*m.rope_scaling != 0)
        config["rope_scaling"] = {
            {"rope_type", m.rope_scaling}, {"factor", 8.0}, {"high_freq_factor", 4.0}, {"low_freq_factor", 1.0}, {"original_max_position_embeddings", 8192}};
    if (type == "gemma2")
        config.update(json{{"sliding_window", 4096},
                           {"attn_logit_softcapping", 50.0},
                           {"final_logit_softcapping", 30.0},
                           {"query_pre_attn_scalar", 256},
                           {"hidden_activation", "gelu_pytorch_tanh"}});
    std::vector<std::pair<std::string, std::vector<std::uint64_t>>> tensors{{"model.embed_tokens.weight", {z.vocab, z.hidden}},
                                                                            {"model.norm.weight", {z.hidden}}};
    if (!m.tied) tensors.push_back({"lm_head.weight", {z.vocab, z.hidden}});
    for (std::uint64_t i = 0; i < z.layers; ++i) {
        const auto layer = "model.layers." + std::to_string(i) + ".";
        const auto add = [&](const std::string& name, std::vector<std::uint64_t> dims) { tensors.push_back({layer + name, std::move(dims)}); };
        for (const auto& [name, n] : {std::pair{"q", z.heads}, std::pair{"k", z.kv_heads}, std::pair{"v", z.kv_heads}}) {
            add("self_attn." + std::string(name) + "_proj.weight", {n * m.head_dim, z.hidden});
            if (type == "qwen2") add("self_attn." + std::string(name) + "_proj.bias", {n * m.head_dim});
        }
        add("self_attn.o_proj.weight", {z.hidden, z.heads * m.head_dim});
        if (type == "qwen3") {
            add("self_attn.q_norm.weight", {m.head_dim});
            add("self_attn.k_norm.weight", {m.head_dim});
        }
        add("mlp.gate_proj.weight", {z.intermediate, z.hidden});
        add("mlp.up_proj.weight", {z.intermediate, z.hidden});
        add("mlp.down_proj.weight", {z.hidden, z.intermediate});
        add("input_layernorm.weight", {z.hidden});
        add("post_attention_layernorm.weight", {z.hidden});
        if (type == "gemma2") {
            add("pre_feedforward_layernorm.weight", {z.hidden});
            add("post_feedforward_layernorm.weight", {z.hidden});
        }
    }
    write_sparse(folder, config, tensors);
}

const std::vector<published_model> published{
    {"llama", {2048, 16, 32, 8, 8192, 128256}, 64, true, 500000, "llama3", {{"q4f16_1", 879.04}, {"q4f32_1", 1128.82}, {"q0f16", 2573.13}, {"q0f32", 5106.26}}},
    {"llama", {4096, 32, 32, 8, 14336, 128256}, 128, false, 500000, "llama3", {{"q4f16_1", 5001.0}, {"q4f32_1", 6101.01}}},
    {"llama", {960, 32, 15, 5, 2560, 49152}, 64, true, 100000, "", {{"q4f16_1", 376.06}, {"q4f32_1", 579.61}}},
    {"qwen2", {896, 24, 14, 2, 4864, 151936}, 64, true, 1000000, "", {{"q4f16_1", 944.62}, {"q4f32_1", 1060.2}, {"q0f16", 1624.12}}},
    {"qwen3", {1024, 28, 16, 8, 3072, 151936}, 128, true, 1000000, "", {{"q4f16_1", 1403.34}, {"q4f32_1", 1924.98}}},
    {"gemma2", {2304, 26, 8, 4, 9216, 256000}, 256, true, 10000, "", {{"q4f16_1", 1895.3}, {"q4f32_1", 2508.75}}},
};

}  // namespace

TEST_CASE("the memory of a record is near that of WebLLM's own records", "[package]") {
    const test::temp_folder root;
    std::size_t i = 0;
    for (const auto& m : published) {
        const auto folder = root / ("model-" + std::to_string(i++));
        write_published(folder, m);
        for (const auto& [quantization, megabytes] : m.megabytes) {
            CAPTURE(m.model_type, m.sizes.hidden, quantization);
            auto o = workshop::options(quantization);
            o.webllm = *model::parse_webllm_version("0.2.79");
            const auto plan = plan_package(folder, o);
            if (!plan) FAIL(plan.error().message());
            for (const auto& e : plan->problems) FAIL(e.message());
            const auto& record = plan->models[0].record.record;
            const double ours = record["vram_required_MB"];
            CAPTURE(megabytes, ours);
            CHECK(ours > 0.96 * megabytes);
            CHECK(ours < 1.04 * megabytes);
            // By hand: the embedding is the largest tensor.
            const double bits = quantization == "q0f16" ? 16 : quantization == "q0f32" ? 32 : 4;
            const auto table = static_cast<std::uint64_t>(static_cast<double>(m.sizes.vocab * m.sizes.hidden) * bits / 8);
            CHECK(record["buffer_size_required_bytes"] == table);
            CHECK(record["low_resource_required"] == (ours <= 3000));
            CHECK(record.contains("required_features") == (quantization.find("f16") != quantization.npos));
            CHECK(record["model_lib"].get<std::string>().find("/v0_2_48/") != std::string::npos);
            CHECK(record["model_lib"].get<std::string>().find("-" + quantization + "-ctx4k_cs1k-webgpu.wasm") != std::string::npos);
            if (std::string(m.model_type) != "gemma2") CHECK(record["overrides"] == json{{"context_window_size", 4096}});
        }
        fs::remove_all(folder);
    }
}

TEST_CASE("a record says what WebLLM must know, and its hashes are those of the files", "[package]") {
    const workshop w;
    auto o = workshop::options();
    o.model_id = "my-model";
    o.base_url = "https://huggingface.co/me/my-model/";
    w.package(w / "out", o);
    const auto files = contents(w / "out");
    const auto record = workshop::parsed(w / "out/webllm-record.json");
    std::vector<std::string> keys;
    for (const auto& [key, value] : record.items()) keys.push_back(key);
    CHECK(keys == std::vector<std::string>{"model", "model_id", "model_type", "vram_required_MB", "low_resource_required", "required_features",
                                           "buffer_size_required_bytes", "integrity"});
    CHECK(record["model"] == "https://huggingface.co/me/my-model");
    CHECK(record["model_id"] == "my-model");
    CHECK(record["model_type"] == 0);
    CHECK(record["required_features"] == json{"shader-f16"});
    const auto integrity = [&](const std::string& name) { return integrity_of_text(files.at(name)); };
    CHECK(record["integrity"] ==
          json{{"config", integrity("mlc-chat-config.json")}, {"tokenizer", {{"tokenizer.json", integrity("tokenizer.json")}}}, {"onFailure", "error"}});
    // The tiny llama, by hand: a layer of 64, its feed-forward layer of 96, 4 heads of 16 and 2 of them for keys; 48 tokens; context 64.
    std::uint64_t weights = 0;
    for (const auto& [name, bytes] : files) weights += name.ends_with(".bin") ? bytes.size() : 0;
    const std::uint64_t cache = 2 * 2 * 16 * 2 * 64;
    const std::uint64_t activations = 64 * 2 * (6 * 64 + (4 + 2 * 2) * 16 + 3 * 96) + 48 * 4;
    const auto need = w.plan(o).models[0].record.memory;
    CHECK((need.weights == weights && need.cache == cache && need.activations == activations && need.context == 64));
    CHECK(record["vram_required_MB"] == std::round(static_cast<double>(weights + cache + activations) / 1048576 * 100) / 100);
    CHECK(record["buffer_size_required_bytes"] == std::max<std::uint64_t>(cache, (64 + 32 + 32) * 64 / 2));

    // A shorter context is asked for, and a longer one than the cache is to have is overridden.
    o.config.context_window_size = 32;
    CHECK(w.plan(o).models[0].record.memory.cache == cache / 2);
    o.config.context_window_size = 100000;
    CHECK(!w.plan(o).models[0].record.record.contains("overrides"));
    workshop longer;
    longer.config["max_position_embeddings"] = 100000;
    longer.write();
    auto plan = longer.plan();
    CHECK(plan.models[0].record.record["overrides"] == json{{"context_window_size", 4096}});
    CHECK(plan.models[0].record.memory.context == 4096);
    CHECK(std::any_of(plan.notes.begin(), plan.notes.end(), [](const auto& n) { return n.find("limits the context of 100000 to 4096") != n.npos; }));
    // Names come from the Hub's cache too.
    const auto snapshot = w / "models--Owner--Name/snapshots/abc";
    fs::create_directories(snapshot);
    for (const auto& name : test::entries(w.model)) fs::copy(w.model + "/" + name, snapshot + "/" + name);
    write_text(snapshot + "/README.md", "---\nlanguage: en\nlicense: other\nlicense_name: my-terms\nlicense_link: [x]\n---\nlicense: not-this\n");
    auto named = plan_package(snapshot, workshop::options());
    REQUIRE(named);
    CHECK(named->models[0].record.record["model_id"] == "Name-q4f16_1-MLC");
    const auto& card = named->models[0].files.back();
    REQUIRE(card.name == "README.md");
    const std::string text(reinterpret_cast<const char*>(card.content.data()), card.content.size());
    CHECK(
        text.starts_with("---\nlibrary_name: mlc-llm\nbase_model: \"Owner/Name\"\nbase_model_relation: quantized\nlicense: \"other\"\n"
                         "license_name: \"my-terms\"\npipeline_tag: text-generation\ntags:\n- mlc-llm\n"));
    CHECK(text.find("not-this") == text.npos);
}

namespace {

/// Fields in which two configurations differ, as "a.b".
void fields_that_differ(const json& a, const json& b, const std::string& at, std::vector<std::string>& out) {
    if (a == b) return;
    if (!a.is_object() || !b.is_object()) return out.push_back(at);
    for (const auto& [key, value] : b.items()) fields_that_differ(a.contains(key) ? a[key] : json(), value, at.empty() ? key : at + "." + key, out);
    for (const auto& [key, value] : a.items()) {
        if (!b.contains(key)) out.push_back(at.empty() ? key : at + "." + key);
    }
}

/// A package's plan; what it lists as changed must be all that differs from what gen_config writes.
package_plan honest_plan(const std::string& model, const package_options& o) {
    auto plan = plan_package(model, o);
    if (!plan) FAIL(plan.error().message());
    for (const auto& e : plan->problems) FAIL(e.message());
    auto chat = o.config;
    chat.quantization = o.plan.quantization;
    const auto theirs = make_chat_folder(model, {}, chat);
    REQUIRE(theirs);
    if (theirs->problems.empty()) {
        std::vector<std::string> differing, listed;
        fields_that_differ(theirs->config, plan->models[0].folder.chat.config, {}, differing);
        for (const auto& d : plan->models[0].folder.differences) {
            CHECK(!d.reason.empty());
            if (d.field.find(':') == d.field.npos) listed.push_back(d.field);
        }
        std::sort(differing.begin(), differing.end());
        std::sort(listed.begin(), listed.end());
        CHECK(listed == differing);
    }
    return std::move(*plan);
}
const difference* find_difference(const package_plan& p, const std::string& field) {
    for (const auto& d : p.models.at(0).folder.differences) {
        if (d.field == field) return &d;
    }
    return nullptr;
}

/// A model of the golden tests with a tokenizer of its own.
std::string with_tokenizer(const test::temp_folder& root, const std::string& name, const std::function<void(json&)>& change = {}) {
    const auto folder = root / name;
    fs::copy(std::string(NIBBLE_TEST_DATA) + "/mlc/models/" + name, folder);
    auto config = workshop::parsed(std::string(NIBBLE_TEST_DATA) + "/mlc/models/" + name + "/config.json");
    if (change) change(config);
    write_text(folder + "/config.json", config.dump());
    write_text(folder + "/tokenizer.json",
               R"({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 1, "content": "<|im_start|>"}, {"id": 2, "content": "<|im_end|>"}]})");
    return folder;
}

}  // namespace

TEST_CASE("Gemma 3 gets one window, and a warning in f16", "[package]") {
    const test::temp_folder root;
    const auto model = with_tokenizer(root, "gemma3_text_bf16");
    const auto f16_plan = honest_plan(model, workshop::options("q4f16_1"));
    const auto* d = find_difference(f16_plan, "sliding_window_size");
    REQUIRE(d != nullptr);
    CHECK(*d->mlc_llm == 512);
    CHECK(d->here == -1);
    CHECK(d->reason.find("WindowSizeConfigurationError") != std::string::npos);
    const auto& config = f16_plan.models[0].folder.chat.config;
    CHECK(config["sliding_window_size"] == -1);
    CHECK(config["context_window_size"] == 8192);
    CHECK(config["model_config"]["sliding_window_size"] == 512);  // what a library is compiled from stays
    REQUIRE(f16_plan.warnings.size() == 1);
    CHECK(f16_plan.warnings[0].find("Gemma 3 does not run in q4f16_1: ") == 0);
    CHECK(f16_plan.warnings[0].find("65504") != std::string::npos);
    CHECK(f16_plan.warnings[0].find("Take q4f32_1") != std::string::npos);
    CHECK(honest_plan(model, workshop::options("q4f32_1")).warnings.empty());
    auto o = workshop::options();
    o.pair = true;
    const auto pair = plan_package(model, o);
    REQUIRE(pair);
    CHECK(pair->warnings.size() == 1);
    REQUIRE(write_package(*pair, root / "out"));
    CHECK(complaints(root / "out/q4f16_1") == "");
    CHECK(complaints(root / "out/q4f32_1") == "");
    CHECK(read_text(root / "out/q4f16_1/README.md").find("> **Gemma 3 does not run in q4f16_1") != std::string::npos);
    CHECK(read_text(root / "out/q4f32_1/README.md").find("does not run") == std::string::npos);
    CHECK(read_text(root / "out/q4f32_1/README.md").find("- sliding_window_size is -1, mlc_llm writes 512: ") != std::string::npos);
}

TEST_CASE("a rope base is found where transformers 5 writes it", "[package]") {
    const auto respelled = [](json rope) {
        return [rope](json& config) {
            config.erase("rope_theta");
            config.erase("rope_scaling");
            config["rope_parameters"] = rope;
        };
    };
    const json usual{{"rope_theta", 123456.0}, {"rope_type", "default"}};
    for (const auto* name : {"llama_gqa_bf16", "qwen2_bf16", "qwen3_bf16", "stablelm_bf16", "mistral_bf16", "phi3_bf16", "gemma_bf16"}) {
        CAPTURE(name);
        const test::temp_folder root, plain_root;
        // The same checkpoint in both spellings gives the same configuration.
        const auto old = with_tokenizer(plain_root, name, [](json& c) {
            c["rope_theta"] = 123456.0;
            c.erase("rope_scaling");
        });
        const auto model = with_tokenizer(root, name, respelled(usual));
        const auto plan = honest_plan(model, workshop::options());
        const auto expected = honest_plan(old, workshop::options());
        const auto& config = plan.models[0].folder.chat.config;
        CHECK(config == expected.models[0].folder.chat.config);
        CHECK(expected.models[0].folder.differences.empty());
        const auto field = config["model_config"].contains("rope_theta") ? "rope_theta" : "position_embedding_base";
        CHECK(config["model_config"][field] == 123456.0);
        const auto* d = find_difference(plan, "model_config." + std::string(field));
        REQUIRE(d != nullptr);
        CHECK(d->here == 123456.0);
        CHECK(d->mlc_llm.has_value() == (std::string(field) != "rope_theta"));  // classes that want rope_theta fail without it
        if (d->mlc_llm) CHECK(*d->mlc_llm == 10000);
        CHECK(d->reason.find("transformers 5") == 0);
    }
    // Llama 3's scaling moves along; a kind for each sort of layer is that of full attention.
    const test::temp_folder root;
    const auto scaled = honest_plan(with_tokenizer(root, "llama_gqa_bf16", respelled({{"rope_theta", 500000.0}, {"rope_type", "llama3"}, {"factor", 32.0}})),
                                    workshop::options());
    CHECK(scaled.models[0].folder.chat.config["model_config"]["rope_scaling"] == json{{"rope_type", "llama3"}, {"factor", 32.0}});
    CHECK(find_difference(scaled, "model_config.rope_scaling") != nullptr);
    const auto gemma = honest_plan(
        with_tokenizer(root, "gemma3_text_bf16",
                       respelled({{"full_attention", {{"rope_theta", 77.0}, {"rope_type", "default"}}}, {"sliding_attention", {{"rope_theta", 10000.0}}}})),
        workshop::options("q4f32_1"));
    CHECK(gemma.models[0].folder.chat.config["model_config"]["text_config"]["position_embedding_base"] == 77.0);
    // Ministral 3 reads it by itself; what stands in both places is taken from the old one.
    CHECK(honest_plan(with_tokenizer(root, "ministral3_bf16", respelled(usual)), workshop::options()).models[0].folder.differences.empty());
    const auto both = honest_plan(with_tokenizer(root, "qwen3_bf16",
                                                 [&](json& c) {
                                                     c["rope_parameters"] = usual;
                                                     c["rope_theta"] = 5.0;
                                                 }),
                                  workshop::options());
    CHECK(both.models[0].folder.chat.config["model_config"]["rope_theta"] == 5.0);
    for (const json& odd : {json(), json(3), json::array(), json::object(), json{{"rope_theta", "x"}}, json{{"full_attention", 1}}}) {
        const test::temp_folder other;
        const auto model = with_tokenizer(other, "llama_gqa_bf16", respelled(odd));
        CHECK(plan_package(model, workshop::options()).has_value());
    }
}

TEST_CASE("the tokenizer is what every WebLLM reads", "[package]") {
    workshop w;
    w.tokenizer["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"ab", "\xc4\xa0"})});
    w.write();
    auto plan = honest_plan(w.model, workshop::options());
    REQUIRE(find_difference(plan, "tokenizer.json: model.merges") != nullptr);
    REQUIRE(write_package(plan, w / "out"));
    auto expected = w.tokenizer;
    expected["model"]["merges"] = {"a b", "ab \xc4\xa0"};
    CHECK(workshop::parsed(w / "out/tokenizer.json") == expected);
    doctor_options old;
    old.webllm = model::parse_webllm_version("0.2.51");
    CHECK(complaints(w / "out", old).empty());

    // A part with a blank in it can only stand in a pair.
    w.tokenizer["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"a b", "c"})});
    w.write();
    plan = honest_plan(w.model, workshop::options());
    CHECK(plan.models[0].folder.differences.empty());
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0].find("WebLLM before 0.2.79 cannot read it") != std::string::npos);
    for (const auto& f : plan.models[0].files) {
        if (f.name == "tokenizer.json") CHECK(std::string(reinterpret_cast<const char*>(f.content.data()), f.content.size()) == w.tokenizer.dump());
    }
    // Words that look like it are no merges.
    CHECK(!convert::detail::may_have_pairs(R"({"vocab": {"merges": 3, "x": 4}, "merges": ["a b"]})"));
    CHECK(convert::detail::may_have_pairs("{\"vocab\": {\"merges\": 3}, \"merges\" : [\n [\"a\", \"b\"]]}"));
    CHECK(!convert::detail::may_have_pairs("\"merges\""));

    fs::remove(w.model + "/tokenizer.json");
    auto none = plan_package(w.model, workshop::options());
    REQUIRE(none);
    REQUIRE(none->problems.size() == 1);
    CHECK(none->problems[0].rule.find("neither tokenizer.json nor tokenizer.model") != std::string::npos);
    CHECK(none->problems[0].remedy.find("save_pretrained") != std::string::npos);
    refused(write_package(*none, w / "none"), errc::missing, "neither tokenizer.json");
    CHECK(!fs::exists(w / "none"));
    write_text(w.model + "/tokenizer.model", "sentencepiece");
    plan = honest_plan(w.model, workshop::options());
    REQUIRE(plan.warnings.size() == 1);
    CHECK(plan.warnings[0].find("ignore added_tokens.json") != std::string::npos);
    CHECK(plan.models[0].record.record["integrity"]["tokenizer"].contains("tokenizer.model"));
    // One with an added token twice is refused as by gen-config.
    w.tokenizer["added_tokens"].push_back({{"id", 3}, {"content", "<|im_end|>"}});
    w.write();
    none = plan_package(w.model, workshop::options());
    REQUIRE((none && none->problems.size() == 1));
    CHECK(none->problems[0].rule.find("stands there twice") != std::string::npos);
}

TEST_CASE("windows, chunks and vocabularies are as WebLLM wants them", "[package]") {
    const test::temp_folder root;
    const auto bert = with_tokenizer(root, "bert_f32");
    auto o = workshop::options("q0f32");
    CHECK(honest_plan(bert, o).models[0].folder.differences.empty());
    o.config.prefill_chunk_size = 128;
    const auto plan = honest_plan(bert, o);
    CHECK(plan.models[0].folder.chat.config["context_window_size"] == 128);
    REQUIRE(find_difference(plan, "context_window_size") != nullptr);
    CHECK(plan.models[0].record.record["model_type"] == 1);
    CHECK(plan.models[0].record.memory.cache == 0);
    CHECK(!plan.models[0].record.record.contains("required_features"));
    REQUIRE(write_package(plan, root / "bert"));
    CHECK(complaints(root / "bert").empty());
    CHECK(read_text(root / "bert/README.md").find("pipeline_tag: feature-extraction") != std::string::npos);
    CHECK(read_text(root / "bert/README.md").find("engine.embeddings.create") != std::string::npos);

    // A sliding window alone is WebLLM's too: the cache is as long as the window.
    const auto mistral = with_tokenizer(root, "mistral_bf16", [](json& c) { c["sliding_window"] = 32; });
    const auto window = honest_plan(mistral, workshop::options());
    CHECK(window.models[0].folder.differences.empty());
    CHECK(window.models[0].folder.chat.config["context_window_size"] == -1);
    CHECK(window.models[0].record.memory.context == 32);
    CHECK(!window.models[0].record.record.contains("overrides"));
    auto none = workshop::options();
    none.config.context_window_size = -1;
    none.config.sliding_window_size = -1;
    const auto no_window = plan_package(mistral, none);
    REQUIRE(no_window);
    REQUIRE(!no_window->problems.empty());
    CHECK(no_window->problems[0].rule.find("neither context_window_size nor sliding_window_size is positive") != std::string::npos);

    // More rows than config.json says: what counts is the embedding.
    workshop w;
    w.config["vocab_size"] = test::tiny_llama::vocab - 8;
    w.write();
    const auto rows = honest_plan(w.model, workshop::options());
    const auto* d = find_difference(rows, "vocab_size");
    REQUIRE(d != nullptr);
    CHECK((*d->mlc_llm == test::tiny_llama::vocab - 8 && d->here == test::tiny_llama::vocab));
    REQUIRE(write_package(rows, w / "rows"));
    CHECK(complaints(w / "rows").empty());
}

TEST_CASE("what cannot be packaged is refused, everything at once, and nothing is written", "[package]") {
    workshop w;
    const auto problems = [&](const package_options& o, const std::string& model = {}) {
        const auto plan = plan_package(model.empty() ? w.model : model, o);
        if (!plan) return plan.error().message();
        std::string all;
        for (const auto& e : plan->problems) all += e.message() + "\n";
        return all;
    };
    CHECK(problems(workshop::options("q4bf16_1")).find("WebGPU has neither bfloat16 nor fp8") != std::string::npos);
    CHECK(problems(workshop::options("e4m3_e4m3_f16_max_calibrate")).find("WebGPU has neither bfloat16 nor fp8") != std::string::npos);
    CHECK(problems(workshop::options("q4f16_7")).find("unknown quantization \"q4f16_7\"") != std::string::npos);
    auto o = workshop::options();
    o.config.conv_template = "nobody";
    CHECK(problems(o).find("unknown conversation template \"nobody\"") != std::string::npos);
    o = workshop::options();
    for (const auto* url : {"", "example.org", "/out", "file:///out", "http://"}) {
        o.base_url = url;
        CHECK(problems(o).find("is not an http or https URL") != std::string::npos);
    }
    o = workshop::options();
    for (const auto* id : {"a/b", "..", "a\nb"}) {
        o.model_id = id;
        CHECK(problems(o).find("is no name for a model") != std::string::npos);
    }
    write_text(w / "x.gguf", "GGUF");
    CHECK(problems(workshop::options(), w / "x.gguf").find("a .gguf file has no tokenizer.json") != std::string::npos);
    CHECK(problems(workshop::options(), w / "none").find("no such file or folder") != std::string::npos);
    // The weights' problems and the configuration's come together, and those of both halves of a pair once.
    auto config = w.config;
    config["intermediate_size"] = 95;
    config["max_position_embeddings"] = nullptr;
    config.erase("max_position_embeddings");
    write_text(w.model + "/config.json", config.dump());
    o = workshop::options();
    o.pair = true;
    const auto both = problems(o);
    CHECK(both.find("the context length is not stated") != std::string::npos);
    CHECK(both.find("where config.json makes parameter") != std::string::npos);
    CHECK(both.find("the context length is not stated") == both.rfind("the context length is not stated"));
    w.write();
    // The model's own folder, whatever the layout.
    for (const auto& [word, layout] : package_layouts) {
        o = workshop::options();
        o.layout = layout;
        refused(write_package(w.plan(o), w.model), errc::refused, "the output is the model's own folder");
    }
    CHECK(test::entries(w.root.path()) == std::vector<std::string>{"model", "x.gguf"});
    CHECK(test::entries(w.model).size() == 4);
}

TEST_CASE("a package replaces another only when that is allowed, and leaves nothing of it", "[package]") {
    const workshop w;
    const auto out = w / "out";
    w.package(out);
    refused(write_package(w.plan(), out), errc::refused, "already holds a finished conversion (tensor-cache.json)", "--overwrite");
    // In every layout, an earlier package in another one goes, and what is the user's stays.
    write_text(out + "/mine.txt", "mine");
    std::size_t n = 0;
    for (const auto& [word, layout] : std::vector<std::pair<std::string_view, package_layout>>{package_layouts[1], package_layouts[2], package_layouts[0],
                                                                                               package_layouts[2], package_layouts[1], package_layouts[0]}) {
        CAPTURE(word, n++);
        auto o = workshop::options(n % 2 == 0 ? "q4f16_1" : "q4f32_1");
        o.layout = layout;
        refused(write_package(w.plan(o), out), errc::refused, "already holds a finished conversion");
        o.run.overwrite = true;
        w.package(out, o);
        w.package(w / "fresh", o);
        auto found = contents(out);
        CHECK(found.extract("mine.txt").mapped() == "mine");
        CHECK(found == contents(w / "fresh"));
        CHECK(complaints(out).empty());
        fs::remove_all(w / "fresh");
    }
    // A file that is not of a package is not replaced without a word.
    write_text(w / "other/README.md", "mine");
    refused(write_package(w.plan(), w / "other"), errc::refused, "the output folder already holds README.md", "--overwrite");
    CHECK(contents(w / "other") == std::map<std::string, std::string>{{"README.md", "mine"}});
    auto o = workshop::options();
    o.run.overwrite = true;
    w.package(w / "other", o);
    CHECK(read_text(w / "other/README.md").starts_with("---\n"));
    // A manifest may name what it likes: only files of its folder go.
    write_text(w / "outside", "x");
    write_text(w / "other/nibble-manifest.json",
               R"({"files": {"../outside": {}, "/etc/x": {}, "mlc-chat-config.json": {}, ".hidden/../../outside": {}, "old.bin": {}}})");
    write_text(w / "other/old.bin", "x");
    w.package(w / "other", o);
    CHECK(fs::exists(w / "outside"));
    CHECK(!fs::exists(w / "other/old.bin"));
    CHECK(complaints(w / "other").empty());
    // convert takes the place of a package's weights, and of the manifest that described them.
    plan_options weights;
    const auto converted = make_plan(w.model, weights);
    REQUIRE(converted);
    run_options again;
    again.overwrite = true;
    REQUIRE(run(*converted, w / "other", again));
    CHECK(!fs::exists(w / "other/nibble-manifest.json"));
    CHECK(complaints(w / "other").empty());
}

TEST_CASE("an interrupted package leaves nothing in its place, and is resumed", "[package]") {
    const workshop w;
    for (const bool pair : {false, true}) {
        for (const auto& [word, layout] : package_layouts) {
            CAPTURE(word, pair);
            auto o = workshop::options();
            o.plan.shard_bytes = 300;
            o.layout = layout;
            o.pair = pair;
            o.run.threads = 1;
            w.package(w / "whole", o);
            auto plan = w.plan(o);
            std::atomic<bool> stop{false};
            plan.options.run.cancelled = &stop;
            plan.options.run.on_progress = [&](const auto&) { stop = true; };
            refused(write_package(plan, w / "out"), errc::interrupted, "interrupted", "`--resume` goes on");
            CHECK(!fs::exists(w / "out"));
            CHECK(fs::exists(w / "out.nibble-work"));
            o.run.resume = true;
            const auto report = w.package(w / "out", o);
            CHECK(report.shards_kept >= 5);
            CHECK(report.shards_kept < w.plan(o).models[0].weights.manifest.shards.size());
            CHECK(contents(w / "out") == contents(w / "whole"));
            CHECK(test::entries(w.root.path()) == std::vector<std::string>{"model", "out", "whole"});
            fs::remove_all(w / "out");
            fs::remove_all(w / "whole");
        }
    }
}

TEST_CASE("a full disk leaves no half of a package", "[package]") {
    const workshop w;
    auto o = workshop::options();
    o.pair = true;
    const auto plan = w.plan(o);
    const auto disk = w / "disk";
    fs::create_directory(disk);
    const auto room = plan.models[0].weights.output_bytes() * 2 + (1 << 20) + (64 << 10);
    if (::mount("none", disk.c_str(), "tmpfs", 0, ("size=" + std::to_string(room)).c_str()) != 0) {
        WARN("skipped: no small disk can be mounted here (" << std::strerror(errno) << ")");
        return;
    }
    struct unmounting {
        const std::string& at;
        ~unmounting() { ::umount2(at.c_str(), MNT_DETACH); }
    } const unmount{disk};
    const auto out = disk + "/out";
    const auto fill = [&](const std::string& name) {
        std::ofstream file(name, std::ios::binary);
        const std::string block(4096, 'x');
        while (file.write(block.data(), 4096).flush()) {
        }
    };
    fill(disk + "/filler");
    refused(write_package(plan, out), errc::no_space, " bytes are needed, 0 are free");
    CHECK(test::entries(disk) == std::vector<std::string>{"filler"});
    fs::remove(disk + "/filler");
    // Full when all shards are there and the other files are to be written.
    auto late = plan;
    late.options.run.threads = 1;
    late.options.run.on_progress = [&](const progress& p) {
        if (p.shards_done == p.shards_total) fill(disk + "/filler");
    };
    refused(write_package(late, out), errc::no_space, "No space left on device", "`--resume` goes on");
    CHECK(!fs::exists(out));
    fs::remove(disk + "/filler");
    auto again = plan;
    again.options.run.resume = true;
    const auto report = write_package(again, out);
    if (!report) FAIL(report.error().message());
    CHECK(report->shards_kept == plan.models[0].weights.manifest.shards.size());
    CHECK(test::entries(disk) == std::vector<std::string>{"out"});
    CHECK(complaints(out + "/q4f16_1").empty());
}

TEST_CASE("a model library is compared with the weights, and becomes part of the package", "[package]") {
    const workshop w;
    const auto plan = w.plan();
    const auto library = [&](const std::string& quantization, std::uint64_t norm, std::int64_t context = 16) {
        std::string parameters;
        for (const auto& s : plan.models[0].weights.manifest.shards) {
            for (const auto& r : s.records) {
                std::string dims;
                for (std::size_t i = 0; i < r.dims.rank(); ++i) dims += (i != 0 ? ", " : "") + std::to_string(r.name == "model.norm.weight" ? norm : r.dims[i]);
                parameters += (parameters.empty() ? "" : ", ") + std::string(R"({"name": ")") + r.name + R"(", "shape": [)" + dims + R"(], "dtype": ")" +
                              std::string(shard::dtype_text(r.type)) + "\"}";
            }
        }
        return test::library_module(R"({"model_type": "llama", "quantization": ")" + quantization + R"(", "context_window_size": )" + std::to_string(context) +
                                    R"(, "sliding_window_size": -1, "prefill_chunk_size": 8, "params": [)" + parameters + "]}");
    };
    auto o = workshop::options();
    o.library = w / "my lib.wasm";
    write_text(o.library, library("q4f16_1", 64));
    for (const auto& [word, layout] : package_layouts) {
        o.layout = layout;
        const auto out = w / ("out-" + std::string(word));
        w.package(out, o);
        doctor_options with;
        with.library = o.library;
        with.webllm = model::newest_webllm;
        const auto home = out + (layout == package_layout::hub ? "/resolve/main/" : "/");
        const auto record = workshop::parsed(home + "webllm-record.json");
        CHECK(record["model_lib"] == "http://127.0.0.1:8000/resolve/main/my%20lib.wasm");
        CHECK(record["integrity"]["model_lib"] == integrity_of_text(read_text(o.library)));
        CHECK(record["overrides"] == json{{"context_window_size", 16}});
        CHECK(read_text(home + "my lib.wasm") == read_text(o.library));
        CHECK(workshop::parsed(home + "nibble-manifest.json")["files"].contains("my lib.wasm"));
        const auto report = look_at_folder(out, with);
        REQUIRE(report);
        CHECK(report->good());
    }
    CHECK(w.plan(o).models[0].record.memory.context == 16);
    CHECK(w.plan(o).models[0].record.memory.chunk == 8);

    // One that would not run it is a problem before anything is converted.
    write_text(o.library, library("q4f32_1", 63));
    const auto wrong = plan_package(w.model, o);
    REQUIRE(wrong);
    std::string all;
    for (const auto& e : wrong->problems) all += e.message() + "\n";
    CHECK(all.find("the library wants the shape [63]") != all.npos);
    CHECK(all.find("the library is for q4f32_1") != all.npos);
    write_text(o.library, "no wasm");
    refused(plan_package(w.model, o), errc::malformed, "not a WebAssembly module");
    o.library = w / "nowhere.wasm";
    refused(plan_package(w.model, o), errc::missing, "open");
    // A library that is named by its URL is taken as it is.
    o.library = "https://example.org/x.wasm";
    const auto record = w.plan(o).models[0].record.record;
    CHECK(record["model_lib"] == "https://example.org/x.wasm");
    CHECK(!record["integrity"].contains("model_lib"));
}

TEST_CASE("values that are not finite are named for each half, or refused", "[package]") {
    workshop w;
    test::tiny_llama spoiled(3);
    spoiled.values("model.norm.weight")[1] = 70000.0F;  // finite in f32 alone
    spoiled.write(w.model);
    w.write();
    auto o = workshop::options();
    o.pair = true;
    const auto report = w.package(w / "out", o);
    REQUIRE(report.nonfinite.size() == 2);
    REQUIRE(report.nonfinite[0].size() == 1);
    CHECK(report.nonfinite[0][0].tensor == "model.norm.weight");
    CHECK(report.nonfinite[1].empty());
    o.run.nonfinite = nonfinite_values_are::refused;
    refused(write_package(w.plan(o), w / "strict"), errc::refused, "1 values of 1 tensors are not finite", "--nonfinite keep");
    CHECK(!fs::exists(w / "strict"));
}

}  // namespace package_tests
