// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rules that a well-formed model may still break: names that nobody makes, and MatMulNBits nodes whose numbers do not fit their weights
// (onnxruntime/contrib_ops: ContribOperators.md, MatMulNBits), which kernels read without looking.

#include <algorithm>
#include <bit>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "nibble/onnx/reader.hpp"

namespace nibble::onnx {

namespace detail {

class model_checker {
public:
    model_checker(const model& m, external_files& files, error_list& out) : model_(m), files_(files), out_(out) {}

    void check(const read_graph& g) {
        scopes_.emplace_back();
        auto& own = scopes_.back();
        for (const auto& t : g.initializers) {
            if (!own.constants.emplace(t.name, &t).second) problem(t.message.begin, "two constants are named '" + shown(t.name) + "'");
            own.names.insert(t.name);
            if (t.data == read_tensor::place::external) {
                if (auto found = files_.find(t); !found) out_.push_back(std::move(found.error()));
            }
        }
        for (const auto& v : g.inputs) own.names.insert(v.name);
        for (const auto& n : g.nodes) {
            for (const auto& in : n.inputs) {
                if (!in.empty() && !known(in)) problem(n.message.begin, what(n) + " reads '" + shown(in) + "', which nothing before it makes");
            }
            for (const auto& a : n.attributes) {
                for (const auto& inner : a.graphs) check(inner);
            }
            for (const auto& out : n.outputs) {
                if (!out.empty() && !scopes_.back().names.insert(out).second)
                    problem(n.message.begin, what(n) + " makes '" + shown(out) + "', which is there already");
            }
            if (n.op_type == "MatMulNBits" && n.domain == microsoft) check_nbits(n);
        }
        for (const auto& v : g.outputs) {
            if (!known(v.name)) problem(v.message.begin, "nothing makes the output '" + shown(v.name) + "'");
        }
        scopes_.pop_back();
    }

private:
    struct scope {
        std::unordered_set<std::string> names;
        std::unordered_map<std::string, const read_tensor*> constants;
    };

    static std::string shown(const std::string& name) { return name.substr(0, 120); }
    static std::string what(const read_node& n) { return n.op_type.substr(0, 60) + (n.name.empty() ? "" : " '" + shown(n.name) + "'"); }
    void problem(std::uint64_t at, std::string rule) {
        out_.push_back({errc::mismatch, std::move(rule), model_.from->path(), {}, at, "the model is damaged, or its writer is wrong: make it again"});
    }
    [[nodiscard]] bool known(const std::string& name) const {
        return std::any_of(scopes_.begin(), scopes_.end(), [&](const auto& s) { return s.names.contains(name); });
    }
    [[nodiscard]] const read_tensor* constant(const std::string& name) const {
        for (auto s = scopes_.rbegin(); s != scopes_.rend(); ++s)
            if (const auto at = s->constants.find(name); at != s->constants.end()) return at->second;
        return nullptr;
    }

    void check_nbits(const read_node& n) {
        const auto bad = [&](std::string rule) { problem(n.message.begin, what(n) + ": " + std::move(rule)); };
        const auto number = [&](const char* name, std::int64_t fallback) {
            const auto* a = n.find(name);
            return a == nullptr ? fallback : a->i;
        };
        const auto k = number("K", 0);
        const auto rows = number("N", 0);
        const auto bits = number("bits", 4);
        const auto block = number("block_size", 0);
        constexpr std::int64_t most = std::int64_t{1} << 31;
        if (k <= 0 || rows <= 0 || k >= most || rows >= most)
            return bad("K and N must be positive, they are " + std::to_string(k) + " and " + std::to_string(rows));
        if (bits != 2 && bits != 4 && bits != 8) return bad("bits is " + std::to_string(bits) + ", which is not 2, 4 or 8");
        if (block < 16 || block > 65536 || !std::has_single_bit(static_cast<std::uint64_t>(block)))
            return bad("block_size is " + std::to_string(block) + ", which is no power of two from 16 on");
        const auto blocks = ceil_div(static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(block));
        const auto n_rows = static_cast<std::uint64_t>(rows);
        const auto input = [&](std::size_t i) { return i < n.inputs.size() && !n.inputs[i].empty() ? constant(n.inputs[i]) : nullptr; };
        if (const auto* b = input(1)) {
            const shape wanted{n_rows, blocks, static_cast<std::uint64_t>(block * bits / 8)};
            if (b->type_text() != "u8" || b->dims != wanted)
                bad("B '" + shown(b->name) + "' is " + b->type_text() + " " + b->dims.text() + ", u8 " + wanted.text() + " is needed");
        }
        const auto* scales = input(2);
        if (scales != nullptr && scales->dims.elements() != n_rows * blocks)
            bad("scales '" + shown(scales->name) + "' have shape " + scales->dims.text() + ", [" + std::to_string(n_rows) + ", " + std::to_string(blocks) +
                "] is needed");
        if (const auto* z = input(3)) {
            const bool packed = z->type_text() == "u8";
            const auto wanted = n_rows * (packed ? ceil_div(blocks * static_cast<std::uint64_t>(bits), 8) : blocks);
            if (z->dims.elements() != wanted || (!packed && scales != nullptr && z->type != scales->type))
                bad("zero_points '" + shown(z->name) + "' are " + z->type_text() + " " + z->dims.text() + ", " + std::to_string(wanted) + " " +
                    (packed ? "bytes" : "numbers of the scales' type") + " are needed");
        }
        if (const auto* g = input(4)) check_group_index(n, *g, static_cast<std::uint64_t>(k), blocks, static_cast<std::uint64_t>(block));
    }

    void check_group_index(const read_node& n, const read_tensor& g, std::uint64_t k, std::uint64_t blocks, std::uint64_t block) {
        const auto bad = [&](std::string rule) { problem(n.message.begin, what(n) + ": g_idx '" + shown(g.name) + "' " + std::move(rule)); };
        if (g.type_text() != "i32" || (g.dims.elements() != k && g.dims.elements() != blocks * block))
            return bad("is " + g.type_text() + " " + g.dims.text() + ", i32 [" + std::to_string(k) + "] is needed");
        if (g.data != read_tensor::place::raw && g.data != read_tensor::place::external) return;
        auto found = files_.find(g);
        if (!found) return;  // told already
        std::vector<std::byte> scratch;
        const auto bytes = found->from->bytes(found->at.begin, g.n_bytes, scratch);
        if (!bytes) return out_.push_back(bytes.error());
        for (std::uint64_t i = 0; i < g.dims.elements(); ++i) {
            const auto group = load<std::int32_t>(bytes->data() + 4 * i);
            if (group < 0 || static_cast<std::uint64_t>(group) >= blocks)
                return bad("names group " + std::to_string(group) + " for element " + std::to_string(i) + ", there are " + std::to_string(blocks));
        }
    }

    const model& model_;
    external_files& files_;
    error_list& out_;
    std::vector<scope> scopes_;
};

}  // namespace detail

/// What is wrong with a model that could be read, all of it.
[[nodiscard]] inline error_list check_model(const model& m, external_files& files) {
    error_list problems;
    detail::model_checker(m, files, problems).check(m.graph);
    return problems;
}

}  // namespace nibble::onnx
