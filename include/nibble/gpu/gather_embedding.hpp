// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tokens to vectors: rows of a table of weights, by their numbers.

#include "nibble/gpu/dequantize.hpp"
#include "nibble/gpu/gemv.hpp"

namespace nibble::gpu {

/// y[m, k] = row ids[m] of W[n, k], times the host's `factor` where spec.scaled; an id of n or more gives zeros. Where the table is cut, each
/// part writes the rows that it has, and the first one also the zeros: run one after the other, the parts write every row once.
struct gather_embedding {
    static constexpr std::string_view name = "gather_embedding";
    static constexpr std::string_view purpose = "y = the rows of W that ids name, times a factor";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        kernel_spec s;
        s.n = 40, s.k = 960;
        all.push_back({"f32", s, {{"m", 5}, {"n", 40}, {"k", 960}}});
        s.n = 37, s.k = 203;
        s.scaled = true;
        all.push_back({"f32, odd sizes, factor", s, {{"m", 7}, {"n", 37}, {"k", 203}}});
        s.n = s.k = 0;
        s.activations = scalar::f16;
        all.push_back({"f16, factor, sizes as parameters", s, {{"m", 9}, {"n", 300}, {"k", 320}}});
        s.scaled = s.whole_groups = false;
        s.activations = scalar::f32;
        all.push_back({"f32, odd sizes as parameters", s, {{"m", 6}, {"n", 211}, {"k", 331}}});
        return all;
    }

    /// An invocation writes one unit of a row, as in dequantize.
    template <shader_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using reader = weight_reader<C>;
        shader s(name, codec);
        const formula m = formula::size("m");
        const formula k_size = formula::size("k");
        s.about("y = the rows of W that ids name, " + std::to_string(reader::unit) + " values an invocation");
        s.sizes({"m", "n", "k"});
        const auto ids = s.input<u32>("ids", m);
        const auto n_tokens = s.size("m");
        const auto k = s.size("k", spec.k);
        const auto rows = detail::declare_rows<C>(s, spec, 2);
        const bool cut = !rows.first.is_number(0);
        reader weights(s, spec, rows.count, k, formula::size(cut ? "rows" : "n"), k_size);
        const auto factor = spec.scaled ? s.scalar<f32>("factor") : expr<f32>(1.0F);
        real_output<> y(s, spec.activations, "y", m * k_size);
        s.grid(spec.tune.workgroup, ceil_div(m * ceil_div(k_size, formula(reader::step)) * reader::units, formula(spec.tune.workgroup)));

        const auto i = s.let("i", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        const auto token = s.let("token", i / (weights.steps() * reader::units));
        s.if_(token >= n_tokens, [&] { s.return_(); });
        const auto at_step = s.let("at_step", i / reader::units % weights.steps());
        const auto u = s.let("u", i % reader::units);
        const auto first = s.let("first", at_step * reader::step + u * reader::unit);
        const auto store = [&](const expr<u32>& at, const expr<f32>& v) { y.store(token * k + at, v); };
        const auto id = s.let("id", ids[token]);
        const auto row = cut ? s.let("row", id - rows.first) : id;  // an id before the first row wraps far beyond the last one
        const auto zeros = [&] {
            s.for_("j", 0u, reader::unit, 1u, [&](const expr<u32>& j) { s.if_(first + j < k, [&] { store(first + j, expr<f32>(0.0F)); }); });
        };
        s.if_(
            row < rows.count, [&] { detail::store_unit<C>(s, spec, weights.unit_values(row, at_step, u), first, k, factor, store); },
            [&] {
                if (!cut) return zeros();
                s.comment("An id that no part has: the first part writes zeros.");
                s.if_(id >= rows.all && rows.first == 0u, zeros);
            });
        return s.finish();
    }

    /// Ids at both ends of the table, one twice, two that it lacks.
    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        const auto& spec = of.spec;
        const auto n = of.size("n");
        const auto k = of.size("k");
        const float factor = 7.25F;
        auto w = make_weights<C>(n, k, 1);
        std::vector<u32> ids(of.size("m"));
        for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<u32>((t * 29 + 3) % n);
        ids[0] = static_cast<u32>(n - 1), ids[1] = 0, ids[2] = static_cast<u32>(n), ids[3] = ids[0], ids[4] = 0xFFFFFFFF;
        std::vector<double> y;
        for (const u32 id : ids) {
            for (std::size_t i = 0; i < k; ++i)
                y.push_back(id >= n ? 0.0 : static_cast<double>(w.values[id * k + i]) * (spec.scaled ? static_cast<double>(factor) : 1.0));
        }
        example e;
        e.sizes = of.sizes;
        if (spec.scaled) e.host.emplace_back("factor", factor);
        e.buffers.push_back(buffer_of(ids));
        for (auto& plane : w.planes) e.buffers.push_back(std::move(plane));
        auto before = random_numbers(y.size(), 5);  // zeros are written too
        e.expected.emplace_back(e.buffers.size(), std::move(y));
        e.buffers.push_back(buffer_of(before, spec.activations));
        e.tolerance = tolerance_of(spec.activations);
        return e;
    }
};

}  // namespace nibble::gpu
