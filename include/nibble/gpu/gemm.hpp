// SPDX-License-Identifier: Apache-2.0
#pragma once
// Y = X W for many vectors at once: what reading a prompt spends its time on. Sums are f32, so that in f16 a result errs by what storing it costs,
// 3e-4 of the largest at K = 896; WebLLM's, whose sums are f16, errs by 8e-3 there.

#include "nibble/gpu/gemv.hpp"

namespace nibble::gpu {

namespace detail {

/// The part of Y[m, n] that a workgroup computes, and the part of that which is an invocation's: every threads_m-th row and every threads_n-th
/// column, so that invocations side by side read and write what lies side by side.
class output_tile {
public:
    /// Leaves the kernel in workgroups that a padded grid has too many.
    output_tile(shader& s, const tuning& t, const expr<u32>& m, const row_range& columns) : s_(&s), t_(t), m_(m), columns_(columns) {
        const auto m_tiles = s.let("m_tiles", (m + (rows() - 1)) / rows());
        const auto tile = s.let("tile", s.workgroup_index());
        // Neighbours share weights.
        first_n_ = s.let("first_n", tile / m_tiles * width());
        s.if_(first_n_ >= columns.count, [&] { s.return_(); });
        first_m_ = s.let("first_m", tile % m_tiles * rows());
        own_m_ = s.let("own_m", s.local_index() / t.threads_n);
        own_n_ = s.let("own_n", s.local_index() % t.threads_n);
    }
    [[nodiscard]] static formula workgroups(const tuning& t, const row_range& columns) {
        return ceil_div(formula::size("m"), formula(t.threads_m * t.m_per_thread)) * ceil_div(columns.size, formula(t.threads_n * t.n_per_thread));
    }
    [[nodiscard]] static std::string text(const tuning& t) {
        return "tiles of " + std::to_string(t.threads_m * t.m_per_thread) + " x " + std::to_string(t.threads_n * t.n_per_thread) + ", an invocation computes " +
               std::to_string(t.m_per_thread) + " x " + std::to_string(t.n_per_thread) + " of it";
    }
    [[nodiscard]] u32 rows() const { return t_.threads_m * t_.m_per_thread; }
    [[nodiscard]] u32 width() const { return t_.threads_n * t_.n_per_thread; }
    [[nodiscard]] u32 invocations() const { return t_.threads_m * t_.threads_n; }
    [[nodiscard]] u32 quads() const { return t_.n_per_thread / 4; }  ///< vectors of four columns that an invocation has

    /// Rows of X and of W, those of the tile that lie beyond the end replaced by the last one: what is computed of them is not stored.
    [[nodiscard]] expr<u32> row_of_x(const expr<u32>& i) const { return min(first_m_ + i, m_ - 1u); }
    [[nodiscard]] expr<u32> row_of_w(const expr<u32>& i) const { return min(first_n_ + i, columns_.count - 1u); }
    /// Where tiles in workgroup memory have row `row` of vector v: rows lie side by side, and one place is left free after them, so that neither
    /// stores nor loads of neighbours meet in one bank.
    [[nodiscard]] expr<u32> x_at(const expr<u32>& v, const expr<u32>& row) const { return v * (rows() + 1) + row; }
    [[nodiscard]] expr<u32> w_at(const expr<u32>& v, const expr<u32>& row) const { return v * (width() + 1) + row; }
    [[nodiscard]] u32 x_size(u32 vectors) const { return vectors * (rows() + 1); }
    [[nodiscard]] u32 w_size(u32 vectors) const { return vectors * (width() + 1); }
    /// How many things workgroup memory holds on every device, where each is so many bytes of a row, for all rows of X and of W in the tile.
    [[nodiscard]] u32 fitting(u32 bytes) const { return static_cast<u32>(device_limits{}.max_workgroup_bytes) / (bytes * (x_size(1) + w_size(1))); }
    /// Vector v of this invocation's rows, and of its columns, under a name.
    template <shader_value T>
    [[nodiscard]] std::vector<expr<T>> own_rows(std::string_view name, const elements<T, place>& tile, const expr<u32>& v) const {
        return own(tile, name, s_->let("x_at", x_at(v, own_m_)), t_.threads_m, t_.m_per_thread);
    }
    template <shader_value T>
    [[nodiscard]] std::vector<expr<T>> own_columns(std::string_view name, const elements<T, place>& tile, const expr<u32>& v) const {
        return own(tile, name, s_->let("w_at", w_at(v, own_n_)), t_.threads_n, t_.n_per_thread);
    }

