// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/doctor.hpp"

#include <filesystem>

#include "nibble/convert/template_check.hpp"
#include "nibble/serve/local.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/tiny_library.hpp"

// A namespace of its own: the tests of this room are compiled as one file.
namespace doctor_tests {

using namespace nibble;
using namespace nibble::convert;

namespace {

std::string md5_of(const std::string& text) {
    md5 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}
std::string sha256_of(const std::string& text) {
    sha256 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}

/// A folder with nothing wrong in it, and ways to spoil it.
struct patient {
    test::temp_folder root;
    std::string out = root / "out";
    json config{{"model_type", "llama"},
                {"quantization", "q4f16_1"},
                {"vocab_size", 100},
                {"context_window_size", 4096},
                {"sliding_window_size", -1},
                {"prefill_chunk_size", 1024},
                {"attention_sink_size", -1},
                {"tokenizer_files", {"tokenizer.json", "tokenizer_config.json"}},
                {"conv_template",
                 {{"name", "chatml"},
                  {"system_template", "<|im_start|>system\n{system_message}<|im_end|>\n"},
                  {"roles", {{"user", "<|im_start|>user"}, {"assistant", "<|im_start|>assistant"}}},
                  {"role_templates", {{"user", "{user_message}"}}},
                  {"role_content_sep", "\n"},
                  {"role_empty_sep", "\n"},
                  {"seps", {"<|im_end|>\n"}},
                  {"stop_str", {"<|im_end|>"}},
                  {"stop_token_ids", {2}}}}};
    json tokenizer{{"added_tokens", {{{"id", 1}, {"content", "<|im_start|>"}}, {{"id", 2}, {"content", "<|im_end|>"}}}},
                   {"model", {{"vocab", {{"a", 0}, {"b", 3}}}, {"merges", {"a b"}}}}};
    json tokenizer_config{{"eos_token", "<|im_end|>"}, {"chat_template", chat_template({})}};
    shard::manifest index;
    std::string shard = std::string(100 * 8 * 4 + 100 * 2 * 2 + 64 * 2, 'x');

    /// ChatML, with a system message where none is given.
    [[nodiscard]] static std::string chat_template(const std::string& system) {
        return "{% if messages[0].role != 'system' and '" + system + "' %}<|im_start|>system\n" + system + "<|im_end|>\n{% endif %}" +
               "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>{{ '\n' }}{% endfor %}{% if add_generation_prompt "
               "%}<|im_start|>assistant{{ '\n' }}{% endif %}";
    }

