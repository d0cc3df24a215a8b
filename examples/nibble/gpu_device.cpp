// SPDX-License-Identifier: Apache-2.0
#include "gpu_device.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <random>

#include "nibble/gpu/glsl.hpp"
#include "nibble/gpu/presets.hpp"
#include "nibble/gpu/spirv.hpp"
#include "nibble/gpu/tune.hpp"
#include "nibble/gpu/vulkan.hpp"

namespace nibble::command {

result<std::vector<gpu_device_line>> gpu_devices() {
    const auto found = gpu::list_vulkan_devices();
    if (!found) return fail(found.error());
    std::vector<gpu_device_line> lines;
    for (const auto& d : *found) {
        gpu_device_line line{d.name, d.driver, std::string(name_of(d.kind)), {}};
        const auto has = [&](bool feature, const char* name) {
            if (feature) line.features.emplace_back(name);
        };
        has(d.features.f16, "f16");
        has(d.features.subgroups, "subgroups");
        has(d.features.int8_dot, "int8 dot");
        has(d.features.matrix, "cooperative matrix");
        lines.push_back(std::move(line));
    }
    return lines;
}

result<std::vector<std::uint32_t>> gpu_spirv(const gpu::program& p) { return gpu::compile_glsl(gpu::to_glsl(p), p.manifest.kernel); }

result<void> gpu_check(const std::string& device_name, const std::vector<gpu::catalog_entry>& entries, const std::function<void(const gpu_checked&)>& each) {
    auto device = gpu::vulkan_device::open(device_name);
    if (!device) return pass(device);
    for (const auto& entry : entries) {
        const auto program = entry.build();
        auto example = entry.make_example();
        gpu_checked checked{entry.kernel, entry.text(), {}, example.tolerance, gpu::lacking(program.manifest.features, device->info().features)};
        if (checked.skipped.empty()) {
            const auto spirv = gpu_spirv(program);
            if (!spirv) return fail(error(spirv.error()).in_tensor(entry.text()));
            gpu::kernel_call call{example.sizes, example.host, {}, example.buffers};
            const auto ran = gpu::run_kernel(*device, program.manifest, *spirv, call);
            if (!ran) return fail(error(ran.error()).in_tensor(entry.text()));
            checked.deviation = gpu::compare(example, program.manifest, call.buffers);
        }
        each(checked);
    }
    return {};
}

namespace {

/// Times programs on one device, over enough copies of their buffers that caches do not hold them.
class stopwatch {
public:
    stopwatch(const gpu::vulkan_device& device, std::uint64_t working_set) : device_(device), working_set_(working_set) {}

    /// Seconds of one call in the best round, and the bytes that it reads or writes at least.
    result<std::pair<double, std::uint64_t>> time(const gpu::program& p, const gpu::size_values& sizes) {
        const auto spirv = gpu_spirv(p);
        if (!spirv) return fail(spirv.error());
        const auto pipeline = device_.make_pipeline(p.manifest, *spirv);
        if (!pipeline) return fail(pipeline.error());
        auto dispatches = gpu::plan(p.manifest, sizes, device_.info().limits);
        if (!dispatches) return pass(dispatches);
        gpu::parameter_values given;
        for (const auto& parameter : p.manifest.parameters) {
            if (!parameter.value) given.emplace_back(parameter.name, 1.0);
        }
        if (auto done = gpu::give_parameters(p.manifest, given, *dispatches); !done) return fail(std::move(done.error()));

        const auto lengths = gpu::buffer_bytes(p.manifest, *dispatches);
        std::uint64_t bytes = 0;
        for (const auto n : lengths) bytes += n;
        const std::size_t copies = static_cast<std::size_t>(std::clamp<std::uint64_t>(working_set_ / std::max<std::uint64_t>(bytes, 1), 1, 64));
        std::vector<gpu::vulkan_step> steps;
        for (std::size_t c = 0; c < copies; ++c) {
            std::vector<gpu::vulkan_buffer> buffers;
            for (const auto n : lengths) {
                auto buffer = device_.make_buffer(n);
                if (!buffer) return pass(buffer);
                if (auto filled = fill(*buffer, n); !filled) return fail(std::move(filled.error()));
                buffers.push_back(std::move(*buffer));
            }
            for (const auto& d : *dispatches) steps.push_back({*pipeline, d, buffers});
        }
        const auto recording = device_.record(std::move(steps));
        if (!recording) return fail(recording.error());
        double best = std::numeric_limits<double>::infinity();
        for (int round = 0; round < 5; ++round) {
            const auto seconds = device_.run(*recording);
            if (!seconds) return fail(seconds.error());
            if (seconds->empty()) {
                return fail(
                    error{errc::unsupported, "the device \"" + device_.info().name + "\" has no timestamps", {}, {}, {}, "choose another with --device"});
            }
            double sum = 0;
            for (const double s : *seconds) sum += s;
            best = std::min(best, sum / static_cast<double>(copies));
        }
        return std::pair(best, bytes);
    }

private:
    const gpu::vulkan_device& device_;
    std::uint64_t working_set_;

