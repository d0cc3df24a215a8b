// SPDX-License-Identifier: Apache-2.0
// expect: nibble: cpu::decode_row reads a plane of words and a plane with one scale a group; this codec has others
#include "nibble/cpu/decode.hpp"

using namespace nibble;

/// Two scales a group.
struct two_scales {
    using packing = low_first<4, std::uint32_t>;
    using layout = nk;
    using block = std::tuple<std::array<std::uint32_t, 4>, std::array<f16, 2>>;
    static constexpr std::size_t group = 32;
    static constexpr std::array<plane, 2> planes{plane{"codes", encoding::u32, 4}, plane{"scales", encoding::f16, 2}};
    template <class T>
    static constexpr T value(T code, T scale) {
        return code * scale;
    }
    static void decode(const block&, float*) {}
};

void use(const std::byte* codes, const std::byte* scales, float* out) { cpu::decode_row<cpu::default_arch, two_scales>(codes, scales, 32, out); }
