// SPDX-License-Identifier: Apache-2.0
#pragma once
// What of a folder is served, and how: which file a request's path means, what keeps paths inside the folder, byte ranges, entity
// tags, types, and the headers without which a browser's page on another origin may not read a thing. No sockets here.

#include <array>
#include <charconv>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "nibble/core/file.hpp"
#include "nibble/serve/message.hpp"

namespace nibble::serve {

/// The file name, relative to the folder, that a request's target means: decoded once, its query left out; empty for the root. Refused is
/// what could mean anything but a file in the folder, however it is written.
[[nodiscard]] inline attempt<std::string> path_of(std::string_view target) {
    if (!target.starts_with('/')) return refuse(400, "a target begins with a slash");
    target = target.substr(0, target.find_first_of("?#"));
    if (target.size() > target_limit) return refuse(414, "the path is too long");
    const auto hex = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    std::string path;
    for (std::size_t i = 1; i < target.size(); ++i) {
        char c = target[i];
        if (c == '%') {
            const int high = i + 1 < target.size() ? hex(target[i + 1]) : -1;
            const int low = i + 2 < target.size() ? hex(target[i + 2]) : -1;
            if (high < 0 || low < 0) return refuse(400, "the path holds a percent sign without two hexadecimal digits");
            c = static_cast<char>(high * 16 + low);
            i += 2;
            // An encoded slash is a slash to one program and a letter to the next; a percent sign is the way to encode a thing twice.
            if (c == '/' || c == '%') return refuse(400, "the path holds an encoded slash or percent sign");
        }
        const auto code = static_cast<unsigned char>(c);
        if (code < 0x20 || code == 0x7F) return refuse(400, "the path holds a control character");
        if (c == '\\' || c == ':') return refuse(403, "the path holds a backslash or a colon");
        path += c;
    }
    for (std::size_t at = 0; !path.empty() && at <= path.size();) {
        const auto end = std::min(path.find('/', at), path.size());
        const auto part = std::string_view(path).substr(at, end - at);
        if (part.empty()) return refuse(403, "the path has an empty part");
        // "." and "..", and with them .git and the work folder of a conversion.
        if (part.front() == '.') return refuse(403, "names that begin with a dot are not served");
        if (part.back() == '.' || part.back() == ' ') return refuse(403, "the path has a part that ends with a dot or a blank");
        at = end + 1;
    }
    return path;
}

/// The names under which a file may lie that was asked for as `path`, the likelier first: as it is; without the Hub's OWNER/NAME/resolve/
/// REVISION/ (which WebLLM puts before the name itself, so that any folder must understand it); without the resolve/REVISION/ alone, for
/// folders of several models; in resolve/main/, should the folder be laid out like the Hub, and in params/, like older ones of MLC.
[[nodiscard]] inline std::vector<std::string> names_of(const std::string& path) {
    std::vector<std::string> names{path};
    std::string rest = path;
    std::string before_resolve;
    constexpr std::string_view word = "resolve/";
    // At most OWNER and NAME come before it.
    std::size_t at = 0;
    for (int before = 0; before < 3; ++before) {
        if (std::string_view(path).substr(at).starts_with(word)) {
            const auto end = path.find('/', at + word.size());
            if (end != path.npos && end + 1 < path.size() && end != at + word.size()) {
                before_resolve = path.substr(0, at);
                rest = path.substr(end + 1);
            }
            break;
        }
        const auto slash = path.find('/', at);
        if (slash == path.npos) break;
        at = slash + 1;
    }
    if (rest != path) names.push_back(rest);
    if (!before_resolve.empty()) names.push_back(before_resolve + rest);
    names.push_back("resolve/main/" + rest);
    if (rest.find('/') == rest.npos) {
        names.push_back("params/" + rest);
        if (!before_resolve.empty()) names.push_back(before_resolve + "params/" + rest);
    }
    return names;
}

[[nodiscard]] constexpr std::string_view content_type(std::string_view name) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 12> types{{{".json", "application/json"},
                                                                                   {".wasm", "application/wasm"},
                                                                                   {".bin", "application/octet-stream"},
                                                                                   {".model", "application/octet-stream"},
                                                                                   {".html", "text/html; charset=utf-8"},
                                                                                   {".js", "text/javascript; charset=utf-8"},
                                                                                   {".mjs", "text/javascript; charset=utf-8"},
                                                                                   {".css", "text/css; charset=utf-8"},
                                                                                   {".txt", "text/plain; charset=utf-8"},
                                                                                   {".md", "text/plain; charset=utf-8"},
                                                                                   {".map", "application/json"},
                                                                                   {".svg", "image/svg+xml"}}};
    for (const auto& [suffix, type] : types) {
        if (name.ends_with(suffix)) return type;
    }
    return "application/octet-stream";
}

