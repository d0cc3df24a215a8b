// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/decode.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

TEMPLATE_TEST_CASE("rows decode as the scalar law has them", "[cpu]", q4f16_1, q4f32_1, q4bf16_1, q4bf16_0, q3f16_1, q8f16_1) {
    using C = TestType;
    using nk_codec = cpu::rows_of<C>;
    std::mt19937 random(5);
    for (const auto* table : kernel_tables()) {
        for (const std::uint64_t k : {1u, 7u, 31u, 32u, 33u, 64u, 72u, 80u, 100u, 101u, 128u, 160u, 1000u, 1024u, 1280u}) {
            for (int round = 0; round < 40; ++round) {
                const std::uint64_t n_groups = groups_of<C>(k);
                // Any bits: codes that no encoder writes, scales that are NaN, infinite, negative, denormal
                std::vector<std::byte> codes(n_groups * cpu::detail::group_bytes<C, 0> + 1);
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

TEMPLATE_TEST_CASE("rows of whole tensors decode as each row does, from either layout, by any range", "[cpu]", q4f16_0, q4f32_1, q4bf16_0, q3f16_0, q8f16_1) {
    using nk_codec = cpu::rows_of<TestType>;
    using kn_codec = affine<typename TestType::packing, typename TestType::scale, bias<TestType::zero_code>, TestType::group, kn>;
    std::mt19937 random(7);
    const auto check = [&](std::uint64_t n_rows, std::uint64_t k, std::uint64_t begin, std::uint64_t end, std::size_t shift) {
        std::vector<std::byte> codes(n_rows * groups_of<nk_codec>(k) * cpu::detail::group_bytes<nk_codec, 0>);
        std::vector<std::byte> scales(n_rows * groups_of<nk_codec>(k) * cpu::detail::group_bytes<nk_codec, 1>);
        for (auto& b : codes) b = static_cast<std::byte>(random());
        for (auto& b : scales) b = static_cast<std::byte>(random() & 0x3B);  // no NaN
        for (const bool transposed : {false, true}) {
            std::vector<float> law((end - begin) * k);
            for (std::uint64_t n = begin; n < end; ++n) {
                float* row = law.data() + (n - begin) * k;
                if (transposed)
                    decode_row<kn_codec>({codes.data(), scales.data()}, n, n_rows, k, row);
                else
                    decode_row<nk_codec>({codes.data(), scales.data()}, n, n_rows, k, row);
            }
            std::vector<f16> half(law.size());
            for (std::size_t i = 0; i < law.size(); ++i) half[i] = to_f16(law[i]);
            for (const auto* table : kernel_tables()) {
                INFO(table->arch << " k " << k << " rows " << n_rows << " transposed " << transposed);
                std::vector<std::byte> memory(law.size() * 4 + 192, std::byte{0x5A});
                // At the beginning of a cache line, where streams are possible, or beyond it
                auto* at = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64 + 64 + shift;
                table->template decode_rows<TestType, float>()(codes.data(), scales.data(), {n_rows, k, begin, end, transposed}, reinterpret_cast<float*>(at));
                REQUIRE(std::memcmp(at, law.data(), law.size() * 4) == 0);
                REQUIRE((at[-1] == std::byte{0x5A} && at[law.size() * 4] == std::byte{0x5A}));
                std::fill(memory.begin(), memory.end(), std::byte{0x5A});
                table->template decode_rows<TestType, f16>()(codes.data(), scales.data(), {n_rows, k, begin, end, transposed}, reinterpret_cast<f16*>(at));
                REQUIRE(std::memcmp(at, half.data(), half.size() * 2) == 0);
                REQUIRE((at[-1] == std::byte{0x5A} && at[half.size() * 2] == std::byte{0x5A}));
            }
        }
    };
    check(1, 1, 0, 1, 0);
    check(37, 101, 3, 37, 0);
    check(16, 1280, 0, 16, 4);
    check(35, 2600, 1, 34, 0);
    // Large enough for streams: both types, then only from a line's middle, then in a length that is no multiple of a line
    constexpr std::uint64_t k = 4096;
    constexpr std::uint64_t n_rows = cpu::streamed_from_n_bytes / (k * 2) + 19;
    check(n_rows, k, 5, 50, 0);
    check(n_rows, k, 5, 50, 8);
    check(n_rows, k + 4, 0, 3, 0);
}
