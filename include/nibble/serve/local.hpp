// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asks a folder as if it were served, without a socket: what looks at a URL looks at a folder by the same way.

#include <memory>
#include <string>
#include <utility>

#include "nibble/serve/files.hpp"
#include "nibble/serve/url.hpp"

namespace nibble::serve {

/// URLs whose path is a name in the folder, whatever their host, get what the site answers.
[[nodiscard]] inline asker ask_site(std::shared_ptr<const site> at) {
    return [at = std::move(at)](const query& q) -> result<reply> {
        const auto u = parse_url(q.url);
        if (!u) return fail(error{errc::malformed, "not an http or https URL", q.url, {}, {}, {}});
        request r{q.method, u->path, {{"origin", q.origin}}, true};
        if (!q.range.empty()) r.headers.emplace_back("range", q.range);
        const auto a = at->respond(r);
        reply out;
        out.url = q.url;
        out.status = a.status;
        out.headers = a.headers;
        out.headers.emplace_back("content-length", std::to_string(a.length()));
        if (!a.send_body) return out;
        if (a.content == nullptr) {
            out.body = a.body;
            out.n_bytes = a.body.size();
            return out;
        }
        constexpr std::uint64_t piece = 1 << 20;
        std::vector<std::byte> scratch;
        while (out.n_bytes < a.n_bytes) {
            auto bytes = a.content->bytes(a.offset + out.n_bytes, std::min(piece, a.n_bytes - out.n_bytes), scratch);
            if (!bytes) {
                out.whole = false;
                return out;
            }
            if (bytes->size() > q.limit - out.n_bytes) {
                out.too_long = true;
                return out;
            }
            out.n_bytes += bytes->size();
            if (q.on_bytes)
                q.on_bytes(*bytes);
            else
                out.body.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        }
        return out;
    };
}

}  // namespace nibble::serve
