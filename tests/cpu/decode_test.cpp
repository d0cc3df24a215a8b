// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/decode.hpp"

#include <random>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

TEMPLATE_TEST_CASE("rows decode as the scalar law has them", "[cpu]", q4f16_1, q4f32_1, q4bf16_1, q4bf16_0, q3f16_1) {
    using C = TestType;
    using nk_codec = cpu::rows_of<C>;
    std::mt19937 random(5);
    for (const auto* table : kernel_tables()) {
        for (const std::uint64_t k : {1u, 7u, 31u, 32u, 33u, 64u, 72u, 80u, 100u, 101u, 128u, 160u, 1000u, 1024u, 1280u}) {
            for (int round = 0; round < 40; ++round) {
                const std::uint64_t n_groups = groups_of<C>(k);
                // Any bits: codes that no encoder writes, scales that are NaN, infinite, negative, denormal
                std::vector<std::byte> codes(n_groups * 16 + 1);
                std::vector<std::byte> scales(n_groups * sizeof(typename C::scale::type) + 1);
                for (auto& b : codes) b = static_cast<std::byte>(random());
                for (auto& b : scales) b = static_cast<std::byte>(random());
                std::vector<float> law(k);
                decode_row<nk_codec>({codes.data() + 1, scales.data() + 1}, 0, 1, k, law.data());
                std::vector<std::byte> got(k * 4 + 2, std::byte{0x5A});
                table->template decode<C, float>()(codes.data() + 1, scales.data() + 1, k, reinterpret_cast<float*>(got.data() + 1));
                std::vector<std::byte> half(k * 2 + 2, std::byte{0x5A});
                table->template decode<C, f16>()(codes.data() + 1, scales.data() + 1, k, reinterpret_cast<f16*>(half.data() + 1));
                for (std::size_t i = 0; i < k; ++i) {
                    INFO(table->arch << " k " << k << " value " << i);
                    REQUIRE(load<std::uint32_t>(got.data() + 1 + 4 * i) == std::bit_cast<std::uint32_t>(law[i]));
                    REQUIRE(load<f16>(half.data() + 1 + 2 * i) == to_f16(law[i]));
                }
                REQUIRE((got.front() == std::byte{0x5A} && got.back() == std::byte{0x5A} && half.front() == std::byte{0x5A} && half.back() == std::byte{0x5A}));
            }
        }
    }
}
