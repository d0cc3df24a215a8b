// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/page.hpp"

#include <span>

#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::serve;

namespace {

request get(header_list headers) { return {"GET", "/", std::move(headers), true}; }

json as_json(front_page& page, const std::string& host) {
    const auto a = page(get({{"host", host}, {"accept", "application/json"}}));
    CHECK(a.header("content-type") == "application/json");
    return *parse_json(std::as_bytes(std::span(a.body)));
}

struct folder {
    test::temp_folder root;
    std::string home = root / "my <model>";
    folder() {
        test::write_text(home + "/a.json", "abc");
        test::write_text(home + "/params_shard_0.bin", "shard");
        test::write_text(home + "/.hidden", "x");
        test::write_text(home + "/.git/config", "x");
        test::write_text(home + "/sub/b & c.txt", "");
        test::write_text(home + "/tensor-cache.json", R"({"records": [{"dataPath": "params_shard_0.bin", "md5sum": "0123"}]})");
        test::write_text(root / "secret", "x");
        std::filesystem::create_symlink("../secret", home + "/link-out");
    }
    front_page page(page_options options = {}) { return {home, std::move(options)}; }
};

}  // namespace

TEST_CASE("page: the record and the files, for programs") {
    folder f;
    auto page = f.page();
    const auto j = as_json(page, "localhost:8000");
    CHECK(j["record"]["model"] == "http://localhost:8000");
    CHECK(j["record"]["model_id"] == "my <model>");
    std::string names;
    for (const auto& one : j["files"]) names += one["name"].get<std::string>() + " " + std::to_string(one["bytes"].get<int>()) + "; ";
    CHECK(names == "a.json 3; params_shard_0.bin 5; sub/b & c.txt 0; tensor-cache.json 67; ");
    CHECK(j["files"][0]["hash"] == "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(j["files"][1]["hash"] == "md5 0123");
    // A file that changes gets another hash, and a manifest goes before the index.
    test::write_text(f.home + "/a.json", "");
    test::write_text(f.home + "/nibble-manifest.json", R"({"files": {"params_shard_0.bin": {"bytes": 5, "sha256": "4567"}}})");
    test::write_text(f.home + "/lib.wasm", "");
    const auto after = as_json(page, "localhost:8000");
    CHECK(after["files"][0]["hash"] == "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(after["files"][3]["hash"] == "sha256 4567");
    CHECK(after["record"]["model_lib"] == "http://localhost:8000/lib.wasm");
}

TEST_CASE("page: what the command knows of the record stays, but for the place") {
    folder f;
    auto page = f.page({.record = {{"model", "https://elsewhere"}, {"model_id", "m"}, {"model_lib", "l"}, {"vram_required_MB", 5}},
                        .notes = {"a <note>"},
                        .host = "127.0.0.1:1"});
    const auto record = as_json(page, "h")["record"];
    CHECK(record == json{{"model", "http://h"}, {"model_id", "m"}, {"model_lib", "l"}, {"vram_required_MB", 5}});
    CHECK(as_json(page, "h\"><script>")["record"]["model"] == "http://127.0.0.1:1");
    CHECK(as_json(page, "")["record"]["model"] == "http://127.0.0.1:1");
}

TEST_CASE("page: for people, nothing in it is taken for markup") {
    folder f;
    auto page = f.page({.notes = {"a <note>"}});
    const auto a = page(get({{"host", "localhost:8000"}, {"accept", "text/html,application/xhtml+xml,application/json;q=0.9"}}));
    CHECK(a.header("content-type") == "text/html; charset=utf-8");
    CHECK(a.header("content-security-policy")->starts_with("default-src 'none'"));
    CHECK(test::has(a.body, "my &lt;model&gt;"));
    CHECK(test::has(a.body, "a &lt;note&gt;"));
    CHECK(test::has(a.body, "&quot;model&quot;: &quot;http://localhost:8000&quot;"));
    CHECK(test::has(a.body, "<a href=\"/sub/b%20%26%20c.txt\">sub/b &amp; c.txt</a><td class=n>0"));
    CHECK(a.body.find("<model>") == std::string::npos);
    CHECK(a.body.find("hidden") == std::string::npos);
    CHECK(a.body.find("link-out") == std::string::npos);
}