    patient() {
        shard::shard_file s;
        s.path = "params_shard_0.bin";
        s.n_bytes = shard.size();
        s.md5 = md5_of(shard);
        s.records = {{"model.embed_tokens.q_weight", shape({100, 8}), encoding::u32, 3200, 0, false},
                     {"model.embed_tokens.q_scale", shape({100, 2}), encoding::f16, 400, 3200, false},
                     {"model.norm.weight", shape({64}), encoding::f16, 128, 3600, false}};
        index.shards = {s};
        index.n_parameters = 3;
        index.parameter_bytes = 3728;
        index.bits_per_parameter = 3728 * 8.0 / 6464;
        write();
    }
    void write() {
        test::write_text(out + "/mlc-chat-config.json", config.dump());
        test::write_text(out + "/tokenizer.json", tokenizer.dump());
        test::write_text(out + "/tokenizer_config.json", tokenizer_config.dump());
        test::write_text(out + "/tensor-cache.json", to_json(index));
        test::write_text(out + "/ndarray-cache.json", to_json(index));
        test::write_text(out + "/params_shard_0.bin", shard);
    }
    [[nodiscard]] std::string library(const std::string& calls = "TVMFFIWasmSafeCall", const std::string& norm = "64") const {
        const auto path = root / "lib.wasm";
        test::write_text(path,
                         test::library_module(R"({"model_type": "llama", "quantization": "q4f16_1", "context_window_size": 4096, "sliding_window_size": -1,
            "prefill_chunk_size": 1024, "params": [{"name": "model.norm.weight", "shape": [)" +
                                                  norm + R"(], "dtype": "float16"},
            {"name": "model.embed_tokens.q_weight", "shape": ["vocab_size", 8], "dtype": "uint32"},
            {"name": "model.embed_tokens.q_scale", "shape": ["vocab_size", 2], "dtype": "float16"}]})",
                                              calls));
        return path;
    }
    [[nodiscard]] doctor_report look(const doctor_options& options = {}) const { return *look_at_folder(out, options); }
};

/// All errors and warnings, a line each: "cors: message".
std::string text(const doctor_report& r) {
    std::string all;
    for (const auto& f : r.findings) {
        if (f.level != finding::severity::note) all += (f.level == finding::severity::error ? "" : "warning ") + f.code + ": " + f.what.message() + "\n";
    }
    return all;
}
std::size_t n_errors(const doctor_report& r) {
    return static_cast<std::size_t>(std::count_if(r.findings.begin(), r.findings.end(), [](const auto& f) { return f.level == finding::severity::error; }));
}

/// Whether there is one error, of that code, with a remedy.
bool only(const doctor_report& r, const std::string& code) {
    INFO(text(r));
    const bool one = n_errors(r) == 1 && r.findings[0].code == code && !r.findings[0].what.remedy.empty() && !r.good();
    if (!one) UNSCOPED_INFO("wanted only " << code << ", got\n" << text(r));
    return one;
}

using change = std::function<void(const serve::query&, serve::reply&)>;

/// A server that answers as ours does, but for what `spoil` does to its answers.
serve::asker network(const std::string& folder, change spoil = {}) {
    const auto plain = serve::ask_site(std::make_shared<const serve::site>(*serve::site::open(folder)));
    return [=](const serve::query& q) -> result<serve::reply> {
        auto r = plain(q);
        if (r && spoil) spoil(q, *r);
        return r;
    };
}

doctor_report look_at_server(const patient& p, change spoil = {}, doctor_options options = {}) {
    return *look_at_url("http://localhost:8000", network(p.out, std::move(spoil)), options);
}

bool is_about(const serve::query& q, std::string_view name) { return q.url.ends_with(name); }

void remove_header(serve::reply& r, std::string_view name) {
    std::erase_if(r.headers, [&](const auto& h) { return h.first == name; });
}
void set_header(serve::reply& r, const std::string& name, const std::string& value) {
    remove_header(r, name);
    r.headers.emplace_back(name, value);
}

}  // namespace

TEST_CASE("doctor: a folder and a server with nothing wrong") {
    const patient p;
    const auto local = p.look({.library = p.library()});
    CHECK(text(local) == "");
    CHECK(local.good());
    CHECK(local.n_shards == 1);
    CHECK(local.n_hashed == 1);
    CHECK(local.index == "tensor-cache.json");
    for (const bool bytes : {true, false}) {
        const auto remote = look_at_server(p, {}, {.bytes = bytes});
        CHECK(text(remote) == "");
        CHECK(remote.where == "http://localhost:8000/resolve/main/");
        CHECK(remote.n_hashed == (bytes ? 1 : 0));
    }
    CHECK_FALSE(look_at_folder(p.root / "nowhere"));
    CHECK_FALSE(look_at_url("localhost", network(p.out)));
}

TEST_CASE("doctor: no CORS") {
    const patient p;
    const auto r = look_at_server(p, [](const auto&, auto& a) { remove_header(a, "access-control-allow-origin"); });
    CHECK(only(r, "cors"));
    CHECK(test::has(text(r), "mlc-chat-config.json and 5 other files"));
    CHECK(only(look_at_server(p, [](const auto&, auto& a) { set_header(a, "access-control-allow-origin", "https://other.example"); }), "cors"));
    CHECK(look_at_server(p, [](const auto& q, auto& a) { set_header(a, "access-control-allow-origin", q.origin); }).good());
    // Allowed at the end, and not on the way.
    const auto way = look_at_server(p, [](const auto& q, auto& a) {
        if (is_about(q, ".bin")) a.hops.push_back({q.url, 302, {{"location", "http://cdn/x"}}});
    });
    CHECK(only(way, "cors-redirect"));
}

