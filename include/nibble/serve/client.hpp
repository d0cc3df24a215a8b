// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks a server over HTTP, as a browser's page would, for what nibble doctor looks at. https is there where cpp-httplib was built with
// OpenSSL, as the packages of Debian and Ubuntu are.

#include <string>

#include "nibble/serve/http.hpp"
#include "nibble/serve/url.hpp"

namespace nibble::serve {

#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
inline constexpr bool has_https = true;
#else
inline constexpr bool has_https = false;
#endif

/// Sends one query, following up to five redirects. Errors: unsupported (https without OpenSSL), malformed (the URL), io (no answer).
[[nodiscard]] inline result<reply> ask(const query& q) {
    reply r;
    r.url = q.url;
    for (int redirects = 0;; ++redirects) {
        const auto at = parse_url(r.url);
        if (!at) return fail(error{errc::malformed, "not an http or https URL", r.url, {}, {}, {}});
        if (at->scheme == "https" && !has_https) {
            return fail(error{errc::unsupported,
                              "this nibble was built without OpenSSL and cannot ask https servers",
                              r.url,
                              {},
                              {},
                              "look at a downloaded copy of the folder, or build with a cpp-httplib that has OpenSSL"});
        }
        httplib::Client client(at->origin());
        client.set_connection_timeout(10);
        client.set_read_timeout(30);
        client.set_write_timeout(10);
        client.set_follow_location(false);
        httplib::Headers headers{{"Origin", q.origin}, {"User-Agent", "nibble-doctor"}, {"Accept-Encoding", "identity"}};
        if (!q.range.empty()) headers.emplace("Range", q.range);
        r.status = 0;
        r.headers.clear();
        r.n_bytes = 0;
        r.body.clear();
        r.whole = true;
        bool stopped = false;
        const auto take_head = [&](const httplib::Response& head) {
            r.status = head.status;
            for (const auto& [name, value] : head.headers) r.headers.emplace_back(detail::lower(name), value);
            return true;
        };
        const auto take_bytes = [&](const char* data, std::size_t n) {
            stopped = n > q.limit - r.n_bytes;
            if (stopped) return false;
            r.n_bytes += n;
            const bool good = r.status >= 200 && r.status < 300;
            if (q.on_bytes && good)
                q.on_bytes(bytes_view(reinterpret_cast<const std::byte*>(data), n));
            else
                r.body.append(data, n);
            return true;
        };
        const auto answered = q.method == "HEAD" ? client.Head(at->path, headers) : client.Get(at->path, headers, take_head, take_bytes);
        if (!answered && r.status == 0 && !stopped) {
            return fail(
                error{errc::io, "no answer: " + httplib::to_string(answered.error()), r.url, {}, {}, "is the server there, and does it listen on that port?"});
        }
        if (answered && q.method == "HEAD") take_head(*answered);
        // The head came and the body broke off.
        r.whole = answered || stopped;
        r.too_long = stopped;
        const auto to = find_header(r.headers, "location");
        if (r.status < 300 || r.status >= 400 || r.status == 304 || !to || redirects == 5) return r;
        const auto next = resolve_url(r.url, *to);
        if (!next) return r;
        r.hops.push_back({r.url, r.status, r.headers});
        r.url = *next;
    }
}

}  // namespace nibble::serve
