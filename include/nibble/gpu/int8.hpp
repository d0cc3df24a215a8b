// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of whole numbers: activations become int8, in groups as the codec's own, and a group of weights meets one of activations four codes at
// a time (dot4I8Packed). What is lost is the rounding of the activations alone: about 6e-3 of the largest result.

#include <cmath>

#include "nibble/gpu/gemv.hpp"

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
    const auto next_free = [&] {
        unsigned i = 0;
        while (i < order::unit && taken[i]) ++i;
        return i < order::unit ? i : order::none;
    };
    for (unsigned w = 0; w < order::words; ++w) {
        found.shift[w] = order::none;
        for (unsigned shift = 0; shift < 8 && found.shift[w] == order::none; ++shift) {
            unsigned n_found = 0;
            for (unsigned byte = 0; byte < 4; ++byte) {
                for (unsigned i = 0; i < order::unit; ++i) {
                    if (taken[i] || !lies_at<C>(i, shift + 8 * byte)) continue;
                    found.code[4 * w + byte] = i;
                    ++n_found;
                }
            }
            if (n_found == 4) found.shift[w] = shift;
        }
        for (unsigned byte = 0; byte < 4; ++byte) {
            auto& code = found.code[4 * w + byte];
            if (found.shift[w] == order::none) code = next_free();
            if (code != order::none) taken[code] = true;
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

    /// u32 i of a unit of weights, as signed bytes: of a number or of a shader's.
    template <class T>
    [[nodiscard]] static T of(const T& unit, unsigned i) {
        constexpr u32 mask = int8_order<C>::mask;
        const auto bytes = [&]() -> T {
            if (order.shift[i] != order.none) return mask == 255 ? unit >> order.shift[i] : (unit >> order.shift[i]) & (mask * 0x01010101u);
            std::optional<T> all;
            for (u32 byte = 0; byte < 4; ++byte) {
                if (order.code[4 * i + byte] == order.none) continue;
                const T one = unit_code<C>(unit, order.code[4 * i + byte]) << 8 * byte;
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

/// Component i of a vector, or a scalar itself.
template <shader_value T>
expr<element_of<T>> component(const expr<T>& x, unsigned i) {
    if constexpr (width_of<T> == 1)
        return x;
    else
        return x.at(i);
}

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
        const auto steps = static_cast<std::size_t>(groups_of<C>(k));
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

}  // namespace nibble::gpu
