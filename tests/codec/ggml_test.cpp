// SPDX-License-Identifier: Apache-2.0
#include "nibble/codec/ggml.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/core/file.hpp"
#include "support/catch.hpp"

using namespace nibble;

namespace {
/// Blocks and their values as tests/data/ggml/make.py wrote them.
struct vectors {
    std::size_t n_blocks = 0;
    std::vector<std::byte> blocks;
    std::vector<float> values;
};
vectors read_vectors(const encoding_info& type) {
    const auto content = read_file(std::string(NIBBLE_TEST_DATA) + "/ggml/" + std::string(type.name) + ".bin", 1 << 20);
    REQUIRE(content);
    vectors v;
    v.n_blocks = load<std::uint32_t>(content->data());
    const std::size_t n_bytes = v.n_blocks * type.block_bytes;
    v.values.resize(v.n_blocks * type.block_values);
    REQUIRE(content->size() == 4 + n_bytes + 4 * v.values.size());
    v.blocks.assign(content->begin() + 4, content->begin() + 4 + static_cast<std::ptrdiff_t>(n_bytes));
    std::memcpy(v.values.data(), content->data() + 4 + n_bytes, 4 * v.values.size());
    return v;
}
/// Places where the bits differ; any NaN equals any other.
std::size_t differences(const std::vector<float>& a, const std::vector<float>& b) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (std::isnan(a[i]) && std::isnan(b[i])) continue;
        n += std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]);
    }
    return n;
}
}  // namespace

TEMPLATE_LIST_TEST_CASE("ggml blocks decode bit for bit as gguf-py's", "[codec][ggml]", ggml::codecs) {
    static_assert(check_codec<TestType>());
    static_assert(!encoder<TestType>);
    const auto v = read_vectors(info(TestType::id));
    REQUIRE(v.n_blocks > 8);

    std::vector<float> out(v.values.size());
    ggml::decode_blocks(TestType::id, v.blocks.data(), out.size(), out.data());
    CHECK(differences(out, v.values) == 0);

    // The same through the codec concept, as a tensor of one row.
    std::vector<float> row(v.values.size());
    const shape dims{1, row.size()};
    REQUIRE(plane_shape<TestType>(0, dims) == shape{1, v.blocks.size()});
    REQUIRE(dequantize_into<TestType>({v.blocks.data()}, dims, row));
    CHECK(differences(row, v.values) == 0);
}

TEST_CASE("ggml blocks decode at compile time", "[codec][ggml]") {
    static constexpr auto values = [] {
        ggml::q4_0::block b{};
        std::get<0>(b)[1] = 0x3C;  // scale 1
        std::get<0>(b)[2] = 0xF0;
        std::array<float, 32> out{};
        ggml::q4_0::decode(b, out.data());
        return out;
    }();
    static_assert(values[0] == -8.0F && values[16] == 7.0F && values[1] == -8.0F);
    SUCCEED();
}