TEST_CASE("doctor: a shard that is not there") {
    const patient p;
    std::filesystem::remove(p.out + "/params_shard_0.bin");
    CHECK(only(p.look(), "shard-missing"));
    CHECK(only(look_at_server(p), "shard-missing"));
    CHECK(only(look_at_server(p, {}, {.bytes = false}), "shard-missing"));
    // No HEAD, and a range that says so.
    CHECK(only(look_at_server(p,
                              [](const auto& q, auto& a) {
                                  if (q.method == "HEAD" && is_about(q, ".bin")) a.status = 405;
                              },
                              {.bytes = false}),
               "shard-missing"));
}

TEST_CASE("doctor: a shard that is cut short, or breaks off on the way") {
    patient p;
    test::write_text(p.out + "/params_shard_0.bin", p.shard.substr(1));
    CHECK(only(p.look(), "shard-truncated"));
    CHECK(only(look_at_server(p), "shard-truncated"));
    CHECK(only(look_at_server(p, {}, {.bytes = false}), "shard-truncated"));
    p.write();
    const auto breaks = look_at_server(p, [](const auto& q, auto& a) {
        if (is_about(q, ".bin") && q.range.empty()) a.whole = false;
    });
    CHECK(only(breaks, "shard-truncated"));
    CHECK(test::has(text(breaks), "promises 3728 bytes"));
}

TEST_CASE("doctor: a shard of the wrong length") {
    const patient p;
    test::write_text(p.out + "/params_shard_0.bin", p.shard + "y");
    CHECK(only(p.look(), "shard-length"));
    CHECK(only(look_at_server(p), "shard-length"));
    CHECK(only(look_at_server(p, {}, {.bytes = false}), "shard-length"));
    // One that would go on for ever is left.
    test::write_text(p.out + "/params_shard_0.bin", p.shard + std::string(3u << 20, 'y'));
    CHECK(only(p.look(), "shard-length"));
    CHECK(test::has(text(p.look()), "has 3149456 bytes"));
    // Without HEAD and without a length, a range tells.
    const auto mute = look_at_server(p,
                                     [](const auto& q, auto& a) {
                                         if (q.method == "HEAD") remove_header(a, "content-length");
                                     },
                                     {.bytes = false});
    CHECK(only(mute, "shard-length"));
}

TEST_CASE("doctor: a changed byte in a shard") {
    patient p;
    p.shard[1000] = 'y';
    test::write_text(p.out + "/params_shard_0.bin", p.shard);
    CHECK(only(p.look(), "hash"));
    CHECK(only(look_at_server(p), "hash"));
    CHECK(look_at_server(p, {}, {.bytes = false}).good());  // nobody looked
}

TEST_CASE("doctor: the manifest's SHA-256, where the index has no md5") {
    patient p;
    p.index.shards[0].md5.clear();
    const auto without = [&](std::string text) {
        const auto at = text.find(",\n            \"md5sum\": \"\"");
        return at == text.npos ? text : text.erase(at, 26);
    };
    for (const char* name : {"/tensor-cache.json", "/ndarray-cache.json"}) test::write_text(p.out + name, without(to_json(p.index)));
    json files{{"params_shard_0.bin", {{"bytes", p.shard.size()}, {"sha256", sha256_of(p.shard)}}},
               {"tokenizer.json", {{"bytes", p.tokenizer.dump().size()}, {"sha256", sha256_of(p.tokenizer.dump())}}}};
    test::write_text(p.out + "/nibble-manifest.json", json{{"files", files}}.dump());
    CHECK(p.look().good());
    CHECK(p.look().n_hashed == 1);
    auto changed = p.shard;
    changed[0] = 'y';
    test::write_text(p.out + "/params_shard_0.bin", changed);
    CHECK(only(p.look(), "hash"));
    test::write_text(p.out + "/params_shard_0.bin", p.shard);
    p.tokenizer["added_tokens"][0]["special"] = true;
    test::write_text(p.out + "/tokenizer.json", p.tokenizer.dump());
    CHECK(only(p.look(), "hash"));
    files["../secret"] = files["tokenizer.json"];
    test::write_text(p.out + "/nibble-manifest.json", json{{"files", files}}.dump());
    CHECK(test::has(text(p.look()), "manifest-bad: "));
}

