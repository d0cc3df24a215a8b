// SPDX-License-Identifier: Apache-2.0
#pragma once
// safetensors: an 8-byte little-endian header length, a JSON header of {name: {dtype, shape, data_offsets}}, then the data.
// Rules as in huggingface/safetensors (its validation), and stricter where bad-input lists ask for it.

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nibble/source/source.hpp"

namespace nibble::source {

namespace detail {

struct safetensors_type {
    std::string_view name;
    encoding type;
};
inline constexpr std::array safetensors_types{
    safetensors_type{"F32", encoding::f32},         safetensors_type{"F16", encoding::f16},         safetensors_type{"BF16", encoding::bf16},
    safetensors_type{"F8_E4M3", encoding::f8_e4m3}, safetensors_type{"F8_E5M2", encoding::f8_e5m2}, safetensors_type{"F64", encoding::f64},
    safetensors_type{"I8", encoding::i8},           safetensors_type{"U8", encoding::u8},           safetensors_type{"I16", encoding::i16},
    safetensors_type{"U16", encoding::u16},         safetensors_type{"I32", encoding::i32},         safetensors_type{"U32", encoding::u32},
    safetensors_type{"I64", encoding::i64},         safetensors_type{"U64", encoding::u64},         safetensors_type{"BOOL", encoding::boolean},
    safetensors_type{"F8_E8M0", encoding::f8_e8m0},
};

/// What a file is that is not safetensors, by its first bytes; empty when nothing is recognised.
inline std::string_view recognise(bytes_view head) {
    const std::string_view text{reinterpret_cast<const char*>(head.data()), head.size()};
    if (text.starts_with("version https://git-lfs")) return "a Git LFS pointer: run `git lfs pull`, or download the file itself";
    if (text.starts_with("GGUF")) return "a GGUF file: give it by its own name, ending in .gguf";
    if (text.starts_with("PK\x03\x04")) return "a zip archive, as torch.save writes: save the model as safetensors";
    if (text.starts_with("\x1f\x8b")) return "a gzip archive: unpack it first";
    if (text.starts_with("\x80\x02") || text.starts_with("\x80\x04")) return "a Python pickle, as old torch.save writes: save the model as safetensors";
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first != text.npos && text[first] == '<') return "an HTML or XML page, perhaps an error page of a server: download the file again";
    return {};
}

/// Reads the header's JSON as events, so that nothing is allocated for what breaks a rule.
class safetensors_header : public nlohmann::json_sax<json> {
public:
    static constexpr std::size_t max_name = 1024;

    std::vector<tensor> tensors;  ///< in header order; offsets relative to the data section
    std::string problem;
    std::string problem_tensor;
    std::optional<std::uint64_t> problem_at;  ///< byte in the header, where the JSON itself is broken

