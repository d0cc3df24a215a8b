// SPDX-License-Identifier: Apache-2.0
// expect: nibble: a codec needs `static constexpr std::size_t group`, the values that are stored together along K
#include "nibble/codec/codec.hpp"

using namespace nibble;

struct mine {
    using block = std::tuple<std::array<std::uint8_t, 4>>;
    static constexpr std::array<plane, 1> planes{plane{"codes", encoding::u8, 4}};
    using layout = nk;
    static void decode(const block&, float*);
};
static_assert(check_codec<mine>());
