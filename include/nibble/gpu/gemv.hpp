// SPDX-License-Identifier: Apache-2.0
#pragma once
// y = W x for one vector or a few: what decoding spends its time on.

#include <algorithm>

#include "nibble/gpu/decode.hpp"
#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

namespace detail {

/// Adds up what the invocations of a group of lanes have summed: sums[row of the lane][value]. Afterwards finish(row, total) is called by one
/// invocation for each row; total(value) is the whole sum. tuning::lanes_k is a power of two, and at least the number of rows.
template <class Finish>
void reduce_rows(shader& s, const tuning& t, const expr<u32>& lane_k, const expr<u32>& lane_n, const std::vector<std::vector<place<f32>>>& sums,
                 Finish&& finish) {
    const u32 rows = static_cast<u32>(sums.size());
    const u32 values = static_cast<u32>(sums[0].size());
    const u32 lanes = t.subgroups ? t.lanes_k : t.lanes_k * t.lanes_n;
    auto partial = s.shared<f32>("partial", lanes * rows * values);
    const auto put = [&](const expr<u32>& at) {
        for (u32 i = 0; i < rows * values; ++i) partial[at + i * lanes] = sums[i / values][i % values];
    };
    if (t.subgroups) {
        // No size of subgroup is assumed: what each has summed goes through workgroup memory.
        for (const auto& row : sums) {
            for (const auto& sum : row) sum = subgroup_add(sum);
        }
        s.if_(s.subgroup_lane() == 0u, [&] { put(s.subgroup_id()); });
        s.barrier();
        s.if_(lane_k < rows, [&] {
            finish(lane_k, [&](const expr<u32>& value) {
                auto total = s.var<f32>("total", 0.0F);
                s.for_("i", 0u, s.num_subgroups(), 1u, [&](const expr<u32>& i) { total += partial[(lane_k * values + value) * lanes + i]; });
                return expr<f32>(total);
            });
        });
        return;
    }
    const auto own = s.let("own", lane_n * t.lanes_k + lane_k);
    put(own);
    s.barrier();
    for (u32 half = t.lanes_k / 2; half > 0; half /= 2) {
        s.if_(lane_k < half, [&] {
            const auto add = [&](const expr<u32>& i) { partial[own + i * lanes] += partial[own + i * lanes + half]; };
            if (rows * values == 1)
                add(expr<u32>(0u));
            else
                s.for_("i", 0u, rows * values, 1u, add);
        });
        s.barrier();
    }
    s.if_(lane_k < rows,
          [&] { finish(lane_k, [&](const expr<u32>& value) { return expr<f32>(partial[lane_n * t.lanes_k + (lane_k * values + value) * lanes]); }); });
}

/// What is added to sums and applied to them before they are stored: bias[n], an activation, residual[columns, n].
class epilogue {
public:
    epilogue(shader& s, const kernel_spec& spec, const formula& n, const formula& columns) : s_(&s), spec_(spec) {
        if (spec.bias) bias_.emplace(s, spec.activations, "bias", n);
        if (spec.residual) residual_.emplace(s, spec.activations, "residual", n * columns);
        y_.emplace(s, spec.activations, "y", n * columns);
    }
    /// Stores the sum of a row to y[at]; at = column * n + row.
    void store(const expr<u32>& row, const expr<u32>& at, const expr<f32>& sum) const {
        expr<f32> v = sum;
        if (bias_) v = v + (*bias_)[row];
        v = activated(*s_, spec_.act, v);
        if (residual_) v = v + (*residual_)[at];
        y_->store(at, v);
    }

private:
    shader* s_;
    kernel_spec spec_;
    std::optional<real_input<>> bias_, residual_;
    std::optional<real_output<>> y_;
};

/// The rows of weights in a kernel. Where a call may be cut along them, `first` is the first one of the part; `size` is `count` for a host.
struct row_range {
    expr<u32> first, count, all;
    formula size;
};
template <shader_codec C>
row_range declare_rows(shader& s, const kernel_spec& spec, u32 granule) {
    const double bytes = bits_per_value<C> / 8 * spec.n * spec.k;
    if (C::layout::transposed || (spec.n != 0 && spec.k != 0 && bytes <= static_cast<double>(device_limits{}.max_binding_bytes))) {
        const auto n = s.size("n", spec.n);
        return {expr<u32>(0u), n, n, formula::size("n")};
    }
    s.cut_rows("n", detail::stores_zero<C> ? 2 * granule : granule);  // parts begin at whole u32, of scales and of zero points
    const formula rows = formula::size("rows");
    return {s.parameter<u32>("first_row", formula::size("first_row")), s.parameter<u32>("rows", rows), s.size("n", spec.n), rows};
}

/// How a product's rows are dealt out: `rows` to each group of lanes_k invocations, of which a workgroup has lanes_n.
struct row_tile {
    u32 lanes_k, lanes_n, rows;

