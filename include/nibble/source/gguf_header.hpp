// SPDX-License-Identifier: Apache-2.0
#pragma once
// The container GGUF, versions 2 and 3, little-endian (ggml/docs/gguf.md): typed metadata, then tensor records, then aligned data.
// As strict as ggml's own reader (gguf.cpp), and bounded: nothing is allocated for a count that the file has no bytes for.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nibble/source/source.hpp"

namespace nibble::source {

/// The types of metadata, by their numbers in the file.
enum class gguf_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

/// Where an array of the metadata lies in the file. Arrays of 10^5 tokens are common, so they are read when they are asked for.
struct gguf_array {
    gguf_type type = gguf_type::u8;  ///< of the elements; never array
    std::uint64_t count = 0;
    std::uint64_t offset = 0;  ///< first byte of the first element
};

/// A value of the metadata.
struct gguf_value {
    gguf_type type = gguf_type::u8;
    json value;  ///< null for an array
    gguf_array array;
};

/// What a GGUF file says before its data. Tensors have their stored names, their shapes are [.., N, K], their offsets are from the
/// start of the file.
struct gguf_header {
    std::shared_ptr<const file> from;
    std::uint32_t version = 0;
    std::map<std::string, gguf_value, std::less<>> metadata;
    std::vector<tensor> tensors;
    std::uint64_t end = 0;  ///< first byte after the last tensor

    [[nodiscard]] const gguf_value* find(std::string_view key) const {
        const auto at = metadata.find(key);
        return at == metadata.end() ? nullptr : &at->second;
    }
    /// A string, or empty where there is none of that name and type.
    [[nodiscard]] std::string text(std::string_view key) const {
        const auto* v = find(key);
        return v != nullptr && v->type == gguf_type::text ? v->value.get<std::string>() : std::string();
    }

