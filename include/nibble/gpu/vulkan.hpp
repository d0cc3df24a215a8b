// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs kernels on a Vulkan device: SPIR-V and a manifest in, buffers up and down, the time of every dispatch. Optional: the target
// nibble::vulkan brings Vulkan's headers and loader. It knows no kernel by name.

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "nibble/core/result.hpp"
#include "nibble/gpu/manifest.hpp"
#include "nibble/gpu/vulkan_context.hpp"

namespace nibble::gpu::detail {

struct vulkan_kernel {
    explicit vulkan_kernel(const std::shared_ptr<vulkan_context>& context) : set_layout(context), layout(context), pipeline(context) {}
    vulkan_object<VkDescriptorSetLayout, vkDestroyDescriptorSetLayout> set_layout;
    vulkan_object<VkPipelineLayout, vkDestroyPipelineLayout> layout;
    vulkan_object<VkPipeline, vkDestroyPipeline> pipeline;
    std::string name;
    std::size_t n_bindings = 0;
    std::size_t n_parameters = 0;
};

}  // namespace nibble::gpu::detail

namespace nibble::gpu {

/// Constants of a pipeline by name: {{"tile", 8}}. Those that are not named keep the manifest's value.
using constant_values = std::vector<std::pair<std::string, std::uint32_t>>;

/// Memory of a device. Copies share it; the last one frees it.
class vulkan_buffer {
public:
    [[nodiscard]] std::uint64_t n_bytes() const { return storage_->n_bytes; }

private:
    friend class vulkan_device;
    explicit vulkan_buffer(std::shared_ptr<const detail::vulkan_storage> storage) : storage_(std::move(storage)) {}
    std::shared_ptr<const detail::vulkan_storage> storage_;
};

/// A kernel that is ready to run. Copies share it.
class vulkan_pipeline {
private:
    friend class vulkan_device;
    explicit vulkan_pipeline(std::shared_ptr<const detail::vulkan_kernel> kernel) : kernel_(std::move(kernel)) {}
    std::shared_ptr<const detail::vulkan_kernel> kernel_;
};

/// A dispatch of plan(), its host's parameters given, with the whole buffers in the manifest's order.
struct vulkan_step {
    vulkan_pipeline kernel;
    dispatch what;
    std::vector<vulkan_buffer> buffers;
};

/// Steps that were recorded once and run as often as wanted, each after the one before. Keeps pipelines and buffers alive.
class vulkan_recording {
private:
    friend class vulkan_device;
    struct parts {
        explicit parts(const std::shared_ptr<detail::vulkan_context>& context) : descriptors(context), queries(context), pool(context) {}
        detail::vulkan_object<VkDescriptorPool, vkDestroyDescriptorPool> descriptors;
        detail::vulkan_object<VkQueryPool, vkDestroyQueryPool> queries;
        detail::vulkan_object<VkCommandPool, vkDestroyCommandPool> pool;
        VkCommandBuffer commands = VK_NULL_HANDLE;
        std::vector<vulkan_step> steps;
    };
    explicit vulkan_recording(std::unique_ptr<const parts> p) : parts_(std::move(p)) {}
    std::unique_ptr<const parts> parts_;
};

/// One device. What it made keeps it alive. Used by one thread at a time.
class vulkan_device {
public:
    /// `which` is an index in list_vulkan_devices() or a part of a name in any case; empty takes a GPU where there is one. With
    /// `validate`, Khronos' validation layer reads along where it is installed: see validation_messages(). Errors: missing (no
    /// driver, no such device), unsupported (a device that does not do what it is told, as drivers for tests of applications do not).
    [[nodiscard]] static result<vulkan_device> open(std::string_view which = {}, bool validate = false);

    [[nodiscard]] const vulkan_device_info& info() const { return context_->info; }
    [[nodiscard]] bool is_validating() const { return context_->validating; }
    /// Warnings and errors of the validation layer so far.
    [[nodiscard]] const std::vector<std::string>& validation_messages() const { return context_->messages; }