    /// Deals `rows` x `per_row` things out to the invocations: f(row, i). What lies side by side in memory is taken side by side.
    template <class F>
    void share(u32 rows, u32 per_row, bool along_rows, F&& f) const {
        s_->for_("item", s_->local_index(), rows * per_row, invocations(), [&](const expr<u32>& item) {
            if (per_row == 1) return f(item, expr<u32>(0u));
            const auto tile_row = s_->let("tile_row", along_rows ? item % rows : item / per_row);
            f(tile_row, s_->let("piece", along_rows ? item / rows : item % per_row));
        });
    }

    /// Sums of type T, f32 or i32, by [row][quad]: zero.
    template <class T>
    [[nodiscard]] std::vector<std::vector<place<vec<T, 4>>>> sums(std::string_view name) const {
        std::vector<std::vector<place<vec<T, 4>>>> all(t_.m_per_thread);
        for (auto& row : all) {
            for (u32 q = 0; q < quads(); ++q) row.push_back(s_->var<vec<T, 4>>(name, expr<vec<T, 4>>(T{0})));
        }
        return all;
    }
    /// Stores them through the epilogue.
    void store(const epilogue& out, const std::vector<std::vector<place<f32x4>>>& sums) const {
        auto& s = *s_;
        // Only here an index may be computed: sums that are indexed so all along would lie in memory where a driver does not unroll loops.
        auto result = s.array<f32x4>("result", t_.m_per_thread * quads());
        for (u32 i = 0; i < t_.m_per_thread; ++i) {
            for (u32 q = 0; q < quads(); ++q) result[i * quads() + q] = sums[i][q];
        }
        s.for_("i", 0u, t_.m_per_thread, 1u, [&](const expr<u32>& i) {
            const auto row = s.let("row", first_m_ + own_m_ + i * t_.threads_m);
            s.for_("j", 0u, t_.n_per_thread, 1u, [&](const expr<u32>& j) {
                const auto column = s.let("column", first_n_ + own_n_ + j * t_.threads_n);
                s.if_(row < m_ && column < columns_.count, [&] {
                    const auto sum = quads() == 1 ? expr<f32x4>(result[i])[j] : expr<f32x4>(result[i * quads() + j / 4u])[j % 4u];
                    out.store(columns_.first + column, row * columns_.all + (columns_.first + column), sum);
                });
            });
        });
    }

private:
    shader* s_;
    tuning t_;
    expr<u32> m_;
    row_range columns_;
    expr<u32> first_m_{0u}, first_n_{0u}, own_m_{0u}, own_n_{0u};

    template <shader_value T>
    std::vector<expr<T>> own(const elements<T, place>& tile, std::string_view name, const expr<u32>& at, u32 apart, u32 count) const {
        std::vector<expr<T>> all;
        for (u32 i = 0; i < count; ++i) all.push_back(s_->let(name, tile[at + i * apart]));
        return all;
    }
};

}  // namespace detail

/// y[m, n] = activation(x[m, k] W[n, k]^T + bias[n]) + residual[m, n]; m is a parameter.
struct gemm {
    static constexpr std::string_view name = "gemm";
    static constexpr std::string_view purpose = "y = activation(W x + bias) + residual for many vectors, in tiles that share readings of W and x";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const trial_adder add(all);
        kernel_spec s;
        add.batch("f32", s, 64, 32, 640);
        s.whole_groups = false;
        add.batch("f32, odd sizes as parameters", s, 7, 37, 203, false);
        s.whole_groups = true;
        s.bias = s.residual = true;
        s.act = activation::gelu;
        s.activations = scalar::f16;
        add.batch("f16, bias, GELU, residual, odd sizes", s, 33, 67, 363);
        s.act = activation::silu;
        add.batch("f16, bias, SiLU, residual, sizes as parameters", s, 3, 45, 480, false);
        s = {};
        s.tune.threads_m = s.tune.threads_n = 16;
        add.batch("f32, 16 x 16 threads", s, 70, 65, 320);
        s = {};
        s.tune.m_per_thread = s.tune.n_per_thread = 8;
        add.batch("f32, 8 x 8 a thread", s, 65, 70, 200);
        return all;
    }

