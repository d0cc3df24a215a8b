// SPDX-License-Identifier: Apache-2.0
#include "nibble/codec/affine.hpp"

#include <random>

#include "nibble/codec/plain.hpp"
#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"

using namespace nibble;

TEST_CASE("q4f16_1 quantizes a row as MLC's page says", "[codec]") {
    std::vector<float> w(32, 0.0F);
    w[0] = 7.0F;
    w[1] = -7.0F;
    w[2] = 0.5F;  // 7.5: a tie, to the even 8
    w[3] = 1.5F;  // 8.5: a tie, to the even 8
    const auto q = quantize<q4f16_1>(w, {1, 32});
    REQUIRE(q);
    CHECK(load<f16>(q->planes[1].data()) == to_f16(1.0F));
    CHECK(load<std::uint32_t>(q->planes[0].data()) == 0x7777880Eu);
    const auto away = quantize<q4f16_1>(w, {1, 32}, {.rounding = rounding::half_away});
    CHECK(load<std::uint32_t>(away->planes[0].data()) == 0x7777980Eu);
    const auto back = dequantize(*q);
    REQUIRE(back);
    CHECK((*back)[0] == 7.0F);
    CHECK((*back)[3] == 1.0F);
}

TEST_CASE("a shape that does not fit the values is an error, not a crash", "[codec]") {
    const std::vector<float> w(32);
    CHECK(!quantize<q4f16_1>(w, {2, 32}));
    CHECK(quantize<q4f16_1>(w, {2, 32}).error().message().find("[2, 32]") != std::string::npos);
    CHECK(!quantize<q4f16_1>(w, {1ull << 32, 1ull << 32}));
}

namespace {
template <class C>
double error_of(const std::vector<float>& w, const shape& dims, fit f) {
    const auto q = quantize<C>(w, dims, {.fit = f});
    const auto back = dequantize(*q);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
        const double e = static_cast<double>(to_f32(number_cast<typename C::model_type>(w[i]))) - static_cast<double>((*back)[i]);
        sum += e * e;
    }
    return sum;
}
/// Tries every positive scale of the codec in a wide range around absmax's.
template <class C>
double least_error(const float* w) {
    double best = 1e300;
    float largest = 0;
    for (std::size_t i = 0; i < C::group; ++i) largest = std::max(largest, std::fabs(w[i]));
    for (unsigned bits = 1; bits < 0x7C00; ++bits) {
        const float s = to_f32(f16{static_cast<std::uint16_t>(bits)});
        if (s < largest / 40 || s > 2 * largest) continue;
        best = std::min(best, detail::squared_error<C>(w, C::group, C::encode_nearest(w, C::group, f16{static_cast<std::uint16_t>(bits)})));
    }
    return best;
}
}  // namespace

TEMPLATE_TEST_CASE("fit mse is never worse than absmax, on any group, and better on the whole", "[codec]", q4f16_1, q4f32_1, q4bf16_1, q3f16_1) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    double plain_sum = 0;
    double better_sum = 0;
    for (int round = 0; round < 200; ++round) {
        std::vector<float> w(TestType::group);
        for (auto& x : w) x = normal(random);
        if (round % 5 == 0) w[3] *= 10;
        if (round % 7 == 0) w[1] = 0;
        const double plain_error = error_of<TestType>(w, {1, w.size()}, fit::absmax);
        const double better = error_of<TestType>(w, {1, w.size()}, fit::mse);
        REQUIRE(better <= plain_error);
        plain_sum += plain_error;
        better_sum += better;
    }
    CHECK(better_sum < 0.95 * plain_sum);
    CHECK(better_sum > 0.3 * plain_sum);
}

TEST_CASE("fit mse finds the best of all f16 scales", "[codec]") {
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0.0F, 1.0F);
    for (int round = 0; round < 30; ++round) {
        std::vector<float> w(32);
        for (auto& x : w) x = to_f32(to_f16(normal(random)));
        const double ours = error_of<q4f16_1>(w, {1, 32}, fit::mse);
        REQUIRE(ours <= least_error<q4f16_1>(w.data()) * (1 + 1e-12));
    }
}