    /// At least n_bytes, whole words, all zero. Errors: io (the device has not so much).
    [[nodiscard]] result<vulkan_buffer> make_buffer(std::uint64_t n_bytes) const;
    /// Copies bytes from or to a part of a buffer. Errors: mismatch (the part is not in the buffer), io.
    [[nodiscard]] result<void> upload(std::span<const std::byte> bytes, const vulkan_buffer& to, std::uint64_t offset = 0) const;
    [[nodiscard]] result<void> download(const vulkan_buffer& from, std::span<std::byte> bytes, std::uint64_t offset = 0) const;

    /// Errors: unsupported (a feature, a version of SPIR-V, or more parameters than the device takes), mismatch (a constant that the
    /// kernel does not have), malformed (no SPIR-V), io (the driver refuses it). What the driver cannot know is not asked: that SPIR-V
    /// and manifest belong together, and that it is valid.
    [[nodiscard]] result<vulkan_pipeline> make_pipeline(const manifest& m, std::span<const std::uint32_t> spirv, const constant_values& constants = {}) const;

    /// Errors: mismatch (a dispatch that does not fit its kernel or its buffers).
    [[nodiscard]] result<vulkan_recording> record(std::vector<vulkan_step> steps) const;
    /// Waits for the end. The seconds of each step; none where the device has no timestamps.
    [[nodiscard]] result<std::vector<double>> run(const vulkan_recording& recording) const;

private:
    explicit vulkan_device(std::shared_ptr<detail::vulkan_context> context) : context_(std::move(context)) {}
    [[nodiscard]] result<void> make_staging() const;
    template <class Copy>
    [[nodiscard]] result<void> in_pieces(const vulkan_buffer& buffer, std::uint64_t offset, std::uint64_t n_bytes, const Copy& copy) const;
    std::shared_ptr<detail::vulkan_context> context_;
};

/// The devices of at least Vulkan 1.1; none where no driver is installed. Errors: io.
[[nodiscard]] result<std::vector<vulkan_device_info>> list_vulkan_devices();

/// One call of a kernel, from and to the host's memory.
struct kernel_call {
    size_values sizes;
    parameter_values parameters;  ///< that the host gives
    constant_values constants;
    /// By binding, before the call: the content, or its beginning, of which the rest is 0. After it: what the kernel may write has all
    /// of its content, in whole words; the others are as they were.
    std::vector<std::vector<std::byte>> buffers;
};

/// Plans, uploads, runs and downloads; the seconds of each dispatch. `limits` may be tighter than the device's. Errors: those of plan(),
/// give_parameters() and vulkan_device, mismatch (buffers that do not fit the plan).
[[nodiscard]] result<std::vector<double>> run_kernel(const vulkan_device& device, const manifest& m, std::span<const std::uint32_t> spirv, kernel_call& call,
                                                     const device_limits& limits);
[[nodiscard]] inline result<std::vector<double>> run_kernel(const vulkan_device& device, const manifest& m, std::span<const std::uint32_t> spirv,
                                                            kernel_call& call) {
    return run_kernel(device, m, spirv, call, device.info().limits);
}

}  // namespace nibble::gpu

namespace nibble::gpu::detail {

/// The device that `which` names; nothing if there is none.
[[nodiscard]] inline const vulkan_device_info* chosen(const std::vector<vulkan_device_info>& all, std::string_view which) {
    if (which.empty()) {
        const auto best = std::min_element(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.kind < b.kind; });
        return best == all.end() ? nullptr : &*best;
    }
    std::uint32_t index = 0;
    const auto [end, status] = std::from_chars(which.data(), which.data() + which.size(), index);
    if (status == std::errc{} && end == which.data() + which.size()) return index < all.size() ? &all[index] : nullptr;
    const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b)); };
    for (const auto& d : all) {
        if (std::search(d.name.begin(), d.name.end(), which.begin(), which.end(), same) != d.name.end()) return &d;
    }
    return nullptr;
}

[[nodiscard]] inline tl::unexpected<error> no_fit(const vulkan_kernel& kernel, const std::string& what) {
    return fail(errc::mismatch, "a step of kernel '" + kernel.name + "' " + what);
}

}  // namespace nibble::gpu::detail

