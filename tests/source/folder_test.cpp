// SPDX-License-Identifier: Apache-2.0
// Rows B1 to B5 of the list of bad inputs: what an index may name, where links may lead, and faults listed all at once.
#include "nibble/source/folder.hpp"

#include <functional>

#include "nibble/convert/plan.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
namespace fs = std::filesystem;
using test::write_text;

namespace {

constexpr std::array both{file_access::map, file_access::read};
const std::string index_name = "model.safetensors.index.json";

std::string one_tensor(const std::string& name) { return test::safetensors_maker().add<float>(name, "F32", {1}, {1.0F}).bytes(); }
std::string two_tensors(const std::string& a, const std::string& b) {
    return test::safetensors_maker().add<float>(a, "F32", {1}, {1.0F}).add<float>(b, "F32", {1}, {2.0F}).bytes();
}

/// Opens a folder in both ways of access; the outcomes must be the same.
result<source::checkpoint> open(const std::string& folder, source::open_options options = {}) {
    options.access = both[0];
    auto mapped = source::open_folder(folder, options);
    options.access = both[1];
    auto read = source::open_folder(folder, options);
    REQUIRE(mapped.has_value() == read.has_value());
    if (!mapped)
        CHECK(mapped.error().message() == read.error().message());
    else
        CHECK(mapped->problems.size() == read->problems.size());
    return mapped;
}
void refused(const result<source::checkpoint>& got, errc code, const std::string& words, const std::string& file, const std::string& remedy = {}) {
    REQUIRE(!got);
    INFO(got.error().message());
    CHECK(got.error().code == code);
    CHECK(got.error().rule.find(words) != std::string::npos);
    CHECK(got.error().file == file);
    CHECK(got.error().remedy.find(remedy) != std::string::npos);
}
bool noted(const std::vector<std::string>& notes, const std::string& words) {
    return std::any_of(notes.begin(), notes.end(), [&](const auto& n) { return n.find(words) != n.npos; });
}
const error* problem(const error_list& problems, const std::string& words, const std::string& tensor) {
    for (const auto& p : problems) {
        if (p.rule.find(words) != p.rule.npos && p.tensor == tensor) return &p;
    }
    return nullptr;
}
/// An index as JSON text; keys and values are not escaped, so that they may hold escapes.
std::string index(const std::vector<std::pair<std::string, std::string>>& map) {
    std::string text;
    for (const auto& [tensor, file] : map) text += (text.empty() ? "" : ",") + ("\"" + tensor + "\":\"" + file + "\"");
    return "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + text + "}}";
}

}  // namespace

TEST_CASE("B1: an index may name plain files of its own folder only", "[source]") {
    const test::temp_folder outer;
    write_text(outer / "secret.safetensors", one_tensor("a"));
    const auto folder = outer / "m";
    write_text(folder + "/config.json", "{}");
    write_text(folder + "/sub/x.safetensors", one_tensor("a"));
    for (const char* name : {"../secret.safetensors",
                             "/etc/passwd",
                             "C:\\\\x",
                             "c:x",
                             "\\\\\\\\server\\\\share",
                             "a/../../secret.safetensors",
                             "sub/x.safetensors",
                             "NUL",
                             "nul.safetensors",
                             "com1",
                             "LPT9.bin",
                             "x:stream",
                             "",
                             "x\\u0000.safetensors",
                             "x\\u000a",
                             "%2e%2e/x",
                             "%2e%2e",
                             ".",
                             "..",
                             "x.",
                             "x ",
                             "a*",
                             "a?",
                             "a|b",
                             "<a>"}) {
        CAPTURE(name);
        write_text(folder + "/" + index_name, index({{"a", name}}));
        const auto got = open(folder);
        refused(got, errc::refused, "which is not a plain file name", folder + "/" + index_name, "only name files in its own folder");
        CHECK(got.error().tensor == "a");
    }
    write_text(folder + "/" + index_name, index({{"a", std::string(256, 'n')}}));
    refused(open(folder), errc::refused, "not a plain file name", folder + "/" + index_name);
    for (const char* name : {"model-00001-of-00002.safetensors", "pytorch_model.fp16.safetensors", "..a", "a..b", "null", "компакт.safetensors"})
        CHECK(source::is_plain_file_name(name));
}

