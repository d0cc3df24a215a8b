// SPDX-License-Identifier: Apache-2.0
#pragma once
// A legal codec that shares no habit with ours: whatever is generic must work with it.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "nibble/codec/affine.hpp"
#include "nibble/codec/codec.hpp"

namespace nibble::tests {

/// Element j of all rows together, and both counted from the end.
struct backwards {
    static constexpr bool transposed = true;
    static constexpr std::uint64_t index(std::uint64_t n, std::uint64_t j, std::uint64_t n_rows, std::uint64_t n_columns) {
        return (n_columns - 1 - j) * n_rows + (n_rows - 1 - n);
    }
};

/// Five values a group: 5-bit codes, three to a 16-bit word; a step and an offset of different types; codes beyond a row's end
/// are all ones, not zero.
struct hostile {
    using packing = low_first<5, std::uint16_t>;
    using layout = backwards;
    using model_type = float;
    using block = std::tuple<std::array<f16, 1>, std::array<std::uint16_t, 2>, std::array<float, 1>>;
    static constexpr std::size_t group = 5;
    static constexpr std::array<plane, 3> planes{plane{"step", encoding::f16, 1}, plane{"codes", encoding::u16, 2}, plane{"offset", encoding::f32, 1}};

    static void decode(const block& b, float* out) {
        for (std::size_t i = 0; i < group; ++i) {
            const auto code = packing::get(std::get<1>(b)[i / 3], i % 3);
            out[i] = static_cast<float>(code) * to_f32(std::get<0>(b)[0]) + std::get<2>(b)[0];
        }
    }

    static block encode(const float* w, std::size_t n, encode_options = {}) {
        const auto [low, high] = std::minmax_element(w, w + n);
        block b{};
        std::get<0>(b)[0] = to_f16((*high - *low) / 31.0F);
        std::get<2>(b)[0] = *low;
        const float step = to_f32(std::get<0>(b)[0]);
        for (std::size_t i = 0; i < group; ++i) {
            std::uint32_t code = 31;
            if (i < n) code = step == 0 ? 0 : std::min(31u, static_cast<std::uint32_t>(std::nearbyint((w[i] - *low) / step)));
            auto& word = std::get<1>(b)[i / 3];
            word = static_cast<std::uint16_t>(word | packing::put(code, i % 3));
        }
        return b;
    }
};

static_assert(check_codec<hostile>());
static_assert(check_encoder<hostile>());
static_assert(!formulaic<hostile>);
static_assert(bits_per_value<hostile> == 8 * (2 + 4 + 4) / 5.0);
static_assert(hostile::packing::per_word == 3);

}  // namespace nibble::tests

using nibble::tests::hostile;
