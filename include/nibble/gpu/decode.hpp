// SPDX-License-Identifier: Apache-2.0
#pragma once
// How kernels read weights and activations. Of a codec, its own packing, layout and formula are instantiated with shader expressions. A row is
// read in steps (a group along K), a step in units (a u32 of codes, or four plain numbers), a unit in chunks (a vector).

#include <array>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "nibble/codec/codec.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/gpu/spec.hpp"

namespace nibble::gpu {

namespace detail {

template <class C>
concept shader_packing = requires(expr<u32> w) {
    { C::packing::code(w, std::size_t{}) } -> std::same_as<expr<u32>>;
    { C::layout::at(w, w, w, w) } -> std::same_as<expr<u32>>;
};

/// Whether each group stores its zero point, a byte in the third plane, which the formula takes beside code and scale.
template <class C>
concept stores_zero = codec<C> && C::planes.size() == 3 && C::planes[2].type == encoding::u8&& requires(float x) {
    { C::value(x, x, x) } -> std::same_as<float>;
};

template <class C>
struct step_sizes {
    static constexpr unsigned words_per_unit = 4 / sizeof(typename C::packing::word);
    static constexpr unsigned step = static_cast<unsigned>(C::group);
    static constexpr unsigned unit = static_cast<unsigned>(C::packing::per_word) * words_per_unit;
    static_assert(step % unit == 0, "nibble: a GPU reads a group's words as whole u32: the group must fill them");
    static_assert(words_per_unit == 1 || !C::layout::transposed, "nibble: a GPU reads words smaller than u32 in rows: their layout must be nk");
};
template <class T>
struct step_sizes<plain<T>> {
    static constexpr unsigned step = 8;
    static constexpr unsigned unit = 4;
};

/// Code i of a u32, which may hold several words.
template <class C, class T>
constexpr T unit_code(const T& word, std::size_t i) {
    constexpr std::size_t per_word = C::packing::per_word;
    constexpr unsigned word_bits = 8 * sizeof(typename C::packing::word);
    if constexpr (word_bits == 32)
        return C::packing::code(word, i);
    else
        return C::packing::code((word >> T(static_cast<u32>(i / per_word * word_bits))) & T((1u << word_bits) - 1), i % per_word);
}

/// A buffer of two-byte numbers read as u32, so that no device needs f16: number i as f32.
template <class T>
expr<f32> half_number(const expr<u32>& pair, const expr<u32>& i) {
    const auto upper = (i & 1u) == 1u;
    if constexpr (std::same_as<T, bf16>)
        return bitcast<f32>(select(upper, pair & 0xFFFF0000u, pair << 16u));
    else
        return select(upper, unpack_half2(pair).y(), unpack_half2(pair).x());
}
/// Four of them from two u32.
template <class T>
expr<f32x4> four_halves(const expr<u32x2>& pairs) {
    if constexpr (std::same_as<T, bf16>) {
        return vec4(bitcast<f32>(pairs.x() << 16u), bitcast<f32>(pairs.x() & 0xFFFF0000u), bitcast<f32>(pairs.y() << 16u),
                    bitcast<f32>(pairs.y() & 0xFFFF0000u));
    } else {
        const auto low = unpack_half2(pairs.x());
        const auto high = unpack_half2(pairs.y());
        return vec4(low.x(), low.y(), high.x(), high.y());
    }
}

/// Numbers of type T in a buffer, `Width` (1 or 4) at a time, read as f32. f16 is read as such only where activations are f16, so that f32
/// kernels run on every device; else two-byte numbers are taken out of u32.
template <class T, unsigned Width>
class number_buffer {
    static_assert(std::same_as<T, float> || std::same_as<T, nibble::f16> || std::same_as<T, bf16>, "nibble: a GPU reads scales that are f32, f16 or bf16");

public:
    number_buffer(shader& s, std::string_view name, const formula& n_numbers, scalar activations, bool by_rows) : s_(&s) {
        const formula length = ceil_div(n_numbers, formula(Width));
        paired_ = sizeof(T) == 2 && !(std::same_as<T, nibble::f16> && activations == scalar::f16);
        if (!paired_)
            direct_.emplace(s, std::same_as<T, float> ? scalar::f32 : scalar::f16, name, length, by_rows);
        else if constexpr (Width == 4)
            name_ = s.declare_input<u32x2>(name, length, by_rows);
        else
            name_ = s.declare_input<u32>(name, ceil_div(length, formula(2)), by_rows);
    }
    expr<vec_or_scalar<f32, Width>> operator[](const expr<u32>& i) const {
        if (!paired_) return (*direct_)[i];
        if constexpr (Width == 4)
            return four_halves<T>(s_->let("pairs", input_buffer<u32x2>(s_, name_)[i]));
        else
            return half_number<T>(s_->let("pair", input_buffer<u32>(s_, name_)[i >> 1u]), i);
    }

private:
    shader* s_;
    bool paired_ = false;
    std::string name_;
    std::optional<real_input<Width>> direct_;
};

}  // namespace detail

/// A codec that kernels can be generated for: plain, or formulaic with packing and layout for any arithmetic type.
template <class C>
concept shader_codec = is_plain<C> ||((formulaic<C> || detail::stores_zero<C>)&&detail::shader_packing<C>);

/// Values along K that a kernel reads at once.
template <shader_codec C>
inline constexpr unsigned step_of = detail::step_sizes<C>::step;

/// Whether rows of this spec are whole steps, so that no read needs a guard.
template <shader_codec C>
[[nodiscard]] constexpr bool whole_steps(const kernel_spec& spec) {
    return spec.k == 0 ? spec.whole_groups : spec.k % step_of<C> == 0;
}

/// Activations [columns, K] of a kernel, read as vectors of `Chunk` f32: zero from K on.
template <unsigned Chunk>
class activation_reader {
public:
    using values = expr<vec_or_scalar<f32, Chunk>>;
    activation_reader(shader& s, const kernel_spec& spec, std::string_view name, const expr<u32>& k, const formula& n_numbers, bool whole) : k_(k) {
        if (whole)
            vectors_.emplace(s, spec.activations, name, ceil_div(n_numbers, formula(Chunk)));
        else
            numbers_.emplace(s, spec.activations, name, n_numbers);
    }
    /// x[column, at ... at + Chunk - 1]; `at` is a multiple of Chunk.
    [[nodiscard]] values at(const expr<u32>& column, const expr<u32>& at) const {
        if (vectors_) return (*vectors_)[(column * k_ + at) / Chunk];
        const auto one = [&](unsigned i) { return select(at + i < k_, (*numbers_)[column * k_ + min(at + i, k_ - 1u)], 0.0F); };
        return [&]<std::size_t... I>(std::index_sequence<I...>) { return vec_of(std::array{one(I)...}); }
        (std::make_index_sequence<Chunk>{});
    }

private:
    expr<u32> k_;
    std::optional<real_input<Chunk>> vectors_;
    std::optional<real_input<>> numbers_;
};

/// The weights [N, K] of codec C in a kernel: its buffers "weights", "scales" and, where it stores them, "zeros", and how they are read.
template <shader_codec C>
class weight_reader {
    using sizes = detail::step_sizes<C>;

public:
    static constexpr unsigned step = sizes::step;
    static constexpr unsigned unit = sizes::unit;
    static constexpr unsigned units = step / unit;         ///< in a step
    static constexpr unsigned chunk = std::gcd(unit, 4U);  ///< values of a vector: 4, or 2 for words of 10 codes
    static constexpr unsigned chunks = unit / chunk;       ///< in a unit
    using values = expr<vec_or_scalar<f32, chunk>>;

