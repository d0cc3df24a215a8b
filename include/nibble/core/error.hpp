// SPDX-License-Identifier: Apache-2.0
#pragma once
// An error says where (file, tensor, offset), what rule was broken, and what to do about it.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace nibble {

/// The kind of an error, for programs; people read error::message().
enum class errc {
    io,           ///< the operating system refused (open, read, write, rename, sync)
    truncated,    ///< fewer bytes than a header promises
    malformed,    ///< bytes that break the rules of their format
    unsupported,  ///< well-formed, but nothing here can use it
    mismatch,     ///< two statements about the same thing disagree
    missing,      ///< something that is needed is not there
    no_space,     ///< the disk is full, or would be
    busy,         ///< another process holds the lock
    refused,      ///< allowed only with an explicit option
    interrupted   ///< somebody asked to stop
};

/// Where and why something failed. Every field but `rule` may be empty.
struct error {
    errc code = errc::malformed;
    std::string rule;                     ///< the rule that was broken, with the numbers that broke it
    std::string file;                     ///< path as the user knows it
    std::string tensor;                   ///< tensor or parameter name
    std::optional<std::uint64_t> offset;  ///< byte offset in `file`
    std::string remedy;                   ///< what the user can do

    /// One line: "file: tensor 'x': at byte 12: rule; remedy".
    [[nodiscard]] std::string message() const {
        std::string text;
        if (!file.empty()) text += file + ": ";
        if (!tensor.empty()) text += "tensor '" + tensor + "': ";
        if (offset) text += "at byte " + std::to_string(*offset) + ": ";
        text += rule;
        if (!remedy.empty()) text += "; " + remedy;
        return text;
    }

    /// Fills the place in an error that came from a layer that did not know it.
    [[nodiscard]] error in_file(std::string path) && {
        if (file.empty()) file = std::move(path);
        return std::move(*this);
    }
    [[nodiscard]] error in_tensor(std::string name) && {
        if (tensor.empty()) tensor = std::move(name);
        return std::move(*this);
    }
    [[nodiscard]] error at(std::uint64_t byte) && {
        if (!offset) offset = byte;
        return std::move(*this);
    }
    [[nodiscard]] error advise(std::string what) && {
        if (remedy.empty()) remedy = std::move(what);
        return std::move(*this);
    }
};

}  // namespace nibble
