// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/encode.hpp"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/kernels.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

namespace {

template <class T>
T from_bits(std::uint32_t bits) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<float>(bits);
    else
        return T{static_cast<std::uint16_t>(bits)};
}
template <class T>
constexpr std::uint32_t infinity = std::is_same_v<T, float> ? 0x7F800000u
                                   : std::is_same_v<T, f16> ? 0x7C00u
                                                            : 0x7F80u;
template <class T>
constexpr std::uint32_t sign_bit = std::is_same_v<T, float> ? 0x80000000u : 0x8000u;

/// Encodes a row by the law and by the kernel, from unaligned memory into unaligned planes with guard bytes behind.
template <class C, class T>
void check_row(const kernel_table_ref& table, const std::vector<T>& row, encode_options options) {
    using nk_codec = cpu::rows_of<C>;
    const std::uint64_t k = row.size();
    const std::size_t n_codes = groups_of<C>(k) * cpu::detail::group_bytes<C, 0>;
    const std::size_t n_scales = groups_of<C>(k) * cpu::detail::group_bytes<C, 1>;
    std::vector<std::byte> codes(n_codes);
    std::vector<std::byte> scales(n_scales);
    encode_row<nk_codec>(row.data(), k, {codes.data(), scales.data()}, 0, 1, options);

    std::vector<std::byte> source(k * sizeof(T) + 1);
    std::memcpy(source.data() + 1, row.data(), k * sizeof(T));
    const auto* unaligned = reinterpret_cast<const T*>(source.data() + 1);
    const std::byte guard{0xA5};
    for (int planes = 1; planes < 4; ++planes) {
        std::vector<std::byte> got_codes(n_codes + 2, guard);
        std::vector<std::byte> got_scales(n_scales + 2, guard);
        table->encode<C, T>()(unaligned, k, (planes & 1) ? got_codes.data() + 1 : nullptr, (planes & 2) ? got_scales.data() + 1 : nullptr, options);
        if (planes & 1) {
            if (std::memcmp(got_codes.data() + 1, codes.data(), n_codes) != 0) {
                for (std::size_t i = 0; i < n_codes / 4; ++i) {
                    INFO(table->arch << " k " << k << " word " << i << " first " << to_f32(row[0]));
                    REQUIRE(load<std::uint32_t>(got_codes.data() + 1 + 4 * i) == load<std::uint32_t>(codes.data() + 4 * i));
                }
            }
        }
        if (planes & 2) REQUIRE(std::memcmp(got_scales.data() + 1, scales.data(), n_scales) == 0);
        REQUIRE((got_codes.front() == guard && got_codes.back() == guard && got_scales.front() == guard && got_scales.back() == guard));
    }
}

