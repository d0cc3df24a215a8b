// SPDX-License-Identifier: Apache-2.0
// A codec of one's own, in one file outside nibble's tree: 2-bit weights from their declaration to SIMD decoding, products on the CPU and
// WGSL. `my_codec FOLDER` also leaves the kernels there, each with a call and what it must give, for a program that has a GPU.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "nibble/cpu/kernels.hpp"
#include "nibble/cpu/products.hpp"
#include "nibble/gpu/dequantize.hpp"
#include "nibble/gpu/gemv.hpp"
#include "nibble/gpu/job.hpp"
#include "nibble/nibble.hpp"

// [declaration]
/// How the scale of a group is chosen: of a few, of either sign, the one with the least squared error.
struct best_of_few {
    template <class Packing, class Bias>
    static constexpr int max_code = Packing::mask;  // all codes are used

    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        float top = 0;
        for (std::size_t i = 0; i < n; ++i) top = std::fmax(top, std::fabs(w[i]));
        typename C::block best{};  // stays, its scale 0, where all of w is 0 or a value is no number
        double least = std::numeric_limits<double>::infinity();
        for (int step = -16; step <= 16; ++step) {
            const float scale = top * static_cast<float>(step) / 20.0F;
            if (scale == 0) continue;
            const auto tried = C::encode_nearest(w, n, C::scale::stored(scale));
            float decoded[C::group];
            C::decode(tried, decoded);
            double error = 0;
            for (std::size_t i = 0; i < n; ++i) error += std::pow(static_cast<double>(w[i] - decoded[i]), 2);
            if (error < least) least = error, best = tried;
        }
        return best;
    }
};

/// Sixteen 2-bit codes in a u32, 64 values to an f16 scale. Code 1 is zero, so that codes mean -1, 0, 1 and 2 scales: four levels with a zero
/// among them, and a scale below zero puts the longer side where the weights need it.
using my_q2 = nibble::affine<nibble::low_first<2, std::uint32_t>, nibble::f16_scale, nibble::bias<1>, 64, nibble::nk, best_of_few>;

static_assert(nibble::bits_per_value<my_q2> == 2.25);
static_assert(nibble::codec<my_q2> && nibble::encoder<my_q2> && nibble::formulaic<my_q2>);
// [/declaration]

namespace {

constexpr std::uint64_t n = 96, k = 320;

/// Says what was found, and whether it is what it should be: an error that is too small is as wrong as one that is too large.
bool check(const char* what, double error, double least, double most) {
    std::printf("// %-40s %.2e (%.0e to %.0e)\n", what, error, least, most);
    return error >= least && error <= most;
}

/// |a - b| / |b|
double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double wrong = 0, all = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        wrong += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        all += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(wrong / all);
}

/// Leaves kernels in a folder, each with one call: weights of the codec, numbers, and what must come out.
bool leave(const std::filesystem::path& folder, const std::vector<nibble::gpu::job>& jobs) {
    const auto write = [&](const std::string& name, const std::string& content) {
        std::ofstream file(folder / name, std::ios::binary);
        return static_cast<bool>(file.write(content.data(), static_cast<std::streamsize>(content.size())).flush());
    };
    std::filesystem::create_directories(folder);
    bool all = true;
    std::string list;
    for (const auto& job : jobs) {
        for (const auto& [name, content] : job.files) all = write(name, content) && all;
        list += (list.empty() ? "[" : ",\n") + job.json;
    }
    return write("jobs.json", list + "]\n") && all;
}

}  // namespace

int main(int argc, char** argv) {
    bool good = true;

    // [quantize]
    const auto weights = nibble::gpu::random_numbers(n * k, 1, 0.05);  // [N, K], normally distributed
    const auto q = nibble::quantize<my_q2>(weights, {n, k});
    if (!q) return std::puts(q.error().message().c_str()), 1;
    const std::vector<float> back = nibble::dequantize(*q).value();
    good &= check("2-bit weights, RMS error", distance(back, weights), 0.3, 0.4);
    // [/quantize]

    // [simd]
    std::vector<float> fast(n * k);
    const auto decode_row = nibble::cpu::decode_row_fn<my_q2, float>();
    for (std::uint64_t row = 0; row < n; ++row) {
        const auto* codes = q->planes[0].data() + row * k / 16 * sizeof(std::uint32_t);
        const auto* scales = q->planes[1].data() + row * k / 64 * sizeof(nibble::f16);
        decode_row(codes, scales, k, fast.data() + row * k);
    }
    const bool same = std::memcmp(fast.data(), back.data(), n * k * sizeof(float)) == 0;
    good &= check("decoded by SIMD, bits that differ", same ? 0 : 1, 0, 0);
    // [/simd]

    // [product]
    const auto x = nibble::gpu::random_numbers(k, 2);
    std::vector<float> y(n), want(n);
    const nibble::cpu::matrix w{{q->planes[0].data(), q->planes[1].data()}, n, k};
    nibble::cpu::prepared<nibble::cpu::exact, my_q2>(x.data(), k, 1, k).multiply(w, 0, n, y.data(), n);
    // [/product]
    for (std::size_t row = 0; row < n; ++row) {
        double sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += static_cast<double>(back[row * k + i]) * static_cast<double>(x[i]);
        want[row] = static_cast<float>(sum);
    }
    good &= check("GEMV on the CPU", distance(y, want), 0, 1e-6);

    // [wgsl]
    namespace gpu = nibble::gpu;
    gpu::kernel_spec spec;
    spec.n = n, spec.k = k;
    const gpu::program dequantize = gpu::dequantize::build<my_q2>(spec, "my_q2");
    const gpu::program gemv = gpu::gemv::build<my_q2>(spec, "my_q2");
    std::printf("\n%s\n%s", gpu::to_wgsl(dequantize).c_str(), gpu::to_wgsl(gemv).c_str());
    // [/wgsl]

    if (argc > 1) {
        const gpu::trial call{"", spec, {{"n", n}, {"k", k}}};
        const auto of_dequantize = gpu::dequantize::make_example<my_q2>(call);
        const auto of_gemv = gpu::gemv::make_example<my_q2>(call);
        good &= leave(argv[1], {gpu::make_job("dequantize", "dequantize", dequantize, &of_dequantize), gpu::make_job("gemv", "gemv", gemv, &of_gemv)});
    }
    return good ? 0 : 1;
}