/// What a Range header asks of `size` bytes (RFC 9110, 14.2).
struct byte_range {
    enum class kind : std::uint8_t {
        whole,  ///< no header, or one that is to be ignored: not of bytes, malformed, or of several ranges
        part,
        none  ///< well-formed, and beyond the file
    };
    kind what = kind::whole;
    std::uint64_t offset = 0;
    std::uint64_t n_bytes = 0;
};
[[nodiscard]] inline byte_range parse_range(std::string_view header, std::uint64_t size) {
    const byte_range whole{byte_range::kind::whole, 0, size};
    if (header.size() < 6 || detail::lower(header.substr(0, 6)) != "bytes=") return whole;
    const auto spec = detail::trimmed(header.substr(6));
    const auto dash = spec.find('-');
    if (dash == spec.npos) return whole;
    // A number beyond 64 bits is beyond any file.
    const auto number = [](std::string_view digits) -> std::optional<std::uint64_t> {
        if (digits.empty() || digits.size() > 100 || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
        std::uint64_t n = 0;
        const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
        return failed == std::errc::result_out_of_range ? std::numeric_limits<std::uint64_t>::max() : n;
    };
    const auto first_text = spec.substr(0, dash);
    const auto last_text = spec.substr(dash + 1);
    if (first_text.empty()) {  // the last so many
        const auto n = number(last_text);
        if (!n) return whole;
        if (*n == 0 || size == 0) return {byte_range::kind::none, 0, 0};
        const auto length = std::min(*n, size);
        return {byte_range::kind::part, size - length, length};
    }
    const auto first = number(first_text);
    const auto last = last_text.empty() ? std::optional(std::numeric_limits<std::uint64_t>::max()) : number(last_text);
    if (!first || !last || *first > *last) return whole;
    if (*first >= size) return {byte_range::kind::none, 0, 0};
    return {byte_range::kind::part, *first, std::min(*last, size - 1) - *first + 1};
}

/// Whether a list of entity tags (or "*") names `tag`. Weak: W/"x" names "x" too, as for If-None-Match.
[[nodiscard]] inline bool names_tag(std::string_view list, std::string_view tag, bool weak) {
    bool found = false;
    detail::for_each_element(list, [&](std::string_view element) {
        if (weak && element.starts_with("W/")) element.remove_prefix(2);
        found = found || element == tag || element == "*";
    });
    return found;
}

/// What a site adds to its files.
struct site_options {
    bool isolate = false;  ///< COOP and COEP, for pages that need SharedArrayBuffer
    /// The answer to "/" for GET and HEAD, without the headers that all answers have.
    std::function<answer(const request&)> front = {};
};

/// A folder as a site.
class site {
public:
    /// Errors: missing (no such folder).
    [[nodiscard]] static result<site> open(const std::string& folder, site_options options = {}) {
        std::error_code ec;
        const auto home = std::filesystem::canonical(folder, ec);
        if (ec || !std::filesystem::is_directory(home, ec)) return fail(error{errc::missing, "no such folder", folder, {}, {}, "give a folder of MLC weights"});
        return site(home, std::move(options));
    }

    [[nodiscard]] const std::filesystem::path& home() const { return home_; }

    /// Opens a file of the folder by its name. A link that leads out of the folder is as good as no file; so is what is no regular file.
    [[nodiscard]] std::shared_ptr<const nibble::file> find(const std::string& name) const {
        const auto path = home_ / name;
        if (!stays_inside(path, home_)) return nullptr;
        auto f = file::open(path.string(), file_access::read);
        if (!f) return nullptr;
        // A link may have been put there since it was looked at: what was opened must be what the checked path still names.
        std::error_code ec;
        const auto real = std::filesystem::canonical(path, ec);
        struct stat named {};
        if (ec || !stays_inside(real, home_) || ::lstat(real.c_str(), &named) != 0 || !(*f)->is_same(named)) return nullptr;
        return *f;
    }

    /// The answer to any request that parses.
    [[nodiscard]] answer respond(const request& r) const {
        auto a = answer_to(r);
        if (r.method == "HEAD") a.send_body = false;
        finish(a);
        if (!r.keep_alive) a.close = true;
        return a;
    }

    /// The answer to one that does not.
    [[nodiscard]] answer refuse_with(const refusal& why) const {
        auto a = plain(why.status, why.why);
        finish(a);
        a.close = true;
        return a;
    }

    [[nodiscard]] static std::string tag_of(const file& f) {
        std::array<char, 64> text{};
        std::snprintf(text.data(), text.size(), "\"%llx-%llx\"", static_cast<unsigned long long>(f.size()), static_cast<unsigned long long>(f.modified_ns()));
        return text.data();
    }

private:
    site(std::filesystem::path home, site_options options) : home_(std::move(home)), options_(std::move(options)) {}

    [[nodiscard]] static answer plain(int status, std::string text) {
        answer a;
        a.status = status;
        a.headers.emplace_back("content-type", "text/plain; charset=utf-8");
        a.body = std::move(text) + "\n";
        return a;
    }

    void finish(answer& a) const {
        a.headers.emplace_back("access-control-allow-origin", "*");
        a.headers.emplace_back("access-control-expose-headers", "accept-ranges, content-length, content-range, etag");
        a.headers.emplace_back("cross-origin-resource-policy", "cross-origin");
        a.headers.emplace_back("x-content-type-options", "nosniff");
        if (options_.isolate) {
            a.headers.emplace_back("cross-origin-opener-policy", "same-origin");
            a.headers.emplace_back("cross-origin-embedder-policy", "require-corp");
        }
    }

    [[nodiscard]] answer answer_to(const request& r) const {
        constexpr const char* methods = "GET, HEAD, OPTIONS";
        if (r.method == "OPTIONS") {
            answer a;
            a.status = 204;
            a.headers.emplace_back("allow", methods);
            a.headers.emplace_back("access-control-allow-methods", methods);
            a.headers.emplace_back("access-control-allow-headers", "range, if-range, if-match, if-none-match, cache-control, content-type");
            a.headers.emplace_back("access-control-max-age", "86400");
            // A page of the public web asks before it talks to a server of a private network; everything here may be read by anybody.
            if (r.header("access-control-request-private-network") == "true") a.headers.emplace_back("access-control-allow-private-network", "true");
            return a;
        }
        if (r.method != "GET" && r.method != "HEAD") {
            auto a = plain(405, "only GET, HEAD and OPTIONS are served");
            a.headers.emplace_back("allow", methods);
            return a;
        }
        const auto path = path_of(r.target);
        if (!path) return plain(path.error().status, path.error().why);
        if (path->empty()) return options_.front ? options_.front(r) : plain(200, "nibble serve");
        for (const auto& name : names_of(*path)) {
            if (auto f = find(name)) return answer_with(r, std::move(f), name);
        }
        return plain(404, "no such file");
    }

    [[nodiscard]] static answer answer_with(const request& r, std::shared_ptr<const nibble::file> f, std::string_view name) {
        const auto tag = tag_of(*f);
        const auto size = f->size();
        answer a;
        a.headers.emplace_back("etag", tag);
        // A page that reloads asks again, and gets 304: a folder that was converted anew is never mixed with its forerunner.
        a.headers.emplace_back("cache-control", "no-cache");
        if (const auto wanted = r.header("if-match"); wanted && !names_tag(*wanted, tag, false)) {
            a.status = 412;
            return a;
        }
        if (const auto known = r.header("if-none-match"); known && names_tag(*known, tag, true)) {
            a.status = 304;
            return a;
        }
        a.headers.emplace_back("accept-ranges", "bytes");
        const auto range = r.header("range");
        const auto condition = r.header("if-range");
        const auto part = range && r.method == "GET" && (!condition || *condition == tag) ? parse_range(*range, size) : byte_range{{}, 0, size};
        if (part.what == byte_range::kind::none) {
            a.status = 416;
            a.headers.emplace_back("content-range", "bytes */" + std::to_string(size));
            return a;
        }
        if (part.what == byte_range::kind::part) {
            a.status = 206;
            a.headers.emplace_back("content-range",
                                   "bytes " + std::to_string(part.offset) + "-" + std::to_string(part.offset + part.n_bytes - 1) + "/" + std::to_string(size));
        }
        a.headers.emplace_back("content-type", content_type(name));
        a.content = std::move(f);
        a.offset = part.offset;
        a.n_bytes = part.n_bytes;
        return a;
    }

    std::filesystem::path home_;
    site_options options_;
};

}  // namespace nibble::serve
