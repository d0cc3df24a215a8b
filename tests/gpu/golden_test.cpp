// SPDX-License-Identifier: Apache-2.0
// The whole text of a few kernels, so that a change of the generators is seen in review. After a change that is meant,
// NIBBLE_WRITE_GOLDEN=1 nibble_gpu_test "golden*" writes them anew.
#include <cstdlib>
#include <fstream>
#include <string>

#include "examples/nibble/gpu_catalog.hpp"
#include "nibble/core/file.hpp"
#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/kernels.hpp"
#include "nibble/gpu/wgsl.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

void same_as_golden(const std::string& name, const std::string& text) {
    const std::string path = NIBBLE_TEST_DATA "/gpu/golden/" + name;
    if (std::getenv("NIBBLE_WRITE_GOLDEN") != nullptr) {
        std::ofstream(path, std::ios::binary) << text;
        return;
    }
    const auto bytes = read_file(path, 1 << 20);
    REQUIRE(bytes);
    const std::string golden(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    INFO(name);
    CHECK(text == golden);
}

}  // namespace

TEST_CASE("golden: texts and manifests of a few kernels") {
    kernel_spec s;
    s.n = s.k = 4096;
    const auto build = [&](const char* kernel, const char* codec) {
        const auto p = catalog_build(kernel, codec, s);
        INFO((p ? "" : p.error().message()));
        REQUIRE(p);
        return *p;
    };
    const auto gemv = build("gemv", "q4f16_1");
    same_as_golden("gemv-q4f16_1.wgsl", to_wgsl(gemv));
    same_as_golden("gemv-q4f16_1.comp", to_glsl(gemv));
    same_as_golden("gemv-q4f16_1.json", gemv.manifest.json() + "\n");
    same_as_golden("gemm-q4f16_1.wgsl", to_wgsl(build("gemm", "q4f16_1")));
    same_as_golden("gemv_int8-q4f16_1.comp", to_glsl(build("gemv_int8", "q4f16_1")));

    s.activations = scalar::f16;
    s.tune.subgroups = true;
    s.tune.lanes_k = 64;
    same_as_golden("gemv-q3f16_0-f16-subgroups.wgsl", to_wgsl(build("gemv", "q3f16_0")));
    same_as_golden("rms_norm-f16-subgroups.comp", to_glsl(build("rms_norm", "")));

    s = {};
    s.heads = 14, s.kv_heads = 2, s.head_dim = 64;
    same_as_golden("attention_decode-14-2-64.wgsl", to_wgsl(build("attention_decode", "")));
    same_as_golden("rope.wgsl", to_wgsl(build("rope", "")));
    same_as_golden("argmax.wgsl", to_wgsl(build("argmax", "")));
}
