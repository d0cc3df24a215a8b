// SPDX-License-Identifier: Apache-2.0
// The tables that the kernel reads; the kernel itself is run with all others.
#include "nibble/gpu/rope.hpp"

#include "support/catch.hpp"

using namespace nibble::gpu;

namespace {

struct expectation {
    std::size_t pair;
    double radians;
};
void check(const std::vector<double>& frequencies, const std::vector<expectation>& expected) {
    for (const auto& [pair, radians] : expected) {
        INFO("pair " << pair);
        CHECK(std::abs(frequencies.at(pair) / radians - 1.0) < 1e-12);
    }
}

}  // namespace

// Expected numbers: modeling_rope_utils.py of transformers 4.57.1, computed in double.
TEST_CASE("frequencies of each way to stretch positions are those of transformers", "[gpu]") {
    using method = rope_scaling::method;
    rope_scaling scaling;
    CHECK(rope_frequencies(10000.0, 64).size() == 32);
    check(rope_frequencies(10000.0, 64), {{0, 1.0}, {1, 0.7498942093324559}, {7, 0.1333521432163324}, {31, 0.0001333521432163324}});
    CHECK(scaling.magnitude() == 1.0);

    scaling.rope_type = method::linear;
    scaling.factor = 4.0;
    check(rope_frequencies(10000.0, 64, scaling), {{0, 0.25}, {1, 0.18747355233311397}, {7, 0.0333380358040831}, {31, 3.33380358040831e-05}});
    CHECK(scaling.magnitude() == 1.0);

    scaling.rope_type = method::llama3;
    scaling.factor = 8.0;
    check(rope_frequencies(500000.0, 128, scaling), {{0, 1.0},
                                                     {20, 0.016560440080994446},
                                                     {27, 0.003942276030116656},
                                                     {29, 0.002166570763503359},
                                                     {30, 0.0013718935677611381},
                                                     {33, 0.00031269375038406517},
                                                     {35, 9.556212353964683e-05},
                                                     {36, 7.78465527393245e-05},
                                                     {63, 3.068925988914511e-07}});
    CHECK(scaling.magnitude() == 1.0);

    scaling = {};
    scaling.rope_type = method::yarn;
    scaling.factor = 4.0;
    scaling.original_max_position_embeddings = 32768;
    check(rope_frequencies(1000000.0, 128, scaling), {{0, 1.0},
                                                      {10, 0.11547819846894583},
                                                      {23, 0.006978305848598663},
                                                      {24, 0.005375321490790102},
                                                      {38, 9.262301704129459e-05},
                                                      {39, 6.490394320837029e-05},
                                                      {40, 4.445698525097307e-05},
                                                      {63, 3.102344401879299e-07}});
    CHECK(std::abs(scaling.magnitude() - 1.138629436111989) < 1e-12);
    scaling.attention_factor = 1.5;
    CHECK(scaling.magnitude() == 1.5);

    scaling = {};
    scaling.rope_type = method::yarn;
    scaling.factor = 32.0;
    scaling.original_max_position_embeddings = 4096;
    check(rope_frequencies(150000.0, 64, scaling), {{8, 0.050813274815461475}, {9, 0.031620752275346484}, {17, 0.0002279477957951252}});
    scaling.truncate = false;
    check(rope_frequencies(150000.0, 64, scaling), {{8, 0.050813274815461475}, {9, 0.03170569618466377}, {17, 0.00012931870124506317}});
}

TEST_CASE("an angle of the table is exact at every position", "[gpu]") {
    const auto frequencies = rope_frequencies(10000.0, 128);
    const auto table = rope_table(frequencies);
    REQUIRE(table.size() == 2 * frequencies.size());
    double worst = 0;
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        for (const u32 position : {0U, 1U, 4095U, 131071U, 1048576U, 16777215U}) {
            // As the kernel computes it.
            const u32 angle = position * table[2 * i] + static_cast<u32>(static_cast<float>(position) * std::bit_cast<float>(table[2 * i + 1]));
            const double radians = static_cast<double>(angle) * (2 * std::numbers::pi / 4294967296.0);
            const double expected = static_cast<double>(position) * frequencies[i];
            worst = std::max({worst, std::abs(std::cos(radians) - std::cos(expected)), std::abs(std::sin(radians) - std::sin(expected))});
        }
    }
    CHECK(worst < 1e-8);
    CHECK(worst > 0);  // in f32 it would be tenths at the last of these positions
}
