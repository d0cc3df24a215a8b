// SPDX-License-Identifier: Apache-2.0
#pragma once
// Values of the chat template interpreter (jinja.hpp): what Python's values are to Jinja2, as far as chat templates use them,
// and how they print (str, repr and json.dumps of Python 3). Strings are UTF-8; positions and lengths count code points.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "nibble/core/json.hpp"

namespace nibble::chat::detail {

struct jinja_node;
struct jinja_value;
using jinja_list = std::vector<jinja_value>;

/// A mapping with string keys in the order of insertion.
struct jinja_dict {
    std::vector<std::pair<std::string, jinja_value>> items;
    [[nodiscard]] inline const jinja_value* find(std::string_view key) const;
    inline void set(std::string_view key, jinja_value v);
};

/// What `{{ x }}` is where x is nowhere: prints nothing, is false, and any use of its inside is an error that names it.
struct jinja_undefined {
    std::string name;
};
struct jinja_none {};
struct jinja_namespace {
    std::shared_ptr<jinja_dict> members;
};
/// The variable `loop` inside a for.
struct jinja_loop {
    std::shared_ptr<const jinja_list> items;
    std::size_t at = 0;
    std::size_t depth = 1;
};
struct jinja_macro {
    const jinja_node* definition;
};
/// A function that the environment offers, by name: raise_exception, range ...
struct jinja_function {
    std::string_view name;
};

/// Copies are cheap: what is long is shared and never changed. Only a namespace can change, and it may stand in no container, so there
/// are no cycles.
struct jinja_value {
    using string_ptr = std::shared_ptr<const std::string>;
    using list_ptr = std::shared_ptr<const jinja_list>;
    using dict_ptr = std::shared_ptr<const jinja_dict>;
    std::variant<jinja_undefined, jinja_none, bool, std::int64_t, double, string_ptr, list_ptr, dict_ptr, jinja_namespace, jinja_loop, jinja_macro,
                 jinja_function>
        is;
    bool tuple = false;       // prints with parentheses
    bool markup = false;      // made by the filter safe: + escapes what it adds to it
    std::uint16_t depth = 0;  // levels of containers in it

    jinja_value() = default;
    jinja_value(jinja_undefined u) : is(std::move(u)) {}
    jinja_value(jinja_none n) : is(n) {}
    jinja_value(bool b) : is(b) {}
    jinja_value(std::int64_t i) : is(i) {}
    jinja_value(double d) : is(d) {}
    jinja_value(std::string s) : is(std::make_shared<const std::string>(std::move(s))) {}
    jinja_value(std::string_view s) : jinja_value(std::string(s)) {}
    jinja_value(const char* s) : jinja_value(std::string(s)) {}
    jinja_value(jinja_list l);
    jinja_value(jinja_dict d);
    jinja_value(jinja_namespace n) : is(std::move(n)) {}
    jinja_value(jinja_loop l) : is(std::move(l)) {}
    jinja_value(jinja_macro m) : is(m) {}
    jinja_value(jinja_function f) : is(f) {}

    template <class T>
    [[nodiscard]] const T* as() const {
        return std::get_if<T>(&is);
    }
    [[nodiscard]] const std::string* string() const { return as<string_ptr>() ? as<string_ptr>()->get() : nullptr; }
    [[nodiscard]] const jinja_list* list() const { return as<list_ptr>() ? as<list_ptr>()->get() : nullptr; }
    [[nodiscard]] const jinja_dict* dict() const { return as<dict_ptr>() ? as<dict_ptr>()->get() : nullptr; }
    [[nodiscard]] bool undefined() const { return as<jinja_undefined>() != nullptr; }
    [[nodiscard]] bool none() const { return as<jinja_none>() != nullptr; }
    [[nodiscard]] bool number() const { return as<bool>() || as<std::int64_t>() || as<double>(); }
    /// bool and int as Python's int; others: 0.
    [[nodiscard]] std::int64_t integer() const {
        if (const auto* b = as<bool>()) return *b ? 1 : 0;
        const auto* i = as<std::int64_t>();
        return i ? *i : 0;
    }
    [[nodiscard]] bool integral() const { return as<bool>() || as<std::int64_t>(); }
    [[nodiscard]] double real() const { return as<double>() ? *as<double>() : static_cast<double>(integer()); }