    /// The elements of an array as JSON. Errors: missing, malformed (no array, or text that is not UTF-8), io.
    [[nodiscard]] result<json> array(std::string_view key) const;
};

/// Reads the header of one file. Errors: truncated, malformed, unsupported (version, byte order), io.
[[nodiscard]] result<gguf_header> read_gguf_header(std::shared_ptr<const file> from);

namespace detail {

inline constexpr std::array<std::uint32_t, 13> gguf_type_bytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
inline constexpr std::array<std::string_view, 13> gguf_type_names{"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                                  "bool", "string", "array", "u64", "i64", "f64"};
[[nodiscard]] constexpr std::uint32_t bytes_of(gguf_type t) { return gguf_type_bytes[static_cast<std::size_t>(t)]; }
[[nodiscard]] constexpr std::string_view name_of(gguf_type t) { return gguf_type_names[static_cast<std::size_t>(t)]; }

/// A row of ggml's table of types (enum ggml_type). Types without an encoding here keep their place in the file, no more.
struct ggml_type {
    std::uint32_t id;
    std::string_view name;
    encoding type;
    std::uint32_t block_values;
    std::uint32_t block_bytes;
    bool known;  ///< `type` is its encoding
};
[[nodiscard]] constexpr ggml_type known_type(std::uint32_t id, std::string_view name, encoding e) {
    return {id, name, e, info(e).block_values, info(e).block_bytes, true};
}
[[nodiscard]] constexpr ggml_type foreign_type(std::uint32_t id, std::string_view name, std::uint32_t values, std::uint32_t bytes) {
    return {id, name, encoding::u8, values, bytes, false};
}
inline constexpr std::array ggml_types{
    known_type(0, "F32", encoding::f32),    known_type(1, "F16", encoding::f16),    known_type(2, "Q4_0", encoding::q4_0),
    known_type(3, "Q4_1", encoding::q4_1),  known_type(6, "Q5_0", encoding::q5_0),  known_type(7, "Q5_1", encoding::q5_1),
    known_type(8, "Q8_0", encoding::q8_0),  foreign_type(9, "Q8_1", 32, 40),        known_type(10, "Q2_K", encoding::q2_k),
    known_type(11, "Q3_K", encoding::q3_k), known_type(12, "Q4_K", encoding::q4_k), known_type(13, "Q5_K", encoding::q5_k),
    known_type(14, "Q6_K", encoding::q6_k), foreign_type(15, "Q8_K", 256, 292),     foreign_type(16, "IQ2_XXS", 256, 66),
    foreign_type(17, "IQ2_XS", 256, 74),    foreign_type(18, "IQ3_XXS", 256, 98),   foreign_type(19, "IQ1_S", 256, 50),
    foreign_type(20, "IQ4_NL", 32, 18),     foreign_type(21, "IQ3_S", 256, 110),    foreign_type(22, "IQ2_S", 256, 82),
    foreign_type(23, "IQ4_XS", 256, 136),   known_type(24, "I8", encoding::i8),     known_type(25, "I16", encoding::i16),
    known_type(26, "I32", encoding::i32),   known_type(27, "I64", encoding::i64),   known_type(28, "F64", encoding::f64),
    foreign_type(29, "IQ1_M", 256, 56),     known_type(30, "BF16", encoding::bf16), foreign_type(34, "TQ1_0", 256, 54),
    foreign_type(35, "TQ2_0", 256, 66),     foreign_type(39, "MXFP4", 32, 17),      foreign_type(40, "NVFP4", 64, 36),
    foreign_type(41, "Q1_0", 128, 18),
};

/// Strict UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
[[nodiscard]] inline bool is_utf8(std::string_view s) {
    for (std::size_t i = 0; i < s.size();) {
        const auto lead = static_cast<unsigned char>(s[i]);
        const std::size_t n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
        if (n == 0 || n > s.size() - i) return false;
        for (std::size_t j = 1; j < n; ++j) {
            const auto next = static_cast<unsigned char>(s[i + j]);
            const unsigned low = j == 1 && lead == 0xE0 ? 0xA0 : j == 1 && lead == 0xF0 ? 0x90 : 0x80;
            const unsigned high = j == 1 && lead == 0xED ? 0x9F : j == 1 && lead == 0xF4 ? 0x8F : 0xBF;
            if (next < low || next > high) return false;
        }
        i += n;
    }
    return true;
}

[[nodiscard]] inline bool is_plain_text(std::string_view s) {
    return is_utf8(s) && std::none_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

/// An f32 as the shortest decimal that reads back as it: GGUF keeps 1e-05 as a float, config.json has "1e-05".
[[nodiscard]] inline double shortest_decimal(float x) {
    if (!std::isfinite(x)) return static_cast<double>(x);
    std::array<char, 64> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), x).ptr;
    return json::parse(text.data(), end).get<double>();
}

/// Reads forward through a file by windows. The first error stays, and every read after it gives zeros.
class gguf_reader {
public:
    explicit gguf_reader(const file& from, std::uint64_t at = 0) : from_(from), at_(at) {}

    [[nodiscard]] bool ok() const { return !problem_; }
    [[nodiscard]] tl::unexpected<error> failure() { return fail(std::move(*problem_)); }
    [[nodiscard]] std::uint64_t position() const { return at_; }
    [[nodiscard]] std::uint64_t left() const { return from_.size() - at_; }

    void refuse(errc code, std::string rule, std::uint64_t offset, std::string remedy = {}, std::string tensor = {}) {
        if (ok()) problem_ = error{code, std::move(rule), from_.path(), std::move(tensor), offset, std::move(remedy)};
    }

    /// The next n bytes, valid until the next call; null after an error.
    [[nodiscard]] const std::byte* take(std::uint64_t n, std::string_view what) {
        if (!ok()) return nullptr;
        if (n > left()) {
            refuse(errc::truncated, std::string(what) + " needs " + std::to_string(n) + " bytes, " + std::to_string(left()) + " are left in the file", at_,
                   "download the file again");
            return nullptr;
        }
        if (at_ < window_at_ || !in_range(at_ - window_at_, n, window_.size())) {
            auto bytes = from_.bytes(at_, std::max(n, std::min(window_bytes, left())), scratch_);
            if (!bytes) {
                problem_ = std::move(bytes.error());
                return nullptr;
            }
            window_ = *bytes;
            window_at_ = at_;
        }
        const auto* first = window_.data() + (at_ - window_at_);
        at_ += n;
        return first;
    }

