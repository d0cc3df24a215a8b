// SPDX-License-Identifier: Apache-2.0
// The GPU kernel of docs/add.md.
#include <cstdio>
#include <string>

// [kernel]
#include "nibble/gpu/example.hpp"

namespace nibble::gpu {

/// y[n] = a[n] * b[n]
struct multiply {
    static constexpr std::string_view name = "multiply";
    static constexpr std::string_view purpose = "the product of two vectors, number by number";
    static constexpr bool reads_weights = false;

    /// What is to be tried, edges included.
    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        return {{"whole workgroups", s, {{"n", 128}}}, {"the last one cut", s, {{"n", 200}}}};
    }

    [[nodiscard]] static program build(const kernel_spec& spec) {
        shader s(name);
        s.about("y = a * b");
        const auto a = s.input<f32>("a", formula::size("n"));
        const auto b = s.input<f32>("b", formula::size("n"));
        const auto y = s.output<f32>("y", formula::size("n"));
        const auto i = s.let("i", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        s.if_(i < s.size("n"), [&] { y[i] = a[i] * b[i]; });
        s.grid(spec.tune.workgroup, ceil_div(formula::size("n"), spec.tune.workgroup));
        return s.finish();
    }

    /// Inputs, and the result by the law, in double.
    [[nodiscard]] static example make_example(const trial& of) {
        const std::size_t n = of.size("n");
        auto a = random_numbers(n, 1), b = random_numbers(n, 2);
        std::vector<double> y(n);
        for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<double>(a[i]) * static_cast<double>(b[i]);
        example e;
        e.sizes = of.sizes;
        e.buffers = {buffer_of(a, scalar::f32), buffer_of(b, scalar::f32), std::vector<std::byte>(n * 4)};
        e.expected.emplace_back(2, std::move(y));  // the third buffer
        return e;
    }
};

}  // namespace nibble::gpu
// [/kernel]

#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/wgsl.hpp"

int main() {
    using namespace nibble::gpu;
    for (const auto& trial : multiply::trials()) {
        const auto program = multiply::build(trial.spec);
        const auto example = multiply::make_example(trial);
        const auto dispatches = plan(program.manifest, example.sizes);
        if (!dispatches || dispatches->size() != 1) return std::puts("the call is not planned as one dispatch"), 1;
        const auto lengths = buffer_bytes(program.manifest, *dispatches);
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            if (lengths[i] != example.buffers.at(i).size()) return std::puts("a buffer is not as long as the manifest says"), 1;
        }
        // A device that left zeros would be found wrong.
        if (compare(example, program.manifest, example.buffers).error < 0.5) return std::puts("the comparison finds nothing"), 1;
        if (to_wgsl(program).find("y[i] = a[i] * b[i]") == std::string::npos || to_glsl(program).find("y[i] = a[i] * b[i]") == std::string::npos)
            return std::puts("the text is not as written"), 1;
    }
    return 0;
}