template <class C, class T>
void check_rows() {
    for (const auto& table : kernel_tables()) {
        std::mt19937 random(3);
        const auto both = [&](const std::vector<T>& row) {
            check_row<C>(table, row, {rounding::half_even, fit::absmax});
            check_row<C>(table, row, {rounding::half_away, fit::absmax});
        };
        std::normal_distribution<float> normal(0.0F, 1.0F);
        std::vector<T> row;
        // The usual, in all sizes of blocks and tails, from where f16 is denormal to where it overflows
        for (const std::size_t k : {1u, 7u, 31u, 32u, 33u, 40u, 72u, 80u, 100u, 101u, 511u, 512u, 513u, 639u, 640u, 641u, 896u, 1000u, 1400u}) {
            for (const float sigma : {0.02F, 1.0F, 1e-7F, 3e-6F, 1e-4F, 1e4F, 3e4F, 1e-38F, 1e-30F, 1e30F, 1e38F}) {
                row.clear();
                for (std::size_t i = 0; i < k; ++i) row.push_back(number_cast<T>(normal(random) * sigma));
                both(row);
            }
        }
        // Ties: small integers against a largest value that makes the scale a power of two, or a multiple of it
        for (int round = 0; round < 300; ++round) {
            row.clear();
            const float unit = std::ldexp(1.0F, static_cast<int>(random() % 30) - 20);
            const auto largest = static_cast<float>((1 + random() % 16) * 7);
            for (std::size_t i = 0; i < 16 * C::group; ++i)
                row.push_back(number_cast<T>(unit / 2 * static_cast<float>(static_cast<int>(random() % 449) - 224)));
            for (std::size_t i = 0; i < row.size(); ++i) {
                if (std::fabs(to_f32(row[i])) > largest * unit) row[i] = number_cast<T>(largest * unit * (random() % 2 ? 1.0F : -1.0F));
            }
            both(row);
        }
        // Next to ties, by the last place
        for (int round = 0; round < 300; ++round) {
            row.clear();
            const float s = to_f32(number_cast<f16>(std::fabs(normal(random)) + 0.01F));
            for (std::size_t i = 0; i < 16 * C::group; ++i) {
                const float tie = s * (static_cast<float>(static_cast<int>(random() % 15)) - 7.0F + 0.5F * static_cast<float>(random() % 2));
                const auto bits = std::bit_cast<std::uint32_t>(number_cast<float>(number_cast<T>(tie)));
                const std::uint32_t place = std::is_same_v<T, float> ? 1u : std::is_same_v<T, f16> ? 0x2000u : 0x10000u;
                row.push_back(number_cast<T>(std::bit_cast<float>(static_cast<std::uint32_t>(bits + place * (random() % 3) - place))));
            }
            both(row);
        }
        // Any bits at all: NaNs, infinities, denormals among them
        for (int round = 0; round < 200; ++round) {
            row.clear();
            const std::uint32_t exponents = round % 2 ? 0 : infinity<T>;
            for (std::size_t i = 0; i < 3 * C::group + static_cast<std::size_t>(round); ++i) {
                auto bits = static_cast<std::uint32_t>(random());
                if (exponents != 0 && random() % 40 != 0) bits &= ~(exponents & (exponents >> 1));
                row.push_back(from_bits<T>(bits));
            }
            both(row);
        }
        // One special value in each position of whole and partial groups
        const std::uint32_t inf = infinity<T>;
        for (const std::uint32_t special :
             {inf, inf | sign_bit<T>, inf + 1, (inf + 1) | sign_bit<T>, inf | (inf >> 1) | 1u, 0u, sign_bit<T>, 1u, sign_bit<T> | 1u, inf - 1}) {
            for (const bool others : {false, true}) {
                for (std::size_t at = 0; at < 2 * C::group + 5; ++at) {
                    row.clear();
                    for (std::size_t i = 0; i < 2 * C::group + 5; ++i) row.push_back(number_cast<T>(others ? normal(random) : 0.0F));
                    row[at] = from_bits<T>(special);
                    check_row<C>(table, row, {rounding::half_even, fit::absmax});
                }
            }
        }
        // Every largest value, denormals first: scale by scale
        for (std::uint32_t top = 0; top < infinity<T> && !std::is_same_v<T, float>; top += top < 2000 ? 1 : 97) {
            row.clear();
            for (std::size_t i = 0; i < C::group; ++i) {
                row.push_back(from_bits<T>(static_cast<std::uint32_t>(random()) % (top + 1) | (random() % 2 ? sign_bit<T> : 0)));
            }
            row[random() % C::group] = from_bits<T>(top);
            both(row);
        }
        row.resize(70);
        check_row<C>(table, row, {rounding::half_even, fit::mse});
    }
}

}  // namespace

TEMPLATE_TEST_CASE("rows encode as the scalar law has them, on every architecture that this machine has", "[cpu]", q4f16_1, q4f32_1, q4bf16_1, q4bf16_0,
                   q3f16_1, q8f16_1) {
    check_rows<TestType, float>();
    check_rows<TestType, f16>();
    check_rows<TestType, bf16>();
}
