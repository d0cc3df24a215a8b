// SPDX-License-Identifier: Apache-2.0
#pragma once
// Weights back to numbers: the oracle of all other kernels, and the way to a vendor's GEMM.

#include "nibble/gpu/decode.hpp"
#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

namespace detail {

/// store(at, value * factor) for each value of a unit, which begins at `first` in its row, and ends with the row at the latest.
template <shader_codec C, class Store>
void store_unit(shader& s, const kernel_spec& spec, const std::array<typename weight_reader<C>::values, weight_reader<C>::chunks>& unit, const expr<u32>& first,
                const expr<u32>& k, const expr<f32>& factor, Store&& store) {
    constexpr unsigned chunk = weight_reader<C>::chunk;
    for (unsigned c = 0; c < unit.size(); ++c) {
        const auto v = s.let("v", unit[c] * factor);
        for (unsigned j = 0; j < chunk; ++j) {
            const auto at = first + (c * chunk + j);
            if (whole_steps<C>(spec))
                store(at, v.at(j));
            else
                s.if_(at < k, [&] { store(at, v.at(j)); });
        }
    }
}

}  // namespace detail

/// y[n, k] = the values of W[n, k], in the type of activations.
struct dequantize {
    static constexpr std::string_view name = "dequantize";
    static constexpr std::string_view purpose = "y = the values of W";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        s.n = 5, s.k = 960;
        std::vector<trial> all{{"f32", s, {{"n", 5}, {"k", 960}}}};
        s.n = 7, s.k = 203;
        all.push_back({"f32, odd sizes", s, {{"n", 7}, {"k", 203}}});
        s.activations = scalar::f16;
        s.n = s.k = 0;
        all.push_back({"f16, sizes as parameters", s, {{"n", 9}, {"k", 1280}}});
        return all;
    }

    /// An invocation writes one unit: the values of a u32, or four plain ones.
    template <shader_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using reader = weight_reader<C>;
        shader s(name, codec);
        const formula n = formula::size("n");
        const formula k_size = formula::size("k");
        s.about("y = the values of W, " + std::to_string(reader::unit) + " an invocation");
        s.sizes({"n", "k"});
        const auto rows = s.size("n", spec.n);
        const auto k = s.size("k", spec.k);
        reader weights(s, spec, rows, k, n, k_size);
        real_output<> y(s, spec.activations, "y", n * k_size);
        s.grid(spec.tune.workgroup, ceil_div(n * ceil_div(k_size, formula(reader::step)) * reader::units, formula(spec.tune.workgroup)));

        const auto i = s.let("i", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        const auto row = s.let("row", i / (weights.steps() * reader::units));
        s.if_(row < rows, [&] {
            const auto in_row = s.let("in_row", i % (weights.steps() * reader::units));
            const auto first = s.let("first", in_row / reader::units * reader::step + in_row % reader::units * reader::unit);
            const auto values = weights.unit_values(row, in_row / reader::units, s.let("u", in_row % reader::units));
            detail::store_unit<C>(s, spec, values, first, k, expr<f32>(1.0F), [&](const expr<u32>& at, const expr<f32>& v) { y.store(row * k + at, v); });
        });
        return s.finish();
    }

    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        example e;
        e.sizes = of.sizes;
        auto w = make_weights<C>(of.size("n"), of.size("k"), 1);
        e.buffers = std::move(w.planes);
        e.expected.emplace_back(e.buffers.size(), std::vector<double>(w.values.begin(), w.values.end()));
        e.buffers.emplace_back(w.values.size() * bytes_of(of.spec.activations));
        e.tolerance = tolerance_of(of.spec.activations);
        return e;
    }
};

}  // namespace nibble::gpu
