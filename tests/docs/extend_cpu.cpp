// SPDX-License-Identifier: Apache-2.0
// The CPU kernel of docs/add.md: written once, for every architecture.
#include <cmath>
#include <cstdio>
#include <vector>

// [kernel]
#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

/// max |x| of n numbers, 0 of none. Equal to the scalar loop bit for bit: a maximum does not depend on the order.
template <class Arch>
float largest_magnitude(const float* x, std::uint64_t n) {
    vector_f32<Arch> top(0.0F);
    std::uint64_t i = 0;
    for (; i + lanes<Arch> <= n; i += lanes<Arch>) top = xsimd::max(top, xsimd::abs(vector_f32<Arch>::load_unaligned(x + i)));
    float lane[lanes<Arch>];
    top.store_unaligned(lane);
    float largest = 0;
    for (const float v : lane) largest = v > largest ? v : largest;
    for (; i < n; ++i) largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
    return largest;
}

}  // namespace nibble::cpu
// [/kernel]

int main() {
    std::vector<float> x(1001);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * i));
    float law = 0;
    for (std::size_t n = 0; n <= x.size(); ++n) {
        if (nibble::cpu::largest_magnitude<nibble::cpu::default_arch>(x.data(), n) != law) return std::printf("wrong for %zu numbers\n", n), 1;
        if (n < x.size()) law = std::fmax(law, std::fabs(x[n]));
    }
    return 0;
}