    bool null() override { return refuse("null is not allowed"); }
    bool boolean(bool) override { return refuse("a boolean is not allowed"); }
    bool number_integer(number_integer_t) override { return refuse("a negative number is not allowed"); }
    bool number_float(number_float_t, const string_t& text) override {
        return refuse("number " + text.substr(0, 40) + " is not an integer from 0 to 2^63 - 1");
    }
    bool binary(binary_t&) override { return refuse("binary data is not allowed"); }
    bool number_unsigned(number_unsigned_t v) override {
        if (v > 0x7FFFFFFFFFFFFFFFull) return refuse("a number exceeds 2^63 - 1");
        if (at_ == place::shape) {
            if (!current_.dims.push_back(v)) return refuse("more than 8 dimensions");
            return true;
        }
        if (at_ == place::offsets) {
            if (n_offsets_ == 2) return refuse("data_offsets has more than two numbers");
            offsets_[n_offsets_++] = v;
            return true;
        }
        return refuse("a number is not allowed here");
    }
    bool string(string_t& v) override {
        if (at_ == place::metadata) return true;
        if (at_ != place::dtype) return refuse("a string is not allowed here");
        const auto* known = std::find_if(safetensors_types.begin(), safetensors_types.end(), [&](const auto& t) { return t.name == v; });
        if (known != safetensors_types.end())
            current_.type = known->type;
        else
            current_.stored_type = v.empty() ? "(none)" : v.substr(0, 40);
        at_ = place::fields;
        return true;
    }
    bool start_object(std::size_t) override {
        switch (at_) {
            case place::start:
                at_ = place::tensors;
                return true;
            case place::tensor:
                at_ = place::fields;
                return true;
            case place::metadata_start:
                at_ = place::metadata;
                return true;
            default:
                return refuse("an object is not allowed here");
        }
    }
    bool end_object() override {
        if (at_ == place::fields) return end_tensor();
        at_ = at_ == place::metadata ? place::tensors : place::end;
        return true;
    }
    bool start_array(std::size_t) override {
        if (at_ == place::shape_start)
            at_ = place::shape;
        else if (at_ == place::offsets_start)
            at_ = place::offsets;
        else
            return refuse("an array is not allowed here");
        return true;
    }
    bool end_array() override {
        at_ = place::fields;
        return true;
    }
    bool key(string_t& name) override {
        if (at_ == place::metadata) return metadata_keys_.insert(name).second || refuse("__metadata__ has key \"" + name.substr(0, 80) + "\" twice");
        if (at_ == place::tensors) {
            if (!names_.insert(name).second) return refuse("tensor \"" + name.substr(0, 80) + "\" stands twice");
            if (name == "__metadata__") {
                at_ = place::metadata_start;
                return true;
            }
            current_ = tensor{};
            current_.name = name;
            seen_ = 0;
            n_offsets_ = 0;
            at_ = place::tensor;
            const bool control = std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
            if (name.empty() || name.size() > max_name || control)
                return refuse("a tensor's name must have 1 to 1024 characters, none of them a control character");
            return true;
        }
        const unsigned field = name == "dtype" ? 1 : name == "shape" ? 2 : name == "data_offsets" ? 4 : 0;
        if (field == 0) return refuse("unknown field \"" + name.substr(0, 40) + "\"");
        if ((seen_ & field) != 0) return refuse("field \"" + name + "\" stands twice");
        seen_ |= field;
        at_ = field == 1 ? place::dtype : field == 2 ? place::shape_start : place::offsets_start;
        return true;
    }
    bool parse_error(std::size_t n_read, const std::string&, const nlohmann::detail::exception& e) override {
        if (n_read != 0) problem_at = n_read - 1;
        const std::string_view what = e.what();
        const auto start = what.find("] ");
        return refuse("header is not valid JSON: " + std::string(start == what.npos ? what : what.substr(start + 2)).substr(0, 200));
    }

private:
    enum class place : std::uint8_t { start, tensors, tensor, fields, dtype, shape_start, shape, offsets_start, offsets, metadata_start, metadata, end };

    bool end_tensor() {
        if (seen_ != 7) return refuse("a tensor needs dtype, shape and data_offsets");
        if (n_offsets_ != 2 || offsets_[0] > offsets_[1]) return refuse("data_offsets must be two numbers [begin, end] with begin <= end");
        current_.offset = offsets_[0];
        current_.n_bytes = offsets_[1] - offsets_[0];
        if (!current_.dims.checked_elements()) return refuse("shape " + current_.dims.text() + " has more than 2^64 elements");
        if (current_.stored_type.empty()) {
            const auto bytes = checked_bytes(current_.dims, current_.type);
            if (!bytes || *bytes != current_.n_bytes) {
                return refuse("shape " + current_.dims.text() + " of " + std::string(info(current_.type).name) + " does not fill its " +
                              std::to_string(current_.n_bytes) + " bytes");
            }
        }
        tensors.push_back(std::move(current_));
        current_ = tensor{};
        at_ = place::tensors;
        return true;
    }
    bool refuse(std::string why) {
        problem = std::move(why);
        problem_tensor = current_.name.substr(0, 200);
        return false;
    }

    place at_ = place::start;
    tensor current_;
    unsigned seen_ = 0;
    std::size_t n_offsets_ = 0;
    std::array<std::uint64_t, 2> offsets_{};
    std::unordered_set<std::string> names_;
    std::unordered_set<std::string> metadata_keys_;
};

}  // namespace detail

