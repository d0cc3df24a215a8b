// SPDX-License-Identifier: Apache-2.0
// A host for nibble's GPU kernels: generates a matrix-vector product of 4-bit weights, compiles it to SPIR-V in this process, runs it on
// a Vulkan device as its manifest says, and compares with the CPU. `gpu_host [DEVICE]`: an index or a part of a name.
// Ends with 77 where there is no device.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "nibble/cpu/products.hpp"
#include "nibble/gpu/gemv.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/manifest.hpp"
#include "nibble/gpu/spirv.hpp"
#include "nibble/gpu/vulkan.hpp"
#include "nibble/nibble.hpp"

namespace gpu = nibble::gpu;
using codec = nibble::q4f16_1;

namespace {

/// The value of a result; the program ends where there is none.
template <class T>
T must(nibble::result<T> r, int status = 1) {
    if (!r) {
        std::fprintf(stderr, "gpu_host: %s\n", r.error().message().c_str());
        std::exit(status);
    }
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

}  // namespace

int main(int argc, char** argv) {
    const auto device = must(gpu::vulkan_device::open(argc > 1 ? argv[1] : ""), 77);
    constexpr std::uint32_t n = 1024, k = 2048;
    const auto x = gpu::random_numbers(k, 1);
    const auto weights = must(nibble::quantize<codec>(gpu::random_numbers(n * k, 2, 0.05), {n, k}));

    // [run]
    gpu::kernel_spec spec;
    spec.n = n, spec.k = k;  // numbers in the text; 0 would make them parameters
    const gpu::program kernel = gpu::gemv::build<codec>(spec, "q4f16_1");
    const std::vector<std::uint32_t> spirv = must(gpu::compile_glsl(gpu::to_glsl(kernel), "gemv"));
    const auto pipeline = must(device.make_pipeline(kernel.manifest, spirv));

    // What to bind and how many workgroups to start is data: a host needs to know no kernel.
    const auto dispatches = must(gpu::plan(kernel.manifest, {{"n", n}, {"k", k}}, device.info().limits));
    std::vector<gpu::vulkan_buffer> buffers;
    for (const auto n_bytes : gpu::buffer_bytes(kernel.manifest, dispatches)) buffers.push_back(must(device.make_buffer(n_bytes)));
    must(device.upload(weights.planes[0], buffers[0]));
    must(device.upload(weights.planes[1], buffers[1]));
    must(device.upload(std::as_bytes(std::span(x)), buffers[2]));
    std::vector<gpu::vulkan_step> steps;
    for (const auto& d : dispatches) steps.push_back({pipeline, d, buffers});
    const auto recording = must(device.record(steps));

    double seconds = 1e9;  // 0 from a device without a clock
    for (int round = 0; round < 5; ++round) {
        double sum = 0;
        for (const double s : must(device.run(recording))) sum += s;
        seconds = std::min(seconds, sum);
    }
    std::vector<float> y(n);
    must(device.download(buffers[3], std::as_writable_bytes(std::span(y))));
    // [/run]

    std::vector<float> want(n);
    const nibble::cpu::matrix w{{weights.planes[0].data(), weights.planes[1].data()}, n, k};
    nibble::cpu::prepared<nibble::cpu::exact, codec>(x.data(), k, 1, k).multiply(w, 0, n, want.data(), n);
    double wrong = 0, all = 0;
    for (std::size_t i = 0; i < n; ++i) {
        wrong += std::pow(static_cast<double>(y[i]) - static_cast<double>(want[i]), 2);
        all += std::pow(static_cast<double>(want[i]), 2);
    }
    const double error = std::sqrt(wrong / all);
    std::printf("%s: gemv %u x %u, q4f16_1: %.1f us, relative error to the CPU %.1e\n", device.info().name.c_str(), n, k, seconds * 1e6, error);
    return error <= 1e-6 ? 0 : 1;
}
