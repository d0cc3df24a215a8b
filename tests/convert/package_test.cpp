// SPDX-License-Identifier: Apache-2.0
// A package is what its parts are: shards of convert, a configuration of gen_config but for what is listed, hashes of what lies there.
#include "nibble/convert/package.hpp"

#include <filesystem>
#include <fstream>
#include <map>

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
            if (name == "nibble-manifest.json") continue;
            CAPTURE(name);
            CHECK(manifest["files"][name] == json{{"bytes", bytes.size()}, {"sha256", sha256_of(bytes)}});
            total += bytes.size();
        }
        CHECK(report.bytes == total);
        CHECK(report.files.size() == files.size() - 1);
        CHECK(complaints(out).empty());
    }
}

}  // namespace package_tests
