// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <vector>
#include "nibble/nibble.hpp"
int main() {
    std::vector<float> weights(128 * 256);  // [N, K] = [128, 256]
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    const auto q = nibble::quantize<nibble::q4f16_1>(weights, {128, 256});
    if (!q) return std::puts(q.error().message().c_str()), 1;
    const auto back = nibble::dequantize(*q).value();
    float worst = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) worst = std::fmax(worst, std::fabs(weights[i] - back[i]));
    std::printf("%zu bytes became %zu, largest error %.4f\n", weights.size() * sizeof(float), q->n_bytes(), static_cast<double>(worst));
}