    /// rows and k as the kernel sees them; n_rows and n_columns are the same as formulas.
    weight_reader(shader& s, const kernel_spec& spec, const expr<u32>& rows, const expr<u32>& k, const formula& n_rows, const formula& n_columns)
        : s_(&s), whole_(whole_steps<C>(spec)), rows_(rows), k_(k), steps_(whole_ ? k / step : (k + (step - 1)) / step) {
        if (spec.k == 0 && whole_) s.multiple_of("k", step);
        if constexpr (is_plain<C>) {
            const formula n_numbers = n_rows * n_columns;
            if (whole_)
                fours_.emplace(s, "weights", n_numbers, spec.activations, true);
            else
                numbers_.emplace(s, "weights", n_numbers, spec.activations, true);
        } else {
            const formula groups = ceil_div(n_columns, formula(step));
            s.about("weights: " + std::to_string(C::packing::bits) + "-bit codes, " + (C::layout::transposed ? "[K, N]" : "[N, K]") + ", " +
                    std::to_string(unit) + " in a u32, the first in the lowest bits; " + std::to_string(step) + " share a scale");
            words_.emplace(s.input<word_vector>("weights", n_rows * groups * (units / load_width), !C::layout::transposed));
            numbers_.emplace(s, "scales", n_rows * groups, spec.activations, !C::layout::transposed);
            if constexpr (detail::stores_zero<C>) zeros_.emplace(s.input<u32>("zeros", ceil_div(n_rows * groups, formula(4)), !C::layout::transposed));
        }
    }

