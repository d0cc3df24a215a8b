// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/url.hpp"

#include "support/catch.hpp"

using namespace nibble::serve;

TEST_CASE("url: what is an http URL, and its parts") {
    const auto u = parse_url("HTTP://localhost:8000/a/b?c#d");
    REQUIRE(u);
    CHECK(u->scheme == "http");
    CHECK(u->host == "localhost");
    CHECK(u->port == 8000);
    CHECK(u->path == "/a/b?c");
    CHECK(u->origin() == "http://localhost:8000");
    CHECK(parse_url("https://huggingface.co")->path == "/");
    CHECK(parse_url("http://h?x")->path == "/?x");
    CHECK(parse_url("http://[::1]:80/")->host == "[::1]");
    for (const char* bad : {"", "http://", "ftp://x/", "/a", "x.json", "http://:80/", "http://u@h/", "http://h:0/", "http://h:65536/", "http://h:8x/",
                            "http://h:/", "http://[::1/", "http://h/a b", "http://h/\r\nX: y", "http:/h", "http://[::1]x/"}) {
        INFO(bad);
        CHECK_FALSE(parse_url(bad));
    }
}

TEST_CASE("url: where a redirect leads") {
    CHECK(resolve_url("http://h/a/b?x=/y", "c") == "http://h/a/c");
    CHECK(resolve_url("http://h:1/a/b", "/c") == "http://h:1/c");
    CHECK(resolve_url("https://h/a", "//cdn/c") == "https://cdn/c");
    CHECK(resolve_url("https://h/a", "http://o/c") == "http://o/c");
    CHECK_FALSE(resolve_url("https://h/a", ""));
    CHECK_FALSE(resolve_url("https://h/a", "/a b"));
}

TEST_CASE("url: WebLLM looks below resolve/main/ unless the URL has a revision") {
    CHECK(model_base("http://h/m") == "http://h/m/resolve/main/");
    CHECK(model_base("http://h/m/") == "http://h/m/resolve/main/");
    CHECK(model_base("http://h/m/resolve/v1") == "http://h/m/resolve/v1/");
    CHECK(model_base("http://h/m/resolve/v1/") == "http://h/m/resolve/v1/");
    CHECK(model_base("http://h/m/resolve") == "http://h/m/resolve/resolve/main/");
}

TEST_CASE("a file's name becomes a URL's path", "[serve]") {
    CHECK(url_path("params/a-b_c.d~0") == "params/a-b_c.d~0");
    CHECK(url_path("my lib+\xc3\xa9%?#.wasm") == "my%20lib%2B%C3%A9%25%3F%23.wasm");
}
