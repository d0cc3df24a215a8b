// SPDX-License-Identifier: Apache-2.0
#include "support/hostile.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"

using namespace nibble;

namespace {

/// Values in steps of 1/16, so that every group's range divides into f16 steps without a remainder worth mentioning.
std::vector<float> ramp(std::size_t n) {
    std::vector<float> w(n);
    for (std::size_t i = 0; i < n; ++i) w[i] = static_cast<float>((i * 37) % 101) / 16.0F - 3.0F;
    return w;
}

}  // namespace

TEST_CASE("a hostile codec quantizes and dequantizes odd shapes within half a step", "[codec]") {
    for (const shape& dims : {shape{1, 1}, shape{1, 5}, shape{3, 4}, shape{2, 6}, shape{7, 13}, shape{5, 25}, shape{11, 31}, shape{2, 3, 11}}) {
        CAPTURE(dims.text());
        const auto w = ramp(dims.elements());
        const auto q = quantize<hostile>(w, dims);
        REQUIRE(q);
        const auto n_groups = groups_of<hostile>(dims.columns());
        CHECK(q->planes[0].size() == 2 * dims.rows() * n_groups);
        CHECK(q->planes[1].size() == 4 * dims.rows() * n_groups);
        CHECK(q->planes[2].size() == 4 * dims.rows() * n_groups);
        CHECK(plane_shape<hostile>(1, dims) == shape{2 * n_groups, dims.rows()});
        const auto back = dequantize(*q);
        REQUIRE(back);
        double worst = 0;
        for (std::size_t i = 0; i < w.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(w[i]) - static_cast<double>((*back)[i])));
        const double step = 100.0 / 16 / 31;  // of the widest group that the ramp can make
        CHECK(worst <= 0.5 * step * 1.01);
        if (dims.elements() > 100) CHECK(worst > 0.1 * step);  // better would mean that something else is stored
    }
}

TEST_CASE("blocks of a hostile codec go to and from their planes, each byte to one place", "[codec]") {
    constexpr std::uint64_t n_rows = 3;
    constexpr std::uint64_t n_groups = 4;
    std::vector<std::byte> step(2 * n_rows * n_groups), codes(4 * n_rows * n_groups), offset(4 * n_rows * n_groups);
    const plane_pointers<hostile> to{step.data(), codes.data(), offset.data()};
    const const_plane_pointers<hostile> from{step.data(), codes.data(), offset.data()};
    const auto block_of = [](std::uint64_t n, std::uint64_t g) {
        const auto id = static_cast<std::uint16_t>(n * 16 + g + 1);
        return hostile::block{{f16{id}}, {id, static_cast<std::uint16_t>(id + 256)}, {static_cast<float>(id)}};
    };
    for (std::uint64_t n = 0; n < n_rows; ++n) {
        for (std::uint64_t g = 0; g < n_groups; ++g) store_block<hostile>(block_of(n, g), to, n, g, n_rows, n_groups);
    }
    for (std::uint64_t n = 0; n < n_rows; ++n) {
        for (std::uint64_t g = 0; g < n_groups; ++g) {
            const auto b = load_block<hostile>(from, n, g, n_rows, n_groups);
            CHECK(std::get<0>(b) == std::get<0>(block_of(n, g)));
            CHECK(std::get<1>(b) == std::get<1>(block_of(n, g)));
            CHECK(std::get<2>(b) == std::get<2>(block_of(n, g)));
        }
    }
    // The layout counts from the end: the last word of the last row is stored first.
    CHECK(load<std::uint16_t>(codes.data()) == 2 * 16 + 3 + 1 + 256);
}

TEST_CASE("codes beyond a row's end never reach the caller", "[codec]") {
    const std::vector<float> w{1.0F, 2.0F, 3.0F, 1.0F, 2.0F, 3.0F, 4.0F};  // [1, 7]: the second group holds two values
    const auto q = quantize<hostile>(w, {1, 7});
    REQUIRE(q);
    std::vector<float> out(8, -99.0F);
    REQUIRE(dequantize_into<hostile>(q->data(), {1, 7}, std::span(out).first(7)));
    CHECK(out[7] == -99.0F);
    CHECK(out[5] == 3.0F);
    CHECK(std::fabs(out[6] - 4.0F) < 0.01F);
    CHECK(!dequantize_into<hostile>(q->data(), {1, 7}, out));
}
