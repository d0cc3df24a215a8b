// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of whole numbers: activations become int8, in groups as the codec's own, and a group of weights meets one of activations four codes at
// a time (dot4I8Packed). What is lost is the rounding of the activations alone: about 3e-3 of the largest result.

#include <cmath>

#include "nibble/gpu/gemm.hpp"

namespace nibble::gpu {

namespace detail {

/// Whether value(code, scale) is (code - zero_code) * scale.
template <class C>
constexpr bool is_affine() {
    for (u32 code = 0; code < (1u << C::packing::bits); ++code) {
        const float centred = static_cast<float>(static_cast<int>(code) - static_cast<int>(C::zero_code));
        for (const float scale : {1.0F, 0.375F}) {
            if (C::value(static_cast<float>(code), scale) != centred * scale) return false;
        }
    }
    return true;
}

template <class C>
concept has_small_codes = requires {
    C::zero_code;
}
&&(C::packing::bits <= 8);

}  // namespace detail

/// A codec whose products with int8 are sums of whole numbers: codes of at most 8 bits, and value(code, scale) is (code - zero_code) * scale. Plain
/// codecs are none.
template <class C>
concept packed_codec = shader_codec<C> && !is_plain<C> && detail::has_small_codes<C> && detail::is_affine<C>();

namespace detail {

/// Which codes of a unit lie in which bytes of the u32 that int8 products take: bytes 4 i to 4 i + 3 are those of u32 i.
template <packed_codec C>
struct int8_order {
    static constexpr unsigned unit = step_sizes<C>::unit;
    static constexpr unsigned words = (unit + 3) / 4;  ///< of a unit
    static constexpr unsigned none = 255;
    static constexpr u32 mask = (1u << C::packing::bits) - 1;

    std::array<unsigned, words * 4> code{};  ///< by byte; none: zero
    std::array<unsigned, words> shift{};     ///< four codes that one shift and one mask bring to their bytes; none: each has a shift of its own
};

/// Whether bits `shift` on of a u32 are code `i`.
template <packed_codec C>
constexpr bool lies_at(std::size_t i, unsigned shift) {
    for (unsigned bit = 0; bit < 32; ++bit) {
        const u32 word = 1u << bit;
        if (unit_code<C>(word, i) != ((word >> shift) & int8_order<C>::mask)) return false;
    }
    return true;
}

/// Derived from the packing: a code goes with those that lie 8, 16 and 24 bits further; what has no such company is taken in order.
template <packed_codec C>
consteval int8_order<C> find_int8_order() {
    using order = int8_order<C>;
    order found;
    std::array<bool, order::unit> taken{};
    const auto first_free = [&] {
        unsigned i = 0;
        while (i < order::unit && taken[i]) ++i;
        return i < order::unit ? i : order::none;
    };
    for (unsigned w = 0; w < order::words; ++w) {
        found.shift[w] = order::none;
        for (unsigned shift = 0; shift < 8; ++shift) {
            std::array<unsigned, 4> company{order::none, order::none, order::none, order::none};
            for (unsigned byte = 0; byte < 4; ++byte) {
                for (unsigned i = 0; i < order::unit; ++i) {
                    if (!taken[i] && lies_at<C>(i, shift + 8 * byte)) company[byte] = i;
                }
            }
            if (company[0] != first_free() || company[1] == order::none || company[2] == order::none || company[3] == order::none) continue;
            found.shift[w] = shift;
            for (unsigned byte = 0; byte < 4; ++byte) taken[found.code[4 * w + byte] = company[byte]] = true;
            break;
        }
        if (found.shift[w] != order::none) continue;
        for (unsigned byte = 0; byte < 4; ++byte) {
            const unsigned i = first_free();
            found.code[4 * w + byte] = i;
            if (i != order::none) taken[i] = true;
        }
    }
    return found;
}

/// How weights and activations of codec C meet as int8.
template <packed_codec C>
struct int8_codes {
    static constexpr int8_order<C> order = find_int8_order<C>();
    static constexpr unsigned words = int8_order<C>::words;                  ///< u32 of a unit
    static constexpr unsigned step_words = words * weight_reader<C>::units;  ///< u32 of a step
    static constexpr int shifted_by = C::packing::bits == 8 ? 128 : 0;       ///< codes of 8 bits are made signed
    static constexpr int zero = static_cast<int>(C::zero_code) - shifted_by;