namespace nibble::gpu {

inline result<std::vector<vulkan_device_info>> list_vulkan_devices() {
    detail::vulkan_context context;
    if (auto made = context.make_instance(false); !made) {
        if (made.error().code == errc::missing) return std::vector<vulkan_device_info>{};
        return pass(made);
    }
    std::vector<vulkan_device_info> all;
    for (const VkPhysicalDevice d : context.devices()) {
        VkPhysicalDeviceProperties basic{};
        vkGetPhysicalDeviceProperties(d, &basic);
        all.push_back(context.describe(d, static_cast<std::uint32_t>(all.size()), detail::vulkan_features(d, std::min(basic.apiVersion, context.version))));
    }
    return all;
}

inline result<vulkan_device> vulkan_device::open(std::string_view which, bool validate) {
    auto context = std::make_shared<detail::vulkan_context>();
    if (auto made = context->make_instance(validate); !made) return pass(made);
    const auto candidates = context->devices();
    std::vector<vulkan_device_info> all;
    std::string names;
    for (const VkPhysicalDevice d : candidates) {
        VkPhysicalDeviceProperties basic{};
        vkGetPhysicalDeviceProperties(d, &basic);
        all.push_back(context->describe(d, static_cast<std::uint32_t>(all.size()), detail::vulkan_features(d, std::min(basic.apiVersion, context->version))));
        names += (names.empty() ? "" : ", ") + std::to_string(all.back().index) + " " + all.back().name;
    }
    if (all.empty()) return detail::no_vulkan_device("there is no Vulkan device of version 1.1 or newer");
    const vulkan_device_info* info = detail::chosen(all, which);
    if (info == nullptr) return fail(errc::missing, "there is no Vulkan device '" + std::string(which) + "'; there are " + names);
    context->info = *info;
    context->physical = candidates[info->index];
    if (auto made = context->make_device(); !made) return pass(made);

    // A driver without a device behind it accepts everything and does nothing: results would be wrong, and times wonderful.
    vulkan_device device(context);
    auto probe = device.make_buffer(4);
    if (!probe) return pass(probe);
    const std::array<std::byte, 4> sent{std::byte{0x6e}, std::byte{0x69}, std::byte{0x62}, std::byte{0x62}};
    std::array<std::byte, 4> received{};
    if (auto r = device.upload(sent, *probe); !r) return pass(r);
    if (auto r = device.download(*probe, received); !r) return pass(r);
    if (sent != received) return fail(errc::unsupported, "the Vulkan device " + info->name + " does not compute: what is copied to it does not come back");
    return device;
}

inline result<vulkan_buffer> vulkan_device::make_buffer(std::uint64_t n_bytes) const {
    auto storage = std::make_shared<detail::vulkan_storage>(context_);
    if (n_bytes > UINT64_MAX - 3) return fail(errc::mismatch, "a buffer of " + std::to_string(n_bytes) + " bytes cannot be");
    storage->n_bytes = std::max<std::uint64_t>((n_bytes + 3) / 4 * 4, 4);
    if (auto made = context_->allocate(storage->n_bytes, false, storage->buffer.handle, storage->memory.handle); !made) return pass(made);
    auto filled = context_->immediately([&](VkCommandBuffer commands) { vkCmdFillBuffer(commands, storage->buffer.handle, 0, VK_WHOLE_SIZE, 0); });
    if (!filled) return pass(filled);
    return vulkan_buffer(std::move(storage));
}

inline result<void> vulkan_device::make_staging() const {
    if (context_->staged != nullptr) return {};
    if (context_->staging == VK_NULL_HANDLE) {
        if (auto made = context_->allocate(context_->staging_bytes, true, context_->staging, context_->staging_memory); !made) return made;
    }
    void* place = nullptr;
    if (const auto s = vkMapMemory(context_->device, context_->staging_memory, 0, VK_WHOLE_SIZE, 0, &place); s != VK_SUCCESS) {
        return detail::vulkan_error(s, "map memory");
    }
    context_->staged = static_cast<std::byte*>(place);
    return {};
}

/// Calls copy(done, n_bytes) for pieces that the staging buffer holds.
template <class Copy>
result<void> vulkan_device::in_pieces(const vulkan_buffer& buffer, std::uint64_t offset, std::uint64_t n_bytes, const Copy& copy) const {
    if (offset > buffer.n_bytes() || n_bytes > buffer.n_bytes() - offset) {
        return fail(errc::mismatch, std::to_string(n_bytes) + " bytes from byte " + std::to_string(offset) + " on are not in a buffer of " +
                                        std::to_string(buffer.n_bytes()) + " bytes");
    }
    if (auto made = make_staging(); !made) return made;
    for (std::uint64_t done = 0; done < n_bytes;) {
        const std::uint64_t piece = std::min(n_bytes - done, context_->staging_bytes);
        if (auto copied = copy(done, piece); !copied) return copied;
        done += piece;
    }
    return {};
}

inline result<void> vulkan_device::upload(std::span<const std::byte> bytes, const vulkan_buffer& to, std::uint64_t offset) const {
    return in_pieces(to, offset, bytes.size(), [&](std::uint64_t done, std::uint64_t n) {
        std::memcpy(context_->staged, bytes.data() + done, n);
        return context_->immediately([&](VkCommandBuffer commands) {
            detail::vulkan_barrier(commands);
            const VkBufferCopy region{0, offset + done, n};
            vkCmdCopyBuffer(commands, context_->staging, to.storage_->buffer.handle, 1, &region);
        });
    });
}

inline result<void> vulkan_device::download(const vulkan_buffer& from, std::span<std::byte> bytes, std::uint64_t offset) const {
    return in_pieces(from, offset, bytes.size(), [&](std::uint64_t done, std::uint64_t n) {
        auto copied = context_->immediately([&](VkCommandBuffer commands) {
            detail::vulkan_barrier(commands);
            const VkBufferCopy region{offset + done, 0, n};
            vkCmdCopyBuffer(commands, from.storage_->buffer.handle, context_->staging, 1, &region);
            VkMemoryBarrier to_host{};
            to_host.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
            to_host.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT;
            to_host.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
            vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &to_host, 0, nullptr, 0, nullptr);
        });
        if (copied) std::memcpy(bytes.data() + done, context_->staged, n);
        return copied;
    });
}

