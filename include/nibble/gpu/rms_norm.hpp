// SPDX-License-Identifier: Apache-2.0
#pragma once
// Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467) of rows, alone or after a residual has been added.

#include <optional>

#include "nibble/gpu/example.hpp"
#include "nibble/gpu/reduce.hpp"

namespace nibble::gpu {

/// y[m, k] = h / sqrt(mean(h^2) + eps) * gains[k] with h = x[m, k]. The host gives eps (f32).
///   spec.residual       h = x + residual, which is stored too, as `sum`
///   spec.gain_plus_one  times 1 + gains
///   spec.per_head       `heads` rows of k numbers in each row of y[m, stride], from its number `first` on, are normalised where they lie: the
///                       queries or keys of a token among what one product has made. No residual.
/// Rows are read as vectors where a baked k is a multiple of 4, or k is a parameter and spec.whole_groups is set: first and stride then are
/// multiples of 4 as well.
struct rms_norm {
    static constexpr std::string_view name = "rms_norm";
    static constexpr std::string_view purpose = "y = (x + residual) / sqrt(mean((x + residual)^2) + eps) * gains, by rows or by heads";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const auto add = [&](std::string label, kernel_spec spec, std::uint64_t m, std::uint64_t k, bool baked = true) {
            if (baked) spec.k = static_cast<u32>(k);
            all.push_back({std::move(label), spec, {{"m", m}, {"k", k}}});
            if (spec.per_head) all.back().sizes.insert(all.back().sizes.end(), {{"heads", 3}, {"stride", 8 * k}, {"first", 2 * k}});
        };
        kernel_spec s;
        add("f32", s, 3, 896);
        add("f32, odd width", s, 5, 203);
        s.residual = true;
        add("f32, residual, width as parameter", s, 4, 1536, false);
        s.whole_groups = false;
        s.gain_plus_one = true;
        add("f32, residual, 1 + gain, odd width as parameter", s, 3, 331, false);
        s.activations = scalar::f16;
        add("f16, residual, 1 + gain", s, 3, 640);
        s.tune.subgroups = true;
        add("f16, residual, 1 + gain, subgroups, few numbers", s, 2, 40);
        s = {};
        s.tune.subgroups = true;
        s.tune.workgroup = 256;
        add("f32, subgroups, 256 invocations", s, 3, 2050);
        s = {};
        s.activations = scalar::f16;
        s.tune.workgroup = 128;
        add("f16, 128 invocations, odd width", s, 3, 77);
        s = {};
        s.per_head = true;
        s.tune.workgroup = 32;
        add("f32, by heads", s, 3, 64);
        s.gain_plus_one = true;
        s.activations = scalar::f16;
        s.tune.subgroups = true;
        add("f16, by heads, 1 + gain, subgroups", s, 2, 80, false);
        s.tune.subgroups = s.whole_groups = false;
        s.activations = scalar::f32;
        add("f32, by heads, 1 + gain, odd width", s, 2, 33, false);
        return all;
    }

    [[nodiscard]] static program build(const kernel_spec& spec) { return spec.whole_vectors() ? built<4>(spec) : built<1>(spec); }

    [[nodiscard]] static example make_example(const trial& of) {
        const auto& spec = of.spec;
        const std::size_t m = of.size("m"), k = of.size("k");
        const std::size_t heads = spec.per_head ? of.size("heads") : 1, stride = spec.per_head ? of.size("stride") : k;
        const float eps = 0.02F;  // far above what models have, so that it is seen
        auto x = random_numbers(m * stride, 1, 0.3);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += i / stride % 2 == 0 ? 0.25F : -1.5F;
        auto residual = random_numbers(m * k, 2, 0.3);
        auto gains = random_numbers(k, 3, 0.2);
        for (float& g : gains) g += 0.75F;

        example e;
        e.sizes = of.sizes;
        e.host.emplace_back("eps", eps);
        auto x_bytes = buffer_of(x, spec.activations);
        auto residual_bytes = buffer_of(residual, spec.activations);
        auto gain_bytes = buffer_of(gains, spec.activations);
        std::vector<double> h(x.begin(), x.end());
        if (adds_residual(spec)) {
            for (std::size_t i = 0; i < h.size(); ++i) h[i] += static_cast<double>(residual[i]);
        }
        auto y = h;
        for (std::size_t row = 0; row < m * heads; ++row) {
            const std::size_t at = row / heads * stride + (spec.per_head ? of.size("first") : 0) + row % heads * k;
            double squares = 0;
            for (std::size_t i = 0; i < k; ++i) squares += h[at + i] * h[at + i];
            const double root = std::sqrt(squares / static_cast<double>(k) + static_cast<double>(eps));
            for (std::size_t i = 0; i < k; ++i) y[at + i] = h[at + i] / root * (static_cast<double>(gains[i]) + (spec.gain_plus_one ? 1.0 : 0.0));
        }
        const auto empty = std::vector<std::byte>(x_bytes.size());
        if (!spec.per_head) e.buffers.push_back(x_bytes);
        if (adds_residual(spec)) e.buffers.push_back(std::move(residual_bytes));
        e.buffers.push_back(std::move(gain_bytes));
        if (adds_residual(spec)) {
            e.expected.emplace_back(e.buffers.size(), std::move(h));
            e.buffers.push_back(empty);
        }
        e.expected.emplace_back(e.buffers.size(), std::move(y));
        e.buffers.push_back(spec.per_head ? x_bytes : empty);
        e.tolerance = tolerance_of(spec.activations);
        return e;
    }

private:
    [[nodiscard]] static bool adds_residual(const kernel_spec& spec) { return spec.residual && !spec.per_head; }

