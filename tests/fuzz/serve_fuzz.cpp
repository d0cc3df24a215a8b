// SPDX-License-Identifier: Apache-2.0
// Any bytes as a request's head, as a target, and as a Range: what is accepted means a name inside the folder and bytes inside the file.
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "nibble/serve/files.hpp"
#include "nibble/serve/url.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

void check_name(const std::string& name) {
    const std::filesystem::path path(name);
    require(!path.is_absolute() && name.find('\0') == name.npos && name.find('\\') == name.npos && name.find("//") == name.npos);
    for (const auto& part : path) require(!part.empty() && part != "." && part != ".." && part.string().front() != '.');
    // Said by somebody else: joined and made normal, it is still below.
    const auto normal = (std::filesystem::path("/folder") / path).lexically_normal().string();
    require(normal.starts_with("/folder/") && normal.size() > 8);
}

void check_target(std::string_view target) {
    const auto path = nibble::serve::path_of(target);
    if (!path) return require(path.error().status >= 400 && !path.error().why.empty());
    if (path->empty()) return;
    check_name(*path);
    for (const auto& name : nibble::serve::names_of(*path)) check_name(name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    namespace serve = nibble::serve;
    const std::string_view text(reinterpret_cast<const char*>(data), n);
    check_target(text);
    check_target("/" + std::string(text));
    for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000}, ~std::uint64_t{0}}) {
        for (const auto& header : {std::string(text), "bytes=" + std::string(text)}) {
            const auto r = serve::parse_range(header, size);
            require(r.what == serve::byte_range::kind::none || (r.offset <= size && r.n_bytes <= size - r.offset));
            require(r.what != serve::byte_range::kind::part || r.n_bytes != 0);
        }
    }
    for (const auto& head : {std::string(text), std::string(text) + "\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n" + std::string(text) + "\r\n\r\n"}) {
        const auto r = serve::parse_request(head);
        if (!r) {
            require(r.error().status >= 400);
            continue;
        }
        check_target(r->target);
        require(r->headers.size() <= serve::header_count_limit);
        for (const auto& [name, value] : r->headers) require(!name.empty() && (name + value).find_first_of("\r\n") == std::string::npos);
    }
    if (const auto u = serve::parse_url(text)) require(!u->host.empty() && u->path.front() == '/' && u->path.find_first_of("\r\n ") == std::string::npos);
    return 0;
}