    template <shader_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using reader = weight_reader<C>;
        using vector = vec_or_scalar<f32, reader::chunk>;
        shader s(name, codec);
        const auto& t = spec.tune;
        const formula k_size = formula::size("k");
        s.about("y = W x: " + detail::output_tile::text(t));
        s.sizes({"m", "n", "k"});
        const auto m = s.size("m");
        const auto k = s.size("k", spec.k);
        const auto columns = detail::declare_rows<C>(s, spec, 2 * t.threads_n * t.n_per_thread);
        reader weights(s, spec, columns.count, k, columns.size, k_size);
        activation_reader<reader::chunk> x(s, spec, "x", k, formula::size("m") * k_size, whole_steps<C>(spec));
        detail::epilogue out(s, spec, formula::size("n"), formula::size("m"));
        s.grid(t.threads_m * t.threads_n, detail::output_tile::workgroups(t, columns));

        const detail::output_tile tile(s, t, m, columns);
        constexpr u32 chunks = reader::chunks;
        const u32 units = units_of_tile<C>(std::min(t.k_per_tile, tile.fitting(4)));
        const u32 vectors = units * chunks;
        auto x_tile = s.shared<vector>("x_tile", tile.x_size(vectors));
        auto w_tile = s.shared<vector>("w_tile", tile.w_size(vectors));
        const auto sums = tile.sums<f32>("sum");
        const auto steps = weights.steps();
        const auto all_units = steps * reader::units;
        const bool parts_of_step = reader::units % units == 0;
        const bool whole_tiles = parts_of_step || (steps.number() && *steps.number() * reader::units % units == 0);
        const bool guarded = !whole_tiles && whole_steps<C>(spec);
        s.for_("first", 0u, all_units, units, [&](const expr<u32>& first) {
            // What lies beyond the end of a row is read in its place from before it, and not added.
            tile.share(tile.rows(), vectors, false, [&](const expr<u32>& row, const expr<u32>& v) {
                const auto at = first * reader::unit + v * reader::chunk;
                const auto x_row = s.let("x_row", tile.row_of_x(row));
                x_tile[tile.x_at(v, row)] = x.at(x_row, s.let("at", guarded ? min(at, k - reader::chunk) : at));
            });
            tile.share(tile.width(), units, C::layout::transposed, [&](const expr<u32>& row, const expr<u32>& u) {
                const auto unit = s.let("unit", whole_tiles ? first + u : min(first + u, all_units - 1u));
                const auto w_row = s.let("w_row", tile.row_of_w(row));
                const auto values = weights.unit_values(w_row, unit / reader::units, unit % reader::units);
                for (u32 c = 0; c < chunks; ++c) w_tile[tile.w_at(u * chunks + c, row)] = values[c];
            });
            s.barrier();
            const auto end = whole_tiles ? expr<u32>(vectors) : min((all_units - first) * chunks, expr<u32>(vectors));
            s.for_("v", 0u, end, 1u, [&](const expr<u32>& v) {
                // One multiply-add for each value, row and column.
                const auto xs = tile.own_rows("x", x_tile, v);
                const auto ws = tile.own_columns("w", w_tile, v);
                for (u32 q = 0; q < tile.quads(); ++q) {
                    for (unsigned c = 0; c < reader::chunk; ++c) {
                        const auto four = s.let("four", vec4(ws[q * 4].at(c), ws[q * 4 + 1].at(c), ws[q * 4 + 2].at(c), ws[q * 4 + 3].at(c)));
                        for (u32 i = 0; i < t.m_per_thread; ++i) sums[i][q] += xs[i].at(c) * four;
                    }
                }
            });
            s.barrier();
        });
        tile.store(out, sums);
        return s.finish();
    }

    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return detail::product_example<C>(of, of.size("m"));
    }

private:
    /// Units along K that a tile holds: whole steps, or a part of one.
    template <shader_codec C>
    static constexpr u32 units_of_tile(u32 k_per_tile) {
        using reader = weight_reader<C>;
        if (k_per_tile >= reader::step) return k_per_tile / reader::step * reader::units;
        u32 units = std::max(1u, k_per_tile / reader::unit);
        while (reader::units % units != 0) --units;
        return units;
    }
};

}  // namespace nibble::gpu
