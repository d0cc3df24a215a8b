// SPDX-License-Identifier: Apache-2.0
#pragma once
// Requests and answers of HTTP/1.1 (RFC 9112), as far as a server of files needs them: parsed strictly and within bounds from bytes
// that anybody may send. No sockets here.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/core/result.hpp"

namespace nibble::serve {

inline constexpr std::size_t head_limit = 16 << 10;  ///< bytes of a request's line and headers together
inline constexpr std::size_t target_limit = 2048;    ///< bytes of a request's target
inline constexpr std::size_t header_count_limit = 64;

/// Why a request is not served: the status that says so, and a sentence for people.
struct refusal {
    int status = 400;
    std::string why;
};
/// A value, or the refusal that answers the request.
template <class T>
using attempt = tl::expected<T, refusal>;
[[nodiscard]] inline tl::unexpected<refusal> refuse(int status, std::string why) { return tl::unexpected<refusal>(refusal{status, std::move(why)}); }

/// Names and values, in their order.
using header_list = std::vector<std::pair<std::string, std::string>>;

/// The value of the first header of that name (in lower case), or nothing.
[[nodiscard]] inline std::optional<std::string_view> find_header(const header_list& headers, std::string_view name) {
    for (const auto& [key, value] : headers) {
        if (key == name) return value;
    }
    return std::nullopt;
}

/// A request, its head read and checked.
struct request {
    std::string method;
    std::string target;   ///< as sent, not decoded
    header_list headers;  ///< names in lower case, values without blanks around them
    bool keep_alive = true;

    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const { return find_header(headers, name); }
};

/// What goes back: a status, headers, and a body that is a text or a piece of a file.
struct answer {
    int status = 200;
    header_list headers;
    std::string body;
    std::shared_ptr<const nibble::file> content;  ///< instead of `body`
    std::uint64_t offset = 0;                     ///< in `content`
    std::uint64_t n_bytes = 0;                    ///< of `content`
    bool send_body = true;                        ///< false: HEAD, whose Content-Length is that of GET
    bool close = false;                           ///< the connection ends with this answer

    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const { return find_header(headers, name); }
    [[nodiscard]] std::uint64_t length() const { return content != nullptr ? n_bytes : body.size(); }
};

[[nodiscard]] constexpr std::string_view status_text(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 204:
            return "No Content";
        case 206:
            return "Partial Content";
        case 304:
            return "Not Modified";
        case 400:
            return "Bad Request";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 412:
            return "Precondition Failed";
        case 413:
            return "Content Too Large";
        case 414:
            return "URI Too Long";
        case 416:
            return "Range Not Satisfiable";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 503:
            return "Service Unavailable";
        case 505:
            return "HTTP Version Not Supported";
        default:
            return "Status";
    }
}

namespace detail {

[[nodiscard]] constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }
[[nodiscard]] inline std::string lower(std::string_view text) {
    std::string out(text);
    for (auto& c : out) c = lower(c);
    return out;
}
[[nodiscard]] constexpr bool is_token_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}
[[nodiscard]] constexpr std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}
/// Calls f with each element of a list that commas divide.
template <class F>
void for_each_element(std::string_view list, F&& f) {
    for (;;) {
        const auto comma = list.find(',');
        f(trimmed(list.substr(0, comma)));
        if (comma == list.npos) return;
        list.remove_prefix(comma + 1);
    }
}

}  // namespace detail

/// Parses a request's head: all bytes up to and with the empty line. Lines end in CRLF; a body is refused, because nothing here takes one
/// and whatever is not read of it would be taken for the next request.
[[nodiscard]] inline attempt<request> parse_request(std::string_view head) {
    if (head.size() > head_limit) return refuse(431, "the request's headers are longer than " + std::to_string(head_limit) + " bytes");
    if (!head.ends_with("\r\n\r\n")) return refuse(400, "the request's head does not end with an empty line");
    head.remove_suffix(2);
    const auto next_line = [&]() -> std::optional<std::string_view> {
        const auto end = head.find("\r\n");
        if (end == head.npos) return std::nullopt;
        const auto line = head.substr(0, end);
        head.remove_prefix(end + 2);
        return line;
    };
    const auto bad = [](std::string_view line) {
        return std::any_of(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; });
    };

    request r;
    const auto first = next_line();
    if (!first || bad(*first)) return refuse(400, "the request line is malformed");
    const auto space = first->find(' ');
    const auto last = first->rfind(' ');
    if (space == first->npos || space == last) return refuse(400, "the request line needs a method, a target and a version");
    r.method = first->substr(0, space);
    r.target = first->substr(space + 1, last - space - 1);
    const auto version = first->substr(last + 1);
    if (r.method.empty() || r.method.size() > 32 || !std::all_of(r.method.begin(), r.method.end(), detail::is_token_char))
        return refuse(400, "the method is malformed");
    if (r.target.size() > target_limit) return refuse(414, "the target is longer than " + std::to_string(target_limit) + " bytes");
    if (r.target.empty() || r.target.find_first_of(" \t") != r.target.npos) return refuse(400, "the target is malformed");
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return refuse(505, "HTTP/1.1 and HTTP/1.0 are spoken here");
    r.keep_alive = version == "HTTP/1.1";

    std::size_t n_hosts = 0;
    while (!head.empty()) {
        const auto line = next_line();
        if (!line || bad(*line)) return refuse(400, "a header is malformed");
        if (r.headers.size() == header_count_limit) return refuse(431, "there are more than " + std::to_string(header_count_limit) + " headers");
        const auto colon = line->find(':');
        if (colon == line->npos || colon == 0) return refuse(400, "a header needs a name and a colon");
        const auto name = line->substr(0, colon);
        // A blank at the start of a line once continued the header before it, and one before the colon is read differently by
        // different programs: both are ways to smuggle.
        if (!std::all_of(name.begin(), name.end(), detail::is_token_char)) return refuse(400, "a header's name is malformed");
        r.headers.emplace_back(detail::lower(name), detail::trimmed(line->substr(colon + 1)));
        const auto& [key, value] = r.headers.back();
        n_hosts += key == "host" ? 1 : 0;
        if (key == "transfer-encoding" || (key == "content-length" && value != "0")) return refuse(413, "requests with a body are not served");
        if (key == "connection") {
            detail::for_each_element(value, [&](std::string_view option) {
                if (detail::lower(option) == "close") r.keep_alive = false;
                if (detail::lower(option) == "keep-alive" && version == "HTTP/1.0") r.keep_alive = true;
            });
        }
    }
    if (n_hosts > 1 || (n_hosts == 0 && version == "HTTP/1.1")) return refuse(400, "a request names one Host");
    return r;
}

/// The head of an answer, with its empty line.
[[nodiscard]] inline std::string head_text(const answer& a) {
    std::string text = "HTTP/1.1 " + std::to_string(a.status) + " " + std::string(status_text(a.status)) + "\r\n";
    for (const auto& [name, value] : a.headers) {
        text += name;
        text += ": ";
        text += value;
        text += "\r\n";
    }
    // A 304 and a 204 have no body, and the length of what they do not send is not to be stated wrong.
    if (a.status != 304 && a.status != 204) text += "content-length: " + std::to_string(a.length()) + "\r\n";
    text += a.close ? "connection: close\r\n\r\n" : "connection: keep-alive\r\n\r\n";
    return text;
}

}  // namespace nibble::serve
