// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a codec needs `static constexpr std::array<plane, n> planes`, the arrays that it stores
#include "nibble/codec/codec.hpp"

using namespace nibble;

struct mine {
    static constexpr std::size_t group = 4;
    using block = std::tuple<std::array<std::uint8_t, 4>>;
    using layout = nk;
    static void decode(const block& b, float* out) {
        for (std::size_t i = 0; i < group; ++i) out[i] = std::get<0>(b)[i];
    }
};
static_assert(check_codec<mine>());
