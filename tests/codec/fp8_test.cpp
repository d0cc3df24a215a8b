// SPDX-License-Identifier: Apache-2.0
// Checksums and codes marked TVM come from tables that TVM 0.27 computed (target llvm, x86-64) with mlc_llm's own expressions.
#include "nibble/codec/fp8.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"

using namespace nibble;

namespace {

std::uint32_t crc32(const std::vector<std::uint8_t>& bytes) {
    std::uint32_t crc = 0xFFFFFFFFu;
    for (const std::uint8_t b : bytes) {
        crc ^= b;
        for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

float half(std::uint32_t bits) { return to_f32(f16{static_cast<std::uint16_t>(bits)}); }
float single(std::uint32_t bits) { return std::bit_cast<float>(bits); }

std::uint8_t e5m2(float w) { return std::get<0>(e5m2_cast::encode(&w, 1))[0].bits; }
std::uint8_t e4m3(float w, float scale = 1.0F) { return std::get<0>(e4m3_scaled::encode(&w, 1, scale))[0].bits; }

template <class F8>
std::uint32_t crc_of_singles() {
    std::vector<std::uint8_t> codes;
    for (std::uint32_t i = 0; i < 0x10000; ++i) codes.push_back(tvm_cast<F8>(single((i << 16) | ((i * 40503u) & 0xFFFFu))).bits);
    return crc32(codes);
}

std::vector<f16> halves(std::initializer_list<std::uint16_t> bits) {
    std::vector<f16> v;
    for (const auto b : bits) v.push_back(f16{b});
    return v;
}

std::vector<std::uint8_t> codes_of(const quantized<e4m3_scaled>& q) {
    std::vector<std::uint8_t> codes;
    for (const std::byte b : q.planes[0]) codes.push_back(std::to_integer<std::uint8_t>(b));
    return codes;
}

using codes = std::vector<std::uint8_t>;

}  // namespace

TEST_CASE("e5m2_cast gives TVM's code for each f16", "[codec][fp8]") {
    std::vector<std::uint8_t> all;
    for (std::uint32_t h = 0; h < 0x10000; ++h) all.push_back(e5m2(half(h)));
    CHECK(crc32(all) == 0xC114FB5Bu);                 // TVM
    CHECK(crc_of_singles<f8_e5m2>() == 0xA96778F8u);  // TVM
}

TEST_CASE("e4m3_scaled gives TVM's code for each f16 under several scales", "[codec][fp8]") {
    const auto [scale, expected] = GENERATE(table<std::uint32_t, std::uint32_t>(
        {{0x0049, 0x4971213Du}, {0x1234, 0x4359B890u}, {0x2E66, 0x386D41C4u}, {0x3C00, 0xCC514660u}, {0x5892, 0xEA365A37u}, {0x7C00, 0x5D5EA33Cu}}));  // TVM
    std::vector<std::uint8_t> all;
    for (std::uint32_t h = 0; h < 0x10000; ++h) all.push_back(e4m3(half(h), half(scale)));
    CHECK(crc32(all) == expected);
    CHECK(crc_of_singles<f8_e4m3>() == 0x58D9B07Du);  // TVM
}

TEST_CASE("in the normal range TVM's cast rounds to nearest even", "[codec][fp8]") {
    std::uint32_t n_checked = 0;
    for (std::uint32_t h = 0; h < 0x10000; ++h) {
        const float w = half(h);
        const float magnitude = std::fabs(w);
        if (magnitude >= 0x1p-14F && magnitude <= 65504.0F) {
            REQUIRE(e5m2(w) == to_f8_e5m2(w).bits);
            ++n_checked;
        }
        if (magnitude >= 0x1p-6F && magnitude < 496.0F) REQUIRE(e4m3(w) == to_f8_e4m3(w).bits);
    }
    CHECK(n_checked == 2 * (0x7C00 - 0x0400));
    CHECK(e5m2(1.125F) == 0x3C);  // ties
    CHECK(e5m2(1.375F) == 0x3E);
    CHECK(e4m3(1.0625F) == 0x38);
    CHECK(e4m3(1.1875F) == 0x3A);
    CHECK(e4m3(448.0F) == 0x7E);
    CHECK(e4m3(464.0F) == 0x7E);
    CHECK(e4m3(465.0F) == 0x7F);  // NaN
    CHECK(e5m2(61440.0F) == 0x7C);
    CHECK(e5m2(-61439.0F) == 0xFB);
}

TEST_CASE("below the normal range TVM's cast takes the mantissa as it stands", "[codec][fp8]") {
    CHECK(e5m2(0.0F) == 0x00);
    CHECK(e5m2(-0.0F) == 0x00);
    CHECK(e5m2(-0x1p-16F) == 0x00);  // the least denormal is lost
    CHECK(e5m2(0x1p-15F) == 0x00);
    CHECK(e5m2(-0x1p-15F) == 0x80);
    CHECK(e5m2(0x1.4p-15F) == 0x01);
    CHECK(e5m2(0x1.8p-15F) == 0x02);
    CHECK(e5m2(0x1.Cp-15F) == 0x03);
    CHECK(e5m2(0x1.Fp-15F) == 0x04);  // rounds up to the least normal number

    CHECK(e4m3(-0.0F) == 0x00);
    CHECK(e4m3(-0x1p-8F) == 0x00);
    CHECK(e4m3(-0x1p-7F) == 0x80);
    CHECK(e4m3(0x1.2p-7F) == 0x01);
    CHECK(e4m3(-0x1.Ep-7F) == 0x87);
    CHECK(e4m3(0x1p-6F) == 0x08);
    CHECK(e4m3(std::nextafter(-0x1p-7F, 0.0F)) == 0x80);  // rounds up to 2^-7
}

TEST_CASE("exponents that fp8 does not have wrap", "[codec][fp8]") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(e5m2(infinity) == 0x3C);
    CHECK(e5m2(-infinity) == 0xBC);
    CHECK(e5m2(half(0x7E00)) == 0x3E);
    CHECK(e5m2(half(0x7C01)) == 0x3C);  // a signalling NaN is not quieted
    CHECK(e5m2(half(0x7FFF)) == 0x00);  // the payload carries out of the exponent
    CHECK(e5m2(half(0xFFFF)) == 0x00);

    CHECK(e4m3(512.0F) == 0x80);
    CHECK(e4m3(-512.0F) == 0x80);
    CHECK(e4m3(1024.0F) == 0x88);
    CHECK(e4m3(65536.0F) == 0xB8);
    CHECK(e4m3(infinity) == 0x38);
    CHECK(e4m3(-infinity) == 0xB8);
    CHECK(e4m3(half(0x7C01)) == 0x3C);  // the division has quieted it
    CHECK(e4m3(half(0xFE00)) == 0xBC);
    CHECK(e4m3(infinity, infinity) == 0xBC);  // x86's NaN is negative
    CHECK(e4m3(-infinity, infinity) == 0xBC);
    CHECK(e4m3(1.0F, infinity) == 0x00);
}

TEST_CASE("the scale of an fp8 tensor is max|w| / 448 in f16, and not below f16(1 / (448 * 512))", "[codec][fp8]") {
    CHECK(e4m3_scaled::smallest_scale == to_f16(1.0F / (448.0F * 512.0F)));
    CHECK(e4m3_scaled::tensor_scale(448.0F) == 1.0F);
    CHECK(e4m3_scaled::tensor_scale(1.0F) == half(0x1892));
    CHECK(e4m3_scaled::tensor_scale(0.0F) == 73 * 0x1p-24F);
    CHECK(e4m3_scaled::tensor_scale(-65504.0F) == 73 * 0x1p-24F);
    CHECK(e4m3_scaled::tensor_scale(std::numeric_limits<float>::quiet_NaN()) == 73 * 0x1p-24F);
    CHECK(std::isinf(e4m3_scaled::tensor_scale(std::numeric_limits<float>::infinity())));
    std::vector<std::uint8_t> scales;
    for (std::uint32_t h = 0; h < 0x10000; ++h) {
        const float w = half(h);
        const auto bits = std::bit_cast<std::uint32_t>(e4m3_scaled::tensor_scale(e4m3_scaled::max_abs(&w, 1)));
        for (unsigned i = 0; i < 32; i += 8) scales.push_back(static_cast<std::uint8_t>(bits >> i));
    }
    CHECK(crc32(scales) == 0x714F59EEu);  // TVM, one tensor of one value for each f16
}

TEST_CASE("of a tensor with NaN only the values after the last one count for its scale", "[codec][fp8]") {
    struct row {
        std::vector<f16> weights;
        std::uint32_t scale;
        codes expected;
    };
    const std::vector<row> rows{
        // TVM
        {halves({0x3C00, 0x7E00, 0x4000, 0x4200, 0xC400, 0x0001}), 0x3C124000, {0x6E, 0x3C, 0x76, 0x7B, 0xFE, 0x00}},
        {halves({0x5C00, 0x3C00, 0x4200, 0xFE00, 0x8000, 0x3800}), 0x3A924000, {0xC6, 0x86, 0x93, 0xBC, 0x00, 0x7E}},
        {halves({0x3C00, 0x4000, 0x0000, 0x4200, 0x4400, 0x7E01}), 0x36920000, {0xC6, 0xCE, 0x00, 0xD3, 0xD6, 0x3C}},
        {halves({0x7C00, 0xFC00, 0x3C00, 0xBC00, 0xFE01, 0x3C00}), 0x3B124000, {0x38, 0xB8, 0x7E, 0xFE, 0xBC, 0x7E}},
        {halves({0x7C00, 0xFC00, 0x3C00, 0xBC00, 0x7E00, 0x7C00}), 0x7F800000, {0xBC, 0xBC, 0x00, 0x00, 0x3C, 0xBC}},
        {halves({0x0000, 0x8000, 0x0001, 0x8001, 0x0000, 0x0000}), 0x36920000, {0x00, 0x00, 0x06, 0x86, 0x00, 0x00}},
    };
    for (const auto& r : rows) {
        const auto q = quantize<e4m3_scaled>(r.weights, {2, 3});
        REQUIRE(q);
        CHECK(std::bit_cast<std::uint32_t>(q->scale) == r.scale);
        CHECK(codes_of(*q) == r.expected);
    }
}

TEST_CASE("max|w| may be taken in pieces", "[codec][fp8]") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::array<float, 7> w{9.0F, -3.0F, nan, 2.0F, -5.0F, 1.0F, 4.0F};
    CHECK(e4m3_scaled::max_abs(w.data(), w.size()) == 5.0F);
    for (std::size_t cut = 0; cut <= w.size(); ++cut) {
        CHECK(e4m3_scaled::max_abs(w.data() + cut, w.size() - cut, e4m3_scaled::max_abs(w.data(), cut)) == 5.0F);
    }
    CHECK(std::isnan(e4m3_scaled::max_abs(w.data(), 3)));
}

