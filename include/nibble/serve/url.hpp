// SPDX-License-Identifier: Apache-2.0
#pragma once
// URLs of http and https, and what is asked of them and comes back, apart from who asks: so that a test can answer.

#include <charconv>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/serve/message.hpp"

namespace nibble::serve {

/// The parts of a URL.
struct url {
    std::string scheme;  ///< http or https
    std::string host;    ///< a name, an address, or an address of IPv6 in brackets
    int port = 0;        ///< 0: the scheme's own
    std::string path;    ///< with its query; begins with a slash

    [[nodiscard]] std::string origin() const { return scheme + "://" + host + (port != 0 ? ":" + std::to_string(port) : ""); }
};

/// Nothing if the text is no http or https URL, or holds a user, a blank or a control character.
[[nodiscard]] inline std::optional<url> parse_url(std::string_view text) {
    url u;
    for (const std::string_view scheme : {"http", "https"}) {
        if (text.size() > scheme.size() + 3 && detail::lower(text.substr(0, scheme.size())) == scheme && text.substr(scheme.size(), 3) == "://")
            u.scheme = scheme;
    }
    if (u.scheme.empty() || text.size() > 4096) return std::nullopt;
    for (const char c : text) {
        if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F || c == '\\' || c == '"' || c == '<' || c == '>') return std::nullopt;
    }
    text.remove_prefix(u.scheme.size() + 3);
    text = text.substr(0, text.find('#'));
    const auto slash = text.find_first_of("/?");
    auto authority = text.substr(0, slash);
    u.path = slash == text.npos ? "/" : text.substr(slash);
    if (u.path.front() == '?') u.path.insert(0, "/");
    const bool v6 = authority.starts_with('[');
    const auto host_end = v6 ? authority.find(']') : authority.find(':');
    if (v6 && host_end == authority.npos) return std::nullopt;
    u.host = authority.substr(0, v6 ? host_end + 1 : host_end);
    const auto rest = host_end == authority.npos ? std::string_view{} : authority.substr(v6 ? host_end + 1 : host_end);
    if (u.host.empty() || u.host.find_first_of("@/?") != u.host.npos) return std::nullopt;
    if (!rest.empty()) {
        if (rest.front() != ':') return std::nullopt;
        const auto [end, failed] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), u.port);
        if (rest.size() < 2 || failed != std::errc{} || end != rest.data() + rest.size() || u.port < 1 || u.port > 65535) return std::nullopt;
    }
    return u;
}

/// `reference` as seen from the page `base` (RFC 3986, 5.2, without dot segments, which servers do not send).
[[nodiscard]] inline std::optional<std::string> resolve_url(std::string_view base, std::string_view reference) {
    if (parse_url(reference)) return std::string(reference);
    const auto at = parse_url(base);
    if (!at || reference.empty()) return std::nullopt;
    std::string whole;
    if (reference.starts_with("//")) {
        whole = at->scheme + ":" + std::string(reference);
    } else if (reference.starts_with('/')) {
        whole = at->origin() + std::string(reference);
    } else {
        const auto path = at->path.substr(0, at->path.find('?'));
        whole = at->origin() + path.substr(0, path.rfind('/') + 1) + std::string(reference);
    }
    return parse_url(whole) ? std::optional(whole) : std::nullopt;
}

/// Where WebLLM looks for the files of a model: at its URL if that has a /resolve/REVISION/, else in resolve/main/ below it.
[[nodiscard]] inline std::string model_base(std::string text) {
    if (!text.ends_with('/')) text += '/';
    const auto at = text.find("/resolve/");
    if (at != text.npos && text.find('/', at + 9) != text.npos && text.find('/', at + 9) > at + 9) return text;
    return text + "resolve/main/";
}

/// A file's name as the path of a URL. What RFC 3986 leaves unreserved stays as it is, and the characters of `also_plain`.
[[nodiscard]] inline std::string url_path(std::string_view name, std::string_view also_plain = {}) {
    std::string out;
    for (const char c : name) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           std::string_view("-._~/").find(c) != std::string_view::npos || also_plain.find(c) != std::string_view::npos;
        constexpr const char* hex = "0123456789ABCDEF";
        if (plain)
            out += c;
        else
            out += std::string("%") + hex[static_cast<unsigned char>(c) >> 4] + hex[static_cast<unsigned char>(c) & 15];
    }
    return out;
}

/// A question to a server.
struct query {
    std::string url = {};
    std::string method = "GET";                     ///< or HEAD
    std::string range = {};                         ///< value of a Range header
    std::string origin = "https://webllm.example";  ///< the page that asks
    std::uint64_t limit = 64 << 20;                 ///< longest body that is taken
    std::function<void(bytes_view)> on_bytes = {};  ///< takes the body of a good answer instead
};

/// A redirect that was followed.
struct hop {
    std::string url;
    int status = 0;
    header_list headers;
};

/// A server's answer.
struct reply {
    std::string url;  ///< after redirects
    int status = 0;
    header_list headers;        ///< names in lower case
    std::string body;           ///< unless on_bytes took it
    std::uint64_t n_bytes = 0;  ///< of the body, as they came
    bool whole = true;          ///< false: the connection ended before the body did
    bool too_long = false;      ///< the body passed the limit and was left
    std::vector<hop> hops;      ///< the redirects on the way

    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const { return find_header(headers, name); }
};

/// Asks; as serve::ask does over the network.
using asker = std::function<result<reply>(const query&)>;

}  // namespace nibble::serve
