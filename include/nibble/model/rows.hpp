// SPDX-License-Identifier: Apache-2.0
#pragma once
// The words in which a family's header lists its parameters: modules (linear, fused, norm, ...) inside a block of names.
// They know the order in which mlc_llm's loaders map parameters and, from a module's name, what a quantization scheme makes of it.

#include <array>
#include <initializer_list>

#include "nibble/model/model.hpp"

namespace nibble::model {

/// The name of a module or tensor in MLC and in the Hugging Face checkpoint, given once if they are the same.
struct name_pair {
    std::string_view mlc, hf;
    constexpr name_pair(const char* both) : mlc(both), hf(both) {}
    constexpr name_pair(std::string_view mlc_name, std::string_view hf_name) : mlc(mlc_name), hf(hf_name) {}
};

/// Whether a module has a bias beside its weight.
inline constexpr bool with_bias = true;

/// mlc_llm's rules (quantization/utils.py) for the Linear `module` of `rows` outputs: a router's gate is left as it is.
[[nodiscard]] inline role linear_role(std::string_view module, std::uint64_t rows) {
    for (const std::string_view head : {"head", "lm_head", "lm_head.linear", "embed_out"})
        if (module == head) return role::final_linear;
    return module.ends_with("gate") && rows <= 256 ? role::other : role::linear;
}

/// The parameters of a model while they are listed. mlc_llm's loaders map fused and changed parameters first, in one or two
/// walks over the layers, and then all others in the order in which the model declares them; `passes` are these walks.
struct draft {
    static constexpr std::size_t last = 2;
    std::array<std::vector<parameter>, last + 1> passes{};  // passes[last]: those that a loader does not name
    std::vector<std::string> unused{};

    [[nodiscard]] mapping finish() && {
        mapping m;
        for (auto& pass : passes)
            for (auto& p : pass) m.parameters.push_back(std::move(p));
        m.unused = std::move(unused);
        return m;
    }
};

/// A place in the tree of modules. Each member function lists one module and returns its weight, valid until the next call,
/// to be marked further: `block.norm("input_layernorm", hidden).plus_one = true`.
class block {
public:
    /// All parameters of the draft below these prefixes, each empty or with its dot.
    explicit block(draft& d, std::string mlc = {}, std::string hf = {}) : draft_(&d), mlc_(std::move(mlc)), hf_(std::move(hf)) {}

    [[nodiscard]] block in(name_pair sub) const {
        block inner = *this;
        inner.mlc_.append(sub.mlc).append(".");
        inner.hf_.append(sub.hf).append(".");
        return inner;
    }
    /// The i-th member of a list of modules.
    [[nodiscard]] block in(name_pair list, std::uint64_t i) const {
        const auto index = "." + std::to_string(i);
        return in({std::string(list.mlc) + index, std::string(list.hf) + index});
    }
    /// The same block, whose modules are mapped in another walk.
    [[nodiscard]] block in_pass(std::size_t pass) const {
        block other = *this;
        other.pass_ = other.fused_pass_ = pass;
        return other;
    }
    [[nodiscard]] block fusing_in_pass(std::size_t pass) const {
        block other = *this;
        other.fused_pass_ = pass;
        return other;
    }
    [[nodiscard]] const std::string& mlc() const { return mlc_; }
    [[nodiscard]] const std::string& hf() const { return hf_; }

    /// A parameter under its full name, with ".weight" if it has that.
    parameter& tensor(name_pair name, shape dims, role as = role::other) const {
        return add(pass_, {.name = mlc_ + std::string(name.mlc), .dims = dims, .sources = {hf_ + std::string(name.hf)}, .kind = as});
    }
    parameter& weight(name_pair module, shape dims, role as = role::other) const { return named(module, ".weight", dims, as); }
    parameter& bias(name_pair module, std::uint64_t width) const { return named(module, ".bias", {width}, role::other); }

    parameter& linear(name_pair module, std::uint64_t rows, std::uint64_t columns, bool biased = false) const {
        const auto index = draft_->passes[pass_].size();
        weight(module, {rows, columns}, linear_role(mlc_ + std::string(module.mlc), rows));
        if (biased) bias(module, rows);
        return draft_->passes[pass_][index];
    }
    /// A Linear whose rows are those of several Linears of the checkpoint, one below the other.
    parameter& fused(std::string_view module, std::initializer_list<std::string_view> parts, std::uint64_t rows, std::uint64_t columns,
                     bool biased = false) const {
        const auto index = draft_->passes[fused_pass_].size();
        add(fused_pass_,
            {.name = mlc_ + std::string(module) + ".weight", .dims = {rows, columns}, .sources = sources(hf_, parts, ".weight"), .kind = role::linear});
        if (biased) add(fused_pass_, {.name = mlc_ + std::string(module) + ".bias", .dims = {rows}, .sources = sources(hf_, parts, ".bias")});
        return draft_->passes[fused_pass_][index];
    }
    /// The stacked Linears [count, rows, columns] of the experts `experts.{}.`, each made of `parts`.
    parameter& experts(std::string_view module, std::initializer_list<std::string_view> parts, std::uint64_t count, std::uint64_t rows,
                       std::uint64_t columns) const {
        parameter p{.name = mlc_ + std::string(module) + ".weight", .dims = {count, rows, columns}, .kind = role::experts};
        for (std::uint64_t e = 0; e < count; ++e)
            for (auto& name : sources(hf_ + at("experts.{}.", e), parts, ".weight")) p.sources.push_back(std::move(name));
        return add(fused_pass_, std::move(p));
    }
    parameter& embedding(name_pair module, std::uint64_t entries, std::uint64_t width) const { return weight(module, {entries, width}, role::embedding); }
    parameter& norm(name_pair module, std::uint64_t width, bool biased = false) const {
        const auto index = draft_->passes[pass_].size();
        weight(module, {width});
        if (biased) bias(module, width);
        return draft_->passes[pass_][index];
    }
    /// A tensor of this block that mlc_llm leaves out on purpose.
    void unused(std::string_view name) const { draft_->unused.push_back(hf_ + std::string(name)); }

private:
    [[nodiscard]] static std::vector<std::string> sources(const std::string& prefix, std::initializer_list<std::string_view> parts, std::string_view suffix) {
        std::vector<std::string> names;
        for (const auto part : parts) names.push_back((prefix + std::string(part)).append(suffix));
        return names;
    }
    parameter& named(name_pair module, std::string_view suffix, shape dims, role as) const {
        return add(
            pass_,
            {.name = (mlc_ + std::string(module.mlc)).append(suffix), .dims = dims, .sources = {(hf_ + std::string(module.hf)).append(suffix)}, .kind = as});
    }
    parameter& add(std::size_t pass, parameter p) const { return draft_->passes[pass].emplace_back(std::move(p)); }

    draft* draft_;
    std::string mlc_, hf_;
    std::size_t pass_ = draft::last;
    std::size_t fused_pass_ = 0;
};

}  // namespace nibble::model