    /// `parts` rows of weights make a row of the result. An invocation has few sums: more would spill from registers, and make long texts.
    template <shader_codec C>
    static row_tile of(const kernel_spec& spec, u32 parts) {
        const auto& t = spec.tune;
        const u32 sums = spec.columns == 1 ? t.rows_per_lane : weight_reader<C>::chunk == 4 ? 8 : 4;
        return {t.lanes_k, t.subgroups ? 1 : t.lanes_n, std::clamp(sums / (spec.columns * parts), 1u, t.rows_per_lane)};
    }
    [[nodiscard]] u32 size() const { return lanes_n * rows; }
    [[nodiscard]] u32 invocations() const { return lanes_k * lanes_n; }
    [[nodiscard]] std::string text() const {
        return std::to_string(lanes_k) + " lanes along K, " + std::to_string(lanes_n) + " along N, " + std::to_string(rows) + " rows each";
    }
};

/// The body of every product with few columns: of count rows, row r is the sums over the rows parts[i] + r of the weights.
///   add(rows, step, sums)      sums[row][column] += weights[rows[row], step] . x[column, step]
///   store(row, column, total)  total(i) is the sum of part i
template <shader_codec C, class Add, class Store>
void multiply_rows(shader& s, const kernel_spec& spec, const row_tile& tile, const expr<u32>& count, const std::vector<expr<u32>>& parts,
                   const expr<u32>& steps, Add&& add, Store&& store) {
    const auto first = s.let("first", s.workgroup_index() * tile.size());
    s.if_(first >= count, [&] { s.return_(); });
    // Lanes side by side read what lies side by side: along K in [N, K], along N in [K, N].
    const bool along_n = C::layout::transposed;
    const auto lane_k = s.let("lane_k", along_n ? s.local_index() / tile.lanes_n : s.local_index() % tile.lanes_k);
    const auto lane_n = s.let("lane_n", along_n ? s.local_index() % tile.lanes_n : s.local_index() / tile.lanes_k);
    const auto row_of = [&](const expr<u32>& r) { return along_n ? first + r * tile.lanes_n + lane_n : first + lane_n * tile.rows + r; };

    std::vector<expr<u32>> own;
    std::vector<std::vector<place<f32>>> sums, sums_of_row(tile.rows);
    for (u32 r = 0; r < tile.rows; ++r) {
        const auto row = s.let("row", min(row_of(expr<u32>(r)), count - 1u));
        for (const auto& part : parts) {
            own.push_back(part + row);
            sums.emplace_back();
            for (u32 c = 0; c < spec.columns; ++c) sums.back().push_back(s.var<f32>("sum", 0.0F));
            sums_of_row[r].insert(sums_of_row[r].end(), sums.back().begin(), sums.back().end());
        }
    }
    s.for_("g", lane_k, steps, tile.lanes_k, [&](const expr<u32>& g) { add(own, g, sums); });

    reduce_rows(s, spec.tune, lane_k, lane_n, sums_of_row, [&](const expr<u32>& r, auto&& total) {
        const auto row = s.let("out_row", row_of(r));
        s.if_(row < count, [&] {
            const auto one = [&](const expr<u32>& column) { store(row, column, [&](u32 part) { return total(column + part * spec.columns); }); };
            if (spec.columns == 1)
                one(expr<u32>(0u));
            else
                s.for_("column", 0u, spec.columns, 1u, one);
        });
    });
}

/// y[columns, n] = activation(x[columns, k] W[n, k]^T + bias[n]) + residual[columns, n]. bind(e, x) adds the buffers of x to the example, and
/// makes of x what these hold.
template <shader_codec C, class Bind>
example product_example(const trial& of, std::size_t columns, Bind&& bind) {
    const auto& spec = of.spec;
    const auto n = of.size("n");
    const auto k = of.size("k");
    example e;
    e.sizes = of.sizes;
    auto w = make_weights<C>(n, k, 1);
    auto x = random_numbers(k * columns, 2);
    auto bias = random_numbers(n, 3);
    auto residual = random_numbers(n * columns, 4);
    e.buffers = std::move(w.planes);
    bind(e, x);
    if (spec.bias) e.buffers.push_back(buffer_of(bias, spec.activations));
    if (spec.residual) e.buffers.push_back(buffer_of(residual, spec.activations));
    std::vector<double> y;
    for (std::size_t c = 0; c < columns; ++c) {
        const auto sums = w.times(x, c * k, n, k);
        for (std::size_t r = 0; r < n; ++r) {
            const double v = activated(spec.act, sums[r] + (spec.bias ? static_cast<double>(bias[r]) : 0.0));
            y.push_back(v + (spec.residual ? static_cast<double>(residual[c * n + r]) : 0.0));
        }
    }
    e.expected.emplace_back(e.buffers.size(), std::move(y));
    e.buffers.emplace_back(n * columns * bytes_of(spec.activations));
    e.tolerance = tolerance_of(spec.activations);
    return e;
}
template <shader_codec C>
example product_example(const trial& of, std::size_t columns) {
    return product_example<C>(of, columns, [&](example& e, std::vector<float>& x) { e.buffers.push_back(buffer_of(x, of.spec.activations)); });
}

}  // namespace detail

