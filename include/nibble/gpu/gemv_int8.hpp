// SPDX-License-Identifier: Apache-2.0
#pragma once
// y = W x by products of whole numbers.

#include "nibble/gpu/int8.hpp"

namespace nibble::gpu {

/// gemv with activations that quantize_activations has made.
struct gemv_int8 {
    static constexpr std::string_view name = "gemv_int8";
    static constexpr std::string_view purpose = "gemv for activations of int8, by products of whole numbers";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const trial_adder add(all);
        kernel_spec s;
        add("f32", s, 64, 1280);
        s.whole_groups = false;
        add("f32, odd sizes as parameters", s, 37, 331, false);
        s.bias = s.residual = true;
        s.act = activation::silu;
        s.activations = scalar::f16;
        s.columns = 4;
        add("f16, 4 columns, bias, SiLU, residual, odd sizes", s, 35, 203);
        s = {};
        s.tune.subgroups = true;
        add("f32, subgroups", s, 33, 960);
        return all;
    }

    template <packed_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using codes_of = detail::int8_codes<C>;
        shader s(name, codec);
        const auto tile = detail::row_tile::of<C>(spec, 1);
        s.about("y = W x: " + tile.text());
        s.sizes({"n", "k"});
        const auto k = s.size("k", spec.k);
        const auto rows = detail::declare_rows<C>(s, spec, 2 * tile.size());
        weight_reader<C> weights(s, spec, rows.count, k, rows.size, formula::size("k"));
        // The u32 that meet one unit of weights are read at once.
        constexpr unsigned width = codes_of::words == 2 ? 2 : 1;
        const detail::int8_reader<C, width> x(s, weights.steps(), spec.columns);
        detail::epilogue out(s, spec, formula::size("n"), spec.columns);
        s.grid(tile.invocations(), ceil_div(rows.size, formula(tile.size())));
        const auto column_of = [](std::size_t c) { return expr<u32>(static_cast<u32>(c)); };
        detail::multiply_rows<C>(
            s, spec, tile, rows.count, {expr<u32>(0u)}, weights.steps(),
            [&](const auto& own, const expr<u32>& g, const auto& sums) {
                std::vector<std::vector<place<i32>>> parts;
                std::vector<expr<f32>> scales;
                for (const auto& row : own) {
                    scales.push_back(s.let("scale", weights.scale(row, g)));
                    parts.emplace_back();
                    for (u32 c = 0; c < spec.columns; ++c) parts.back().push_back(s.var<i32>("part", 0));
                }
                weights.for_each_unit(own, g, [&](const std::vector<expr<u32>>& words, const expr<u32>& u) {
                    const auto at = s.let("at", g * x.step_vectors + u * (codes_of::words / width));
                    for (unsigned w = 0; w < codes_of::words; w += width) {
                        std::vector<expr<vec_or_scalar<u32, width>>> xs;
                        for (u32 c = 0; c < spec.columns; ++c) xs.push_back(s.let("x", x.codes(column_of(c), at + w / width)));
                        for (unsigned i = 0; i < width; ++i) {
                            for (std::size_t r = 0; r < own.size(); ++r) {
                                auto four = codes_of::of(words[r], w + i);
                                if (spec.columns > 1) four = s.let("four", four);
                                for (std::size_t c = 0; c < spec.columns; ++c) {
                                    parts[r][c] += dot_packed_i8(four, detail::component(xs[c], i));
                                }
                            }
                        }
                    }
                });
                for (std::size_t c = 0; c < spec.columns; ++c) {
                    const auto x_scale = s.let("x_scale", x.scale(column_of(c), g));
                    for (std::size_t r = 0; r < own.size(); ++r) sums[r][c] += codes_of::total(convert<f32>(parts[r][c]), scales[r], x_scale);
                }
            },
            [&](const expr<u32>& row, const expr<u32>& column, auto&& total) { out.store(rows.first + row, rows.first + row + rows.all * column, total(0)); });
        return s.finish();
    }

    template <packed_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return detail::int8_product_example<C>(of, of.spec.columns);
    }
};

}  // namespace nibble::gpu