TEST_CASE("B1: an index that is no index", "[source]") {
    const test::temp_folder outer;
    const auto folder = outer / "m";
    const auto path = folder + "/" + index_name;
    write_text(folder + "/config.json", "{}");
    const auto check = [&](const std::string& text, const std::string& words) {
        CAPTURE(text.substr(0, 100));
        write_text(path, text);
        refused(open(folder), errc::malformed, words, path);
    };
    check("", "not valid JSON");
    check("[]", "needs an object \"weight_map\"");
    check("5", "needs an object \"weight_map\"");
    check("{}", "needs an object \"weight_map\"");
    check("{\"weight_map\":[]}", "needs an object \"weight_map\"");
    check("{\"weight_map\":{\"a\":5}}", "weight_map[\"a\"] is not a file name");
    check("{\"weight_map\":{\"a\":[\"x\"]}}", "weight_map[\"a\"] is not a file name");
    check("{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "key \"a\" stands twice");
    check(std::string("{\"weight_map\":{}}\0{", 19), "a NUL byte");
    check("{\"weight_map\":" + std::string(100000, '['), "deeper than 8");
    check("{\"weight_map\":{}}", "names no tensor");
}

TEST_CASE("B2: links stay in the folder, or in the cache that it is a snapshot of", "[source]") {
    const test::temp_folder outer;
    write_text(outer / "elsewhere/model.safetensors", one_tensor("a"));
    write_text(outer / "elsewhere/config.json", "{}");
    const auto folder = outer / "m";
    write_text(folder + "/config.json", "{}");
    const auto file = folder + "/model.safetensors";

    fs::create_symlink("../elsewhere/model.safetensors", file);
    refused(open(folder), errc::refused, "a link that leads out of the model's folder", file, "--follow-links");
    CHECK(open(folder, {.follow_links = true}));

    fs::remove(file);
    write_text(folder + "/real.bin", one_tensor("a"));
    fs::create_symlink("real.bin", file);
    CHECK(open(folder));
    // The folder itself may be reached through a link.
    fs::create_directory_symlink("m", outer / "link");
    CHECK(open(outer / "link"));
    // A chain of links is followed to its end.
    fs::remove(file);
    fs::create_symlink("../link2", file);
    fs::create_symlink("m/real.bin", outer / "link2");
    CHECK(open(folder));
    fs::remove(outer / "link2");
    fs::create_symlink("elsewhere/model.safetensors", outer / "link2");
    refused(open(folder), errc::refused, "leads out", file);
    // Links to nothing, and in circles.
    fs::remove(file);
    fs::create_symlink("nothing", file);
    refused(open(folder), errc::missing, "neither model.safetensors nor", folder);
    fs::remove(file);
    fs::create_symlink("model.safetensors", file);
    refused(open(folder), errc::missing, "neither model.safetensors nor", folder);
    fs::remove(file);

    // The same for shards, the index and config.json.
    write_text(folder + "/" + index_name, index({{"a", "s.safetensors"}}));
    fs::create_symlink("../elsewhere/model.safetensors", folder + "/s.safetensors");
    const auto sharded = open(folder);
    REQUIRE(sharded);
    REQUIRE(sharded->problems.size() == 1);
    CHECK(sharded->problems[0].code == errc::refused);
    CHECK(sharded->problems[0].file == folder + "/s.safetensors");
    write_text(outer / "elsewhere/index.json", index({{"a", "s.safetensors"}}));
    fs::remove(folder + "/" + index_name);
    fs::create_symlink("../elsewhere/index.json", folder + "/" + index_name);
    refused(open(folder), errc::refused, "leads out", folder + "/" + index_name);
    fs::remove(folder + "/config.json");
    fs::create_symlink("../elsewhere/config.json", folder + "/config.json");
    refused(open(folder), errc::refused, "leads out", folder + "/config.json", "--follow-links");
    CHECK(open(folder, {.follow_links = true}));
}

