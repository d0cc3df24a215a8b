// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON from outside, read strictly: UTF-8, bounded depth and size, no duplicate keys. Included only by the rooms that read
// formats made of JSON; the other headers of core know nothing of it.

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "nibble/core/bytes.hpp"
#include "nibble/core/result.hpp"

namespace nibble {

using json = nlohmann::ordered_json;  // keys stay in file order: the order of a weight_map decides the order of shards

namespace detail {

/// Builds a DOM from SAX events, refusing duplicate keys and depth beyond the limit.
class strict_json_builder : public nlohmann::detail::json_sax_dom_parser<json> {
    using base = nlohmann::detail::json_sax_dom_parser<json>;

public:
    strict_json_builder(json& root, std::size_t depth_limit) : base(root, false), depth_limit_(depth_limit) {}

    bool start_object(std::size_t n) {
        keys_.emplace_back();
        return open() && base::start_object(n);
    }
    bool end_object() {
        keys_.pop_back();
        --depth_;
        return base::end_object();
    }
    bool start_array(std::size_t n) { return open() && base::start_array(n); }
    bool end_array() {
        --depth_;
        return base::end_array();
    }
    bool key(std::string& name) {
        if (!keys_.back().insert(name).second) {
            problem_ = "key \"" + name.substr(0, 80) + "\" stands twice in one object";
            return false;
        }
        return base::key(name);
    }
    template <class Exception>
    bool parse_error(std::size_t position, const std::string& token, const Exception& e) {
        problem_ = std::string("not valid JSON: ") + e.what();
        position_ = position;
        return base::parse_error(position, token, e);
    }

    [[nodiscard]] const std::string& problem() const { return problem_; }
    [[nodiscard]] std::size_t position() const { return position_; }

private:
    bool open() {
        if (++depth_ <= depth_limit_) return true;
        problem_ = "JSON nested deeper than " + std::to_string(depth_limit_) + " levels";
        return false;
    }

    std::size_t depth_limit_;
    std::size_t depth_ = 0;
    std::size_t position_ = 0;
    std::vector<std::set<std::string>> keys_;
    std::string problem_;
};

}  // namespace detail

/// Parses one JSON value. Errors: malformed, with the byte offset where the parser knows it; the caller adds the file's name.
[[nodiscard]] inline result<json> parse_json(bytes_view text, std::size_t depth_limit = 64) {
    const std::string_view characters{reinterpret_cast<const char*>(text.data()), text.size()};
    json root;
    detail::strict_json_builder builder(root, depth_limit);
    if (json::sax_parse(characters.begin(), characters.end(), &builder)) return root;
    auto e = fail(errc::malformed, builder.problem().empty() ? "not valid JSON" : builder.problem());
    if (builder.position() != 0) return fail(std::move(e.value()).at(builder.position()));
    return e;
}

}  // namespace nibble
