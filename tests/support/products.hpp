// SPDX-License-Identifier: Apache-2.0
#pragma once
// What tests of products share: weights of any bits at awkward addresses, and the law's results in f64.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "nibble/cpu/matrix.hpp"
#include "support/catch.hpp"

namespace nibble::tests {

struct free_aligned {
    void operator()(std::byte* p) const { std::free(p); }
};
/// Exactly n bytes for ASan to watch over, aligned to 64.
inline std::unique_ptr<std::byte, free_aligned> aligned_bytes(std::size_t n) {
    void* p = nullptr;
    REQUIRE(posix_memalign(&p, 64, n == 0 ? 64 : n) == 0);
    return std::unique_ptr<std::byte, free_aligned>(static_cast<std::byte*>(p));
}

/// Planes at addresses that are aligned to nothing, with nothing behind them.
struct unaligned_planes {
    std::vector<std::vector<std::byte>> bytes;
    cpu::matrix view;

    template <class Planes>
    unaligned_planes(const Planes& planes, std::uint64_t n, std::uint64_t k) {
        view.n = n;
        view.k = k;
        for (std::size_t i = 0; i < planes.size(); ++i) {
            bytes.emplace_back(planes[i].size() + 1);
            if (!planes[i].empty()) std::memcpy(bytes[i].data() + 1, planes[i].data(), planes[i].size());
        }
        for (std::size_t i = 0; i < planes.size(); ++i) view.planes[i] = bytes[i].data() + 1;
    }
};

/// Every stored code and scale at random: codes that no encoder writes, and padding that is not zero.
template <class C>
unaligned_planes random_weights(std::uint64_t n, std::uint64_t k, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<std::vector<std::byte>> planes(C::planes.size());
    for (std::size_t p = 0; p < planes.size(); ++p) {
        const std::uint64_t elements = groups_of<C>(k) * n * C::planes[p].per_group;
        const std::size_t size = info(C::planes[p].type).block_bytes;
        planes[p].resize(elements * size);
        for (std::uint64_t i = 0; i < elements; ++i) {
            const float value = normal(random) * 0.02F;
            std::byte* to = planes[p].data() + i * size;
            switch (C::planes[p].type) {
                case encoding::f32:
                    store(to, value);
                    break;
                case encoding::f16:
                    store(to, to_f16(value));
                    break;
                case encoding::bf16:
                    store(to, number_cast<bf16>(value));
                    break;
                default:
                    for (std::size_t b = 0; b < size; ++b) to[b] = static_cast<std::byte>(random());
            }
        }
    }
    return unaligned_planes(planes, n, k);
}

struct expected_result {
    double value;
    double terms;  ///< the sum of its terms' squares: what a result would be if their signs were random
};
/// The law: f64 sums of the scalar decoder's weights.
template <class C>
std::vector<expected_result> reference(const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m) {
    std::array<const std::byte*, C::planes.size()> planes;
    for (std::size_t p = 0; p < planes.size(); ++p) planes[p] = w.planes[p];
    const std::uint64_t n_groups = groups_of<C>(w.k);
    std::vector<expected_result> y(m * w.n);
    for (std::uint64_t n = 0; n < w.n; ++n) {
        std::vector<float> row(n_groups * C::group);
        for (std::uint64_t g = 0; g < n_groups; ++g) C::decode(load_block<C>(planes, n, g, w.n, n_groups), row.data() + g * C::group);
        for (std::uint64_t r = 0; r < m; ++r) {
            for (std::uint64_t k = 0; k < w.k; ++k) {
                const double term = static_cast<double>(row[k]) * static_cast<double>(x[r * w.k + k]);
                y[r * w.n + n].value += term;
                y[r * w.n + n].terms += term * term;
            }
        }
    }
    return y;
}

/// The error of results within [first, last) in the 2-norm, relative to that of results whose terms have random signs (one result may be
/// small by accident); whatever lies outside must be as it was.
inline double error_of(const std::vector<float>& y, std::uint64_t ldy, const std::vector<expected_result>& expected, std::uint64_t m, std::uint64_t n,
                       std::uint64_t first, std::uint64_t last) {
    double wrong = 0;
    double all = 0;
    for (std::uint64_t r = 0; r < m; ++r) {
        for (std::uint64_t i = 0; i < ldy; ++i) {
            const float got = y[r * ldy + i];
            if (i < first || i >= last) {
                if (got != -77.0F) return 1e9;
                continue;
            }
            const double want = expected[r * n + i].value;
            wrong += (static_cast<double>(got) - want) * (static_cast<double>(got) - want);
            all += expected[r * n + i].terms;
        }
    }
    return all == 0 ? wrong : std::sqrt(wrong / all);
}

inline std::vector<float> activations(std::uint64_t n, std::mt19937& random) {
    std::normal_distribution<float> normal(0.3F, 1.0F);
    std::vector<float> x(n);
    for (auto& v : x) v = normal(random);
    return x;
}

/// Shapes that fill no tile, no vector and no group: [N, K].
inline const std::vector<std::pair<std::uint64_t, std::uint64_t>>& odd_shapes() {
    static const std::vector<std::pair<std::uint64_t, std::uint64_t>> shapes{{17, 72}, {3, 100}, {1, 80}, {17, 40}, {1, 1}, {33, 513}, {40, 1288}, {70, 3000}};
    return shapes;
}

}  // namespace nibble::tests
