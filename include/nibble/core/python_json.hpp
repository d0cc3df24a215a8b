// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON text as Python's json.dump writes it with its defaults (ASCII only, floats by repr): what mlc_llm and tvm write.

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "nibble/core/json.hpp"

namespace nibble {

/// A number as Python's repr prints a float: the shortest digits that read back, always with a point or an exponent.
[[nodiscard]] inline std::string python_float(double x) {
    if (std::isnan(x)) return "NaN";
    if (std::isinf(x)) return x < 0 ? "-Infinity" : "Infinity";
    std::array<char, 400> text{};
    const double size = std::fabs(x);
    const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
    const auto end = plain ? std::to_chars(text.data(), text.data() + text.size(), x, std::chars_format::fixed).ptr
                           : std::to_chars(text.data(), text.data() + text.size(), x, std::chars_format::scientific).ptr;
    std::string s(text.data(), end);
    if (plain && s.find('.') == s.npos) s += ".0";
    return s;
}

/// A string in quotes, all but printable ASCII escaped. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] inline std::string python_string(std::string_view text) { return json(std::string(text)).dump(-1, ' ', true, json::error_handler_t::replace); }

/// The text of json.dump(value, indent=`indent`), without a newline at the end. `level` is how deep the value itself stands.
[[nodiscard]] inline std::string python_json(const json& value, std::size_t indent, std::size_t level = 0) {
    if (value.is_number_float()) return python_float(value.get<double>());
    if (value.is_string()) return python_string(value.get_ref<const std::string&>());
    if (!value.is_structured()) return value.dump();
    const char* const brackets = value.is_array() ? "[]" : "{}";
    if (value.empty()) return brackets;
    const std::string line = "\n" + std::string(indent * level, ' ');
    std::string out(1, brackets[0]);
    for (const auto& [key, item] : value.items()) {
        out += (out.size() == 1 ? "" : ",") + line + std::string(indent, ' ');
        if (value.is_object()) out += python_string(key) + ": ";
        out += python_json(item, indent, level + 1);
    }
    return out + line + brackets[1];
}

}  // namespace nibble