TEST_CASE("whole fp8 tensors", "[codec][fp8]") {
    static_assert(encoder<e5m2_cast> && !tensor_scaled<e5m2_cast>);
    static_assert(tensor_scaled<e4m3_scaled> && !codec<e4m3_scaled> && any_codec<e4m3_scaled>);

    std::vector<float> w;
    for (int i = 0; i < 60; ++i) w.push_back(static_cast<float>(i - 30) * 0.0625F + 0.001F);
    const shape dims{4, 3, 5};

    const auto plain_q = quantize<e5m2_cast>(w, dims);
    REQUIRE(plain_q);
    CHECK(plain_q->n_bytes() == 60);
    CHECK(*dequantize(*plain_q) != w);

    const auto q = quantize<e4m3_scaled>(w, dims);
    REQUIRE(q);
    CHECK(q->n_bytes() == 64);
    CHECK(q->scale == to_f32(to_f16(to_f32(to_f16(1.874F)) / 448.0F)));
    CHECK(plane_shape<e4m3_scaled>(0, dims) == dims);
    const auto back = dequantize(*q);
    REQUIRE(back);
    float worst = 0;
    for (std::size_t i = 0; i < w.size(); ++i) worst = std::max(worst, std::fabs((*back)[i] - w[i]) / std::fabs(w[i]));
    CHECK(worst <= 0.0635F);  // half a step of a 3-bit mantissa is 1/16 of the value at most, and w was rounded to f16
    CHECK(worst >= 0.03F);

    CHECK(!quantize<e4m3_scaled>(w, {7, 9}));
    const auto empty = quantize<e4m3_scaled>(std::vector<float>{}, {0, 4});
    REQUIRE(empty);
    CHECK(empty->planes[0].empty());
}