TEST_CASE("B2: a Hugging Face cache is read as it is, and its links lead nowhere else", "[source]") {
    const test::temp_folder hub;
    const auto repo = hub / "models--org--name";
    const auto snapshot = repo + "/snapshots/0123abc";
    write_text(repo + "/blobs/aaaa", "{}");
    write_text(repo + "/blobs/bbbb", one_tensor("a"));
    fs::create_directories(snapshot);
    fs::create_symlink("../../blobs/aaaa", snapshot + "/config.json");
    fs::create_symlink("../../blobs/bbbb", snapshot + "/model.safetensors");
    CHECK(open(snapshot));
    fs::remove(snapshot + "/model.safetensors");
    write_text(hub / "models--other/blobs/cccc", one_tensor("a"));
    fs::create_symlink("../../../models--other/blobs/cccc", snapshot + "/model.safetensors");
    refused(open(snapshot), errc::refused, "leads out", snapshot + "/model.safetensors");
    // A sibling of blobs whose name begins alike is not blobs.
    write_text(repo + "/blobs-of-others/dddd", one_tensor("a"));
    fs::remove(snapshot + "/model.safetensors");
    fs::create_symlink("../../blobs-of-others/dddd", snapshot + "/model.safetensors");
    refused(open(snapshot), errc::refused, "leads out", snapshot + "/model.safetensors");
    // blobs that is itself a link out of the cache.
    fs::remove(snapshot + "/model.safetensors");
    fs::rename(repo + "/blobs", hub / "moved");
    fs::create_directory_symlink("../moved", repo + "/blobs");
    fs::create_symlink("../../blobs/bbbb", snapshot + "/model.safetensors");
    refused(open(snapshot), errc::refused, "leads out", snapshot + "/config.json");
}

