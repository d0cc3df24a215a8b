// SPDX-License-Identifier: Apache-2.0
#pragma once
// Serves a site over HTTP/1.1: cpp-httplib listens and accepts; requests are read whole, within a time and a size, before anything looks
// at them; threads and waiting connections are counted; files go out in pieces, never whole through memory.

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "nibble/serve/files.hpp"
#include "nibble/serve/http.hpp"

namespace nibble::serve {

/// Where a server listens, and how much it takes on.
struct server_options {
    std::string host = "127.0.0.1";
    int port = 8000;                                              ///< 0: any that is free
    std::size_t threads = 64;                                     ///< connections served at a time, at most
    std::size_t waiting = 256;                                    ///< further connections that may wait for a thread; those beyond get 503
    std::chrono::milliseconds head = std::chrono::seconds(10);    ///< for a request's head to arrive whole
    std::chrono::milliseconds idle = std::chrono::seconds(30);    ///< between two requests of a connection
    std::chrono::milliseconds stall = std::chrono::seconds(20);   ///< without a byte that the client takes
    std::uint64_t slowest = 4096;                                 ///< bytes a second that a client must take in the long run
    std::function<void(const request&, const answer&)> log = {};  ///< called from many threads
};

namespace detail {

/// A fixed number of threads at most, started when they are needed, and a queue that does not grow without end.
class bounded_pool : public httplib::TaskQueue {
    using enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(std::declval<std::function<void()>>()));  // void, later bool

public:
    bounded_pool(std::size_t threads, std::size_t waiting, std::atomic<std::size_t>& n_waiting) : limit_(threads), waiting_(waiting), n_waiting_(n_waiting) {}

    enqueued enqueue(std::function<void()> task) override {
        bool full = false;
        {
            const std::lock_guard hold(mutex_);
            full = tasks_.size() >= waiting_;
            if (!full) {
                tasks_.push_back(std::move(task));
                n_waiting_ = tasks_.size();
                if (idle_ < tasks_.size() && threads_.size() < limit_) threads_.emplace_back([this] { work(); });
            }
        }
        if (full) {
            // It must run, or its socket stays open: it is told to say no.
            overloaded() = true;
            task();
            overloaded() = false;
        } else {
            wake_.notify_one();
        }
        return enqueued(true);
    }

    void shutdown() override {
        {
            const std::lock_guard hold(mutex_);
            ending_ = true;
        }
        wake_.notify_all();
        for (auto& t : threads_) t.join();
    }

    /// Whether this thread runs a task only to refuse it.
    [[nodiscard]] static bool& overloaded() {
        thread_local bool flag = false;
        return flag;
    }

private:
    void work() {
        for (;;) {
            std::function<void()> task;
            {
                std::unique_lock hold(mutex_);
                ++idle_;
                wake_.wait(hold, [&] { return ending_ || !tasks_.empty(); });
                --idle_;
                if (tasks_.empty()) return;
                task = std::move(tasks_.front());
                tasks_.pop_front();
                n_waiting_ = tasks_.size();
            }
            task();
        }
    }

    std::size_t limit_;
    std::size_t waiting_;
    std::atomic<std::size_t>& n_waiting_;
    std::size_t idle_ = 0;
    bool ending_ = false;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> tasks_;
    std::vector<std::thread> threads_;
};

}  // namespace detail

/// A server for one site. start() returns when connections are taken; stop() when none is left.
class server : private httplib::Server {
    using clock = std::chrono::steady_clock;

public:
    server(serve::site content, server_options options) : content_(std::move(content)), options_(std::move(options)) {
        new_task_queue = [this] { return new detail::bounded_pool(options_.threads, options_.waiting, n_waiting_); };
        // Not SO_REUSEPORT, which older versions set: a second server on a port should fail, not share its connections.
        set_socket_options([](auto sock) {
            const int yes = 1;
            ::setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        });
    }
    ~server() override { stop(); }
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    /// Errors: io (the address cannot be had).
    [[nodiscard]] result<void> start() {
        if (options_.port == 0) {
            port_ = bind_to_any_port(options_.host);
            if (port_ <= 0) return fail(unavailable());
        } else {
            if (!bind_to_port(options_.host, options_.port)) return fail(unavailable());
            port_ = options_.port;
        }
        ::listen(svr_sock_, 128);  // the library asks for 5, which a browser's parallel requests overrun
        thread_ = std::thread([this] {
            // Some versions give up on an error of accept() that passes, as when a client was gone before it was let in.
            while (!listen_after_bind() && !ending_) {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                if (ending_ || !bind_to_port(options_.host, port_)) return;
                ::listen(svr_sock_, 128);
            }
        });
        while (!is_running() && !ending_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return {};
    }

    void stop() {
        ending_ = true;
        if (!thread_.joinable()) return;
        httplib::Server::stop();
        thread_.join();
    }

    [[nodiscard]] int port() const { return port_; }
    [[nodiscard]] const serve::site& content() const { return content_; }

private:
    [[nodiscard]] error unavailable() const {
        return {errc::io, "cannot listen on " + options_.host + " port " + std::to_string(options_.port) + ": " + std::strerror(errno),
                {},       {},
                {},       "is another server there? Choose another with --port, or --port 0 for any that is free"};
    }

    /// One connection, from its first byte to its last. The library calls it in a thread of its pool.
    bool process_and_close_socket(socket_t sock) override {
        const int flags = ::fcntl(sock, F_GETFL, 0);
        ::fcntl(sock, F_SETFL, flags | O_NONBLOCK);
        const int yes = 1;
        ::setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (detail::bounded_pool::overloaded()) {
            const auto a = content_.refuse_with({503, "too many connections"});
            const auto text = head_text(a) + a.body;
            (void)::send(sock, text.data(), text.size(), MSG_NOSIGNAL);
        } else {
            try {
                converse(sock);
            } catch (const std::exception&) {  // no memory for this one: others go on
            }
            // What the client still sends would turn our last answer into a reset before it was read.
            ::shutdown(sock, SHUT_WR);
            std::array<char, 4096> rest{};
            const auto end = clock::now() + std::chrono::milliseconds(200);
            while (wait_for(sock, POLLIN, [&] { return end; }) && ::recv(sock, rest.data(), rest.size(), 0) > 0) {
            }
        }
        ::close(sock);
        return true;
    }

    void converse(int sock) {
        std::string received;
        for (bool first = true; !ending_; first = false) {
            auto head = read_head(sock, received, first);
            if (!head) {
                if (head.error().status == 0) return;
                const auto a = content_.refuse_with(head.error());
                (void)send_all(sock, head_text(a) + a.body);
                return;
            }
            const auto r = parse_request(*head);
            const auto a = r ? content_.respond(*r) : content_.refuse_with(r.error());
            if (options_.log) options_.log(r ? *r : request{}, a);
            if (!send(sock, a) || a.close) return;
        }
    }

    /// Waits until the socket is ready, the time that `end` gives is over or the server ends. `end` is asked anew all the time, because
    /// others who wait shorten it.
    template <class End>
    [[nodiscard]] bool wait_for(int sock, short what, End&& end) const {
        while (!ending_) {
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end() - clock::now()).count();
            if (left <= 0) return false;
            pollfd p{sock, what, 0};
            const int n = ::poll(&p, 1, static_cast<int>(std::min<long long>(left, 100)));
            if (n > 0) return true;
            if (n < 0 && errno != EINTR) return false;
        }
        return false;
    }