    /// A workgroup normalises a row, read as vectors of `Width`.
    template <unsigned Width>
    [[nodiscard]] static program built(const kernel_spec& spec) {
        shader s(name);
        const formula rows = formula::size("rows");
        const formula k_size = formula::size("k");
        const auto vectors = [&](const formula& numbers) { return ceil_div(numbers, formula(Width)); };
        s.about("y = h / sqrt(mean(h^2) + eps) * " + std::string(spec.gain_plus_one ? "(1 + gains)" : "gains") +
                (adds_residual(spec) ? ", h = x + residual"
                 : spec.per_head     ? ", h = y"
                                     : ", h = x") +
                "; a workgroup for each row");
        s.cut_rows("m");
        const auto k = s.size("k", spec.k);
        if (spec.k == 0 && Width > 1) s.multiple_of("k", Width);
        const auto n_rows = s.parameter<u32>("n_rows", spec.per_head ? rows * formula::size("heads") : rows);
        std::optional<real_input<Width>> x, residual;
        std::optional<real_output<Width>> sum;
        if (!spec.per_head) x.emplace(s, spec.activations, "x", vectors(rows * k_size), true);
        if (adds_residual(spec)) residual.emplace(s, spec.activations, "residual", vectors(rows * k_size), true);
        real_input<Width> gains(s, spec.activations, "gains", vectors(k_size));
        if (adds_residual(spec)) sum.emplace(s, spec.activations, "sum", vectors(rows * k_size), true);
        real_output<Width> y(s, spec.activations, "y", vectors(rows * (spec.per_head ? formula::size("stride") : k_size)), true);
        if (spec.per_head)
            s.sizes({"m", "k", "heads", "stride", "first"});
        else
            s.sizes({"m", "k"});
        const auto eps = s.scalar<f32>("eps");
        s.grid(spec.tune.workgroup, spec.per_head ? rows * formula::size("heads") : rows);
        const workgroup_reduction<f32> over_workgroup(s, spec.tune);

        const auto row = s.let("row", s.workgroup_index());
        s.if_(row >= n_rows, [&] { s.return_(); });
        const auto width = spec.k == 0 ? s.let("width", k / Width) : k / Width;
        const auto heads = [&] { return s.size("heads"); };
        const auto first_of_head = [&] {
            const auto in_row = row % heads() * width;
            const auto stride = s.size("stride");
            return (row / heads() * stride + s.size("first")) / Width + in_row;
        };
        const auto first = s.let("first", spec.per_head ? first_of_head() : row * width);
        const auto h = [&](const expr<u32>& i) {
            if (residual) return (*x)[first + i] + (*residual)[first + i];
            return x ? (*x)[first + i] : y[first + i];
        };
        const auto each = [&](auto&& body) { s.for_("i", s.local_index(), width, spec.tune.workgroup, body); };

        const auto squares = s.var<f32>("squares", 0.0F);
        each([&](const expr<u32>& i) {
            const auto v = s.let("v", h(i));
            if constexpr (Width == 1)
                squares += v * v;
            else
                squares += dot(v, v);
            if (sum) sum->store(first + i, v);
        });
        const auto total = over_workgroup.sum("total", squares);
        const auto scale = s.let("scale", inverse_sqrt(total / convert<f32>(expr<u32>(&s, k.node_in(s))) + eps));
        each([&](const expr<u32>& i) { y.store(first + i, h(i) * scale * (spec.gain_plus_one ? 1.0F + gains[i] : gains[i])); });
        return s.finish();
    }
};

}  // namespace nibble::gpu
