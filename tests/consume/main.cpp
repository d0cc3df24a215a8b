// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <vector>

#include "nibble/nibble.hpp"

int main() {
    const auto q = nibble::quantize<nibble::q4f16_1>(std::vector<float>(32, 1.0F), {1, 32});
    if (!q) return std::puts(q.error().message().c_str()), 1;
    std::printf("nibble %s: 32 numbers are %zu bytes\n", NIBBLE_VERSION, q->n_bytes());
}
