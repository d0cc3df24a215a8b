// SPDX-License-Identifier: Apache-2.0
#pragma once
// The list of checkpoint formats: one entry for each, tried by the name of what is given.

#include <array>

#include "nibble/source/folder.hpp"
#include "nibble/source/gguf.hpp"

namespace nibble::source {

/// A checkpoint format: whether a path is of it, and how it is opened.
struct format {
    std::string_view name;
    bool (*claims)(const std::string& where);
    result<checkpoint> (*open)(const std::string& where, const open_options& options);
};

namespace detail {

/// By the ending, or by the first bytes of a file that is named otherwise.
inline bool is_gguf(const std::string& where) {
    if (where.ends_with(".gguf")) return true;
    std::error_code ec;
    if (!std::filesystem::is_regular_file(where, ec) || where.ends_with(".safetensors")) return false;
    const auto f = file::open(where, file_access::read);
    std::vector<std::byte> scratch;
    if (!f || (*f)->size() < 4) return false;
    const auto head = (*f)->bytes(0, 4, scratch);
    return head && std::memcmp(head->data(), "GGUF", 4) == 0;
}

}  // namespace detail

/// All formats; the last one takes whatever the others leave.
inline constexpr std::array formats{format{"gguf", detail::is_gguf, open_gguf}, format{"safetensors", [](const std::string&) { return true; }, open_folder}};

/// Opens whatever checkpoint `where` names: a .gguf file, a .safetensors file, or a Hugging Face folder.
[[nodiscard]] inline result<checkpoint> open_checkpoint(const std::string& where, const open_options& options = {}) {
    for (const auto& f : formats) {
        if (f.claims(where)) return f.open(where, options);
    }
    return open_folder(where, options);
}

}  // namespace nibble::source