TEST_CASE("doctor: an index under the name that another WebLLM reads") {
    const patient p;
    const auto at = [&](int patch) { return p.look({.webllm = model::webllm_version{0, 2, patch}}); };
    CHECK(text(at(79)) == "");
    std::filesystem::remove(p.out + "/ndarray-cache.json");
    CHECK(only(at(79), "index-name"));
    CHECK(test::has(text(at(79)), "WebLLM 0.2.79 reads ndarray-cache.json, and only tensor-cache.json is there; copy tensor-cache.json to ndarray-cache.json"));
    CHECK(text(at(80)) == "");
    CHECK(p.look().good());
    CHECK(test::has(text(p.look()), "warning index-name"));
    std::filesystem::rename(p.out + "/tensor-cache.json", p.out + "/ndarray-cache.json");
    CHECK(only(at(80), "index-name"));
    CHECK(only(p.look(), "index-name"));
    CHECK(p.look().n_hashed == 1);  // and the shards were looked at all the same
    std::filesystem::remove(p.out + "/ndarray-cache.json");
    CHECK(only(p.look(), "index-missing"));
}

TEST_CASE("doctor: two indexes that disagree, and one that is broken") {
    patient p;
    p.index.shards[0].records[2].name = "model.other.weight";
    test::write_text(p.out + "/ndarray-cache.json", to_json(p.index));
    CHECK(only(p.look(), "index-differs"));
    test::write_text(p.out + "/ndarray-cache.json", "{\"records\": [");
    CHECK(only(p.look(), "index-bad"));
}

TEST_CASE("doctor: no tokenizer") {
    patient p;
    std::filesystem::remove(p.out + "/tokenizer.json");
    CHECK(only(p.look(), "tokenizer-missing"));
    CHECK(only(look_at_server(p), "tokenizer-missing"));
    p.config["tokenizer_files"] = json::array({"vocab.json"});
    p.write();
    CHECK(only(p.look(), "tokenizer-missing"));
    p.config["tokenizer_files"] = json::array({"tokenizer.json"});
    p.tokenizer["added_tokens"][0]["id"] = 100;
    p.write();
    CHECK(only(p.look(), "tokenizer-vocab"));
    p.tokenizer["added_tokens"][0] = p.tokenizer["added_tokens"][1];
    p.write();
    CHECK(test::has(text(p.look()), "\"<|im_end|>\" stands twice"));
}

TEST_CASE("doctor: merges as pairs") {
    patient p;
    p.tokenizer["model"]["merges"] = json::array({json::array({"a", "b"})});
    p.write();
    CHECK(only(p.look({.webllm = model::webllm_version{0, 2, 51}}), "tokenizer-merges"));
    CHECK(text(p.look({.webllm = model::webllm_version{0, 2, 79}})) == "");
}

TEST_CASE("doctor: the template of another model") {
    patient p;
    auto& conv = p.config["conv_template"];
    const auto chatml = conv;
    conv["name"] = "llama-3";
    conv["system_template"] = "<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>";
    p.write();
    CHECK(only(p.look(), "template"));
    CHECK(test::has(text(p.look()), "\"llama-3\" is not that of the model"));
    // One without markers, for a model that lives by them.
    conv = chatml;
    conv["name"] = "vicuna_v1.1";
    conv["system_template"] = "{system_message}";
    conv["roles"] = {{"user", "USER"}, {"assistant", "ASSISTANT"}};
    conv["seps"] = {" ", "</s>"};
    p.tokenizer["added_tokens"].push_back({{"id", 4}, {"content", "</s>"}});
    p.write();
    CHECK(only(p.look(), "template"));
    conv = chatml;
    conv["stop_token_ids"] = {2, 128009};
    p.write();
    CHECK(only(p.look(), "template"));
    conv = "chatml";
    p.write();
    CHECK(only(p.look(), "template"));
    conv = chatml;
    conv["seps"] = {"a", "b", "c"};
    p.write();
    CHECK(only(p.look(), "template"));
    CHECK(test::has(text(p.look()), "\"seps\" in conv_template must be a list of one or two"));
}