TEST_CASE("B3: what index and shards disagree on is listed all at once", "[source]") {
    const test::temp_folder outer;
    const auto folder = outer / "m";
    write_text(folder + "/config.json", "{}");
    write_text(folder + "/model-00001-of-00004.safetensors", two_tensors("a", "twice"));
    write_text(folder + "/model-00002-of-00004.safetensors", two_tensors("twice", "unlisted"));
    write_text(folder + "/model-00004-of-00004.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    write_text(folder + "/model-00009-of-00009.safetensors", one_tensor("z"));
    const auto shard = [&](int i) { return folder + "/model-0000" + std::to_string(i) + "-of-00004.safetensors"; };
    const auto name = [](int i) { return "model-0000" + std::to_string(i) + "-of-00004.safetensors"; };
    write_text(folder + "/" + index_name, index({{"a", name(1)}, {"absent", name(1)}, {"twice", name(2)}, {"gone", name(3)}, {"lfs", name(4)}}));
    const auto got = open(folder);
    REQUIRE(got);
    const auto& p = got->problems;
    CHECK(p.size() == 6);
    const auto* absent = problem(p, "the index says that the tensor is in this file, it is not", "absent");
    REQUIRE(absent != nullptr);
    CHECK(absent->code == errc::missing);
    CHECK(absent->file == shard(1));
    CHECK(absent->remedy == "download the file and the index from the same revision");
    const auto* twice = problem(p, "the tensor is also in " + name(1), "twice");
    REQUIRE(twice != nullptr);
    CHECK(twice->file == shard(2));
    REQUIRE(problem(p, "in this file, but not in the index", "unlisted") != nullptr);
    const auto* gone = problem(p, "the file is not there", "");
    REQUIRE(gone != nullptr);
    CHECK(gone->file == shard(3));
    const auto* lfs = problem(p, "a Git LFS pointer", "");
    REQUIRE(lfs != nullptr);
    CHECK(lfs->file == shard(4));
    CHECK(noted(got->notes, "not in the index, and left out: model-00009-of-00009.safetensors"));
    // And the plan that is made of it passes them on.
    const auto plan = convert::make_plan(*got, {});
    REQUIRE(plan);
    CHECK(plan->problems.size() > p.size());
}

TEST_CASE("B4: of several forms of the same weights one is taken, and it is said which", "[source]") {
    const test::temp_folder outer;
    const auto folder = outer / "m";
    write_text(folder + "/config.json", "{}");
    refused(open(folder), errc::missing, "neither model.safetensors nor model.safetensors.index.json", folder, "download");
    write_text(folder + "/pytorch_model.bin", "x");
    refused(open(folder), errc::missing, "neither model.safetensors", folder, "only pytorch_model.bin is there: save the model as safetensors");
    write_text(folder + "/model.safetensors", one_tensor("single"));
    auto got = open(folder);
    REQUIRE(got);
    CHECK(noted(got->notes, "both safetensors and pytorch_model.bin: safetensors is taken"));
    write_text(folder + "/s.safetensors", one_tensor("sharded"));
    write_text(folder + "/" + index_name, index({{"sharded", "s.safetensors"}}));
    write_text(folder + "/pytorch_model.bin.index.json", "{}");
    got = open(folder);
    REQUIRE(got);
    CHECK(got->tensors[0].name == "sharded");
    CHECK(noted(got->notes, "both model.safetensors and model.safetensors.index.json: the index is taken"));
    // A file that is named is taken, whatever else there is; what is named wrongly is not looked for elsewhere.
    CHECK(open(folder + "/model.safetensors")->tensors[0].name == "single");
    CHECK(open(folder, {.weights = folder + "/model.safetensors"})->tensors[0].name == "single");
    refused(open(folder, {.weights = folder + "/none.safetensors"}), errc::missing, "open: No such file", folder + "/none.safetensors");
    refused(open(outer / "nowhere"), errc::missing, "no such file or folder", outer / "nowhere", "give the folder of a Hugging Face checkpoint");
}

TEST_CASE("B5: config.json is one JSON object of reasonable size", "[source]") {
    const test::temp_folder outer;
    const auto folder = outer / "m";
    const auto file = folder + "/config.json";
    write_text(folder + "/model.safetensors", one_tensor("a"));
    refused(open(folder), errc::missing, "open: No such file", file, "has a config.json: download it too");
    const auto check = [&](const std::string& text, const std::string& words) {
        write_text(file, text);
        refused(open(folder), errc::malformed, words, file);
    };
    check("", "not valid JSON");
    check("[]", "must be a JSON object");
    check("{\"a\":1,\"a\":2}", "key \"a\" stands twice");
    check("{\"a\":" + std::string(1000000, '['), "deeper than 64");
    check(std::string("{}\0{\"model_type\":\"llama\"}", 26), "a NUL byte");
    check("{\"a\":\"\xC3\x28\"}", "UTF-8");
    check(std::string((16 << 20) + 1, ' '), "more than the 16777216");
    fs::remove(file);
    fs::create_directory(file);
    refused(open(folder), errc::unsupported, "not a regular file", file);
    fs::remove(file);
    REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
    refused(open(folder), errc::unsupported, "not a regular file", file);
}

TEST_CASE("B5: a checkpoint that is quantized already is refused, wherever config.json says so", "[source]") {
    const test::temp_folder outer;
    const auto folder = outer / "m";
    write_text(folder + "/model.safetensors", one_tensor("a"));
    const auto found = [&](const std::string& config) {
        write_text(folder + "/config.json", config);
        const auto plan = convert::make_plan(folder, {});
        REQUIRE(plan);
        return problem(plan->problems, "already quantized", "") != nullptr;
    };
    CHECK(found(R"({"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}})"));
    CHECK(found(R"({"model_type": "llama", "quantization_config": {}})"));
    CHECK(found(R"({"model_type": "llama", "quantization_config": "yes"})"));
    CHECK(found(R"({"model_type": "gemma3", "text_config": {"quantization_config": {"quant_method": "awq"}}})"));
    CHECK(found(R"({"model_type": "gemma3", "quantization_config": null, "text_config": {"quantization_config": {"bits": 4}}})"));
    CHECK(!found(R"({"model_type": "llama", "quantization_config": null})"));
    CHECK(!found(R"({"model_type": "gemma3", "text_config": {"quantization_config": null}})"));
    CHECK(!found(R"({"model_type": "gemma3", "text_config": 5})"));
    CHECK(!found(R"({"model_type": "gemma3", "text_config": ["quantization_config"]})"));
}
