// SPDX-License-Identifier: Apache-2.0
#include "nibble/serve/server.hpp"

#include <atomic>
#include <random>
#include <thread>

#include <arpa/inet.h>

#include "nibble/serve/client.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using namespace nibble::serve;
using namespace std::string_view_literals;

namespace {

std::string bytes_of_size(std::size_t n) {
    std::mt19937 random(1);
    std::string text(n, '\0');
    for (auto& c : text) c = static_cast<char>(random());
    return text;
}

struct running {
    test::temp_folder root;
    std::string shard = bytes_of_size(300001);
    std::unique_ptr<server> at;
    explicit running(server_options options = {}) {
        test::write_text(root / "site/shard.bin", shard);
        test::write_text(root / "site/a.json", "{}");
        test::write_text(root / "secret", "secret");
        std::filesystem::create_symlink("../secret", root / "site/link-out");
        options.port = 0;
        at = std::make_unique<server>(*site::open(root / "site"), options);
        REQUIRE(at->start());
    }
    [[nodiscard]] std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(at->port()) + path; }
};

/// A bare connection, for what no client library would send.
class connection {
public:
    explicit connection(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(static_cast<std::uint16_t>(port));
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        timeval patience{20, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
    }
    ~connection() { ::close(fd_); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    connection& say(std::string_view text) {
        (void)::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
        return *this;
    }
    /// All that comes until the other side closes.
    std::string rest() {
        std::string all;
        char piece[65536];
        for (ssize_t n = 0; (n = ::recv(fd_, piece, sizeof piece, 0)) > 0;) all.append(piece, static_cast<std::size_t>(n));
        return all;
    }
    /// The next so many bytes.
    std::string next(std::size_t n_bytes) {
        std::string all(n_bytes, '\0');
        const auto n = ::recv(fd_, all.data(), n_bytes, MSG_WAITALL);
        all.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return all;
    }
    [[nodiscard]] bool connected() const { return connected_; }
    [[nodiscard]] int fd() const { return fd_; }

private:
    int fd_;
    bool connected_ = false;
};

}  // namespace

TEST_CASE("server: a client gets files, ranges and refusals") {
    const running s;
    const auto whole = ask({.url = s.url("/shard.bin")});
    REQUIRE(whole);
    CHECK(whole->status == 200);
    CHECK(whole->body == s.shard);
    CHECK(whole->header("access-control-allow-origin") == "*");
    const auto part = ask({.url = s.url("/me/model/resolve/main/shard.bin"), .range = "bytes=65530-131080"});
    REQUIRE(part);
    CHECK(part->status == 206);
    CHECK(part->body == s.shard.substr(65530, 131081 - 65530));
    const auto head = ask({.url = s.url("/shard.bin"), .method = "HEAD"});
    REQUIRE(head);
    CHECK(head->header("content-length") == "300001");
    CHECK(ask({.url = s.url("/none")})->status == 404);
    CHECK(ask({.url = s.url("/link-out")})->status == 404);
    CHECK(ask({.url = s.url("/%2e%2e/secret")})->status == 403);
    const auto nobody = ask({.url = "http://127.0.0.1:1/"});
    REQUIRE_FALSE(nobody);
    CHECK(nobody.error().code == errc::io);
    CHECK_FALSE(ask({.url = "ftp://x/"}));
}

TEST_CASE("server: a body longer than the limit is left") {
    const running s;
    const auto r = ask({.url = s.url("/shard.bin"), .limit = 1000});
    REQUIRE(r);
    CHECK(r->too_long);
    CHECK(r->body.size() <= 1000);
}

TEST_CASE("server: ranged requests from many clients at once") {
    const running s;
    std::atomic<int> wrong{0};
    std::vector<std::thread> clients;
    for (unsigned c = 0; c < 16; ++c) {
        clients.emplace_back([&, c] {
            std::mt19937 random(c);
            connection k(s.at->port());
            for (int i = 0; i < 40; ++i) {
                const auto first = random() % s.shard.size();
                const auto last = first + random() % (s.shard.size() - first);
                const auto n = last - first + 1;
                k.say("GET /shard.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=" + std::to_string(first) + "-" + std::to_string(last) + "\r\n\r\n");
                std::string head;
                while (!head.ends_with("\r\n\r\n")) {
                    const auto byte = k.next(1);
                    if (byte.empty()) break;
                    head += byte;
                }
                const bool good = head.starts_with("HTTP/1.1 206 ") && head.find("content-length: " + std::to_string(n) + "\r\n") != head.npos &&
                                  k.next(n) == s.shard.substr(first, n);
                if (!good) ++wrong;
            }
        });
    }
    for (auto& t : clients) t.join();
    CHECK(wrong == 0);
}

TEST_CASE("server: what only a broken or hostile client sends") {
    const running s({.head = std::chrono::milliseconds(400)});
    const auto answer_to = [&](std::string_view text) {
        connection k(s.at->port());
        return k.say(text).rest();
    };
    CHECK(answer_to("GET /../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 403"));
    CHECK(answer_to("GET /..\\secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 403"));
    CHECK(answer_to("GET http://x/a.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 400"));
    CHECK(answer_to("GET /a.json\0 HTTP/1.1\r\nHost: x\r\n\r\n"sv).starts_with("HTTP/1.1 400"));
    CHECK(answer_to("\x16\x03\x01 hello, is this TLS?\r\n\r\n").starts_with("HTTP/1.1 400"));
    CHECK(answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + std::string(100000, 'x')).starts_with("HTTP/1.1 413"));
    CHECK(answer_to("GET / HTTP/1.1\r\nA: " + std::string(100000, 'x')).starts_with("HTTP/1.1 431"));
    CHECK(answer_to("GET / HTTP/1.1\r\nHost:").starts_with("HTTP/1.1 408"));
    CHECK(answer_to("").empty());
    // Two requests in one packet, with empty lines before each.
    const auto two = answer_to("\r\nGET /a.json HTTP/1.1\r\nHost: x\r\n\r\n\r\nHEAD /a.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK(two.find("{}HTTP/1.1 200 OK") != two.npos);
    CHECK(two.ends_with("\r\n\r\n"));
    // Gone in the middle of an answer.
    { connection(s.at->port()).say("GET /shard.bin HTTP/1.1\r\nHost: x\r\n\r\n"); }
    CHECK(ask({.url = s.url("/a.json")})->status == 200);
}

TEST_CASE("server: slow clients hold neither the threads nor the others for long") {
    const running s({.threads = 4, .waiting = 8, .head = std::chrono::milliseconds(1500), .stall = std::chrono::milliseconds(700)});
    std::vector<std::unique_ptr<connection>> slow;
    for (int i = 0; i < 4; ++i) {
        slow.push_back(std::make_unique<connection>(s.at->port()));
        slow.back()->say("GET / HT");
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto r = ask({.url = s.url("/a.json")});
    REQUIRE(r);
    CHECK(r->status == 200);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(8));
    // Connections that say nothing give way at once when others wait.
    slow.clear();
    for (int i = 0; i < 4; ++i) {
        slow.push_back(std::make_unique<connection>(s.at->port()));
        slow.back()->say("GET /a.json HTTP/1.1\r\nHost: x\r\n\r\n").next(10);
    }
    const auto again = std::chrono::steady_clock::now();
    CHECK(ask({.url = s.url("/a.json")})->status == 200);
    CHECK(std::chrono::steady_clock::now() - again < std::chrono::seconds(2));
    // One that asks for much and takes nothing is dropped.
    connection lazy(s.at->port());
    constexpr std::size_t n_requests = 200;  // 60 MB, more than the system's buffers hold
    for (std::size_t i = 0; i < n_requests; ++i) lazy.say("GET /shard.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    CHECK(lazy.rest().size() < n_requests * s.shard.size());
}

TEST_CASE("server: more connections than it has room for are told so") {
    const running s({.threads = 1, .waiting = 1, .head = std::chrono::seconds(5)});
    std::vector<std::unique_ptr<connection>> many;
    for (int i = 0; i < 12; ++i) {
        many.push_back(std::make_unique<connection>(s.at->port()));
        many.back()->say("GET ");
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK(many.back()->rest().starts_with("HTTP/1.1 503"));
}

TEST_CASE("server: a port that is taken is an error, and stopping takes no time") {
    const running s;
    server second(*site::open(s.root / "site"), {.port = s.at->port()});
    const auto started = second.start();
    REQUIRE_FALSE(started);
    CHECK(started.error().code == errc::io);
    connection idle(s.at->port());
    const auto begin = std::chrono::steady_clock::now();
    s.at->stop();
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
    CHECK_FALSE(ask({.url = s.url("/a.json")}));
}