    [[nodiscard]] bool truth() const {
        if (const auto* b = as<bool>()) return *b;
        if (const auto* i = as<std::int64_t>()) return *i != 0;
        if (const auto* d = as<double>()) return *d != 0;
        if (const auto* s = string()) return !s->empty();
        if (const auto* l = list()) return !l->empty();
        if (const auto* m = dict()) return !m->items.empty();
        return !undefined() && !none();
    }
    /// As an error message calls it.
    [[nodiscard]] const char* type_name() const {
        constexpr const char* names[] = {"undefined", "none",      "a boolean",   "an integer", "a float", "a string",
                                         "a list",    "a mapping", "a namespace", "a loop",     "a macro", "a function"};
        return names[is.index()];
    }
};

inline jinja_value::jinja_value(jinja_list l) {
    for (const auto& v : l) depth = std::max(depth, v.depth);
    ++depth;
    is = std::make_shared<const jinja_list>(std::move(l));
}
inline jinja_value::jinja_value(jinja_dict d) {
    for (const auto& [k, v] : d.items) depth = std::max(depth, v.depth);
    ++depth;
    is = std::make_shared<const jinja_dict>(std::move(d));
}

inline const jinja_value* jinja_dict::find(std::string_view key) const {
    for (const auto& [k, v] : items) {
        if (k == key) return &v;
    }
    return nullptr;
}
inline void jinja_dict::set(std::string_view key, jinja_value v) {
    for (auto& [k, old] : items) {
        if (k == key) {
            old = std::move(v);
            return;
        }
    }
    items.emplace_back(std::string(key), std::move(v));
}

// --- UTF-8

/// Bytes of the code point that begins with this byte, in text that is known to be UTF-8.
[[nodiscard]] inline std::size_t utf8_length(char lead) {
    const auto c = static_cast<unsigned char>(lead);
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}
[[nodiscard]] inline bool utf8_is_tail(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }
[[nodiscard]] inline std::size_t utf8_count(std::string_view text) {
    std::size_t n = 0;
    for (const char c : text) n += utf8_is_tail(c) ? 0 : 1;
    return n;
}
inline void utf8_append(std::string& to, std::uint32_t c) {
    const auto byte = [&](std::uint32_t b) { to += static_cast<char>(static_cast<unsigned char>(b)); };
    if (c < 0x80) return byte(c);
    if (c < 0x800) return byte(0xc0 | (c >> 6)), byte(0x80 | (c & 63));
    if (c < 0x10000) return byte(0xe0 | (c >> 12)), byte(0x80 | ((c >> 6) & 63)), byte(0x80 | (c & 63));
    byte(0xf0 | (c >> 18)), byte(0x80 | ((c >> 12) & 63)), byte(0x80 | ((c >> 6) & 63)), byte(0x80 | (c & 63));
}
/// Decodes one code point of valid UTF-8.
[[nodiscard]] inline std::uint32_t utf8_decode(std::string_view at) {
    const auto b = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(at[i])); };
    switch (utf8_length(at[0])) {
        case 1:
            return b(0);
        case 2:
            return ((b(0) & 31) << 6) | (b(1) & 63);
        case 3:
            return ((b(0) & 15) << 12) | ((b(1) & 63) << 6) | (b(2) & 63);
        default:
            return ((b(0) & 7) << 18) | ((b(1) & 63) << 12) | ((b(2) & 63) << 6) | (b(3) & 63);
    }
}
[[nodiscard]] inline bool utf8_valid(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        if (lead >= 0x80 && (lead < 0xc2 || lead > 0xf4)) return false;
        const auto n = utf8_length(text[i]);
        if (n > text.size() - i) return false;
        for (std::size_t k = 1; k < n; ++k) {
            if (!utf8_is_tail(text[i + k])) return false;
        }
        const auto c = utf8_decode(text.substr(i));
        if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (n == 4 && (c < 0x10000 || c > 0x10ffff))) return false;
        i += n;
    }
    return true;
}
/// Python's str.isspace, which is also the \s of its regular expressions.
[[nodiscard]] inline bool is_space(std::uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}
[[nodiscard]] inline std::string_view strip_left(std::string_view text) {
    while (!text.empty() && is_space(utf8_decode(text))) text.remove_prefix(utf8_length(text[0]));
    return text;
}
[[nodiscard]] inline std::string_view strip_right(std::string_view text) {
    while (!text.empty()) {
        std::size_t at = text.size() - 1;
        while (at > 0 && utf8_is_tail(text[at])) --at;
        if (!is_space(utf8_decode(text.substr(at)))) break;
        text = text.substr(0, at);
    }
    return text;
}
[[nodiscard]] inline std::string_view strip(std::string_view text) { return strip_left(strip_right(text)); }
/// Text as code points, each a view of its bytes.
[[nodiscard]] inline std::vector<std::string_view> code_points(std::string_view text) {
    std::vector<std::string_view> all;
    for (std::size_t i = 0; i < text.size();) {
        const auto n = utf8_length(text[i]);
        all.push_back(text.substr(i, n));
        i += n;
    }
    return all;
}