    /// u32 i of a unit of weights, as signed bytes.
    [[nodiscard]] static expr<u32> of(const expr<u32>& unit, unsigned i) {
        constexpr u32 mask = int8_order<C>::mask;
        const auto bytes = [&] {
            if (order.shift[i] != order.none) return mask == 255 ? unit >> order.shift[i] : (unit >> order.shift[i]) & (mask * 0x01010101u);
            std::optional<expr<u32>> all;
            for (u32 byte = 0; byte < 4; ++byte) {
                if (order.code[4 * i + byte] == order.none) continue;
                const auto one = unit_code<C>(unit, order.code[4 * i + byte]) << 8 * byte;
                all.emplace(all ? *all | one : one);
            }
            return *all;
        }();
        return shifted_by != 0 ? bytes ^ 0x80808080u : bytes;
    }
    /// What a group of weights and one of activations add to a sum: `products` of codes, the scale of weights, scale and sum of activations.
    template <shader_value T>
    [[nodiscard]] static expr<T> total(const expr<T>& products, const expr<T>& scale, const expr<f32x2>& x) {
        if constexpr (zero == 0)
            return scale * x.x() * products;
        else if constexpr (zero < 0)
            return scale * x.x() * (products + static_cast<float>(-zero) * x.y());
        else
            return scale * x.x() * (products - static_cast<float>(zero) * x.y());
    }
    [[nodiscard]] static std::string text() {
        std::string line = "codes that meet in a u32:";
        for (unsigned i = 0; i < words; ++i) {
            line += i == 0 ? "" : ",";
            for (unsigned byte = 0; byte < 4; ++byte) {
                const unsigned code = order.code[4 * i + byte];
                line += code == order.none ? " -" : " " + std::to_string(code);
            }
        }
        return line + " of each " + std::to_string(order.unit);
    }
};

/// Activations [columns, K] as quantize_activations leaves them: buffers "x" and "x_scales", read `Width` u32 at a time.
template <packed_codec C, unsigned Width>
class int8_reader {
    static_assert(int8_codes<C>::step_words % Width == 0);

public:
    static constexpr unsigned step_vectors = int8_codes<C>::step_words / Width;

    int8_reader(shader& s, const expr<u32>& steps, const formula& columns)
        : steps_(steps),
          codes_(s.input<vec_or_scalar<u32, Width>>("x", columns * ceil_div(formula::size("k"), formula(step_of<C>)) * step_vectors)),
          scales_(s.input<f32x2>("x_scales", columns * ceil_div(formula::size("k"), formula(step_of<C>)))) {
        s.about("x: int8 with a scale and a sum for each " + std::to_string(step_of<C>) + "; " + int8_codes<C>::text());
    }
    /// Vector i of a row.
    [[nodiscard]] expr<vec_or_scalar<u32, Width>> codes(const expr<u32>& row, const expr<u32>& i) const { return codes_[row * (steps_ * step_vectors) + i]; }
    /// Scale and sum of codes of a step.
    [[nodiscard]] expr<f32x2> scale(const expr<u32>& row, const expr<u32>& step) const { return scales_[row * steps_ + step]; }

private:
    expr<u32> steps_;
    input_buffer<vec_or_scalar<u32, Width>> codes_;
    input_buffer<f32x2> scales_;
};

/// Activations as int8, by the scalar law; x becomes what the codes mean.
template <packed_codec C>
struct int8_example {
    std::vector<u32> codes;
    std::vector<float> scales;  ///< scale, sum of codes

    int8_example(std::vector<float>& x, std::size_t rows, std::size_t k) {
        using codes_of = int8_codes<C>;
        constexpr std::size_t step = step_of<C>;
        const std::size_t steps = groups_of<C>(k);
        codes.resize(rows * steps * codes_of::step_words);
        for (std::size_t g = 0; g < rows * steps; ++g) {
            const std::size_t first = g % steps * step;
            float* values = &x[g / steps * k + first];
            const std::size_t count = std::min(step, k - first);
            float largest = 0;
            for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
            const float scale = largest * (1.0F / 127.0F);
            float sum = 0;
            for (std::size_t i = 0; i < count; ++i) {
                const auto code = static_cast<int>(std::nearbyint(static_cast<double>(values[i]) * 127.0 / std::max(static_cast<double>(largest), 1e-30)));
                put(g, i, code);
                sum += static_cast<float>(code);
                values[i] = scale * static_cast<float>(code);
            }
            scales.push_back(scale);
            scales.push_back(sum);
        }
    }
    [[nodiscard]] std::vector<std::byte> scale_bytes() const {
        auto numbers = scales;
        return buffer_of(numbers, scalar::f32);
    }

private:
    void put(std::size_t group, std::size_t i, int code) {
        using order = int8_order<C>;
        const auto& bytes = int8_codes<C>::order.code;
        const auto at = static_cast<std::size_t>(std::find(bytes.begin(), bytes.end(), i % order::unit) - bytes.begin());
        codes[(group * weight_reader<C>::units + i / order::unit) * order::words + at / 4] |= (static_cast<u32>(code) & 255u) << at % 4 * 8;
    }
};
template <packed_codec C>
example int8_product_example(const trial& of, std::size_t columns) {
    return product_example<C>(of, columns, [&](example& e, std::vector<float>& x) {
        const int8_example<C> made(x, columns, of.size("k"));
        e.buffers.push_back(buffer_of(made.codes));
        e.buffers.push_back(made.scale_bytes());
    });
}

}  // namespace detail

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

/// gemv with activations that quantize_activations has made.
struct gemv_int8 {
    static constexpr std::string_view name = "gemv_int8";
    static constexpr std::string_view purpose = "gemv for activations of int8, by products of whole numbers";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        std::vector<trial> all;
        const auto add = [&](std::string label, kernel_spec spec, std::uint64_t n, std::uint64_t k, bool baked = true) {
            if (baked) spec.n = static_cast<u32>(n), spec.k = static_cast<u32>(k);
            all.push_back({std::move(label), spec, {{"n", n}, {"k", k}}});
        };
        kernel_spec s;
        add("f32", s, 64, 1280);
        s.whole_groups = false;
        add("f32, odd sizes as parameters", s, 37, 331, false);
        s.bias = s.residual = true;
        s.act = activation::silu;
        s.activations = scalar::f16;
        s.columns = 4;
        add("f16, 4 columns, bias, SiLU, residual, odd sizes", s, 35, 203);
        s = {};
        s.tune.subgroups = true;
        add("f32, subgroups", s, 33, 960);
        return all;
    }