inline result<vulkan_pipeline> vulkan_device::make_pipeline(const manifest& m, std::span<const std::uint32_t> spirv, const constant_values& constants) const {
    const vulkan_device_info& d = context_->info;
    const std::string what = "kernel '" + m.kernel + "' ";
    if (const std::string names = lacking(m.features, d.features); !names.empty()) {
        return fail(errc::unsupported, what + "needs " + names + ", which the device " + d.name + " lacks");
    }
    const std::uint64_t parameter_bytes = m.parameters.size() * 4;
    if (parameter_bytes > d.push_constant_bytes) {
        return fail(errc::unsupported, what + "takes " + std::to_string(parameter_bytes) + " bytes of parameters, the device " + d.name + " allows " +
                                           std::to_string(d.push_constant_bytes));
    }
    if (spirv.size() < 5 || spirv[0] != 0x07230203u)
        return fail(errc::malformed, what + "comes with " + std::to_string(spirv.size() * 4) + " bytes that are no SPIR-V");
    const std::uint32_t most = d.version >= VK_API_VERSION_1_3 ? 0x10600u : d.version >= VK_API_VERSION_1_2 ? 0x10500u : 0x10300u;
    if (spirv[1] > most) {
        return fail(errc::unsupported,
                    what + "is SPIR-V 1." + std::to_string(spirv[1] >> 8 & 255u) + ", the device " + d.name + " takes 1." + std::to_string(most >> 8 & 255u));
    }
    std::vector<VkSpecializationMapEntry> entries;
    std::vector<std::uint32_t> values;
    for (const constant& c : m.constants) {
        entries.push_back({c.id, static_cast<std::uint32_t>(values.size() * 4), 4});
        values.push_back(c.value);
    }
    for (const auto& given : constants) {
        const auto found = std::find_if(m.constants.begin(), m.constants.end(), [&](const constant& c) { return c.name == given.first; });
        if (found == m.constants.end()) return fail(errc::mismatch, what + "has no constant '" + given.first + "'");
        values[static_cast<std::size_t>(found - m.constants.begin())] = given.second;
    }

    auto kernel = std::make_shared<detail::vulkan_kernel>(context_);
    kernel->name = m.kernel;
    kernel->n_bindings = m.bindings.size();
    kernel->n_parameters = m.parameters.size();
    const VkDevice device = context_->device;
    std::vector<VkDescriptorSetLayoutBinding> bindings(m.bindings.size());
    for (std::size_t i = 0; i < bindings.size(); ++i) {
        bindings[i].binding = static_cast<std::uint32_t>(i);
        bindings[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
        bindings[i].descriptorCount = 1;
        bindings[i].stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
    }
    VkDescriptorSetLayoutCreateInfo of_set{};
    of_set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
    of_set.bindingCount = static_cast<std::uint32_t>(bindings.size());
    of_set.pBindings = bindings.data();
    if (const auto s = vkCreateDescriptorSetLayout(device, &of_set, nullptr, &kernel->set_layout.handle); s != VK_SUCCESS) {
        return detail::vulkan_error(s, "bind the buffers of " + what);
    }
    const VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, static_cast<std::uint32_t>(parameter_bytes)};
    VkPipelineLayoutCreateInfo of_layout{};
    of_layout.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
    of_layout.setLayoutCount = 1;
    of_layout.pSetLayouts = &kernel->set_layout.handle;
    of_layout.pushConstantRangeCount = parameter_bytes == 0 ? 0 : 1;
    of_layout.pPushConstantRanges = &range;
    if (const auto s = vkCreatePipelineLayout(device, &of_layout, nullptr, &kernel->layout.handle); s != VK_SUCCESS) {
        return detail::vulkan_error(s, "lay out " + what);
    }
    detail::vulkan_object<VkShaderModule, vkDestroyShaderModule> module(context_);
    VkShaderModuleCreateInfo of_module{};
    of_module.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
    of_module.codeSize = spirv.size_bytes();
    of_module.pCode = spirv.data();
    if (const auto s = vkCreateShaderModule(device, &of_module, nullptr, &module.handle); s != VK_SUCCESS)
        return detail::vulkan_error(s, "read the SPIR-V of " + what);
    const VkSpecializationInfo specialization{static_cast<std::uint32_t>(entries.size()), entries.data(), values.size() * 4, values.data()};
    VkComputePipelineCreateInfo of_pipeline{};
    of_pipeline.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
    of_pipeline.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    of_pipeline.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    of_pipeline.stage.module = module.handle;
    of_pipeline.stage.pName = m.entry.c_str();
    of_pipeline.stage.pSpecializationInfo = &specialization;
    of_pipeline.layout = kernel->layout.handle;
    if (const auto s = vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &of_pipeline, nullptr, &kernel->pipeline.handle); s != VK_SUCCESS) {
        return detail::vulkan_error(s, "compile " + what);
    }
    return vulkan_pipeline(std::move(kernel));
}

