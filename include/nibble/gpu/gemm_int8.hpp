// SPDX-License-Identifier: Apache-2.0
#pragma once
// Y = X W by products of whole numbers.

#include "nibble/gpu/gemm.hpp"
#include "nibble/gpu/int8.hpp"

namespace nibble::gpu {

/// gemm with activations that quantize_activations has made.
struct gemm_int8 {
    static constexpr std::string_view name = "gemm_int8";
    static constexpr std::string_view purpose = "gemm for activations of int8, by products of whole numbers";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const trial_adder add(all);
        kernel_spec s;
        add.batch("f32", s, 64, 32, 640);
        s.whole_groups = false;
        add.batch("f32, odd sizes as parameters", s, 7, 37, 203, false);
        s.bias = s.residual = true;
        s.act = activation::gelu;
        s.activations = scalar::f16;
        add.batch("f16, bias, GELU, residual, odd sizes", s, 33, 67, 363);
        s = {};
        s.tune.threads_m = s.tune.threads_n = 16;
        add.batch("f32, 16 x 16 threads", s, 70, 65, 320);
        s = {};
        s.tune.m_per_thread = 8;
        add.batch("f32, 8 x 4 a thread", s, 65, 35, 200);
        return all;
    }

    template <packed_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        // Two u32 are read at once, unless an invocation has so many sums that the text would grow long.
        constexpr unsigned width = detail::int8_codes<C>::step_words % 2 == 0 && weight_reader<C>::units % 2 == 0 ? 2 : 1;
        return spec.tune.m_per_thread * spec.tune.n_per_thread > 16 ? build_of<C, 1>(spec, codec) : build_of<C, width>(spec, codec);
    }

    template <packed_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return detail::int8_product_example<C>(of, of.size("m"));
    }

private:
    /// `width` u32 are read at once, which `joined` units fill.
    template <packed_codec C, unsigned width>
    [[nodiscard]] static program build_of(const kernel_spec& spec, std::string_view codec) {
        using reader = weight_reader<C>;
        using codes_of = detail::int8_codes<C>;
        constexpr unsigned joined = codes_of::words % width == 0 ? 1 : 2;
        using vector = vec_or_scalar<u32, width>;
        shader s(name, codec);
        const auto& t = spec.tune;
        s.about("y = W x: " + detail::output_tile::text(t));
        s.sizes({"m", "n", "k"});
        const auto m = s.size("m");
        const auto k = s.size("k", spec.k);
        const auto columns = detail::declare_rows<C>(s, spec, 2 * t.threads_n * t.n_per_thread);
        reader weights(s, spec, columns.count, k, columns.size, formula::size("k"));
        const detail::int8_reader<C, width> x(s, weights.steps(), formula::size("m"));
        detail::epilogue out(s, spec, formula::size("n"), formula::size("m"));
        s.grid(t.threads_m * t.threads_n, detail::output_tile::workgroups(t, columns));

        const detail::output_tile tile(s, t, m, columns);
        const u32 steps = std::max(1u, std::min(2 * t.k_per_tile / reader::step, tile.fitting(codes_of::step_words * 4 + 8)));  // codes and scales
        const u32 vectors = steps * x.step_vectors;
        auto x_tile = s.shared<vector>("x_tile", tile.x_size(vectors));
        auto w_tile = s.shared<vector>("w_tile", tile.w_size(vectors));
        auto x_scale_tile = s.shared<f32x2>("x_scale_tile", tile.x_size(steps));
        auto w_scale_tile = s.shared<f32>("w_scale_tile", tile.w_size(steps));
        const auto sums = tile.sums<f32>("sum");
        const auto all_steps = weights.steps();
        const bool whole_tiles = all_steps.number() && *all_steps.number() % steps == 0;
        s.for_("first", 0u, all_steps, steps, [&](const expr<u32>& first) {
            // What lies beyond the end of a row is read in its place from before it, and not added.
            const auto inside = [&](const expr<u32>& i, u32 per_step) {
                const auto at = first * per_step + i;
                return s.let("at", whole_tiles ? at : min(at, all_steps * per_step - 1u));
            };
            const bool along_n = C::layout::transposed;
            tile.share(tile.rows(), vectors, false,
                       [&](const expr<u32>& row, const expr<u32>& v) { x_tile[tile.x_at(v, row)] = x.codes(tile.row_of_x(row), inside(v, x.step_vectors)); });
            tile.share(tile.rows(), steps, false,
                       [&](const expr<u32>& row, const expr<u32>& step) { x_scale_tile[tile.x_at(step, row)] = x.scale(tile.row_of_x(row), inside(step, 1)); });
            tile.share(tile.width(), steps * (reader::units / joined), along_n, [&](const expr<u32>& row, const expr<u32>& u) {
                const auto w_row = s.let("w_row", tile.row_of_w(row));
                const auto unit = inside(u, reader::units / joined);
                std::vector<expr<u32>> words;
                for (u32 j = 0; j < joined; ++j) {
                    const auto word = weights.word(w_row, unit / (reader::units / joined), unit % (reader::units / joined) * joined + j);
                    for (unsigned i = 0; i < codes_of::words; ++i) words.push_back(codes_of::of(word, i));
                }
                const u32 filled = joined * codes_of::words / width;
                for (u32 i = 0; i < filled; ++i) {
                    if constexpr (width == 1)
                        w_tile[tile.w_at(u * filled + i, row)] = words[i];
                    else
                        w_tile[tile.w_at(u * filled + i, row)] = vec2(words[2 * i], words[2 * i + 1]);
                }
            });
            tile.share(tile.width(), steps, along_n, [&](const expr<u32>& row, const expr<u32>& step) {
                const auto w_row = s.let("w_row", tile.row_of_w(row));
                w_scale_tile[tile.w_at(step, row)] = weights.scale(w_row, inside(step, 1));
            });
            s.barrier();
            const auto end = whole_tiles ? expr<u32>(steps) : min(all_steps - first, expr<u32>(steps));
            s.for_("g", 0u, end, 1u, [&](const expr<u32>& step) {
                const auto parts = tile.sums<i32>("part");
                s.for_("v", step * x.step_vectors, (step + 1u) * x.step_vectors, 1u, [&](const expr<u32>& v) {
                    const auto xs = tile.own_rows("x", x_tile, v);
                    const auto ws = tile.own_columns("w", w_tile, v);
                    for (unsigned c = 0; c < width; ++c) {
                        for (u32 i = 0; i < t.m_per_thread; ++i) {
                            for (u32 q = 0; q < tile.quads(); ++q) {
                                const auto one = [&](u32 j) { return dot_packed_i8(detail::component(xs[i], c), detail::component(ws[q * 4 + j], c)); };
                                parts[i][q] += vec4(one(0), one(1), one(2), one(3));
                            }
                        }
                    }
                });
                const auto x_scales = tile.own_rows("x_scale", x_scale_tile, step);
                const auto w_scales = tile.own_columns("w_scale", w_scale_tile, step);
                for (u32 q = 0; q < tile.quads(); ++q) {
                    const auto four = s.let("four", vec4(w_scales[q * 4], w_scales[q * 4 + 1], w_scales[q * 4 + 2], w_scales[q * 4 + 3]));
                    for (u32 i = 0; i < t.m_per_thread; ++i) sums[i][q] += codes_of::total(convert<f32x4>(parts[i][q]), four, x_scales[i]);
                }
            });
            s.barrier();
        });
        tile.store(out, sums);
        return s.finish();
    }
};

}  // namespace nibble::gpu
