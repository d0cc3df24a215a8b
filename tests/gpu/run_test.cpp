// SPDX-License-Identifier: Apache-2.0
// What the trials of the catalog do not show: calls that are cut, and codecs of strangers. Both run on a Vulkan device.
#include "nibble/gpu/vulkan.hpp"

#include <algorithm>
#include <iostream>
#include <string>

#include "examples/nibble/gpu_catalog.hpp"
#include "nibble/codec/onnx.hpp"
#include "nibble/gpu/dequantize.hpp"
#include "nibble/gpu/gemm.hpp"
#include "nibble/gpu/gemv.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/spirv.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

const vulkan_device* device_here() {
    static const auto device = vulkan_device::open();
    if (device) return &*device;
    INFO(device.error().message());
    REQUIRE(device.error().code == errc::missing);
    std::cerr << "skipped: " << device.error().message() << '\n';
    return nullptr;
}

/// Runs an example within limits, and gives the number of dispatches.
std::size_t run_within(const vulkan_device& device, const program& p, const example& e, const device_limits& limits) {
    const auto spirv = compile_glsl(to_glsl(p), p.manifest.kernel);
    INFO((spirv ? "" : spirv.error().message()));
    REQUIRE(spirv);
    kernel_call call{e.sizes, e.host, {}, e.buffers};
    const auto ran = run_kernel(device, p.manifest, *spirv, call, limits);
    INFO((ran ? "" : ran.error().message()));
    REQUIRE(ran);
    const auto found = compare(e, p.manifest, call.buffers);
    INFO(found.output << "[" << found.index << "]: " << found.error);
    CHECK(found.error <= e.tolerance);
    return ran->size();
}

/// Two bits, four of them in a byte, 64 values to a scale: nothing in the library knows it.
using two_bits = affine<low_first<2, std::uint8_t>, f32_scale, bias<1>, 64, nk>;

/// Four bits whose value is not proportional to the scale, in 16-bit words and groups of 16.
struct crooked {
    using packing = low_first<4, std::uint16_t>;
    using layout = nk;
    using model_type = float;
    static constexpr std::size_t group = 16;
    using block = std::tuple<std::array<std::uint16_t, 4>, std::array<float, 1>>;
    static constexpr std::array<plane, 2> planes{plane{"codes", encoding::u16, 4}, plane{"scales", encoding::f32, 1}};

    template <class T>
    static constexpr T value(T code, T scale) {
        return (code - T(8.0F)) * (scale + (code * T(0.001F)));
    }
    static void decode(const block& b, float* out) {
        for (std::size_t i = 0; i < group; ++i) out[i] = value(static_cast<float>(packing::get(std::get<0>(b)[i / 4], i % 4)), std::get<1>(b)[0]);
    }
    static block encode(const float* w, std::size_t n, encode_options = {}) {
        block b{};
        std::get<1>(b)[0] = 0.01F;
        for (std::size_t i = 0; i < n; ++i) {
            const auto code = static_cast<std::uint32_t>(std::clamp(w[i] * 100.0F + 8.0F, 0.0F, 15.0F));
            auto& word = std::get<0>(b)[i / 4];
            word = static_cast<std::uint16_t>(word | packing::put(code, i % 4));
        }
        return b;
    }
};
static_assert(shader_codec<two_bits> && shader_codec<crooked>);
static_assert(bits_per_value<two_bits> == 2.5);

// And ONNX's, which bring two's complement, and zero points of their own.
using two_bits_of_onnx = nbits<2, f16_scale, 64>;
using eight_bits_of_onnx = nbits<8, f32_scale, 16>;
using signed_of_onnx = gather_int4<f32_scale, 32>;
using zeros_of_onnx = nbits_with_zero<4, f16_scale, 16>;

}  // namespace

TEST_CASE("run: a call that is cut along the rows gives what the whole gives") {
    const auto* device = device_here();
    if (device == nullptr) return;
    device_limits narrow = device->info().limits;
    narrow.max_binding_bytes = 16384;
    std::size_t cut = 0;
    for (const auto& entry : catalog()) {
        if (entry.codec != "q4f16_1" && entry.codec != "q0f16" && entry.codec != "nbits4f32_zero") continue;
        const auto program = entry.build();
        if (program.manifest.rows.empty() || !lacking(program.manifest.features, device->info().features).empty()) continue;
        INFO(entry.text());
        // Another shape than the trial's: tall enough to be cut.
        auto tall = entry;
        for (auto& [name, value] : tall.trial.sizes) {
            if (name == "n") value = 523;
        }
        const auto e = tall.make_example();
        const auto dispatches = plan(program.manifest, e.sizes, narrow);
        if (!dispatches) continue;  // something else than the weights is above so small a limit
        if (run_within(*device, program, e, narrow) > 1) ++cut;
    }
    CHECK(cut >= 6);
}

TEMPLATE_TEST_CASE("run: a codec that no kernel was written for has all of them", "", two_bits, crooked, two_bits_of_onnx, eight_bits_of_onnx, signed_of_onnx,
                   zeros_of_onnx) {
    const auto* device = device_here();
    if (device == nullptr) return;
    trial t{"", {}, {{"m", 5}, {"n", 45}, {"k", 640}}};
    for (const std::uint32_t k : {0u, 640u}) {
        t.spec.k = k;
        INFO("k " << k);
        run_within(*device, dequantize::build<TestType>(t.spec, "mine"), dequantize::make_example<TestType>(t), device->info().limits);
        run_within(*device, gemv::build<TestType>(t.spec, "mine"), gemv::make_example<TestType>(t), device->info().limits);
        run_within(*device, gemm::build<TestType>(t.spec, "mine"), gemm::make_example<TestType>(t), device->info().limits);
    }
}