TEST_CASE("doctor: the template is compared by rendering") {
    patient p;
    auto& conv = p.config["conv_template"];
    const auto chatml = conv;
    const auto differs = [&](const char* key, const json& value) {
        conv = chatml;
        conv[key] = value;
        p.write();
        return text(p.look());
    };
    // All markers are the model's own; the text is not.
    CHECK(test::has(differs("roles", {{"user", "<|im_start|>user"}, {"assistant", "<|im_start|>model"}}),
                    "template: " + p.out + "/mlc-chat-config.json: its conv_template \"chatml\" is not that of the model: on "));
    CHECK(only(p.look(), "template"));
    CHECK(test::has(text(p.look()),
                    R"(the checkpoint writes "assistant\n" and 'chatml' writes "model\n"; run nibble gen-config again, without --conv-template)"));
    differs("system_template", "<|im_start|>user\n{system_message}<|im_end|>\n");
    CHECK(only(p.look(), "template"));
    CHECK(test::has(differs("role_empty_sep", nullptr), "is not that of the model"));  // absent, it is ": "
    // What may be on purpose is a warning.
    CHECK(test::has(differs("seps", {"<|im_end|>"}),
                    "warning template: " + p.out + "/mlc-chat-config.json: its conv_template \"chatml\" differs from the model's in white space: on "));
    CHECK(p.look().good());
    p.tokenizer_config["chat_template"] = p.chat_template("You help.");
    CHECK(test::has(differs("system_message", "You are somebody else."),
                    "differs from the model's in what it says where no system message is given: on one question"));
    CHECK(p.look().good());
    CHECK(differs("system_message", "You help.").empty());
    // A chat_template that cannot be rendered is compared by its markers.
    p.tokenizer_config["chat_template"] = "{{ messages | frobnicate }}<|im_start|>";
    CHECK(differs("roles", {{"user", "<|im_start|>user"}, {"assistant", "<|im_start|>model"}}).empty());
    p.tokenizer_config["chat_template"] = "{{ messages | frobnicate }}<|im_end|>";
    differs("system_template", "<|system|>{system_message}");
    CHECK(only(p.look(), "template"));
}

TEST_CASE("doctor: markers") {
    CHECK(markers_in("<|a|>x <b> <c d> << <> <e <|f|>") == std::set<std::string>{"<|a|>", "<b>", "<|f|>"});
    CHECK(chat_template_of(json{{"chat_template", {{{"name", "tool"}, {"template", "t"}}, {{"name", "default"}, {"template", "d"}}}}}) == "d");
    CHECK(chat_template_of(nullptr).empty());
}

TEST_CASE("doctor: a tensor above the binding limit") {
    patient p;
    const auto with_rows = [&](std::uint64_t rows) {
        // The shard is a file with a hole: nothing of it is written, and nothing of it is read but by hashing.
        auto& s = p.index.shards[0];
        s.records[2] = {"model.big.weight", shape({rows, 64}), encoding::f32, rows * 128, 3600, false};
        s.n_bytes = 3600 + rows * 128;
        s.md5 = std::string(32, '0');
        p.write();
        std::filesystem::resize_file(p.out + "/params_shard_0.bin", s.n_bytes);
        return look_at_server(p, {}, {.bytes = false});
    };
    CHECK(text(with_rows(1u << 19)).find("binding-limit") == std::string::npos);  // 128 MiB
    const auto above = with_rows((1u << 19) + 1);
    CHECK(above.good());
    CHECK(test::has(text(above), "warning binding-limit: "));
    CHECK(test::has(text(above), "model.big.weight': it takes 129 MiB on the GPU"));
    CHECK(only(with_rows((1u << 22) + 1), "binding-limit"));
}