    template <packed_codec C>
    [[nodiscard]] static program build(const kernel_spec& spec, std::string_view codec) {
        using codes_of = detail::int8_codes<C>;
        shader s(spec.columns == 1 ? name : "gemv_cols_int8", codec);
        const auto tile = detail::row_tile::of<C>(spec, 1);
        s.about("y = W x: " + tile.text());
        s.sizes({"n", "k"});
        const auto k = s.size("k", spec.k);
        const auto rows = detail::declare_rows<C>(s, spec, 2 * tile.size());
        weight_reader<C> weights(s, spec, rows.count, k, rows.size, formula::size("k"));
        // The u32 that meet one unit of weights are read at once.
        constexpr unsigned width = codes_of::words == 2 ? 2 : 1;
        const detail::int8_reader<C, width> x(s, weights.steps(), spec.columns);
        detail::epilogue out(s, spec, formula::size("n"), spec.columns);
        s.grid(tile.invocations(), ceil_div(rows.size, formula(tile.size())));
        const auto column_of = [](std::size_t c) { return expr<u32>(static_cast<u32>(c)); };
        detail::multiply_rows<C>(
            s, spec, tile, rows.count, {expr<u32>(0u)}, weights.steps(),
            [&](const auto& own, const expr<u32>& g, const auto& sums) {
                std::vector<std::vector<place<i32>>> parts;
                std::vector<expr<f32>> scales;
                for (const auto& row : own) {
                    scales.push_back(s.let("scale", weights.scale(row, g)));
                    parts.emplace_back();
                    for (u32 c = 0; c < spec.columns; ++c) parts.back().push_back(s.var<i32>("part", 0));
                }
                weights.for_each_unit(own, g, [&](const std::vector<expr<u32>>& words, const expr<u32>& u) {
                    const auto at = s.let("at", g * x.step_vectors + u * (codes_of::words / width));
                    for (unsigned w = 0; w < codes_of::words; w += width) {
                        std::vector<expr<vec_or_scalar<u32, width>>> xs;
                        for (u32 c = 0; c < spec.columns; ++c) xs.push_back(s.let("x", x.codes(column_of(c), at + w / width)));
                        for (unsigned i = 0; i < width; ++i) {
                            for (std::size_t r = 0; r < own.size(); ++r) {
                                auto four = codes_of::of(words[r], w + i);
                                if (spec.columns > 1) four = s.let("four", four);
                                for (std::size_t c = 0; c < spec.columns; ++c) {
                                    if constexpr (width == 1)
                                        parts[r][c] += dot_packed_i8(four, xs[c]);
                                    else
                                        parts[r][c] += dot_packed_i8(four, xs[c].at(i));
                                }
                            }
                        }
                    }
                });
                for (std::size_t c = 0; c < spec.columns; ++c) {
                    const auto x_scale = s.let("x_scale", x.scale(column_of(c), g));
                    for (std::size_t r = 0; r < own.size(); ++r) sums[r][c] += codes_of::total(convert<f32>(parts[r][c]), scales[r], x_scale);
                }
            },
            [&](const expr<u32>& row, const expr<u32>& column, auto&& total) { out.store(rows.first + row, rows.first + row + rows.all * column, total(0)); });
        return s.finish();
    }

    template <packed_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return detail::int8_product_example<C>(of, of.spec.columns);
    }
};

}  // namespace nibble::gpu
