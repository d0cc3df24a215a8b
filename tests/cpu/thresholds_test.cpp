// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/thresholds.hpp"

#include <cstring>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

TEST_CASE("thresholds lie within half a code's width of the halves, on the side of the odd code", "[cpu]") {
    constexpr auto even = cpu::detail::thresholds<q4f16_1>(rounding::half_even);
    constexpr auto away = cpu::detail::thresholds<q4f16_1>(rounding::half_away);
    constexpr auto brain = cpu::detail::thresholds<q4bf16_1>(rounding::half_even);
    for (std::size_t c = 0; c < 14; ++c) {
        const float half = static_cast<float>(c) - 6.5F;
        CHECK(std::fabs(even[c] - half) < 0x1p-6F);
        CHECK((even[c] < half) == (c % 2 == 1));  // a tie goes to the even code, up from an odd one
        CHECK(away[c] < half);
        CHECK((brain[c] < half) == (c % 2 == 1));
    }
    CHECK(even[14] > 1e38F);
}

namespace {

/// All pairs of a group's largest value and a value up to 2^5 below it, both signs, by mantissa: for the 11 bits of f16 this is every quotient
/// that can have a code other than that of 0. From f32 also the middles between neighbours, and next to them.
template <class C, class T, class Model>
void try_all(unsigned mantissas, bool between, rounding r) {
    constexpr unsigned one = std::is_same_v<Model, f16> ? 0x3C00 : 0x3F80;
    std::vector<float> values;
    for (unsigned m = 0; m < mantissas; ++m) {
        std::vector<T> row;
        const auto top_bits = static_cast<std::uint16_t>(one + m);
        const auto put = [&](float w) {
            if (row.size() % C::group == 0) row.push_back(number_cast<T>(to_f32(Model{top_bits})));
            row.push_back(number_cast<T>(w));
        };
        for (unsigned bits = top_bits - 5 * mantissas; bits <= top_bits; ++bits) {
            const float w = to_f32(Model{static_cast<std::uint16_t>(bits)});
            put(w);
            put(-w);
            if (!between || bits == top_bits) continue;
            const float middle = (w + to_f32(Model{static_cast<std::uint16_t>(bits + 1)})) / 2;
            for (const float x : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 8.0F)}) {
                put(x);
                put(-x);
            }
        }
        const std::uint64_t n_groups = groups_of<C>(row.size());
        std::vector<std::byte> law_codes(n_groups * 16);
        std::vector<std::byte> law_scales(n_groups * cpu::detail::group_bytes<C, 1>);
        encode_row<C>(row.data(), row.size(), {law_codes.data(), law_scales.data()}, 0, 1, {r, fit::absmax});
        for (const auto* t : kernel_tables()) {
            std::vector<std::byte> codes(law_codes.size());
            std::vector<std::byte> scales(law_scales.size());
            t->template encode<C, T>()(row.data(), row.size(), codes.data(), scales.data(), {r, fit::absmax});
            INFO(t->arch << " largest value " << m << " rounding " << static_cast<int>(r));
            REQUIRE(scales == law_scales);
            REQUIRE(codes == law_codes);
        }
    }
}

}  // namespace

TEST_CASE("the proof of the thresholds, by exhaustion", "[cpu][slow]") {
    for (const auto r : {rounding::half_even, rounding::half_away}) {
        try_all<q4f16_1, f16, f16>(1024, false, r);
        try_all<q3f16_1, f16, f16>(1024, false, r);
        try_all<q4f16_1, float, f16>(1024, true, r);
        try_all<q4bf16_1, bf16, bf16>(128, false, r);
        try_all<q4f16_1, bf16, bf16>(128, false, r);
        try_all<q4f32_1, bf16, bf16>(128, false, r);
        try_all<cpu::rows_of<q4bf16_0>, bf16, bf16>(128, false, r);
        try_all<q4bf16_1, float, bf16>(128, true, r);
    }
}
