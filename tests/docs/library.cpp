// SPDX-License-Identifier: Apache-2.0
// What docs/use.md and the README show of the library: errors, memory of one's own, a better fit, rows by SIMD, products.
#include <cmath>
#include <cstdio>
#include <vector>

// [products-include]
#include "nibble/cpu/products.hpp"
// [/products-include]
// [rows-include]
#include "nibble/cpu/kernels.hpp"
// [/rows-include]
#include "nibble/nibble.hpp"

namespace {

int n_wrong = 0;
void check(bool right, const char* what) {
    if (!right) std::printf("wrong: %s\n", what), ++n_wrong;
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    return sum;
}

// [errors]
nibble::result<std::vector<float>> round_trip(const std::vector<float>& weights, const nibble::shape& dims) {
    const auto q = nibble::quantize<nibble::q4f16_1>(weights, dims);
    if (!q) return nibble::fail(q.error());  // or look at q.error().code, .rule, .message()
    return nibble::dequantize(*q);
}
// [/errors]

}  // namespace

int main() {
    constexpr std::uint64_t n = 24, k = 256, m = 3;
    std::vector<float> weights(n * k), activations(m * k), y(m * n);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i * i % 977));
    for (std::size_t i = 0; i < activations.size(); ++i) activations[i] = std::cos(static_cast<float>(i));

    const auto refused = round_trip(weights, {n, k + 1});
    check(!refused && refused.error().code == nibble::errc::mismatch, "a shape of another size is refused");
    check(!refused && refused.error().message() == "shape [24, 257] does not describe the 6144 values that were given", "and how it is said");
    const auto plain = round_trip(weights, {n, k}).value();

    // [own-memory]
    using codec = nibble::q4f16_1;
    const nibble::shape dims{n, k};
    std::vector<std::byte> codes(nibble::plane_shape<codec>(0, dims).elements() * 4);   // u32 [N, K/8]
    std::vector<std::byte> scales(nibble::plane_shape<codec>(1, dims).elements() * 2);  // f16 [N, K/32]
    const std::span<const float> values(weights);
    const auto done = nibble::quantize_into<codec>(values, dims, {codes.data(), scales.data()});
    // [/own-memory]
    check(done.has_value(), "weights are quantized into one's own memory");
    check(codes.size() + scales.size() == n * k * 9 / 16, "4.5 bits a value");

    // [better]
    const auto better = nibble::quantize<nibble::q4f16_1>(weights, dims, {.fit = nibble::fit::mse});  // the same format, better numbers
    // [/better]
    check(squared_distance(weights, nibble::dequantize(better.value()).value()) < squared_distance(weights, plain), "a better fit is better");

    // [rows]
    const auto decode_row = nibble::cpu::decode_row_fn<nibble::q4f16_1, float>();  // for this machine; hold it
    std::vector<float> row(k);
    for (std::uint64_t r = 0; r < n; ++r) {
        decode_row(codes.data() + r * k / 2, scales.data() + r * k / 16, k, row.data());
        // ... row has the k values of row r
        // [/rows]
        for (std::size_t i = 0; i < k; ++i) check(row[i] == plain[r * k + i], "rows by SIMD are those of the law");
    }

    // [products]
    const nibble::cpu::matrix w{{codes.data(), scales.data()}, n, k};  // pointers into a shard, no alignment needed
    nibble::cpu::prepared<nibble::cpu::exact, nibble::q4f16_1> x(activations.data(), k, m, k);
    x.multiply(w, 0, n, y.data(), n);  // rows 0 .. n of w: y is [m, n]
    // [/products]
    double wrong = 0, all = 0;
    for (std::size_t a = 0; a < m; ++a) {
        for (std::size_t r = 0; r < n; ++r) {
            double sum = 0;
            for (std::size_t i = 0; i < k; ++i) sum += static_cast<double>(plain[r * k + i]) * static_cast<double>(activations[a * k + i]);
            wrong += std::pow(sum - static_cast<double>(y[a * n + r]), 2);
            all += sum * sum;
        }
    }
    check(std::sqrt(wrong / all) < 1e-6, "products are within 1e-6");
    return n_wrong == 0 ? 0 : 1;
}
