// SPDX-License-Identifier: Apache-2.0
// The encoders against the scalar law of codec/: every codec, source type and rounding, on values that are made to be difficult.
#include "nibble/cpu/encode.hpp"

#include <random>

#include "nibble/codec/quantize.hpp"
#include "nibble/codec/registry.hpp"
#include "support/catch.hpp"

using namespace nibble;

namespace {

template <class T>
T make(float x) { return number_cast<T>(x); }

/// A row of k values: normal ones, with ties, zeros, denormals, huge values and NaN mixed in by `kind`.
template <class T>
std::vector<T> row_of(std::uint64_t k, unsigned kind, std::mt19937& random) {
    std::normal_distribution<float> normal(0.0F, 0.02F);
    std::vector<T> row(k);
    const float scale = std::ldexp(1.0F, static_cast<int>(random() % 40) - 24);
    for (auto& x : row) {
        switch (kind % 6) {
            case 0: x = make<T>(normal(random)); break;
            case 1: x = make<T>(scale * static_cast<float>(static_cast<int>(random() % 29) - 14) / 2); break;  // ties
            case 2: x = make<T>(scale * static_cast<float>(static_cast<int>(random() % 2047) - 1023)); break;
            case 3: x = make<T>(random() % 3 == 0 ? normal(random) * 1e-6F : 0.0F); break;
            case 4: x = make<T>(std::ldexp(normal(random), static_cast<int>(random() % 60) - 40)); break;
            default: {
                std::uint32_t bits = static_cast<std::uint32_t>(random());
                std::memcpy(&x, &bits, sizeof x);
            }
        }
    }
    if (kind >= 6 && k > 0) {
        std::uint32_t bits = sizeof(T) == 4 ? (random() % 2 ? 0x7FC00001u : 0xFF800000u) : std::is_same_v<T, f16> ? (random() % 2 ? 0x7C01u : 0xFC00u) : (random() % 2 ? 0xFF81u : 0x7F80u);
        std::memcpy(&row[random() % k], &bits, sizeof(T));
    }
    return row;
}

template <class Arch, class C, class T>
void check(unsigned rounds) {
    std::mt19937 random(5);
    for (const std::uint64_t k : {1, 7, 31, 32, 33, 40, 72, 80, 100, 101, 512, 640, 1000, 1344}) {
        for (unsigned round = 0; round < rounds; ++round) {
            for (const auto ties : {rounding::half_even, rounding::half_away}) {
                const auto row = row_of<T>(k, round % 12, random);
                using dense = typename cpu::detail::dense<C>::type;
                const auto law = quantize<dense>(row, {1, k}, {.rounding = ties});
                std::vector<std::byte> unaligned(k * sizeof(T) + 1);
                std::memcpy(unaligned.data() + 1, row.data(), k * sizeof(T));
                std::vector<std::byte> codes(law->planes[0].size() + 1);
                std::vector<std::byte> scales(law->planes[1].size() + 1);
                cpu::encode_rows<Arch, C, T>(unaligned.data() + 1, 1, k, ties, codes.data() + 1, scales.data() + 1);
                const bool equal_codes = std::equal(codes.begin() + 1, codes.end(), law->planes[0].begin());
                const bool equal_scales = std::equal(scales.begin() + 1, scales.end(), law->planes[1].begin());
                INFO("k " << k << " kind " << round % 12 << " ties " << static_cast<int>(ties) << " source " << info(encoding_of<T>).name);
                REQUIRE(equal_codes);
                REQUIRE(equal_scales);
                std::fill(scales.begin(), scales.end(), std::byte{0});
                cpu::encode_rows<Arch, C, T>(unaligned.data() + 1, 1, k, ties, nullptr, scales.data() + 1);
                REQUIRE(std::equal(scales.begin() + 1, scales.end(), law->planes[1].begin()));
                cpu::encode_rows<Arch, C, T>(unaligned.data() + 1, 1, k, ties, codes.data() + 1, nullptr);
                REQUIRE(std::equal(codes.begin() + 1, codes.end(), law->planes[0].begin()));
            }
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("encoders equal the law", "[cpu]", q4f16_1, q4f32_1, q4bf16_1, q4bf16_0, q3f16_1) {
    check<cpu::default_arch, TestType, float>(24);
    check<cpu::default_arch, TestType, f16>(24);
    check<cpu::default_arch, TestType, bf16>(24);
}

TEMPLATE_TEST_CASE("one comparison stands for three roundings: all f16 scales and weights of a stretch", "[cpu]", q4f16_1, q3f16_1) {
    // All scale mantissas against all weight mantissas, at the exponents where quotients meet thresholds.
    constexpr auto even = cpu::detail::f16_thresholds<TestType, rounding::half_even>;
    constexpr auto away = cpu::detail::f16_thresholds<TestType, rounding::half_away>;
    std::size_t wrong = 0;
    for (unsigned s = 0x2C00; s < 0x3000; s += 3) {  // 2^-4 .. 2^-3
        const float scale = to_f32(f16{static_cast<std::uint16_t>(s)});
        const float reciprocal = 1.0F / scale;
        for (unsigned w = 0x2400; w < 0x3C00; w += 1) {
            for (const float sign : {1.0F, -1.0F}) {
                const float x = sign * to_f32(f16{static_cast<std::uint16_t>(w)});
                const float q = x * reciprocal;
                if (std::fabs(q) > static_cast<float>(TestType::zero_code) * 1.01F) continue;
                const float shifted = to_f32(to_f16(to_f32(to_f16(x / scale)) + static_cast<float>(TestType::zero_code)));
                const auto low = static_cast<std::size_t>(q + static_cast<float>(TestType::zero_code));
                wrong += static_cast<float>(low + (q > even[low] ? 1 : 0)) != std::min(std::nearbyint(shifted), static_cast<float>(TestType::max_code));
                wrong += static_cast<float>(low + (q > away[low] ? 1 : 0)) != std::min(std::round(shifted), static_cast<float>(TestType::max_code));
            }
        }
    }
    CHECK(wrong == 0);
}
