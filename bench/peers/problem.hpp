// SPDX-License-Identifier: Apache-2.0
#pragma once
// The data that all contestants share, and what a contestant is. Weights are integers -7 .. 7 times an f16 scale for each 32 along K:
// q4f16_1 (bias 7), ggml's Q4_0 (bias 8) and ONNX Runtime's MatMulNBits (zero point 8) hold exactly these numbers.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "nibble/core/number.hpp"

namespace peers {

inline constexpr std::size_t group = 32;

/// [N, K] weights; weight (r, i) is codes[r * k + i] * scales[(r * k + i) / 32].
struct weights {
    std::size_t n, k;
    std::vector<std::int8_t> codes;
    std::vector<nibble::f16> scales;

    [[nodiscard]] float at(std::size_t i) const { return static_cast<float>(codes[i]) * nibble::to_f32(scales[i / group]); }
    /// Bytes that a kernel must read: half a byte for each weight, 2 for each scale.
    [[nodiscard]] std::size_t n_bytes() const { return n * k / 2 + n * k / group * 2; }
};

inline weights make_weights(std::size_t n, std::size_t k) {
    weights w{n, k, std::vector<std::int8_t>(n * k), std::vector<nibble::f16>(n * k / group)};
    std::mt19937 random(1);
    for (auto& c : w.codes) c = static_cast<std::int8_t>(static_cast<int>(random() % 15) - 7);
    for (auto& s : w.scales) s = nibble::to_f16(0.002F + static_cast<float>(random() % 1024) * 0x1p-17F);
    return w;
}

/// count values of about the normal distribution.
inline std::vector<float> make_values(std::size_t count, float sigma) {
    std::vector<float> v(count);
    std::mt19937 random(2);
    for (auto& x : v) {
        float sum = -2;
        for (int i = 0; i < 4; ++i) sum += static_cast<float>(random() >> 8) * 0x1p-24F;
        x = sum * sigma * 1.732F;
    }
    return v;
}

/// y = x w^T for an x of [M, K], as y of [M, N].
struct matmul_problem {
    const weights& w;
    const std::vector<float>& x;
    std::size_t m;
    std::size_t n_copies;  ///< of the weights, for the caller to rotate through
    int n_threads;
};

/// One entry of a round. run(i) does the work once, on copy i of its weights; the result lies at output().
struct contestant {
    std::string name;
    bool exact = false;      ///< f32 activations all the way
    bool reference = false;  ///< another task, shown for comparison and left out of the ratios
    std::function<void(std::size_t)> run;
    std::function<const float*()> output;
    std::function<void()> wake = [] {};   ///< before a turn
    std::function<void()> sleep = [] {};  ///< after a turn: no thread may spin while others are timed
};

/// Relative error in the 2-norm against expected.
inline double relative_error(const float* y, const std::vector<double>& expected) {
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        difference += (y[i] - expected[i]) * (y[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    return std::sqrt(difference / norm);
}

}  // namespace peers
