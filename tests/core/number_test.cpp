// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/number.hpp"

#include <cmath>
#include <cstring>

#include "support/catch.hpp"

using namespace nibble;

namespace {

/// The nearest value of a format, found by walking all of its finite values: an oracle that shares nothing with the code.
template <class T, class Int>
double value_of(Int bits) {
    return static_cast<double>(to_f32(T{bits}));
}

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

/// What IEEE says the value of a small float's bits is.
double by_definition(unsigned bits, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int e = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const double m = bits & ((1u << mantissa_bits) - 1);
    const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1u ? -1.0 : 1.0;
    if (e == 0) return sign * std::ldexp(m, 1 - bias - mantissa_bits);
    return sign * std::ldexp(m + std::ldexp(1.0, mantissa_bits), e - bias - mantissa_bits);
}

}  // namespace

TEST_CASE("every f16 widens exactly and comes back", "[core]") {
    for (unsigned b = 0; b < 65536; ++b) {
        const f16 h{static_cast<std::uint16_t>(b)};
        const float x = to_f32(h);
        if ((b & 0x7C00) != 0x7C00) REQUIRE(static_cast<double>(x) == by_definition(b, 5, 10));
        REQUIRE(to_f16(x) == h);  // NaN payloads too
    }
    CHECK(std::isinf(to_f32(f16{0x7C00})));
    CHECK(bits_of(to_f32(f16{0x7C01})) == 0x7F802000);
    CHECK(bits_of(to_f32(f16{0x8000})) == 0x80000000);
}

TEST_CASE("every f8 widens exactly and comes back", "[core]") {
    for (unsigned b = 0; b < 256; ++b) {
        const f8_e4m3 a{static_cast<std::uint8_t>(b)};
        const f8_e5m2 c{static_cast<std::uint8_t>(b)};
        if ((b & 0x7F) != 0x7F) {
            REQUIRE(static_cast<double>(to_f32(a)) == by_definition(b, 4, 3));
            REQUIRE(to_f8_e4m3(to_f32(a)) == a);
        } else {
            REQUIRE(std::isnan(to_f32(a)));
        }
        if ((b & 0x7C) != 0x7C) REQUIRE(static_cast<double>(to_f32(c)) == by_definition(b, 5, 2));
        if ((b & 0x7F) <= 0x7C)
            REQUIRE(to_f8_e5m2(to_f32(c)) == c);
        else
            REQUIRE(std::isnan(to_f32(c)));
    }
}

TEST_CASE("every bf16 widens exactly and comes back", "[core]") {
    for (unsigned b = 0; b < 65536; ++b) {
        const bf16 h{static_cast<std::uint16_t>(b)};
        REQUIRE(bits_of(to_f32(h)) == b << 16);
        if ((b & 0x7FFF) <= 0x7F80)
            REQUIRE(to_bf16(to_f32(h)) == h);
        else
            REQUIRE(to_bf16(to_f32(h)).bits == ((b & 0x8000) | 0x7FC0));
    }
}

namespace {

/// Checks rounding at every boundary of a 16- or 8-bit format: the midpoint of two neighbours goes to the even one, and the f32
/// next to it on either side goes to the nearer.
template <class T, class Int, class Round>
void check_boundaries(unsigned last_finite, Round round) {
    for (unsigned b = 0; b < last_finite; ++b) {
        const float low = to_f32(T{static_cast<Int>(b)});
        const float high = to_f32(T{static_cast<Int>(b + 1)});
        const auto middle = static_cast<float>((static_cast<double>(low) + static_cast<double>(high)) / 2);
        const auto even = static_cast<Int>(b & 1 ? b + 1 : b);
        REQUIRE(round(middle).bits == even);
        REQUIRE(round(std::nextafter(middle, 0.0F)).bits == b);
        REQUIRE(round(std::nextafter(middle, INFINITY)).bits == b + 1);
        REQUIRE(round(-middle).bits == (even | (1u << (8 * sizeof(Int) - 1))));
    }
}

}  // namespace

TEST_CASE("f32 rounds to the nearest even of each format, at every boundary", "[core]") {
    check_boundaries<f16, std::uint16_t>(0x7BFF, [](float x) { return to_f16(x); });
    check_boundaries<f8_e4m3, std::uint8_t>(0x7E, [](float x) { return to_f8_e4m3(x); });
    check_boundaries<f8_e5m2, std::uint8_t>(0x7B, [](float x) { return to_f8_e5m2(x); });
    check_boundaries<bf16, std::uint16_t>(0x7F7F, [](float x) { return to_bf16(x); });
}

TEST_CASE("overflow and NaN follow the formats' rules", "[core]") {
    CHECK(to_f16(65519.996F).bits == 0x7BFF);
    CHECK(to_f16(65520.0F).bits == 0x7C00);
    CHECK(to_f16(-1e30F).bits == 0xFC00);
    CHECK(to_f16(std::bit_cast<float>(0xFF800001u)).bits == 0xFC01);  // nothing of the payload would be left
    CHECK(to_f16(std::bit_cast<float>(0x7FA02000u)).bits == 0x7D01);
    CHECK(to_f16(bf16{0xFF81}).bits == 0xFE00);
    CHECK(to_bf16(3.4e38F).bits == 0x7F80);
    CHECK(to_f8_e4m3(464.0F).bits == 0x7E);
    CHECK(to_f8_e4m3(464.1F).bits == 0x7F);
    CHECK(to_f8_e4m3(-INFINITY).bits == 0xFF);
    CHECK(to_f8_e5m2(61440.0F).bits == 0x7C);
    CHECK(to_f8_e5m2(61439.0F).bits == 0x7B);
}

TEST_CASE("f32 in shards: rounded below the limit, truncated from it on", "[core]") {
    const auto shard = [](std::uint32_t u) { return f32_to_shard_bf16(std::bit_cast<float>(u)).bits; };
    CHECK(shard(0x3F808000u) == 0x3F80);  // a tie, to the even one
    CHECK(shard(0x3F818000u) == 0x3F82);
    CHECK(shard(0xBF808001u) == 0xBF81);
    CHECK(shard(0x7F7EFFFFu) == 0x7F7F);  // the last that is rounded
    CHECK(shard(0x7F7F0000u) == 0x7F7F);
    CHECK(shard(0x7F7FFFFFu) == 0x7F7F);  // not infinity
    CHECK(shard(0xFF7FFFFFu) == 0xFF7F);
    CHECK(shard(0x7F800000u) == 0x7F80);
    CHECK(shard(0x7F800001u) == 0x7F80);  // a NaN that becomes an infinity
    CHECK(shard(0xFFC12345u) == 0xFFC1);
    CHECK(shard(0x80000001u) == 0x8000);
}
