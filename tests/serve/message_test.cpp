// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/message.hpp"

#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::serve;
using namespace std::string_view_literals;

namespace {

int status_of(std::string_view head) {
    const auto r = parse_request(head);
    return r ? 0 : r.error().status;
}

}  // namespace

TEST_CASE("message: a request, its headers and whether the connection stays") {
    const auto r = parse_request("GET /a?b HTTP/1.1\r\nHost: x:1\r\nRange:\t bytes=0-1 \r\nX-Empty:\r\n\r\n");
    REQUIRE(r);
    CHECK(r->method == "GET");
    CHECK(r->target == "/a?b");
    CHECK(r->header("range") == "bytes=0-1");
    CHECK(r->header("x-empty") == "");
    CHECK_FALSE(r->header("absent"));
    CHECK(r->keep_alive);
    CHECK_FALSE(parse_request("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n")->keep_alive);
    CHECK_FALSE(parse_request("GET / HTTP/1.0\r\n\r\n")->keep_alive);
    CHECK(parse_request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")->keep_alive);
}

TEST_CASE("message: what is malformed, too much, or a way to smuggle is refused") {
    CHECK(status_of("") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\nHost: x\n\n") == 400);
    CHECK(status_of("GET /\r\nHost: x\r\n\r\n") == 400);
    CHECK(status_of("GET  HTTP/1.1\r\nHost: x\r\n\r\n") == 400);
    CHECK(status_of("GET / b HTTP/1.1\r\nHost: x\r\n\r\n") == 400);
    CHECK(status_of("G(T / HTTP/1.1\r\nHost: x\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/2.0\r\nHost: x\r\n\r\n") == 505);
    CHECK(status_of("GET / HTTP/1.1\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nRange : bytes=0-1\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\n: nameless\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n"sv) == 400);
    CHECK(status_of("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n") == 413);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n") == 413);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n") == 0);
    CHECK(status_of("GET /" + std::string(target_limit, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n") == 414);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(head_limit, 'a') + "\r\n\r\n") == 431);
    std::string many = "GET / HTTP/1.1\r\nHost: x\r\n";
    for (std::size_t i = 1; i < header_count_limit; ++i) many += "A: b\r\n";
    CHECK(status_of(many + "\r\n") == 0);
    CHECK(status_of(many + "A: b\r\n\r\n") == 431);
}

TEST_CASE("message: an answer's head states the length of what GET would send, and none where there is no body") {
    answer a;
    a.headers.emplace_back("etag", "\"x\"");
    a.body = "12345";
    a.send_body = false;
    CHECK(head_text(a) == "HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n");
    a.status = 304;
    a.close = true;
    CHECK(head_text(a) == "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\nconnection: close\r\n\r\n");
}
