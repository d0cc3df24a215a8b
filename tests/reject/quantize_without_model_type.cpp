// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this codec cannot be a conversion target: it has no `model_type`, the type that weights are cast to
#include <vector>

#include "nibble/codec/quantize.hpp"

using namespace nibble;

struct mine {
    static constexpr std::size_t group = 4;
    using block = std::tuple<std::array<std::uint8_t, 4>>;
    static constexpr std::array<plane, 1> planes{plane{"codes", encoding::u8, 4}};
    using layout = nk;
    static void decode(const block& b, float* out) {
        for (std::size_t i = 0; i < group; ++i) out[i] = std::get<0>(b)[i];
    }
    static block encode(const float*, std::size_t, encode_options) { return {}; }
};

int main() {
    const std::vector<float> w(8);
    const auto q = quantize<mine>(w, {2, 4});
}
