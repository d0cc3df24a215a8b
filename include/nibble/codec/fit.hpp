// SPDX-License-Identifier: Apache-2.0
#pragma once
// A better scale in the same format: the stored scale with the least squared error over a group.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <optional>

#include "nibble/core/number.hpp"

namespace nibble::detail {

/// The next representable scale up or down; of positive numbers the bits are in order.
constexpr float neighbour(float s, int by) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(s) + static_cast<std::uint32_t>(by)); }
template <class T>
constexpr T neighbour(T s, int by) {
    return T{static_cast<decltype(s.bits)>(s.bits + by)};
}

/// Sum of (w - decoded)^2 in f64.
template <class C>
double squared_error(const float* w, std::size_t n, const typename C::block& b) {
    float decoded[C::group];
    C::decode(b, decoded);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double e = static_cast<double>(w[i]) - static_cast<double>(decoded[i]);
        sum += e * e;
    }
    return sum;
}

/// Searches all stored scales at once. With the codes of |w| fixed, the error is a parabola in s whose vertex is B / C
/// (B = sum |w| c, C = sum c^2); a code changes only where s passes |w| / (c + 1/2). So the scales are walked segment by segment
/// from the largest down, with B and C kept up to date, and in each segment the representable scales next to its vertex are
/// the candidates. The winner is measured with the real encoder, against absmax too. Nothing is returned when absmax is as good,
/// or for groups with values that are not finite.
template <class C>
std::optional<typename C::scale::type> least_squares_scale(const float* w, std::size_t n) {
    using stored = typename C::scale::type;
    constexpr int top = C::zero_code;
    struct step {
        double at;  // below this scale the code of `magnitude` is one higher
        double magnitude;
    };
    std::array<step, C::group* static_cast<std::size_t>(top)> steps;
    std::size_t count = 0;
    double largest = 0;
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double m = std::fabs(static_cast<double>(w[i]));
        if (!std::isfinite(m)) return std::nullopt;
        largest = std::max(largest, m);
        squares += m * m;
    }
    if (largest == 0) return std::nullopt;
    const double plain = squared_error<C>(w, n, C::encode(w, n));
    if (plain == 0) return std::nullopt;
    // Below this scale clipping the largest value alone costs more than absmax does.
    const double lowest = std::max(0.0, (largest - std::sqrt(plain)) / top);
    for (std::size_t i = 0; i < n; ++i) {
        const double m = std::fabs(static_cast<double>(w[i]));
        for (int c = 0; c < top; ++c) {
            const double at = m / (c + 0.5);
            if (at <= lowest) break;
            steps[count++] = {at, m};
        }
    }
    std::sort(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(count), [](const step& a, const step& b) { return a.at > b.at; });

    // Codes are counted per value by how many of its steps have been passed: the sums need only the increments 2c + 1.
    double best_error = plain;
    std::optional<stored> best;
    double b = 0;
    double c2 = 0;
    std::array<double, 2> tried{-1, -1};
    const auto consider = [&](stored candidate) {
        const double value = static_cast<double>(to_f32(candidate));
        if (!(value > 0) || !std::isfinite(value) || value == tried[0] || value == tried[1]) return;
        tried = {tried[1], value};
        if (squares - 2 * value * b + value * value * c2 > best_error * (1 + 1e-9)) return;  // exact within the segment
        const double e = squared_error<C>(w, n, C::encode_nearest(w, n, candidate));
        if (e < best_error) {
            best_error = e;
            best = candidate;
        }
    };
    for (std::size_t i = 0; i < count; ++i) {
        // 2c + 1 = 2 * magnitude / at, because at = magnitude / (c + 1/2)
        const double increment = 2 * steps[i].magnitude / steps[i].at;
        b += steps[i].magnitude;
        c2 += increment;
        const double high = steps[i].at;
        const double low = i + 1 < count ? steps[i + 1].at : lowest;
        if (low == high) continue;
        const double vertex = std::clamp(b / c2, low, high);
        if (squares - 2 * vertex * b + vertex * vertex * c2 > best_error * (1 + 1e-9)) continue;  // no scale of this segment can win
        const stored near = C::scale::stored(static_cast<float>(vertex));
        consider(near);
        consider(neighbour(near, -1));
        consider(neighbour(near, +1));
    }
    return best;
}

}  // namespace nibble::detail
