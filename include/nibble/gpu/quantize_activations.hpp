// SPDX-License-Identifier: Apache-2.0
#pragma once
// Activations as int8: what comes before the products of whole numbers.

#include "nibble/gpu/int8.hpp"

namespace nibble::gpu {

/// x[m, k] as int8 for the products with weights of a codec: codes, four in a u32 in the order in which the codec's own meet them, then for each
/// group (scale, sum of codes). m is a parameter.
struct quantize_activations {
    static constexpr std::string_view name = "quantize_activations";
    static constexpr std::string_view purpose = "x as int8 with a scale for each group, for gemv_int8 and gemm_int8 of the same codec";
    static constexpr bool reads_weights = true;  // none, but their packing says in which order

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        s.k = 640;
        std::vector<trial> all{{"f32", s, {{"m", 3}, {"k", 640}}}};
        s.k = 203;
        all.push_back({"f32, odd sizes", s, {{"m", 70}, {"k", 203}}});
        s.k = 0, s.activations = scalar::f16;
        all.push_back({"f16, sizes as parameters", s, {{"m", 5}, {"k", 320}}});
        return all;
    }

    /// An invocation makes one group.
    template <packed_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using reader = weight_reader<C>;
        using codes_of = detail::int8_codes<C>;
        using vector = vec_or_scalar<f32, reader::chunk>;
        shader s(name, codec);
        const formula groups = formula::size("m") * ceil_div(formula::size("k"), formula(reader::step));
        s.about("x as int8, a group of " + std::to_string(reader::step) + " an invocation; " + codes_of::text());
        s.sizes({"m", "k"});
        const auto m = s.size("m");
        const auto k = s.size("k", spec.k);
        const activation_reader<reader::chunk> x(s, spec, "x", k, formula::size("m") * formula::size("k"), whole_steps<C>(spec));
        auto codes = s.output<u32>("codes", groups * codes_of::step_words);
        auto scales = s.output<f32x2>("scales", groups);
        s.grid(spec.tune.workgroup, ceil_div(groups, formula(spec.tune.workgroup)));

        const auto group = s.let("group", s.workgroup_index() * spec.tune.workgroup + s.local_index());
        const auto steps = (k + (reader::step - 1)) / reader::step;
        const auto row = s.let("row", group / steps);
        s.if_(row < m, [&] {
            const auto first = s.let("first", group % steps * reader::step);
            auto largest = s.var<vector>("largest", expr<vector>(0.0F));
            s.for_("i", 0u, reader::step, reader::chunk, [&](const expr<u32>& i) { largest = max(largest, abs(x.at(row, first + i))); });
            auto most = s.var<f32>("most", expr<f32>(0.0F));
            for (unsigned i = 0; i < reader::chunk; ++i) most = max(most, expr<vector>(largest).at(i));
            const auto scale = s.let("scale", most * (1.0F / 127.0F));
            const auto inverse = s.let("inverse", 127.0F / max(most, 1e-30F));
            auto sum = s.var<f32>("sum", 0.0F);
            s.for_("u", 0u, reader::units, 1u, [&](const expr<u32>& u) {
                std::vector<expr<u32>> bytes;
                for (unsigned c = 0; c < reader::chunks; ++c) {
                    const auto code = s.let("code", round_even(x.at(row, s.let("at", first + u * reader::unit + c * reader::chunk)) * inverse));
                    sum += dot(code, expr<vector>(1.0F));
                    const auto whole = s.let("whole", bitcast<vec<u32, reader::chunk>>(convert<vec<i32, reader::chunk>>(code)));
                    for (unsigned i = 0; i < reader::chunk; ++i) bytes.push_back(whole.at(i) & 255u);
                }
                for (unsigned w = 0; w < codes_of::words; ++w) {
                    std::optional<expr<u32>> four;
                    for (u32 byte = 0; byte < 4; ++byte) {
                        const unsigned code = codes_of::order.code[4 * w + byte];
                        if (code == codes_of::order.none) continue;
                        const auto one = bytes[code] << 8 * byte;
                        four.emplace(four ? *four | one : one);
                    }
                    codes[group * codes_of::step_words + u * codes_of::words + w] = *four;
                }
            });
            scales[group] = vec2(scale, expr<f32>(sum));
        });
        return s.finish();
    }

    template <packed_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        const std::size_t m = of.size("m");
        const std::size_t k = of.size("k");
        // Numbers that lie well on one side of the middle between two codes, however a device divides; one group is zero.
        auto x = random_numbers(m * k, 2);
        std::mt19937 bits(3);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const std::size_t at = i % k % step_of<C>;
            const float sign = (bits() & 1u) == 0 ? -1.0F : 1.0F;
            const float code = at == 0 ? 127.0F : static_cast<float>(bits() % 120) + (static_cast<float>(bits() % 512) / 1024.0F - 0.25F);
            x[i] = sign * code * 0.01F * static_cast<float>(1 + i / k + i % k / step_of<C>);
            if (i < step_of<C>) x[i] = 0.0F;
        }
        example e;
        e.sizes = of.sizes;
        e.buffers.push_back(buffer_of(x, of.spec.activations));
        const detail::int8_example<C> made(x, m, k);
        e.expected.emplace_back(1, std::vector<double>(made.codes.begin(), made.codes.end()));
        e.expected.emplace_back(2, std::vector<double>(made.scales.begin(), made.scales.end()));
        e.buffers.emplace_back(made.codes.size() * 4);
        e.buffers.emplace_back(made.scales.size() * 4);
        e.tolerance = 0;  // the last bit of a u32 is a code's as well
        return e;
    }
};

}  // namespace nibble::gpu
