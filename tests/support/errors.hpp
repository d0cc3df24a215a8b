// SPDX-License-Identifier: Apache-2.0
#pragma once
// What tests ask of errors: all their messages as one text, and whether a text says something.

#include <string>
#include <string_view>

#include "nibble/core/result.hpp"
#include "support/catch.hpp"

namespace nibble::test {

[[nodiscard]] inline std::string all(const error_list& errors) {
    std::string text;
    for (const auto& e : errors) text += e.message() + "\n";
    return text;
}

/// Whether `text` holds `part`; the failing assertion shows both.
[[nodiscard]] inline bool has(const std::string& text, std::string_view part) {
    if (text.find(part) != text.npos) return true;
    UNSCOPED_INFO("not found: " << part << "\nin: " << text);
    return false;
}

}  // namespace nibble::test