    template <class T>
    [[nodiscard]] T number(std::string_view what) {
        const auto* bytes = take(sizeof(T), what);
        return bytes == nullptr ? T{} : load<T>(bytes);
    }

    /// A u64 length and as many bytes, valid until the next call.
    [[nodiscard]] std::string_view text(std::string_view what) {
        const auto n = number<std::uint64_t>(what);
        const auto* bytes = take(n, what);
        return bytes == nullptr ? std::string_view{} : std::string_view{reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n)};
    }

    void skip(std::uint64_t n, std::string_view what) {
        if (ok() && n > left())
            (void)take(n, what);
        else if (ok())
            at_ += n;
    }

private:
    static constexpr std::uint64_t window_bytes = 1 << 20;

    const file& from_;
    std::uint64_t at_;
    std::uint64_t window_at_ = 0;
    bytes_view window_;
    std::vector<std::byte> scratch_;
    std::optional<error> problem_;
};

[[nodiscard]] inline bool read_boolean(gguf_reader& in) {
    const auto at = in.position();
    const auto b = in.number<std::uint8_t>("a boolean");
    if (b > 1) in.refuse(errc::malformed, "a boolean is " + std::to_string(b) + ", it must be 0 or 1", at);
    return b == 1;
}

[[nodiscard]] inline json read_scalar(gguf_reader& in, gguf_type type) {
    constexpr std::string_view what = "a value of the metadata";
    switch (type) {
        case gguf_type::u8:
            return in.number<std::uint8_t>(what);
        case gguf_type::i8:
            return in.number<std::int8_t>(what);
        case gguf_type::u16:
            return in.number<std::uint16_t>(what);
        case gguf_type::i16:
            return in.number<std::int16_t>(what);
        case gguf_type::u32:
            return in.number<std::uint32_t>(what);
        case gguf_type::i32:
            return in.number<std::int32_t>(what);
        case gguf_type::u64:
            return in.number<std::uint64_t>(what);
        case gguf_type::i64:
            return in.number<std::int64_t>(what);
        case gguf_type::f32:
            return shortest_decimal(in.number<float>(what));
        case gguf_type::f64:
            return in.number<double>(what);
        case gguf_type::boolean:
            return read_boolean(in);
        case gguf_type::text: {
            const auto at = in.position();
            const auto s = in.text(what);
            if (!is_utf8(s)) {
                in.refuse(errc::malformed, "a string of the metadata is not valid UTF-8", at);
                return nullptr;
            }
            return std::string(s);
        }
        case gguf_type::array:
            break;
    }
    return nullptr;
}

[[nodiscard]] inline gguf_type read_type(gguf_reader& in, std::string_view key) {
    const auto at = in.position();
    const auto id = in.number<std::uint32_t>("the type of a value");
    if (id < gguf_type_names.size()) return static_cast<gguf_type>(id);
    in.refuse(errc::malformed, "metadata key \"" + std::string(key) + "\" has type " + std::to_string(id) + ", types are 0 to 12", at);
    return gguf_type::u8;
}

/// Walks over an array, so that what it claims is there; its elements are not kept.
[[nodiscard]] inline gguf_array read_array(gguf_reader& in, std::string_view key) {
    gguf_array a;
    const auto at = in.position();
    a.type = read_type(in, key);
    a.count = in.number<std::uint64_t>("the length of an array");
    a.offset = in.position();
    if (!in.ok()) return a;
    if (a.type == gguf_type::array) {
        in.refuse(errc::malformed, "metadata key \"" + std::string(key) + "\" is an array of arrays, which GGUF does not allow", at);
        return a;
    }
    const std::uint64_t least = a.type == gguf_type::text ? 8 : bytes_of(a.type);
    if (a.count > in.left() / least) {
        in.refuse(errc::truncated,
                  "metadata key \"" + std::string(key) + "\" is an array of " + std::to_string(a.count) + " elements, the " + std::to_string(in.left()) +
                      " bytes that are left in the file cannot hold them",
                  at, "download the file again");
        return a;
    }
    if (a.type == gguf_type::text) {
        for (std::uint64_t i = 0; i < a.count && in.ok(); ++i) in.skip(in.number<std::uint64_t>("a string of an array"), "a string of an array");
    } else if (a.type == gguf_type::boolean) {
        for (std::uint64_t i = 0; i < a.count && in.ok(); ++i) (void)read_boolean(in);
    } else {
        in.skip(a.count * least, "an array");
    }
    return a;
}

[[nodiscard]] inline std::pair<std::string, gguf_value> read_pair(gguf_reader& in) {
    const auto at = in.position();
    const auto name = in.text("a metadata key");
    std::pair<std::string, gguf_value> p;
    if (!in.ok()) return p;
    if (name.empty() || name.size() > 65535 || !is_plain_text(name)) {
        in.refuse(errc::malformed, "a metadata key must be printable text of 1 to 65535 bytes", at);
        return p;
    }
    p.first = name;
    p.second.type = read_type(in, p.first);
    if (p.second.type == gguf_type::array)
        p.second.array = read_array(in, p.first);
    else
        p.second.value = read_scalar(in, p.second.type);
    return p;
}

/// One record. `next` is where ggml would lay the tensor in the data section, and so where it must be.
[[nodiscard]] inline tensor read_tensor_record(gguf_reader& in, std::uint64_t& next, std::uint64_t alignment) {
    const auto at = in.position();
    tensor t;
    const auto name = in.text("a tensor's name");
    if (!in.ok()) return t;
    if (name.empty() || name.size() >= 64 || !is_plain_text(name)) {
        in.refuse(errc::malformed, "a tensor's name must be printable text of 1 to 63 bytes", at);
        return t;
    }
    t.name = name;
    const auto refuse = [&](errc code, std::string rule, std::string remedy = {}) { in.refuse(code, std::move(rule), at, std::move(remedy), t.name); };

    const auto n_dims = in.number<std::uint32_t>("a tensor's rank");
    if (n_dims < 1 || n_dims > 4) {
        refuse(errc::malformed, "the tensor has " + std::to_string(n_dims) + " dimensions, 1 to 4 are allowed");
        return t;
    }
    std::array<std::uint64_t, 4> ne{};  // ggml's order: K first
    for (std::uint32_t i = 0; i < n_dims; ++i) {
        ne[i] = in.number<std::uint64_t>("a tensor's dimension");
        if (ne[i] == 0 || ne[i] >> 63 != 0)
            refuse(errc::malformed, "dimension " + std::to_string(i) + " is " + std::to_string(ne[i]) + ", 1 to 2^63 - 1 are allowed");
    }
    const auto id = in.number<std::uint32_t>("a tensor's type");
    t.offset = in.number<std::uint64_t>("a tensor's offset");
    if (!in.ok()) return t;
    for (std::uint32_t i = n_dims; i-- > 0;) t.dims.push_back(ne[i]);

    const auto* type = std::find_if(ggml_types.begin(), ggml_types.end(), [&](const auto& row) { return row.id == id; });
    if (type == ggml_types.end()) {
        refuse(errc::malformed, "ggml type " + std::to_string(id) + " was removed from the format or is not known",
               "convert the model to GGUF again, as Q4_K_M or F16");
        return t;
    }
    t.type = type->type;
    if (!type->known) t.stored_type = type->name;
    const auto n = t.dims.checked_elements();
    if (!n || *n >> 63 != 0) {
        refuse(errc::malformed, "shape " + t.dims.text() + " has more elements than 63 bits count");
        return t;
    }
    if (t.dims.columns() % type->block_values != 0) {
        refuse(errc::malformed, "rows of " + std::to_string(t.dims.columns()) + " values are no whole number of " + std::string(type->name) + " blocks of " +
                                    std::to_string(type->block_values));
        return t;
    }
    const auto n_bytes = checked_mul(*n / type->block_values, type->block_bytes);
    const auto padded = n_bytes ? checked_add(*n_bytes, alignment - 1) : std::nullopt;
    const auto after = padded ? checked_add(next, *padded / alignment * alignment) : std::nullopt;
    if (!after) {
        refuse(errc::malformed, "the sizes of the tensors up to this one exceed 64 bits");
        return t;
    }
    if (t.offset != next) {
        refuse(errc::malformed,
               "its data begin at offset " + std::to_string(t.offset) + " of the data section, " + std::to_string(next) +
                   " is where the tensor before it ends (in order, padded to " + std::to_string(alignment) + ", without gap or overlap)",
               "convert the model to GGUF again with current tools");
    }
    t.n_bytes = *n_bytes;
    next = *after;
    return t;
}

/// The value of general.alignment.
[[nodiscard]] inline std::uint64_t alignment_of(gguf_reader& in, const gguf_header& h, std::uint64_t at) {
    const auto* v = h.find("general.alignment");
    if (v == nullptr) return 32;
    if (v->type != gguf_type::u32) {
        in.refuse(errc::malformed, "general.alignment is of type " + std::string(name_of(v->type)) + ", it must be u32", at);
        return 32;
    }
    const auto a = v->value.get<std::uint64_t>();
    if (!std::has_single_bit(a) || a < 8 || a > 65536) {
        in.refuse(errc::malformed, "general.alignment is " + std::to_string(a) + ", it must be a power of two from 8 to 65536", at);
        return 32;
    }
    return a;
}

/// "<0x0A>": a byte token of two hexadecimal digits.
[[nodiscard]] inline bool is_byte_token(std::string_view s) {
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); };
    return s.size() == 6 && s.starts_with("<0x") && s[5] == '>' && hex(s[3]) && hex(s[4]);
}