// --- Printing

/// repr of a Python float.
[[nodiscard]] inline std::string float_text(double d) {
    if (std::isnan(d)) return "nan";
    if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
    if (d == 0) return std::signbit(d) ? "-0.0" : "0.0";
    char buffer[64];
    const double magnitude = std::fabs(d);
    const bool plain = magnitude >= 1e-4 && magnitude < 1e16;
    const auto end = plain ? std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::fixed)
                           : std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific);
    std::string text(buffer, end.ptr);
    if (plain && text.find('.') == text.npos) text += ".0";
    return text;
}

/// json.dumps of a string with ensure_ascii=False.
inline void append_json_string(std::string& to, std::string_view s) {
    to += '"';
    for (const char c : s) {
        switch (c) {
            case '"':
                to += "\\\"";
                break;
            case '\\':
                to += "\\\\";
                break;
            case '\n':
                to += "\\n";
                break;
            case '\r':
                to += "\\r";
                break;
            case '\t':
                to += "\\t";
                break;
            case '\b':
                to += "\\b";
                break;
            case '\f':
                to += "\\f";
                break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    constexpr char digits[] = "0123456789abcdef";
                    to += "\\u00";
                    to += digits[static_cast<unsigned char>(c) >> 4];
                    to += digits[static_cast<unsigned char>(c) & 15];
                } else {
                    to += c;
                }
        }
    }
    to += '"';
}

/// repr of a Python string. What Python thinks unprintable beyond Latin-1 is left as it is.
inline void append_repr_string(std::string& to, std::string_view s) {
    const char quote = s.find('\'') != s.npos && s.find('"') == s.npos ? '"' : '\'';
    to += quote;
    for (const auto point : code_points(s)) {
        const auto c = utf8_decode(point);
        if (c == static_cast<unsigned char>(quote) || c == '\\') {
            to += '\\';
            to += static_cast<char>(c);
        } else if (c == '\n') {
            to += "\\n";
        } else if (c == '\r') {
            to += "\\r";
        } else if (c == '\t') {
            to += "\\t";
        } else if (c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad) {
            constexpr char digits[] = "0123456789abcdef";
            to += "\\x";
            to += digits[c >> 4];
            to += digits[c & 15];
        } else {
            to += point;
        }
    }
    to += quote;
}

[[nodiscard]] inline jinja_value from_json(const json& j) {
    switch (j.type()) {
        case json::value_t::null:
            return jinja_none{};
        case json::value_t::boolean:
            return j.get<bool>();
        case json::value_t::number_integer:
            return j.get<std::int64_t>();
        case json::value_t::number_unsigned: {
            const auto u = j.get<std::uint64_t>();
            if (u <= static_cast<std::uint64_t>(INT64_MAX)) return static_cast<std::int64_t>(u);
            return static_cast<double>(u);
        }
        case json::value_t::number_float:
            return j.get<double>();
        case json::value_t::string:
            return j.get_ref<const std::string&>();
        case json::value_t::array: {
            jinja_list all;
            for (const auto& e : j) all.push_back(from_json(e));
            return all;
        }
        case json::value_t::object: {
            jinja_dict all;
            for (const auto& [k, v] : j.items()) all.items.emplace_back(k, from_json(v));
            return all;
        }
        default:
            return jinja_undefined{};
    }
}

}  // namespace nibble::chat::detail
