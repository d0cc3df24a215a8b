// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/files.hpp"

#include <filesystem>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::serve;

namespace {

request get(std::string target, header_list headers = {}, std::string method = "GET") {
    return {std::move(method), std::move(target), std::move(headers), true};
}

std::string text_of(const answer& a) {
    if (a.content == nullptr) return a.body;
    std::vector<std::byte> scratch;
    const auto bytes = a.content->bytes(a.offset, a.n_bytes, scratch);
    REQUIRE(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

struct folder {
    test::temp_folder root;
    folder() {
        test::write_text(root / "site/a.json", "0123456789");
        test::write_text(root / "site/empty.bin", "");
        test::write_text(root / "site/sub/b.bin", "sub");
        test::write_text(root / "site/with space.txt", "space");
        test::write_text(root / "site/.hidden", "hidden");
        test::write_text(root / "site/resolve/main/hub.json", "hub");
        test::write_text(root / "secret", "secret");
        test::write_text(root / "site-beside/x", "beside");
        std::filesystem::create_symlink("../secret", root / "site/link-out");
        std::filesystem::create_symlink("..", root / "site/folder-out");
        std::filesystem::create_symlink("a.json", root / "site/link-in");
        std::filesystem::create_symlink("/dev/zero", root / "site/device");
    }
    site open() { return *site::open(root / "site"); }
};

}  // namespace

TEST_CASE("files: a path is decoded once and means a file in the folder, or nothing") {
    CHECK(*path_of("/") == "");
    CHECK(*path_of("/?x=1") == "");
    CHECK(*path_of("/a.json") == "a.json");
    CHECK(*path_of("/a/b%20c.bin?download=true#x") == "a/b c.bin");
    CHECK(*path_of("/%61") == "a");
    CHECK(*path_of("/Qwen2.5-0.5B/resolve/main/x") == "Qwen2.5-0.5B/resolve/main/x");
    for (const char* attack : {"",
                               "a.json",
                               "http://host/a.json",
                               "*",
                               "/..",
                               "/../secret",
                               "/a/../../secret",
                               "/./a.json",
                               "/.hidden",
                               "/.git/config",
                               "/sub/.hidden",
                               "//etc/passwd",
                               "/a//b",
                               "/a/",
                               "/%2e%2e/secret",
                               "/%2E%2E%2Fsecret",
                               "/..%2fsecret",
                               "/..%2Fsecret",
                               "/%2fetc/passwd",
                               "/%252e%252e/secret",
                               "/%25",
                               "/%c0%ae%c0%ae%2fsecret",
                               "/..\\secret",
                               "/..%5csecret",
                               "/C:/Windows/win.ini",
                               "/C%3a/x",
                               "/file.txt::$DATA",
                               "/a.json%00.png",
                               "/%00",
                               "/a%0d%0aSet-Cookie:x",
                               "/a%7f",
                               "/%",
                               "/%2",
                               "/%zz",
                               "/%+1",
                               "/a.",
                               "/sub./b",
                               "/a ",
                               "/a%20",
                               "/...",
                               "/....//....//secret"}) {
        INFO(attack);
        CHECK_FALSE(path_of(attack));
    }
    CHECK_FALSE(path_of("/" + std::string(target_limit + 1, 'a')));
}

TEST_CASE("files: the Hub's paths mean the same files") {
    using names = std::vector<std::string>;
    CHECK(names_of("x.json") == names{"x.json", "resolve/main/x.json", "params/x.json"});
    CHECK(names_of("resolve/main/x.json") == names{"resolve/main/x.json", "x.json", "resolve/main/x.json", "params/x.json"});
    CHECK(names_of("me/my/resolve/abc/params/x") == names{"me/my/resolve/abc/params/x", "params/x", "me/my/params/x", "resolve/main/params/x"});
    CHECK(names_of("q4f16_1/resolve/main/x") == names{"q4f16_1/resolve/main/x", "x", "q4f16_1/x", "resolve/main/x", "params/x", "q4f16_1/params/x"});
    CHECK(names_of("a/b/c/resolve/main/x") == names{"a/b/c/resolve/main/x", "resolve/main/a/b/c/resolve/main/x"});
    CHECK(names_of("resolve/main") == names{"resolve/main", "resolve/main/resolve/main"});
}

TEST_CASE("files: what is served of a folder, and what never is") {
    folder f;
    const auto s = f.open();
    CHECK(text_of(s.respond(get("/a.json"))) == "0123456789");
    CHECK(text_of(s.respond(get("/sub/b.bin"))) == "sub");
    CHECK(text_of(s.respond(get("/with%20space.txt"))) == "space");
    CHECK(text_of(s.respond(get("/link-in"))) == "0123456789");
    CHECK(text_of(s.respond(get("/owner/name/resolve/main/a.json"))) == "0123456789");
    CHECK(text_of(s.respond(get("/resolve/main/a.json"))) == "0123456789");
    CHECK(text_of(s.respond(get("/owner/name/resolve/main/hub.json"))) == "hub");
    CHECK(text_of(s.respond(get("/hub.json"))) == "hub");
    CHECK(s.respond(get("/empty.bin")).length() == 0);
    for (const char* target : {"/none", "/sub", "/link-out", "/folder-out/secret", "/folder-out", "/device", "/owner/name/resolve/main/link-out",
                               "/folder-out/site-beside/x", "/resolve/main"}) {
        INFO(target);
        const auto a = s.respond(get(target));
        CHECK(a.status == 404);
        CHECK(a.content == nullptr);
    }
    for (const char* target :
         {"/../secret", "/%2e%2e/secret", "/owner/name/resolve/main/../../secret", "/resolve/../../secret", "/owner/name/resolve/main//etc/passwd"}) {
        INFO(target);
        const auto a = s.respond(get(target));
        CHECK((a.status == 400 || a.status == 403));
        CHECK(a.content == nullptr);
    }
    CHECK_FALSE(site::open(f.root / "nowhere"));
    CHECK_FALSE(site::open(f.root / "secret"));
}

TEST_CASE("files: ranges") {
    const auto is = [](const byte_range& r, byte_range::kind what, std::uint64_t offset, std::uint64_t n) {
        return r.what == what && r.offset == offset && r.n_bytes == n;
    };
    using kind = byte_range::kind;
    CHECK(is(parse_range("bytes=0-0", 10), kind::part, 0, 1));
    CHECK(is(parse_range("Bytes= 2-5", 10), kind::part, 2, 4));
    CHECK(is(parse_range("bytes=5-", 10), kind::part, 5, 5));
    CHECK(is(parse_range("bytes=5-99", 10), kind::part, 5, 5));
    CHECK(is(parse_range("bytes=-3", 10), kind::part, 7, 3));
    CHECK(is(parse_range("bytes=-99", 10), kind::part, 0, 10));
    CHECK(is(parse_range("bytes=0-18446744073709551615", 10), kind::part, 0, 10));
    CHECK(is(parse_range("bytes=0-99999999999999999999999", 10), kind::part, 0, 10));
    for (const char* none : {"bytes=10-", "bytes=10-12", "bytes=-0", "bytes=18446744073709551615-", "bytes=99999999999999999999999-"}) {
        INFO(none);
        CHECK(parse_range(none, 10).what == kind::none);
    }
    CHECK(parse_range("bytes=0-", 0).what == kind::none);
    for (const char* ignored :
         {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=+1-2", "bytes=0-1,3-4", "bytes=1-2 3", "lines=0-1", "bytes=--1", "bytes=0x1-2"}) {
        INFO(ignored);
        CHECK(is(parse_range(ignored, 10), kind::whole, 0, 10));
    }

    folder f;
    const auto s = f.open();
    const auto part = s.respond(get("/a.json", {{"range", "bytes=2-5"}}));
    CHECK(part.status == 206);
    CHECK(text_of(part) == "2345");
    CHECK(part.header("content-range") == "bytes 2-5/10");
    const auto beyond = s.respond(get("/a.json", {{"range", "bytes=10-"}}));
    CHECK(beyond.status == 416);
    CHECK(beyond.header("content-range") == "bytes */10");
    CHECK(beyond.length() == 0);
}

TEST_CASE("files: entity tags spare a download, and never mix two states of a file") {
    folder f;
    const auto s = f.open();
    const auto tag = std::string(*s.respond(get("/a.json")).header("etag"));
    CHECK(s.respond(get("/a.json", {{"if-none-match", tag}})).status == 304);
    CHECK(s.respond(get("/a.json", {{"if-none-match", "\"other\", W/" + tag}})).status == 304);
    CHECK(s.respond(get("/a.json", {{"if-none-match", "*"}})).status == 304);
    CHECK(s.respond(get("/a.json", {{"if-none-match", "\"other\""}})).status == 200);
    CHECK(s.respond(get("/a.json", {{"if-match", tag}})).status == 200);
    CHECK(s.respond(get("/a.json", {{"if-match", "W/" + tag}})).status == 412);
    CHECK(s.respond(get("/a.json", {{"range", "bytes=0-1"}, {"if-range", tag}})).status == 206);
    CHECK(s.respond(get("/a.json", {{"range", "bytes=0-1"}, {"if-range", "\"other\""}})).status == 200);
    CHECK(s.respond(get("/a.json", {{"range", "bytes=0-1"}, {"if-range", "Sat, 21 Nov 2026 00:00:00 GMT"}})).status == 200);
    test::write_text(f.root / "site/a.json", "another text");
    CHECK(s.respond(get("/a.json", {{"if-none-match", tag}})).status == 200);
    CHECK(s.respond(get("/a.json", {{"range", "bytes=0-1"}, {"if-range", tag}})).status == 200);
}

TEST_CASE("files: the headers that a page on another origin needs are on every answer") {
    folder f;
    const auto plain = f.open();
    for (const char* target : {"/a.json", "/none", "/../x", "/"}) {
        const auto a = plain.respond(get(target));
        CHECK(a.header("access-control-allow-origin") == "*");
        CHECK_FALSE(a.header("cross-origin-embedder-policy"));
    }
    CHECK(plain.refuse_with({400, "no"}).header("access-control-allow-origin") == "*");
    const auto before = plain.respond(get("/a.json", {{"access-control-request-method", "GET"}}, "OPTIONS"));
    CHECK(before.status == 204);
    CHECK(before.header("access-control-allow-methods") == "GET, HEAD, OPTIONS");
    CHECK(before.header("access-control-allow-headers")->find("range") != std::string_view::npos);
    const auto isolated = *site::open(f.root / "site", {.isolate = true, .front = {}});
    const auto a = isolated.respond(get("/a.json"));
    CHECK(a.header("cross-origin-opener-policy") == "same-origin");
    CHECK(a.header("cross-origin-embedder-policy") == "require-corp");
    CHECK(a.header("cross-origin-resource-policy") == "cross-origin");
}

TEST_CASE("files: types and methods") {
    folder f;
    const auto s = f.open();
    CHECK(s.respond(get("/a.json")).header("content-type") == "application/json");
    CHECK(s.respond(get("/sub/b.bin")).header("content-type") == "application/octet-stream");
    CHECK(content_type("m.wasm") == "application/wasm");
    CHECK(content_type("noext") == "application/octet-stream");
    const auto head = s.respond(get("/a.json", {}, "HEAD"));
    CHECK(head.status == 200);
    CHECK(head.length() == 10);
    CHECK_FALSE(head.send_body);
    for (const char* method : {"POST", "PUT", "DELETE", "TRACE", "CONNECT", "get"}) {
        const auto a = s.respond(get("/a.json", {}, method));
        CHECK(a.status == 405);
        CHECK(a.header("allow") == "GET, HEAD, OPTIONS");
        CHECK(a.content == nullptr);
    }
}
