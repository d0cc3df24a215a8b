// SPDX-License-Identifier: Apache-2.0
// A layer of a model on the CPU: weights [N, K] as they are stored, several rows of activations, two threads.
#include <cmath>
#include <cstdio>
#include <vector>

#include "nibble/cpu/products.hpp"
#include "nibble/cpu/thread_pool.hpp"
#include "nibble/nibble.hpp"

int main() {
    using codec = nibble::q4f16_1;
    constexpr std::uint64_t m = 5, n = 128, k = 256;
    std::vector<float> weights(n * k), x(m * k), y(m * n);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(3 * i));
    const auto q = nibble::quantize<codec>(weights, {n, k});
    if (!q) return std::puts(q.error().message().c_str()), 1;

    const nibble::cpu::matrix w{{q->planes[0].data(), q->planes[1].data()}, n, k};  // or pointers into a mapped shard
    nibble::cpu::prepared<nibble::cpu::exact, codec> prepared(x.data(), k, m, k);   // or cpu::int8: faster, with a stated error
    nibble::cpu::thread_pool pool(2);
    pool.for_ranges(n, 16, [&](std::uint64_t first, std::uint64_t last) { prepared.multiply(w, first, last, y.data(), n); });

    const auto back = nibble::dequantize(*q).value();
    double wrong = 0, all = 0;
    for (std::size_t r = 0; r < m; ++r) {
        for (std::size_t i = 0; i < n; ++i) {
            double want = 0;
            for (std::size_t j = 0; j < k; ++j) want += static_cast<double>(back[i * k + j]) * static_cast<double>(x[r * k + j]);
            wrong += (want - static_cast<double>(y[r * n + i])) * (want - static_cast<double>(y[r * n + i]));
            all += want * want;
        }
    }
    std::printf("%s: relative error %.1e\n", nibble::cpu::products().arch, std::sqrt(wrong / all));
    return std::sqrt(wrong / all) < 1e-6 ? 0 : 1;
}
