// SPDX-License-Identifier: Apache-2.0
// Prints sums of what nibble computes, a line each: the one header must give the same as the headers that it is made of. With
// TEST_SINGLE it includes that header, and again under another path; else it includes the tree. TEST_OTHER makes the second file of
// the program, which includes the header too; TEST_ALONE makes both one.
#if defined(TEST_SINGLE)
#include "nibble.hpp"
#if !defined(TEST_OTHER)
#define NIBBLE_GPU
#endif
#include "copy/nibble.hpp"
#include "nibble.hpp"
#else
#include "nibble/codec/ggml.hpp"
#include "nibble/codec/onnx.hpp"
#include "nibble/core/md5.hpp"
#if !defined(NIBBLE_NO_SIMD)
#include "nibble/cpu/products.hpp"
#endif
#include "nibble/gpu/kernels.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "nibble/nibble.hpp"
#endif

#include <cstdio>
#include <string>
#include <vector>

std::string other_sum(const std::vector<float>& weights);  // of the second file
int wrong_shape();

#if defined(TEST_OTHER) || defined(TEST_ALONE)

std::string other_sum(const std::vector<float>& weights) {
    const auto q = nibble::quantize<nibble::q3f16_1>(weights, {8, weights.size() / 8});
    nibble::md5 sum;
    sum.update(q->planes[0]);
    return sum.hex();
}
int wrong_shape() {
    const auto q = nibble::quantize<nibble::q4f16_1>(std::vector<float>(3), {2, 2});
    return q ? 1 : static_cast<int>(q.error().code);
}

#endif
#if !defined(TEST_OTHER)

namespace {

using namespace nibble;

constexpr std::uint64_t rows = 24, columns = 320;

/// Numbers that are the same with every standard library: multiples of 2^-12 below 4, one of them large.
std::vector<float> numbers(std::size_t n, std::uint32_t seed) {
    std::vector<float> all(n);
    for (float& x : all) {
        seed = seed * 1664525u + 1013904223u;
        x = static_cast<float>(static_cast<std::int32_t>(seed >> 17) - 16384) * 0x1p-12F;
    }
    all[n / 3] = 77.5F;
    return all;
}

template <class T>
void add(md5& sum, const std::vector<T>& values) {
    sum.update(std::as_bytes(std::span(values)));
}
void line(const char* name, const md5& sum) { std::printf("%s %s\n", name, sum.hex().c_str()); }

template <class C>
void codec_line(const char* name, const std::vector<float>& weights, encode_options options = {}) {
    const auto q = quantize<C>(weights, {rows, columns}, options);
    const auto back = dequantize(*q);
    md5 bytes, floats;
    for (const auto& plane : q->planes) add(bytes, plane);
    add(floats, *back);
    std::printf("%s %s %s\n", name, bytes.hex().c_str(), floats.hex().c_str());
}

#if !defined(NIBBLE_NO_SIMD)
template <class C, class Mode>
void product_line(const char* name, const std::vector<float>& weights, const std::vector<float>& x) {
    const auto q = quantize<C>(weights, {rows, columns});
    const cpu::matrix w{{q->planes[0].data(), q->planes[1].data()}, rows, columns};
    cpu::prepared<Mode, C> prepared(x.data(), columns, 1, columns);
    std::vector<float> y(rows);
    prepared.multiply(w, 0, rows, y.data(), rows);
    md5 sum;
    add(sum, y);
    line(name, sum);
}
#endif

}  // namespace

int main() {
    const auto weights = numbers(rows * columns, 1), x = numbers(columns, 2);
    codec_line<q4f16_1>("q4f16_1", weights);
    codec_line<q4f16_1>("q4f16_1 mse", weights, {rounding::half_even, fit::mse});
    codec_line<q4f32_1>("q4f32_1", weights);
    codec_line<q4bf16_0>("q4bf16_0", weights);
    codec_line<q3f16_0>("q3f16_0", weights);
    codec_line<q8f16_1>("q8f16_1", weights);
    codec_line<q0bf16>("q0bf16", weights);
    codec_line<e4m3_scaled>("e4m3_scaled", weights);
    codec_line<nbits<4, f16_scale, 32>>("nbits", weights);
    std::printf("other %s %d\n", other_sum(weights).c_str(), wrong_shape());

    gpu::kernel_spec spec;
    spec.k = 4096;
    md5 text;
    const auto gemv = gpu::to_wgsl(gpu::gemv::build<q4f16_1>(spec, "q4f16_1"));
    text.update(std::as_bytes(std::span(gemv)));
    line("wgsl", text);

#if !defined(NIBBLE_NO_SIMD)
    std::printf("cpu %s\n", cpu::arch_name());
    std::vector<std::byte> codes(columns / 2), scales(columns / 32 * 2);
    cpu::encode_row_fn<q4f16_1, float>()(weights.data(), columns, codes.data(), scales.data(), {});
    std::vector<float> row(columns);
    cpu::decode_row_fn<q4f16_1, float>()(codes.data(), scales.data(), columns, row.data());
    md5 sum;
    add(sum, codes);
    add(sum, scales);
    add(sum, row);
    line("cpu row", sum);
    product_line<q4f16_1, cpu::exact>("cpu exact", weights, x);
    product_line<q4f16_1, cpu::int8>("cpu int8", weights, x);
#endif
}

#endif