    /// Numbers of moderate size under any type, so that nothing runs faster or slower for being zero or NaN.
    result<void> fill(const gpu::vulkan_buffer& buffer, std::uint64_t n_bytes) {
        static const auto noise = [] {
            std::vector<std::byte> bytes(std::size_t{4} << 20);
            std::mt19937 bits(1);
            for (auto& b : bytes) b = static_cast<std::byte>(bits() & 0x3BU);
            return bytes;
        }();
        for (std::uint64_t at = 0; at < n_bytes; at += noise.size()) {
            const auto n = std::min<std::uint64_t>(noise.size(), n_bytes - at);
            if (auto done = device_.upload(std::span(noise).first(static_cast<std::size_t>(n)), buffer, at); !done) return done;
        }
        return {};
    }
};

}  // namespace

result<gpu_bench_report> gpu_bench(const gpu_bench_options& options, const std::function<void(const gpu_timed&)>& each) {
    auto device = gpu::vulkan_device::open(options.device);
    if (!device) return pass(device);
    const auto& info = device->info();
    stopwatch watch(*device, options.working_set);
    gpu_bench_report report;
    report.device = info.name;
    report.software = info.kind == gpu::vulkan_kind::software;

    const std::uint64_t stream_bytes = std::min<std::uint64_t>(options.working_set / 4, info.limits.max_binding_bytes);
    const auto probe = gpu::catalog_build("stream_read", {}, {});
    if (!probe) return fail(probe.error());
    const auto streamed = watch.time(*probe, {{"n", stream_bytes / 16}});
    if (!streamed) return fail(streamed.error());
    report.stream_bytes_per_second = static_cast<double>(streamed->second) / streamed->first;

    gpu::kernel_spec base;
    base.activations = info.features.f16 ? options.activations : gpu::scalar::f32;
    base.tune = gpu::tuned(gpu::preset_of(0, info.name), info.features);
    const auto run = [&](const std::string& kernel, const std::string& codec, gpu::kernel_spec spec, gpu::u32 m,
                         const std::vector<gpu::tuning>& grid) -> result<void> {
        const gpu::size_values sizes{{"m", m}, {"n", spec.n}, {"k", spec.k}};
        std::uint64_t bytes = 0;
        std::optional<error> failed;
        const auto tried = gpu::tune(grid, [&](const gpu::tuning& t) -> std::optional<double> {
            spec.tune = t;
            const auto program = gpu::catalog_build(kernel, codec, spec);
            if (!program) {
                failed = program.error();
                return std::nullopt;
            }
            const auto timed = watch.time(*program, sizes);
            if (!timed) {
                failed = timed.error();
                return std::nullopt;
            }
            bytes = timed->second;
            return timed->first;
        });
        if (tried.empty()) return fail(failed.value_or(error{errc::unsupported, "no tuning of " + kernel + " runs on this device", {}, {}, {}, {}}));
        const auto& t = tried.front().choice;
        gpu_timed row;
        row.kernel = kernel, row.codec = codec;
        row.shape = (m > 1 ? "M = " + std::to_string(m) + ", " : "") + std::to_string(spec.n) + " x " + std::to_string(spec.k);
        row.tuning = kernel == "gemm" ? std::to_string(t.threads_m) + " x " + std::to_string(t.threads_n) + " lanes of " + std::to_string(t.m_per_thread) +
                                            " x " + std::to_string(t.n_per_thread)
                                      : std::to_string(t.lanes_k) + " x " + std::to_string(t.lanes_n) + " lanes of " + std::to_string(t.rows_per_lane) +
                                            (t.subgroups ? ", subgroups" : "");
        row.seconds = tried.front().seconds;
        row.bytes = static_cast<double>(bytes);
        row.operations = 2.0 * m * spec.n * spec.k;
        each(row);
        report.rows.push_back(std::move(row));
        return {};
    };
    for (const auto& codec : options.codecs) {
        for (const auto& [n, k] : options.shapes) {
            auto spec = base;
            spec.n = n, spec.k = k;
            const auto one = std::vector{base.tune};
            if (auto done = run("gemv", codec, spec, 1, options.tune ? gpu::product_tunings(info.features, info.limits, base.tune) : one); !done)
                return pass(done);
            for (const auto m : options.batches) {
                if (auto done = run("gemm", codec, spec, m, options.tune ? gpu::tile_tunings(info.limits, base.tune) : one); !done) return pass(done);
            }
        }
    }
    return report;
}

}  // namespace nibble::command
