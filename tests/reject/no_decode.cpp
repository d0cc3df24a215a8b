// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a codec needs `static void decode(const block&, float* out)`, which writes `group` values
#include "nibble/codec/codec.hpp"

using namespace nibble;

struct mine {
    static constexpr std::size_t group = 4;
    using block = std::tuple<std::array<std::uint8_t, 4>>;
    static constexpr std::array<plane, 1> planes{plane{"codes", encoding::u8, 4}};
    using layout = nk;
};
static_assert(check_codec<mine>());
