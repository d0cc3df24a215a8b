// SPDX-License-Identifier: Apache-2.0
#include "gpu_device.hpp"

namespace nibble::command {

namespace {

tl::unexpected<error> not_built() {
    return fail(error{errc::unsupported,
                      "this nibble was built without Vulkan or glslang",
                      {},
                      {},
                      {},
                      "install their development packages (libvulkan-dev, glslang-dev) and build it again; `emit --to wgsl` and `--to glsl` need neither"});
}

}  // namespace

result<std::vector<gpu_device_line>> gpu_devices() { return not_built(); }
result<std::vector<std::uint32_t>> gpu_spirv(const gpu::program&) { return not_built(); }
result<void> gpu_check(const std::string&, const std::vector<gpu::catalog_entry>&, const std::function<void(const gpu_checked&)>&) { return not_built(); }
result<gpu_bench_report> gpu_bench(const gpu_bench_options&, const std::function<void(const gpu_timed&)>&) { return not_built(); }

}  // namespace nibble::command
