// SPDX-License-Identifier: Apache-2.0
#pragma once
// What `nibble gpu` does on a Vulkan device. Where the command was built without Vulkan or glslang, each of these says so.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gpu_catalog.hpp"
#include "nibble/gpu/spec.hpp"

namespace nibble::command {

struct gpu_device_line {
    std::string name, driver, kind;
    std::vector<std::string> features;
};
[[nodiscard]] result<std::vector<gpu_device_line>> gpu_devices();

/// SPIR-V of a program.
[[nodiscard]] result<std::vector<std::uint32_t>> gpu_spirv(const gpu::program& p);

/// One entry of the catalog, run and compared with the law.
struct gpu_checked {
    std::string kernel, text;
    gpu::deviation deviation;
    double tolerance = 0;
    std::string skipped;  ///< why it did not run: a feature that the device lacks
};
/// Runs all entries; `each` hears of every one as it is done. `limits` may be tightened to make plans cut tensors. Errors: no device,
/// or a kernel that does not compile or run.
[[nodiscard]] result<void> gpu_check(const std::string& device, const std::vector<gpu::catalog_entry>& entries,
                                     const std::function<void(const gpu_checked&)>& each);

/// One kernel and shape, timed.
struct gpu_timed {
    std::string kernel, codec, shape, tuning;
    double seconds = 0, bytes = 0, operations = 0;
};
struct gpu_bench_options {
    std::string device;
    std::vector<std::string> codecs;
    std::vector<std::pair<gpu::u32, gpu::u32>> shapes;  ///< n, k
    std::vector<gpu::u32> batches;                      ///< m of GEMM
    gpu::scalar activations = gpu::scalar::f16;
    bool tune = false;
    std::uint64_t working_set = std::uint64_t{512} << 20;  ///< bytes that are rotated over, so that no cache holds them
};
struct gpu_bench_report {
    std::string device;
    bool software = false;  ///< a CPU: its figures mean nothing for GPUs
    double stream_bytes_per_second = 0;
    std::vector<gpu_timed> rows;
};
[[nodiscard]] result<gpu_bench_report> gpu_bench(const gpu_bench_options& options, const std::function<void(const gpu_timed&)>& each);

}  // namespace nibble::command