    /// Steps of a row.
    [[nodiscard]] const expr<u32>& steps() const { return steps_; }

    /// sums[row][column] += weights[rows[row], step] . x[column, step], for all rows and columns at once: x is read once for all rows.
    void add_products(const std::vector<expr<u32>>& rows, const expr<u32>& at_step, const activation_reader<chunk>& x,
                      const std::vector<std::vector<place<f32>>>& sums) {
        auto& s = *s_;
        const std::size_t columns = sums[0].size();
        if constexpr (is_plain<C>) {
            s.for_("i", 0u, units, 1u, [&](const expr<u32>& i) {
                const auto at = s.let("at", at_step * step + i * unit);
                const auto xs = read_columns(x, columns, at);
                for (std::size_t r = 0; r < rows.size(); ++r) add_dots(plain_values(rows[r], at), xs, sums[r]);
            });
        } else {
            std::vector<std::vector<place<f32>>> parts;
            std::vector<group_numbers> numbers;
            for (const auto& row : rows) {
                numbers.push_back(numbers_of(row, at_step));
                if (scaled_last) {
                    parts.emplace_back();
                    for (std::size_t c = 0; c < columns; ++c) parts.back().push_back(s.var<f32>("part", 0.0F));
                }
            }
            for_each_unit(rows, at_step, [&](const std::vector<expr<u32>>& words, const expr<u32>& u) {
                const auto at = s.let("at", at_step * step + u * unit);
                for (unsigned c = 0; c < chunks; ++c) {
                    const auto xs = read_columns(x, columns, at + c * chunk);
                    for (std::size_t r = 0; r < rows.size(); ++r) {
                        if (scaled_last)
                            add_dots(value(codes(words[r], c), values(1.0F), numbers[r]), xs, parts[r]);
                        else
                            add_dots(value(codes(words[r], c), splat<vector>(numbers[r].scale), numbers[r]), xs, sums[r]);
                    }
                }
            });
            if (scaled_last) {
                for (std::size_t r = 0; r < rows.size(); ++r) {
                    for (std::size_t c = 0; c < columns; ++c) sums[r][c] += parts[r][c] * numbers[r].scale;
                }
            }
        }
    }

    /// Calls f(words, u) for each unit u of a step: words[i] is the u32 of rows[i].
    template <class F>
    void for_each_unit(const std::vector<expr<u32>>& rows, const expr<u32>& at_step, F&& f) {
        const auto one_load = [&](const expr<u32>& load) {
            std::vector<expr<word_vector>> loaded;
            for (const auto& row : rows) loaded.push_back(s_->let("words", word_at(row, at_step, load)));
            const auto one_unit = [&](const expr<u32>& i) {
                std::vector<expr<u32>> words;
                for (const auto& l : loaded) words.push_back(component(l, i));
                f(words, load * load_width + i);
            };
            if constexpr (load_width == 1)
                one_unit(expr<u32>(0u));
            else
                s_->for_("i", 0u, load_width, 1u, one_unit);
        };
        if constexpr (units == load_width)
            one_load(expr<u32>(0u));
        else
            s_->for_("load", 0u, units / load_width, 1u, one_load);
    }