/// Tokenizer arrays must have their types, and as many entries as there are tokens.
[[nodiscard]] inline result<void> check_tokenizer(const gguf_header& h) {
    struct rule {
        std::string_view key;
        gguf_type type;
        bool one_each;
    };
    constexpr std::array rules{rule{"tokenizer.ggml.tokens", gguf_type::text, true}, rule{"tokenizer.ggml.scores", gguf_type::f32, true},
                               rule{"tokenizer.ggml.token_type", gguf_type::i32, true}, rule{"tokenizer.ggml.merges", gguf_type::text, false}};
    const auto* tokens = h.find(rules[0].key);
    for (const auto& r : rules) {
        const auto* v = h.find(r.key);
        if (v == nullptr) continue;
        const auto refuse = [&](std::string rule) {
            return fail(
                error{errc::malformed, std::string(r.key) + " " + std::move(rule), h.from->path(), {}, v->array.offset, "convert the model to GGUF again"});
        };
        if (v->type != gguf_type::array || v->array.type != r.type) {
            const bool is_array = v->type == gguf_type::array;
            return refuse("must be an array of " + std::string(name_of(r.type)) + ", it is " + (is_array ? "one of " : "of type ") +
                          std::string(name_of(is_array ? v->array.type : v->type)));
        }
        if (!r.one_each) continue;
        if (tokens == nullptr) return refuse("has no tokens to belong to");
        if (v->array.count != tokens->array.count) {
            return refuse("has " + std::to_string(v->array.count) + " entries for " + std::to_string(tokens->array.count) + " tokens");
        }
    }
    const auto* types = h.find(rules[2].key);
    if (types == nullptr || h.text("tokenizer.ggml.model") != "llama") return {};
    gguf_reader type_in(*h.from, types->array.offset);
    gguf_reader token_in(*h.from, tokens->array.offset);
    for (std::uint64_t i = 0; i < tokens->array.count && token_in.ok() && type_in.ok(); ++i) {
        constexpr std::int32_t byte = 6;  // LLAMA_TOKEN_TYPE_BYTE
        const auto at = token_in.position();
        const auto text = token_in.text("a token");
        if (type_in.number<std::int32_t>("a token's type") == byte && !is_byte_token(text)) {
            token_in.refuse(errc::malformed, "token " + std::to_string(i) + " is a byte token, which must be written <0xHH> with two hexadecimal digits", at,
                            "convert the model to GGUF again");
        }
    }
    if (!token_in.ok()) return token_in.failure();
    if (!type_in.ok()) return type_in.failure();
    return {};
}

}  // namespace detail