inline result<vulkan_recording> vulkan_device::record(std::vector<vulkan_step> steps) const {
    const device_limits& limits = context_->info.limits;
    std::size_t n_bindings = 0;
    for (const vulkan_step& step : steps) {
        const detail::vulkan_kernel& kernel = *step.kernel.kernel_;
        if (step.buffers.size() != kernel.n_bindings || step.what.bindings.size() != kernel.n_bindings) {
            return detail::no_fit(kernel, "binds " + std::to_string(step.buffers.size()) + " buffers, the kernel takes " + std::to_string(kernel.n_bindings));
        }
        if (step.what.parameters.size() != kernel.n_parameters) {
            return detail::no_fit(
                kernel, "has " + std::to_string(step.what.parameters.size()) + " parameters, the kernel takes " + std::to_string(kernel.n_parameters));
        }
        for (const std::uint32_t side : step.what.grid) {
            if (side == 0 || side > limits.max_workgroups)
                return detail::no_fit(kernel, "has a grid of " + std::to_string(side) + " workgroups in a dimension");
        }
        for (std::size_t i = 0; i < kernel.n_bindings; ++i) {
            const auto& r = step.what.bindings[i];
            const std::uint64_t all = step.buffers[i].n_bytes();
            if (r.bytes == 0 || r.offset > all || r.bytes > all - r.offset || r.bytes > limits.max_binding_bytes || r.offset % limits.binding_alignment != 0) {
                return detail::no_fit(kernel, "cannot bind " + std::to_string(r.bytes) + " bytes from byte " + std::to_string(r.offset) + " on of its buffer " +
                                                  std::to_string(i) + ", which has " + std::to_string(all));
            }
        }
        n_bindings += kernel.n_bindings;
    }

    auto parts = std::make_unique<vulkan_recording::parts>(context_);
    const VkDevice device = context_->device;
    const auto n_steps = static_cast<std::uint32_t>(steps.size());
    const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, static_cast<std::uint32_t>(std::max<std::size_t>(n_bindings, 1))};
    VkDescriptorPoolCreateInfo of_descriptors{};
    of_descriptors.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
    of_descriptors.maxSets = std::max(n_steps, 1u);
    of_descriptors.poolSizeCount = 1;
    of_descriptors.pPoolSizes = &size;
    if (const auto s = vkCreateDescriptorPool(device, &of_descriptors, nullptr, &parts->descriptors.handle); s != VK_SUCCESS) {
        return detail::vulkan_error(s, "make a descriptor pool");
    }
    if (context_->info.timestamps) {
        VkQueryPoolCreateInfo of_queries{};
        of_queries.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO;
        of_queries.queryType = VK_QUERY_TYPE_TIMESTAMP;
        of_queries.queryCount = n_steps + 1;
        if (const auto s = vkCreateQueryPool(device, &of_queries, nullptr, &parts->queries.handle); s != VK_SUCCESS)
            return detail::vulkan_error(s, "make a query pool");
    }
    VkCommandPoolCreateInfo of_pool{};
    of_pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
    of_pool.queueFamilyIndex = context_->family;
    if (const auto s = vkCreateCommandPool(device, &of_pool, nullptr, &parts->pool.handle); s != VK_SUCCESS)
        return detail::vulkan_error(s, "make a command pool");
    VkCommandBufferAllocateInfo of_commands{};
    of_commands.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
    of_commands.commandPool = parts->pool.handle;
    of_commands.commandBufferCount = 1;
    if (const auto s = vkAllocateCommandBuffers(device, &of_commands, &parts->commands); s != VK_SUCCESS)
        return detail::vulkan_error(s, "make a command buffer");

    const VkCommandBuffer commands = parts->commands;
    VkCommandBufferBeginInfo begin{};
    begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
    if (const auto s = vkBeginCommandBuffer(commands, &begin); s != VK_SUCCESS) return detail::vulkan_error(s, "record commands");
    const auto stamp = [&](std::uint32_t i) {
        if (context_->info.timestamps) vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, parts->queries.handle, i);
    };
    if (context_->info.timestamps) vkCmdResetQueryPool(commands, parts->queries.handle, 0, n_steps + 1);
    detail::vulkan_barrier(commands);
    stamp(0);
    std::vector<VkDescriptorBufferInfo> ranges;
    std::vector<VkWriteDescriptorSet> writes;
    for (std::uint32_t i = 0; i < n_steps; ++i) {
        const vulkan_step& step = steps[i];
        const detail::vulkan_kernel& kernel = *step.kernel.kernel_;
        VkDescriptorSet set = VK_NULL_HANDLE;
        VkDescriptorSetAllocateInfo of_set{};
        of_set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
        of_set.descriptorPool = parts->descriptors.handle;
        of_set.descriptorSetCount = 1;
        of_set.pSetLayouts = &kernel.set_layout.handle;
        if (const auto s = vkAllocateDescriptorSets(device, &of_set, &set); s != VK_SUCCESS) return detail::vulkan_error(s, "bind buffers");
        ranges.assign(kernel.n_bindings, {});
        writes.assign(kernel.n_bindings, {});
        for (std::size_t b = 0; b < kernel.n_bindings; ++b) {
            ranges[b] = {step.buffers[b].storage_->buffer.handle, step.what.bindings[b].offset, step.what.bindings[b].bytes};
            writes[b].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
            writes[b].dstSet = set;
            writes[b].dstBinding = static_cast<std::uint32_t>(b);
            writes[b].descriptorCount = 1;
            writes[b].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
            writes[b].pBufferInfo = &ranges[b];
        }
        vkUpdateDescriptorSets(device, static_cast<std::uint32_t>(writes.size()), writes.data(), 0, nullptr);
        vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, kernel.pipeline.handle);
        vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, kernel.layout.handle, 0, 1, &set, 0, nullptr);
        if (kernel.n_parameters != 0) {
            vkCmdPushConstants(commands, kernel.layout.handle, VK_SHADER_STAGE_COMPUTE_BIT, 0, static_cast<std::uint32_t>(kernel.n_parameters * 4),
                               step.what.parameters.data());
        }
        vkCmdDispatch(commands, step.what.grid[0], step.what.grid[1], step.what.grid[2]);
        detail::vulkan_barrier(commands);
        stamp(i + 1);
    }
    if (const auto s = vkEndCommandBuffer(commands); s != VK_SUCCESS) return detail::vulkan_error(s, "record commands");
    parts->steps = std::move(steps);
    return vulkan_recording(std::move(parts));
}