    /// All bytes up to and with an empty line; what follows stays in `received`. Status 0: the client is gone, or is sent away without a word.
    [[nodiscard]] attempt<std::string> read_head(int sock, std::string& received, bool first) const {
        auto since = clock::now();
        bool begun = false;
        std::size_t searched = 0;
        // With others waiting for a thread, a connection that says nothing gives way, and one that says little has two seconds.
        const auto end = [&] {
            const auto patience = begun || first ? options_.head : options_.idle;
            return since + (n_waiting_ > 0 ? std::min(patience, std::chrono::milliseconds(begun || first ? 2000 : 100)) : patience);
        };
        for (;;) {
            // Empty lines before a request are allowed for (RFC 9112, 2.2).
            while (received.starts_with("\r\n")) received.erase(0, 2);
            if (!begun && !received.empty()) {
                begun = true;
                since = clock::now();
            }
            const auto found = received.find("\r\n\r\n", searched);
            if (found != received.npos && found + 4 <= head_limit) {
                auto head = received.substr(0, found + 4);
                received.erase(0, found + 4);
                return head;
            }
            if (received.size() > head_limit) return refuse(431, "the request's headers are longer than " + std::to_string(head_limit) + " bytes");
            searched = received.size() < 3 ? 0 : received.size() - 3;
            if (!wait_for(sock, POLLIN, end)) return refuse(begun && !ending_ ? 408 : 0, "the request did not arrive in time");
            std::array<char, 4096> piece;
            const auto n = ::recv(sock, piece.data(), piece.size(), 0);
            if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
            if (n <= 0) return refuse(0, {});
            received.append(piece.data(), static_cast<std::size_t>(n));
        }
    }

    /// Keeps account of a client that takes what it asked for.
    struct pace {
        clock::time_point begin = clock::now();
        std::uint64_t n_bytes = 0;
    };

    [[nodiscard]] bool send_all(int sock, std::string_view bytes, pace* so_far = nullptr) const {
        pace own;
        auto& p = so_far != nullptr ? *so_far : own;
        while (!bytes.empty()) {
            const auto n = ::send(sock, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n > 0) {
                p.n_bytes += static_cast<std::uint64_t>(n);
                bytes.remove_prefix(static_cast<std::size_t>(n));
                continue;
            }
            if (n < 0 && errno == EINTR) continue;
            if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return false;
            // Taking one byte now and then keeps no thread for ever.
            const auto allowed = options_.stall + std::chrono::milliseconds(1000 * p.n_bytes / std::max<std::uint64_t>(1, options_.slowest));
            const auto now = clock::now();
            if (now - p.begin > allowed || !wait_for(sock, POLLOUT, [&] { return std::min(now + options_.stall, p.begin + allowed); })) return false;
        }
        return true;
    }

    [[nodiscard]] bool send(int sock, const answer& a) const {
        auto head = head_text(a);
        if (!a.send_body || a.status == 304 || a.status == 204) return send_all(sock, head);
        if (a.content == nullptr) return send_all(sock, head + a.body);
        constexpr std::uint64_t piece = 64 << 10;
        std::vector<std::byte> buffer;
        pace p;
        // The head goes with the first bytes, in one packet where it fits.
        for (std::uint64_t done = 0; done < a.n_bytes || !head.empty();) {
            const auto n = std::min(piece, a.n_bytes - done);
            auto bytes = a.content->bytes(a.offset + done, n, buffer);
            if (!bytes) return false;  // the file became shorter: the client sees the connection break before the promised length
            if (!head.empty()) {
                head.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
                if (!send_all(sock, head, &p)) return false;
                head.clear();
            } else if (!send_all(sock, {reinterpret_cast<const char*>(bytes->data()), bytes->size()}, &p)) {
                return false;
            }
            done += n;
        }
        return true;
    }

    serve::site content_;
    server_options options_;
    std::atomic<bool> ending_{false};
    std::atomic<std::size_t> n_waiting_{0};
    int port_ = 0;
    std::thread thread_;
};

}  // namespace nibble::serve