inline result<json> gguf_header::array(std::string_view key) const {
    const auto* v = find(key);
    if (v == nullptr) return fail(error{errc::missing, "metadata key \"" + std::string(key) + "\" is missing", from->path(), {}, {}, {}});
    if (v->type != gguf_type::array) return fail(error{errc::malformed, "metadata key \"" + std::string(key) + "\" is no array", from->path(), {}, {}, {}});
    detail::gguf_reader in(*from, v->array.offset);
    json out = json::array();
    for (std::uint64_t i = 0; i < v->array.count && in.ok(); ++i) out.push_back(detail::read_scalar(in, v->array.type));
    if (!in.ok()) return in.failure();
    return out;
}

inline result<gguf_header> read_gguf_header(std::shared_ptr<const file> from) {
    gguf_header h;
    h.from = std::move(from);
    detail::gguf_reader in(*h.from);
    const auto magic = in.number<std::uint32_t>("GGUF's magic number");
    if (in.ok() && magic != 0x46554747) {
        in.refuse(errc::malformed, "not a GGUF file: its first four bytes are not \"GGUF\"", 0,
                  "a Git LFS pointer or a server's error page may have been saved in its place: download the file again");
    }
    h.version = in.number<std::uint32_t>("GGUF's version");
    if (in.ok() && (h.version & 0xFFFF) == 0 && h.version != 0)
        in.refuse(errc::unsupported, "a big-endian GGUF file", 4, "convert the model to GGUF on a little-endian machine");
    if (in.ok() && h.version != 2 && h.version != 3) {
        in.refuse(errc::unsupported, "GGUF version " + std::to_string(h.version) + ", versions 2 and 3 can be read", 4,
                  "convert the model to GGUF again with current tools");
    }
    // The least bytes of a record: a name of one character, its length, and the smallest value or one dimension.
    constexpr std::uint64_t most = 65536;
    const auto count = [&](std::string_view what, std::uint64_t record) {
        const auto at = in.position();
        const auto n = in.number<std::uint64_t>(what);
        if (in.ok() && (n > in.left() / record || n > most)) {
            in.refuse(errc::malformed,
                      std::string(what) + " is " + std::to_string(n) + ", " + std::to_string(std::min(most, in.left() / record)) +
                          " is the most that this file may have",
                      at, "download the file again");
            return std::uint64_t{0};
        }
        return n;
    };
    const auto n_tensors = count("the number of tensors", 33);
    const auto n_pairs = count("the number of metadata keys", 14);

    std::uint64_t alignment_at = 0;
    for (std::uint64_t i = 0; i < n_pairs && in.ok(); ++i) {
        const auto at = in.position();
        auto pair = detail::read_pair(in);
        if (!in.ok()) break;
        if (pair.first == "general.alignment") alignment_at = at;
        if (h.metadata.contains(pair.first)) in.refuse(errc::malformed, "metadata key \"" + pair.first + "\" stands twice", at);
        h.metadata.emplace(std::move(pair));
    }
    const auto alignment = detail::alignment_of(in, h, alignment_at);

    std::unordered_set<std::string> names;
    std::uint64_t next = 0;
    for (std::uint64_t i = 0; i < n_tensors && in.ok(); ++i) {
        const auto at = in.position();
        auto t = detail::read_tensor_record(in, next, alignment);
        if (!in.ok()) break;
        if (!names.insert(t.name).second) in.refuse(errc::malformed, "two tensors have this name", at, {}, t.name);
        h.tensors.push_back(std::move(t));
    }
    if (!in.ok()) return in.failure();

    const std::uint64_t data = ceil_div(in.position(), alignment) * alignment;
    h.end = in.position();
    for (auto& t : h.tensors) {
        const auto begin = checked_add(data, t.offset);
        if (!begin || !in_range(*begin, t.n_bytes, h.from->size())) {
            return fail(error{errc::truncated,
                              "its " + std::to_string(t.n_bytes) + " bytes of data begin at offset " + std::to_string(t.offset) +
                                  " of the data section at byte " + std::to_string(data) + ", the file ends at byte " + std::to_string(h.from->size()),
                              h.from->path(), t.name, begin, "download the file again"});
        }
        t.offset = *begin;
        h.end = *begin + t.n_bytes;
    }
    if (auto tokenizer = detail::check_tokenizer(h); !tokenizer) return pass(tokenizer);
    return h;
}

}  // namespace nibble::source
