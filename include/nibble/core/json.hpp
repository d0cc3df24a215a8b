// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON from outside, read strictly: UTF-8, bounded depth and size, no duplicate keys. Included only by the rooms that read
// formats made of JSON; the other headers of core know nothing of it.

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nibble/core/bytes.hpp"
#include "nibble/core/result.hpp"

namespace nibble {

/// JSON whose keys stay in the order of the file.
using json = nlohmann::ordered_json;  // keys stay in file order: the order of a weight_map decides the order of shards

namespace detail {

/// Builds a DOM from SAX events, refusing duplicate keys and depth beyond the limit.
class strict_json_builder : public nlohmann::json_sax<json> {
public:
    explicit strict_json_builder(std::size_t depth_limit) : depth_limit_(depth_limit) {}

    bool null() override { return add(nullptr); }
    bool boolean(bool v) override { return add(v); }
    bool number_integer(number_integer_t v) override { return add(v); }
    bool number_unsigned(number_unsigned_t v) override { return add(v); }
    bool number_float(number_float_t v, const string_t&) override { return add(v); }
    bool string(string_t& v) override { return add(std::move(v)); }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override {
        keys_.emplace_back();
        return open(json::object());
    }
    bool end_object() override {
        keys_.pop_back();
        open_.pop_back();
        return true;
    }
    bool start_array(std::size_t) override { return open(json::array()); }
    bool end_array() override {
        open_.pop_back();
        return true;
    }
    bool key(string_t& name) override {
        key_ = std::move(name);
        if (keys_.back().insert(key_).second) return true;
        problem_ = "key \"" + key_.substr(0, 80) + "\" stands twice in one object";
        return false;
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
        const std::string_view what = e.what();  // "[json.exception...] parse error at line ...: syntax error ..."
        const auto start = what.find("] ");
        problem_ = "not valid JSON: " + std::string(start == what.npos ? what : what.substr(start + 2)).substr(0, 200);
        position_ = position;
        return false;
    }

    json root;
    [[nodiscard]] const std::string& problem() const { return problem_; }
    [[nodiscard]] std::size_t position() const { return position_; }

private:
    template <class Value>
    bool add(Value&& value) {
        place(std::forward<Value>(value));
        return true;
    }
    template <class Value>
    json* place(Value&& value) {
        if (open_.empty()) {
            root = json(std::forward<Value>(value));
            return &root;
        }
        json& parent = *open_.back();
        if (parent.is_array()) return &parent.emplace_back(std::forward<Value>(value));
        auto& members = parent.get_ref<json::object_t&>();
        members.push_back({std::move(key_), json(std::forward<Value>(value))});  // the set has seen that it is new
        return &members.back().second;
    }
    bool open(json container) {
        if (open_.size() == depth_limit_) {
            problem_ = "JSON nested deeper than " + std::to_string(depth_limit_) + " levels";
            return false;
        }
        open_.push_back(place(std::move(container)));
        return true;
    }

    std::size_t depth_limit_;
    std::size_t position_ = 0;
    std::vector<json*> open_;
    std::vector<std::unordered_set<std::string>> keys_;
    std::string key_;
    std::string problem_;
};

}  // namespace detail

/// Parses one JSON value. Errors: malformed, with the byte offset where the parser knows it; the caller adds the file's name.
[[nodiscard]] inline result<json> parse_json(bytes_view text, std::size_t depth_limit = 64) {
    const std::string_view characters{reinterpret_cast<const char*>(text.data()), text.size()};
    // The parser takes a NUL for the end of the text, and what follows would go unread.
    if (const auto nul = characters.find('\0'); nul != characters.npos) return fail(error{errc::malformed, "not valid JSON: a NUL byte", {}, {}, nul, {}});
    detail::strict_json_builder builder(depth_limit);
    if (json::sax_parse(characters.begin(), characters.end(), &builder)) return std::move(builder.root);
    auto e = fail(errc::malformed, builder.problem().empty() ? "not valid JSON" : builder.problem());
    if (builder.position() != 0) return fail(std::move(e.value()).at(builder.position()));
    return e;
}

}  // namespace nibble