inline result<std::vector<double>> vulkan_device::run(const vulkan_recording& recording) const {
    const auto& parts = *recording.parts_;
    if (auto done = context_->submit_and_wait(parts.commands); !done) return pass(done);
    std::vector<double> seconds;
    if (!context_->info.timestamps || parts.steps.empty()) return seconds;
    std::vector<std::uint64_t> ticks(parts.steps.size() + 1);
    const auto s = vkGetQueryPoolResults(context_->device, parts.queries.handle, 0, static_cast<std::uint32_t>(ticks.size()), ticks.size() * 8, ticks.data(), 8,
                                         VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    if (s != VK_SUCCESS) return detail::vulkan_error(s, "tell the time");
    // The counter has as many bits as the queue says, and may begin anew at any time.
    const std::uint64_t mask = context_->timestamp_bits >= 64 ? UINT64_MAX : (std::uint64_t{1} << context_->timestamp_bits) - 1;
    for (std::size_t i = 0; i + 1 < ticks.size(); ++i) {
        seconds.push_back(static_cast<double>((ticks[i + 1] - ticks[i]) & mask) * context_->timestamp_seconds);
    }
    return seconds;
}

inline result<std::vector<double>> run_kernel(const vulkan_device& device, const manifest& m, std::span<const std::uint32_t> spirv, kernel_call& call,
                                              const device_limits& limits) {
    auto dispatches = plan(m, call.sizes, limits);
    if (!dispatches) return pass(dispatches);
    if (auto given = give_parameters(m, call.parameters, *dispatches); !given) return pass(given);
    auto pipeline = device.make_pipeline(m, spirv, call.constants);
    if (!pipeline) return pass(pipeline);
    const auto n_bytes = buffer_bytes(m, *dispatches);
    if (call.buffers.size() != m.bindings.size()) {
        return fail(errc::mismatch,
                    "kernel '" + m.kernel + "' binds " + std::to_string(m.bindings.size()) + " buffers, " + std::to_string(call.buffers.size()) + " are given");
    }
    std::vector<vulkan_buffer> buffers;
    for (std::size_t i = 0; i < n_bytes.size(); ++i) {
        if (call.buffers[i].size() > n_bytes[i] && !dispatches->empty()) {
            return fail(errc::mismatch, "kernel '" + m.kernel + "' reads " + std::to_string(n_bytes[i]) + " bytes of its buffer '" + m.bindings[i].name +
                                            "', " + std::to_string(call.buffers[i].size()) + " are given");
        }
        auto buffer = device.make_buffer(std::max<std::uint64_t>(n_bytes[i], call.buffers[i].size()));
        if (!buffer) return pass(buffer);
        if (auto sent = device.upload(call.buffers[i], *buffer); !sent) return pass(sent);
        buffers.push_back(std::move(*buffer));
    }
    std::vector<vulkan_step> steps;
    for (dispatch& d : *dispatches) steps.push_back({*pipeline, std::move(d), buffers});
    auto recording = device.record(std::move(steps));
    if (!recording) return pass(recording);
    auto seconds = device.run(*recording);
    if (!seconds) return pass(seconds);
    for (std::size_t i = 0; i < n_bytes.size(); ++i) {
        if (m.bindings[i].access == access::read || dispatches->empty()) continue;
        call.buffers[i].resize(n_bytes[i]);
        if (auto got = device.download(buffers[i], call.buffers[i]); !got) return pass(got);
    }
    return seconds;
}

}  // namespace nibble::gpu