    /// The values of one unit of a row, chunk by chunk: of unit u of that step. From K on they are zero for plain weights, and
    /// whatever the group was filled with for others.
    [[nodiscard]] std::array<values, chunks> unit_values(const expr<u32>& row, const expr<u32>& at_step, const expr<u32>& u) {
        auto& s = *s_;
        if constexpr (is_plain<C>) {
            return {plain_values(row, s.let("at", at_step * step + u * unit))};
        } else {
            const auto codes_of_unit = word(row, at_step, u);
            const auto numbers = numbers_of(row, at_step);
            const auto scales = s.let("scales_of_unit", splat<vector>(numbers.scale));
            return [&]<std::size_t... I>(std::index_sequence<I...>) { return std::array<values, chunks>{value(codes(codes_of_unit, I), scales, numbers)...}; }
            (std::make_index_sequence<chunks>{});
        }
    }
    /// The u32 of a unit of a row.
    [[nodiscard]] expr<u32> word(const expr<u32>& row, const expr<u32>& at_step, const expr<u32>& u) const {
        return s_->let("word", load_width == 1 ? component(word_at(row, at_step, u), u) : component(word_at(row, at_step, u / load_width), u % load_width));
    }
    /// The scale of a step of a row.
    [[nodiscard]] expr<f32> scale(const expr<u32>& row, const expr<u32>& at_step) const {
        const auto at = C::layout::at(row, at_step, rows_, steps_);
        return (*numbers_)[s_->let("group", at)];
    }

private:
    // Whether value(code, scale) is value(code, 1) * scale, so that a sum is scaled once.
    static constexpr bool scaled_last = requires { C::zero_code; }
    || detail::stores_zero<C>;
    using vector = vec_or_scalar<f32, chunk>;
    static constexpr unsigned load_width = [] {
        if constexpr (is_plain<C>)
            return 1U;
        else
            return C::layout::transposed ? 1U : std::gcd(units, 4U);
    }();
    using word_vector = vec_or_scalar<u32, load_width>;
    using number = typename std::tuple_element_t<is_plain<C> ? 0 : 1, typename C::block>::value_type;

    shader* s_;
    bool whole_;
    expr<u32> rows_, k_, steps_;
    std::optional<input_buffer<word_vector>> words_;
    std::optional<detail::number_buffer<number, 1>> numbers_;  // scales, or plain weights
    std::optional<detail::number_buffer<number, 4>> fours_;    // plain weights in whole steps
    std::optional<input_buffer<u32>> zeros_;                   // four in a u32

    /// What a group of a row has beside its codes.
    struct group_numbers {
        expr<f32> scale, zero;
    };
    group_numbers numbers_of(const expr<u32>& row, const expr<u32>& at_step) const {
        const auto group = s_->let("group", C::layout::at(row, at_step, rows_, steps_));
        const auto own = s_->let("scale", (*numbers_)[group]);
        if constexpr (detail::stores_zero<C>)
            return {own, s_->let("zero", convert<f32>(((*zeros_)[group >> 2u] >> ((group & 3u) * 8u)) & 255u))};
        else
            return {own, expr<f32>(0.0F)};
    }
    static values value(const values& code, const values& scale, const group_numbers& of) {
        if constexpr (detail::stores_zero<C>)
            return C::value(code, scale, splat<vector>(of.zero));
        else
            return C::value(code, scale);
    }

    expr<word_vector> word_at(const expr<u32>& row, const expr<u32>& at_step, const expr<u32>& load) const {
        constexpr unsigned loads = units / load_width;
        return (*words_)[C::layout::at(row, at_step * loads + load, rows_, steps_ * loads)];
    }
    static expr<u32> component(const expr<word_vector>& words, const expr<u32>& i) {
        if constexpr (load_width == 1)
            return words;
        else
            return words[i];
    }
    /// Codes of chunk c of a u32, as f32.
    static values codes(const expr<u32>& word, std::size_t c) {
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
            return convert<vec_or_scalar<f32, chunk>>(vec_of(std::array{detail::unit_code<C>(word, c * chunk + I)...}));
        }
        (std::make_index_sequence<chunk>{});
    }
    values plain_values(const expr<u32>& row, const expr<u32>& at) const {
        if (fours_) return (*fours_)[(row * k_ + at) / 4u];
        const auto one = [&](unsigned i) {
            const auto place = s_->let("place", row * k_ + min(at + i, k_ - 1u));
            return select(at + i < k_, (*numbers_)[place], 0.0F);
        };
        return vec_of(std::array{one(0), one(1), one(2), one(3)});  // in this order, which arguments of a function do not have
    }
    std::vector<values> read_columns(const activation_reader<chunk>& x, std::size_t columns, const expr<u32>& at) {
        std::vector<values> xs;
        for (std::size_t c = 0; c < columns; ++c) xs.push_back(s_->let("x", x.at(expr<u32>(static_cast<u32>(c)), at)));
        return xs;
    }
    void add_dots(const values& w, const std::vector<values>& xs, const std::vector<place<f32>>& sums) {
        const auto v = xs.size() == 1 ? w : s_->let("w", w);
        for (std::size_t c = 0; c < xs.size(); ++c) {
            if constexpr (chunk == 1)
                sums[c] += v * xs[c];
            else
                sums[c] += dot(v, xs[c]);
        }
    }
};

}  // namespace nibble::gpu
