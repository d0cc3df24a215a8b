// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/cast.hpp"

#include <random>
#include <vector>

#include "nibble/core/bytes.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

namespace {

template <class T>
std::uint32_t bits_of(T x) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<std::uint32_t>(x);
    else
        return x.bits;
}

/// Casts from unaligned to unaligned memory and compares bits.
template <class To, class From, class Cast, class Law>
void check(const char* arch, const std::vector<From>& from, Cast cast, Law law) {
    std::vector<std::byte> source(from.size() * sizeof(From) + 1);
    std::vector<std::byte> target(from.size() * sizeof(To) + 2, std::byte{0x5A});
    if (!from.empty()) std::memcpy(source.data() + 1, from.data(), from.size() * sizeof(From));
    cast(reinterpret_cast<const From*>(source.data() + 1), from.size(), reinterpret_cast<To*>(target.data() + 1));
    for (std::size_t i = 0; i < from.size(); ++i) {
        const std::uint32_t got = bits_of(load<To>(target.data() + 1 + i * sizeof(To)));
        const std::uint32_t expected = bits_of(law(from[i]));
        if (got != expected) {  // a message for each of the millions that are right would take most of the time
            INFO(arch << " " << std::hex << bits_of(from[i]));
            REQUIRE(got == expected);
        }
    }
    REQUIRE((target.front() == std::byte{0x5A} && target.back() == std::byte{0x5A}));
}

template <class From>
void check_all(const std::vector<From>& from) {
    for (const auto* t : kernel_tables()) {
        check<float>(t->arch, from, t->cast<float, From>(), [](From x) { return number_cast<float>(x); });
        check<f16>(t->arch, from, t->cast<f16, From>(), [](From x) { return number_cast<f16>(x); });
        check<bf16>(t->arch, from, t->cast<bf16, From>(), [](From x) { return number_cast<bf16>(x); });
        if constexpr (std::is_same_v<From, float>) check<bf16>(t->arch, from, t->shard_bf16, [](float x) { return f32_to_shard_bf16(x); });
    }
}

}  // namespace

TEST_CASE("every 16-bit number casts as the scalar law has it", "[cpu]") {
    std::vector<f16> halves;
    std::vector<bf16> brains;
    for (unsigned b = 0; b < 65536; ++b) {
        halves.push_back(f16{static_cast<std::uint16_t>(b)});
        brains.push_back(bf16{static_cast<std::uint16_t>(b)});
    }
    check_all(halves);
    check_all(brains);
}

TEST_CASE("f32 casts as the scalar law has it: around every boundary of the targets, and at random", "[cpu]") {
    std::vector<float> values;
    for (std::uint32_t high = 0; high < 0x80000u; ++high) {  // the middles of f16 and bf16, and next to them
        const std::uint32_t low[] = {high << 13, (high << 13) + 0x1000, (high << 13) + 0xFFF, (high << 13) + 0x1001};
        values.push_back(std::bit_cast<float>(low[high % 2 == 0 ? 0 : 1]));
        values.push_back(std::bit_cast<float>(low[2 + (high >> 1) % 2]));
    }
    std::mt19937 random(2);
    for (int i = 0; i < 1000000; ++i) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
    check_all(values);
}

TEST_CASE("rows of all lengths cast, and nothing behind them is written", "[cpu]") {
    std::vector<float> values;
    for (int n = 0; n < 70; ++n) {
        check_all(values);
        values.push_back(static_cast<float>(n) * 1.37F);
    }
}