/// The tensors of one file in the order of their data, with absolute offsets; `number` is the file's index in a checkpoint.
/// Errors: truncated, malformed, with the file and, where one is at fault, the tensor.
[[nodiscard]] inline result<std::vector<tensor>> read_safetensors_header(const file& f, std::uint32_t number = 0) {
    const auto bad = [&](errc code, std::string rule, std::optional<std::uint64_t> at = {}, std::string remedy = {}) {
        return fail(error{code, std::move(rule), f.path(), {}, at, std::move(remedy)});
    };
    constexpr std::uint64_t header_limit = 100'000'000;  // the limit of the reference implementation
    std::vector<std::byte> scratch;
    const auto head = f.bytes(0, std::min<std::uint64_t>(f.size(), 32), scratch);
    if (!head) return tl::unexpected<error>(head.error());
    const auto n = f.size() < 8 ? 0 : load<std::uint64_t>(head->data());
    // A header's length may begin with the bytes of another format's magic: 60 is '<', 640 begins a pickle.
    if (n < 2 || n > f.size() - 8 || (*head)[8] != std::byte{'{'}) {
        if (const auto what = detail::recognise(*head); !what.empty()) return bad(errc::unsupported, "this is not safetensors but " + std::string(what));
    }
    if (f.size() < 8) return bad(errc::truncated, "a safetensors file has at least 8 bytes, this one has " + std::to_string(f.size()), {}, "download it again");
    if (n > header_limit)
        return bad(errc::malformed, "header length " + std::to_string(n) + " exceeds the limit of 100,000,000 bytes", 0,
                   "this is no safetensors file, or it is damaged");
    if (n > f.size() - 8)
        return bad(errc::truncated, "header length " + std::to_string(n) + " goes beyond the file's " + std::to_string(f.size()) + " bytes", 0,
                   "download it again");
    if (n < 2) return bad(errc::malformed, "header length " + std::to_string(n) + " leaves no room for a JSON object", 0);
    const auto text = f.bytes(8, n, scratch);
    if (!text) return tl::unexpected<error>(text.error());
    if ((*text)[0] != std::byte{'{'}) return bad(errc::malformed, "the header must begin with '{'", 8);

    const std::string_view characters{reinterpret_cast<const char*>(text->data()), text->size()};
    // The parser takes a NUL for the end of the text, and what follows would go unread.
    if (const auto nul = characters.find('\0'); nul != characters.npos) return bad(errc::malformed, "header is not valid JSON: a NUL byte", 8 + nul);
    detail::safetensors_header header;
    if (!json::sax_parse(characters.begin(), characters.end(), &header)) {
        std::optional<std::uint64_t> at;
        if (header.problem_at) at = 8 + *header.problem_at;
        return fail(error{errc::malformed, header.problem.empty() ? "header is not valid" : header.problem, f.path(), header.problem_tensor, at, {}});
    }
    const std::uint64_t data = 8 + n;
    auto tensors = std::move(header.tensors);
    std::stable_sort(tensors.begin(), tensors.end(),
                     [](const tensor& a, const tensor& b) { return std::pair(a.offset, a.offset + a.n_bytes) < std::pair(b.offset, b.offset + b.n_bytes); });
    std::uint64_t end = 0;
    for (auto& t : tensors) {
        if (t.offset != end) {
            return fail(error{errc::malformed,
                              "its data begin at " + std::to_string(t.offset) + " where " + std::to_string(end) +
                                  " is expected: " + (t.offset < end ? "tensors overlap" : "there is a hole"),
                              f.path(),
                              t.name,
                              data + t.offset,
                              {}});
        }
        if (!in_range(t.offset, t.n_bytes, f.size() - data)) {
            return fail(error{errc::truncated,
                              "its data end at byte " + std::to_string(data + t.offset + t.n_bytes) + ", the file has " + std::to_string(f.size()), f.path(),
                              t.name, data + t.offset, "the file is cut short: download it again"});
        }
        end = t.offset + t.n_bytes;
        t.offset += data;
        t.file = number;
    }
    if (data + end != f.size()) {
        return bad(errc::malformed, std::to_string(f.size() - data - end) + " bytes follow the last tensor", data + end,
                   "the file is damaged, or something was appended to it");
    }
    return tensors;
}

}  // namespace nibble::source
