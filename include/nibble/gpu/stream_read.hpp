// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads memory and does nothing else: how fast a device can, and so what the bandwidth of every other kernel is measured against.

#include <algorithm>

#include "nibble/gpu/example.hpp"
#include "nibble/gpu/reduce.hpp"

namespace nibble::gpu {

/// y[ceil(n / (workgroup * loads))]: the sum, modulo 2^32, of all u32 in each stretch of x[n] (vec4<u32>), which a workgroup reads. What is
/// stored is 1 part in 4096 of what is read, at the defaults; that all was read is seen by the sums.
struct stream_read {
    static constexpr std::string_view name = "stream_read";
    static constexpr std::string_view purpose = "reads a buffer of vec4<u32>, and sums it so that no read is left out: the measure of bandwidth";
    static constexpr bool reads_weights = false;

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        std::vector<trial> all{{"whole stretches", s, {{"n", 4096}}}};
        all.push_back({"the last one cut", s, {{"n", 70001}}});
        all.push_back({"less than one", s, {{"n", 3}}});
        s.tune.subgroups = true;
        s.tune.workgroup = 256;
        s.tune.loads = 4;
        all.push_back({"subgroups, 256 invocations, 4 loads", s, {{"n", 9999}}});
        return all;
    }

    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        const u32 threads = spec.tune.workgroup;
        const u32 stretch = threads * spec.tune.loads;
        s.about("Sums every " + std::to_string(stretch) + " vectors of x: " + std::to_string(spec.tune.loads) + " loads an invocation, side by side");
        s.sizes({"n"});
        s.cut_rows("n", stretch);
        const auto rows = s.parameter<u32>("rows", formula::size("rows"));
        const auto first_row = s.parameter<u32>("first_row", formula::size("first_row"));
        const auto x = s.input<u32x4>("x", formula::size("rows"), true);
        const auto y = s.output<u32>("y", ceil_div(formula::size("n"), stretch));
        s.grid(threads, ceil_div(formula::size("rows"), stretch));
        const workgroup_reduction<u32> over_workgroup(s, spec.tune);

        const auto first = s.let("first", s.workgroup_index() * stretch);
        s.if_(first >= rows, [&] { s.return_(); });
        // As many loads for all, so that a driver may have all of them on their way at once.
        const auto own = s.var<u32x4>("own", expr<u32x4>(0u));
        s.for_("i", 0u, spec.tune.loads, 1u, [&](const expr<u32>& i) {
            const auto at = s.let("at", first + i * threads + s.local_index());
            own += select(at < rows, x[min(at, rows - 1u)], expr<u32x4>(0u));
        });
        const auto sum = over_workgroup.sum("sum", own.x() + own.y() + own.z() + own.w());
        s.if_(s.local_index() == 0u, [&] { y[(first_row + first) / stretch] = sum; });
        return s.finish();
    }

    [[nodiscard]] static example make_example(const trial& of) {
        const std::size_t n = of.size("n"), stretch = of.spec.tune.workgroup * of.spec.tune.loads;
        std::mt19937 bits(1);
        std::vector<u32> x(n * 4);
        for (u32& word : x) word = static_cast<u32>(bits());
        std::vector<double> sums;
        for (std::size_t first = 0; first < n; first += stretch) {
            u32 sum = 0;
            for (std::size_t i = first * 4; i < std::min(first + stretch, n) * 4; ++i) sum += x[i];
            sums.push_back(sum);
        }
        example e;
        e.sizes = of.sizes;
        e.buffers = {buffer_of(x), std::vector<std::byte>(sums.size() * 4)};
        e.expected.emplace_back(1, std::move(sums));
        e.tolerance = 0.0;
        return e;
    }
};

}  // namespace nibble::gpu
