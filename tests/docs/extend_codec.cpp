// SPDX-License-Identifier: Apache-2.0
// What docs/add.md promises of a codec outside the tree: the whole library takes it.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "nibble/cpu/kernels.hpp"
#include "nibble/cpu/products.hpp"
#include "nibble/gpu/gemv.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "nibble/nibble.hpp"

// [codec]
// [declaration]
// 2-bit codes for -1, 0 and 1, groups of 64, f16 scales. Nobody else has it.
using my_codec = nibble::affine<nibble::low_first<2, std::uint32_t>, nibble::f16_scale, nibble::bias<1>, 64>;
// [/declaration]

static_assert(nibble::check_encoder<my_codec>());         // a sentence of the compiler, if something is missing
static_assert(nibble::formulaic<my_codec>);               // SIMD and shaders derive from it
static_assert(nibble::bits_per_value<my_codec> == 2.25);  // 64 codes in 16 bytes, and 2 bytes of scale
// [/codec]

// [wgsl]
std::string my_gemv(nibble::gpu::u32 n, nibble::gpu::u32 k) {
    nibble::gpu::kernel_spec spec;
    spec.n = n, spec.k = k;
    return nibble::gpu::to_wgsl(nibble::gpu::gemv::build<my_codec>(spec, "my_codec"));
}
// [/wgsl]

int main() {
    constexpr std::uint64_t n = 48, k = 256;
    std::vector<float> weights(n * k), activations(k), y(n), row(k);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i * i % 977));
    for (std::size_t i = 0; i < k; ++i) activations[i] = std::cos(static_cast<float>(i));

    const auto q = nibble::quantize<my_codec>(weights, {n, k}).value();
    const auto back = nibble::dequantize(q).value();
    double squares = 0, all_squares = 0;
    for (std::size_t i = 0; i < back.size(); ++i) {
        squares += std::pow(static_cast<double>(weights[i]) - static_cast<double>(back[i]), 2);
        all_squares += std::pow(static_cast<double>(weights[i]), 2);
    }
    const double rms = std::sqrt(squares / all_squares);
    if (rms > 0.45 || rms < 0.2) return std::printf("the error is %f\n", rms), 1;

    const auto decode_row = nibble::cpu::decode_row_fn<my_codec, float>();
    for (std::uint64_t r = 0; r < n; ++r) {
        decode_row(q.planes[0].data() + r * k / 4, q.planes[1].data() + r * k / 32, k, row.data());
        for (std::size_t i = 0; i < k; ++i) {
            if (row[i] != back[r * k + i]) return std::puts("SIMD rows differ from the law"), 1;
        }
    }
    const nibble::cpu::matrix w{{q.planes[0].data(), q.planes[1].data()}, n, k};
    nibble::cpu::prepared<nibble::cpu::exact, my_codec> x(activations.data(), k, 1, k);
    x.multiply(w, 0, n, y.data(), n);
    double wrong = 0, all = 0;
    for (std::size_t r = 0; r < n; ++r) {
        double sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += static_cast<double>(back[r * k + i]) * static_cast<double>(activations[i]);
        wrong += std::pow(sum - static_cast<double>(y[r]), 2);
        all += sum * sum;
    }
    if (std::sqrt(wrong / all) > 1e-6) return std::printf("the product is %.1e off\n", std::sqrt(wrong / all)), 1;
    if (my_gemv(n, k).find("& 3u") == std::string::npos) return std::puts("the shader does not take codes of two bits"), 1;
    return 0;
}