/// y[columns, n] = activation(x[columns, k] W[n, k]^T + bias[n]) + residual[columns, n].
struct gemv {
    static constexpr std::string_view name = "gemv";
    static constexpr std::string_view purpose = "y = activation(W x + bias) + residual for one vector";
    static constexpr bool reads_weights = true;

    /// Full tiles, tiles that are cut by both edges, each epilogue, sizes that are baked and sizes that are not.
    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const trial_adder add(all);
        kernel_spec s;
        add("f32", s, 64, 1280);
        add("f32, odd sizes", s, 37, 203);
        s.bias = s.residual = true;
        s.act = activation::gelu;
        add("f32, bias, GELU, residual, sizes as parameters", s, 50, 960, false);
        s.whole_groups = false;
        add("f32, odd sizes as parameters", s, 21, 331, false);
        s.act = activation::silu;
        s.activations = scalar::f16;
        add("f16, bias, SiLU, residual", s, 33, 640);
        s = {};
        s.tune.subgroups = true;
        s.tune.lanes_k = 64;
        add("f32, subgroups", s, 37, 2560);
        s = {};
        s.tune.lanes_k = 4, s.tune.lanes_n = 16, s.tune.rows_per_lane = 1;
        add("f32, 4 x 16 lanes of one row", s, 45, 480);
        return all;
    }

    template <shader_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        shader s(name, codec);
        const auto tile = detail::row_tile::of<C>(spec, 1);
        const formula n = formula::size("n");
        const formula k_size = formula::size("k");
        s.about("y = W x: " + tile.text());
        s.sizes({"n", "k"});
        const auto k = s.size("k", spec.k);
        const auto rows = detail::declare_rows<C>(s, spec, 2 * tile.size());
        weight_reader<C> weights(s, spec, rows.count, k, rows.size, k_size);
        activation_reader<weight_reader<C>::chunk> x(s, spec, "x", k, k_size * spec.columns, whole_steps<C>(spec));
        detail::epilogue out(s, spec, n, spec.columns);
        s.grid(tile.invocations(), ceil_div(rows.size, formula(tile.size())));
        detail::multiply_rows<C>(
            s, spec, tile, rows.count, {expr<u32>(0u)}, weights.steps(),
            [&](const auto& own, const expr<u32>& g, const auto& sums) { weights.add_products(own, g, x, sums); },
            [&](const expr<u32>& row, const expr<u32>& column, auto&& total) { out.store(rows.first + row, rows.first + row + rows.all * column, total(0)); });
        return s.finish();
    }

    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return detail::product_example<C>(of, of.spec.columns);
    }
};

}  // namespace nibble::gpu