TEST_CASE("doctor: a library of another line, and one of another model") {
    const patient p;
    const auto at = [&](const std::string& library, int patch) { return p.look({.webllm = model::webllm_version{0, 2, patch}, .library = library}); };
    CHECK(text(at(p.library(), 86)) == "");
    CHECK(only(at(p.library(), 79), "library"));
    CHECK(test::has(text(at(p.library("TVMWasmPackedCFunc"), 86)), "the library is of another line: it is for WebLLM up to 0.2.79"));
    CHECK(only(at(p.library("TVMFFIWasmSafeCall", "65"), 86), "library"));
    test::write_text(p.root / "lib.wasm", "<html>");
    CHECK(n_errors(at(p.root / "lib.wasm", 86)) == 1);
    CHECK(test::has(text(at(p.root / "lib.wasm", 86)), "library-bad"));
    CHECK(test::has(text(at(p.root / "none.wasm", 86)), "library-bad"));
}

TEST_CASE("doctor: a library at a URL is fetched as a page would") {
    const patient p;
    (void)p.library();
    const auto ask = network(p.root.path().string());
    const auto at = [&](const std::string& url, const serve::asker& a) { return *look_at_folder(p.out, {.library = url}, a); };
    CHECK(text(at("http://libs/lib.wasm", ask)) == "");
    CHECK(only(at("http://libs/none.wasm", ask), "library-missing"));
    CHECK(only(at("http://libs/lib.wasm", network(p.root.path().string(), [](const auto&, auto& a) { remove_header(a, "access-control-allow-origin"); })),
               "cors"));
}

TEST_CASE("doctor: windows, vocabulary and a configuration that is none") {
    patient p;
    const auto with = [&](const char* key, const json& value) {
        const auto before = p.config;
        p.config[key] = value;
        p.write();
        p.config = before;
        return p.look();
    };
    CHECK(only(with("sliding_window_size", 512), "windows") == false);  // two errors: both positive, and no sink
    CHECK(test::has(text(with("sliding_window_size", 512)), "both positive"));
    CHECK(only(with("context_window_size", -1), "windows"));
    CHECK(test::has(text(with("vocab_size", 120)), "vocab: "));
    CHECK(test::has(text(with("vocab_size", "x")), "it has no vocab_size"));
    test::write_text(p.out + "/mlc-chat-config.json", "[]");
    CHECK(only(p.look(), "config-bad"));
    test::write_text(p.out + "/mlc-chat-config.json", "version https://git-lfs.github.com/spec/v1\n");
    CHECK(test::has(text(p.look()), "git lfs pull"));
    std::filesystem::remove(p.out + "/mlc-chat-config.json");
    CHECK(only(p.look(), "config-missing"));
}

TEST_CASE("doctor: servers with ways of their own") {
    const patient p;
    // Files beside the URL instead of below resolve/main/.
    const auto flat = look_at_server(p, [](const auto& q, auto& a) {
        if (q.url.find("/resolve/") != std::string::npos) a.status = 404;
    });
    CHECK(only(flat, "resolve-path"));
    CHECK(flat.n_shards == 1);
    // A page for all that is not there.
    const auto page = look_at_server(p, [](const auto& q, auto& a) {
        if (!is_about(q, "tokenizer.json")) return;
        a.body = "<!doctype html>";
        set_header(a, "content-type", "text/html");
    });
    CHECK(only(page, "html"));
    CHECK(only(look_at_server(p,
                              [](const auto& q, auto& a) {
                                  if (is_about(q, "tokenizer.json")) a.status = 401;
                              }),
               "forbidden"));
    CHECK(test::has(text(look_at_server(p,
                                        [](const auto& q, auto& a) {
                                            if (is_about(q, ".bin")) a.status = 500;
                                        })),
                    "status 500"));
    const auto type = look_at_server(p, [](const auto& q, auto& a) {
        if (is_about(q, "cache.json")) set_header(a, "content-type", "application/x-thing");
    });
    CHECK(type.good());
    CHECK(test::has(text(type), "warning content-type"));
    const auto no_ranges = look_at_server(p, [](const auto& q, auto& a) {
        if (q.range.empty()) return;
        a.status = 200;
        remove_header(a, "content-range");
    });
    CHECK(no_ranges.good());
    CHECK(test::has(text(no_ranges), "warning ranges"));
    const auto dead = look_at_url("http://localhost:1", [](const auto& q) -> result<serve::reply> {
        return fail(error{errc::io, "no answer", q.url, {}, {}, "start it"});
    });
    CHECK(only(*dead, "no-answer"));
}

}  // namespace doctor_tests
