// SPDX-License-Identifier: Apache-2.0
#pragma once
// The first half of a gated feed-forward network in one kernel: both products and what joins them, without a round trip through memory.

#include "nibble/gpu/gemv.hpp"

namespace nibble::gpu {

/// y[columns, f] = activation(x G^T) * (x U^T), where the rows of W[n = 2 f, k] are those of G, then those of U. A call is not cut along
/// rows, because a row of y has two of them far apart.
struct gate_up {
    static constexpr std::string_view name = "gate_up";
    static constexpr std::string_view purpose = "y = activation(gate) * up for one vector or a few, where W x is gate and, below it, up";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const trial_adder add(all);
        kernel_spec s;
        s.act = activation::silu;
        add("f32, SiLU", s, 64, 1280);
        s.whole_groups = false;
        add("f32, SiLU, odd sizes as parameters", s, 42, 331, false);
        s.columns = 4;
        s.tune.subgroups = true;
        add("f32, SiLU, 4 columns, subgroups", s, 38, 320);
        s.act = activation::gelu;
        s.activations = scalar::f16;
        s.tune.subgroups = false;
        add("f16, GELU, 4 columns", s, 38, 960);
        s.columns = 1;
        add("f16, GELU, odd sizes", s, 74, 203);
        return all;
    }

    template <shader_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        shader s(name, codec);
        const auto tile = detail::row_tile::of<C>(spec, 2);
        const formula n = formula::size("n");
        const formula f_size = ceil_div(n, 2);
        const formula k_size = formula::size("k");
        s.about("y = activation(gate) * up: " + tile.text());
        s.about("rows of the weights: those of gate, then those of up");
        s.sizes({"n", "k"});
        const auto all = s.size("n", spec.n);
        const auto k = s.size("k", spec.k);
        weight_reader<C> weights(s, spec, all, k, n, k_size);
        activation_reader<weight_reader<C>::chunk> x(s, spec, "x", k, k_size * spec.columns, whole_steps<C>(spec));
        real_output<> y(s, spec.activations, "y", f_size * spec.columns);
        s.grid(tile.invocations(), ceil_div(f_size, formula(tile.size())));
        const auto f = spec.n != 0 ? all / 2u : s.let("f", all / 2u);
        detail::multiply_rows<C>(
            s, spec, tile, f, {expr<u32>(0u), f}, weights.steps(),
            [&](const auto& own, const expr<u32>& g, const auto& sums) { weights.add_products(own, g, x, sums); },
            [&](const expr<u32>& row, const expr<u32>& column, auto&& total) {
                const auto gate = s.let("gate", activated(s, spec.act, total(0)));
                y.store(column * f + row, gate * total(1));
            });
        return s.finish();
    }

    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        const auto& spec = of.spec;
        const auto n = of.size("n");
        const auto k = of.size("k");
        example e;
        e.sizes = of.sizes;
        auto w = make_weights<C>(n, k, 1);
        auto x = random_numbers(k * spec.columns, 2);
        e.buffers = std::move(w.planes);
        e.buffers.push_back(buffer_of(x, spec.activations));
        std::vector<double> y;
        for (std::size_t c = 0; c < spec.columns; ++c) {
            const auto sums = w.times(x, c * k, n, k);
            for (std::size_t r = 0; r < n / 2; ++r) y.push_back(activated(spec.act, sums[r]) * sums[n / 2 + r]);
        }
        e.expected.emplace_back(e.buffers.size(), std::move(y));
        e.buffers.emplace_back(n / 2 * spec.columns * bytes_of(spec.activations));
        e.tolerance = tolerance_of(spec.activations);
        return e;
    }
};

}  // namespace nibble::gpu
