// SPDX-License-Identifier: Apache-2.0
#pragma once
// Scores to probabilities, row by row.

#include "nibble/gpu/example.hpp"
#include "nibble/gpu/reduce.hpp"

namespace nibble::gpu {

/// y[m, k] = exp(x / temperature) over its sum along k. The host gives temperature (f32), above 0: for the limit at 0 there is argmax. What
/// is to have no probability is a large negative number rather than an infinity, which WGSL does not promise to know.
struct softmax {
    static constexpr std::string_view name = "softmax";
    static constexpr std::string_view purpose = "y = softmax(x / temperature) of each row";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const auto add = [&](std::string label, kernel_spec spec, std::uint64_t m, std::uint64_t k, bool baked = true) {
            if (baked) spec.k = static_cast<u32>(k);
            all.push_back({std::move(label), spec, {{"m", m}, {"k", k}}});
        };
        kernel_spec s;
        add("f32", s, 3, 1024);
        add("f32, odd width", s, 4, 203);
        add("f32, width as parameter, fewer vectors than invocations", s, 2, 20, false);
        s.whole_groups = false;
        s.tune.workgroup = 256;
        add("f32, odd width as parameter, 256 invocations", s, 2, 3001, false);
        s.tune.subgroups = true;
        add("f32, subgroups", s, 2, 2048);
        s.activations = scalar::f16;
        add("f16, subgroups, odd width", s, 3, 77);
        s.tune.subgroups = false;
        add("f16", s, 2, 640);
        return all;
    }

    [[nodiscard]] static program build(const kernel_spec& spec) { return spec.whole_vectors() ? built<4>(spec) : built<1>(spec); }

    /// Scores far from 0 and from each other, so that any exponential but that of the distance to the largest, which is the last of its row,
    /// would overflow.
    [[nodiscard]] static example make_example(const trial& of) {
        const auto type = of.spec.activations;
        const std::size_t k = of.size("k");
        const float temperature = 0.7F;
        auto x = random_numbers(of.size("m") * k, 1, 2.0);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += (i / k % 2 == 0 ? 150.0F : -200.0F) - (i % 5 == 2 ? 120.0F : 0.0F);
        for (std::size_t i = k - 1; i < x.size(); i += k) x[i] = (i / k % 2 == 0 ? 158.0F : -192.0F);
        example e;
        e.sizes = of.sizes;
        e.host.emplace_back("temperature", temperature);
        e.buffers = {buffer_of(x, type), std::vector<std::byte>(x.size() * bytes_of(type))};
        std::vector<double> y(x.size());
        for (std::size_t row = 0; row < x.size(); row += k) {
            double sum = 0;
            for (std::size_t i = row; i < row + k; ++i) {
                y[i] = std::exp((static_cast<double>(x[i]) - static_cast<double>(x[row + k - 1])) / static_cast<double>(temperature));
                sum += y[i];
            }
            for (std::size_t i = row; i < row + k; ++i) y[i] /= sum;
        }
        e.expected.emplace_back(1, std::move(y));
        e.tolerance = tolerance_of(type);
        return e;
    }

private:
    /// A workgroup for each row, read as vectors of `Width`.
    template <unsigned Width>
    [[nodiscard]] static program built(const kernel_spec& spec) {
        shader s(name);
        const formula numbers = ceil_div(formula::size("rows") * formula::size("k"), formula(Width));
        s.about("y = exp(x / temperature) over its sum; a workgroup for each row");
        s.sizes({"m", "k"});
        s.cut_rows("m");
        const auto k = s.size("k", spec.k);
        if (spec.k == 0 && Width > 1) s.multiple_of("k", Width);
        const auto rows = s.parameter<u32>("rows", formula::size("rows"));
        const auto temperature = s.scalar<f32>("temperature");
        const real_input<Width> x(s, spec.activations, "x", numbers, true);
        const real_output<Width> y(s, spec.activations, "y", numbers, true);
        s.grid(spec.tune.workgroup, formula::size("rows"));
        const workgroup_reduction<f32> over_workgroup(s, spec.tune);
        /// Of the components of a vector.
        const auto folded = [&](const auto& v, auto&& combine) {
            if constexpr (Width == 1)
                return v;
            else
                return expr<f32>(combine(combine(v.x(), v.y()), combine(v.z(), v.w())));
        };

        const auto row = s.let("row", s.workgroup_index());
        s.if_(row >= rows, [&] { s.return_(); });
        const auto width = spec.k == 0 ? s.let("width", k / Width) : k / Width;
        const auto first = s.let("first", row * width);
        const auto each = [&](auto&& body) { s.for_("i", s.local_index(), width, spec.tune.workgroup, body); };

        const auto any = s.let("any", x[first]);
        const auto own_most = [&] {
            if constexpr (Width == 1)
                return s.var<f32>("own_most", any);
            else
                return s.var<f32>("own_most", any.x());
        }();
        each([&](const expr<u32>& i) {
            const auto v = s.let("v", x[first + i]);
            own_most = max(own_most, folded(v, [](const auto& a, const auto& b) { return max(a, b); }));
        });
        const auto most = over_workgroup.greatest("most", own_most);
        const auto raised = [&](const expr<u32>& i) { return exp((x[first + i] - most) / temperature); };
        const auto own_sum = s.var<f32>("own_sum", 0.0F);
        each([&](const expr<u32>& i) {
            const auto v = s.let("v", raised(i));
            own_sum += folded(v, [](const auto& a, const auto& b) { return a + b; });
        });
        const auto sum = over_workgroup.sum("sum", own_sum);
        each([&](const expr<u32>& i) { y.store(first + i, raised(i) / sum); });
        return s.finish();
    }
};

}  // namespace nibble::gpu
