// SPDX-License-Identifier: Apache-2.0
#pragma once
// Vulkan's headers, and what gpu/vulkan.hpp is made of: an instance, what its devices say of themselves, a device with a queue, and
// memory. Nothing else of nibble includes Vulkan.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <vulkan/vulkan.h>

#include "nibble/core/result.hpp"
#include "nibble/gpu/manifest.hpp"

namespace nibble::gpu {

/// What a Vulkan device says that it is.
enum class vulkan_kind : std::uint8_t { discrete, integrated, virtual_gpu, other, software };

[[nodiscard]] constexpr std::string_view name_of(vulkan_kind kind) {
    constexpr std::array<std::string_view, 5> names{"discrete", "integrated", "virtual", "other", "software"};
    return names[static_cast<std::size_t>(kind)];
}

/// What a device says of itself.
struct vulkan_device_info {
    std::uint32_t index = 0;  ///< in list_vulkan_devices()
    std::string name;         ///< "llvmpipe (LLVM 15.0.6, 256 bits)"
    std::string driver;       ///< "llvmpipe, Mesa 25.0.7"; empty where the driver does not say
    vulkan_kind kind = vulkan_kind::other;
    std::uint32_t version = 0;  ///< of Vulkan, as VK_MAKE_API_VERSION packs it; no more than is used here, 1.3
    feature_set features;
    device_limits limits;
    std::uint64_t push_constant_bytes = 0;  ///< of all parameters of a kernel
    std::uint64_t memory_bytes = 0;         ///< the largest heap that is the device's own
    std::uint32_t subgroup_size = 0;
    bool timestamps = false;  ///< times of dispatches can be had
};

}  // namespace nibble::gpu

namespace nibble::gpu::detail {

[[nodiscard]] inline std::string text_of(VkResult status) {
    switch (status) {
        case VK_ERROR_OUT_OF_HOST_MEMORY:
            return "out of host memory";
        case VK_ERROR_OUT_OF_DEVICE_MEMORY:
            return "out of device memory";
        case VK_ERROR_INITIALIZATION_FAILED:
            return "initialisation failed";
        case VK_ERROR_DEVICE_LOST:
            return "the device is lost";
        case VK_ERROR_LAYER_NOT_PRESENT:
            return "a layer is not there";
        case VK_ERROR_EXTENSION_NOT_PRESENT:
            return "an extension is not there";
        case VK_ERROR_FEATURE_NOT_PRESENT:
            return "a feature is not there";
        case VK_ERROR_INCOMPATIBLE_DRIVER:
            return "no driver is compatible";
        case VK_ERROR_TOO_MANY_OBJECTS:
            return "too many objects";
        default:
            return "status " + std::to_string(static_cast<int>(status));
    }
}

[[nodiscard]] inline tl::unexpected<error> vulkan_error(VkResult status, const std::string& what) {
    return fail(errc::io, "Vulkan cannot " + what + ": " + text_of(status));
}

[[nodiscard]] inline tl::unexpected<error> no_vulkan_device(std::string rule) {
    error e{errc::missing, std::move(rule), {}, {}, {}, {}};
    return fail(std::move(e).advise("install a Vulkan driver (Mesa's mesa-vulkan-drivers has one for GPUs and a software device)"));
}

/// VkPhysicalDeviceCooperativeMatrixFeaturesKHR, which the headers of Debian 12 do not have yet.
struct cooperative_matrix_features {
    VkStructureType type = static_cast<VkStructureType>(1000506000);
    void* next = nullptr;
    VkBool32 matrix = VK_FALSE;
    VkBool32 robust = VK_FALSE;
};

/// The optional features that kernels use, as a chain that asks a device for them, and then one that switches on what it has.
class vulkan_features {
public:
    explicit vulkan_features(VkPhysicalDevice device, std::uint32_t version) {
        std::uint32_t n = 0;
        vkEnumerateDeviceExtensionProperties(device, nullptr, &n, nullptr);
        std::vector<VkExtensionProperties> offered(n);
        vkEnumerateDeviceExtensionProperties(device, nullptr, &n, offered.data());
        const auto has = [&](std::string_view name) {
            return std::any_of(offered.begin(), offered.end(), [&](const auto& e) { return name == e.extensionName; });
        };
        // A feature is part of Vulkan from some version on, and before that an extension.
        const auto ask = [&](auto& feature, const char* extension, std::uint32_t core) {
            if (version < core) {
                if (!has(extension)) return;
                extensions.push_back(extension);
            }
            feature.pNext = all_.pNext;
            all_.pNext = &feature;
        };
        ask(storage16_, "VK_KHR_16bit_storage", VK_API_VERSION_1_1);
        ask(float16_, "VK_KHR_shader_float16_int8", VK_API_VERSION_1_2);
        ask(dot_, "VK_KHR_shader_integer_dot_product", VK_API_VERSION_1_3);
        ask(memory_model_, "VK_KHR_vulkan_memory_model", VK_API_VERSION_1_2);
        if (has("VK_KHR_cooperative_matrix")) {
            matrix_.next = all_.pNext;
            all_.pNext = &matrix_;
            extensions.push_back("VK_KHR_cooperative_matrix");
        }
        if (has("VK_KHR_portability_subset")) extensions.push_back("VK_KHR_portability_subset");  // where there is one, it must be named
        vkGetPhysicalDeviceFeatures2(device, &all_);

        VkPhysicalDeviceSubgroupProperties subgroups{};
        subgroups.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES;
        VkPhysicalDeviceProperties2 properties{};
        properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
        properties.pNext = &subgroups;
        vkGetPhysicalDeviceProperties2(device, &properties);
        constexpr VkSubgroupFeatureFlags operations = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_VOTE_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
                                                      VK_SUBGROUP_FEATURE_BALLOT_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
        subgroup_size = subgroups.subgroupSize;
        offers.subgroups = (subgroups.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0 && (subgroups.supportedOperations & operations) == operations;
        offers.subgroup_id = offers.subgroups;
        offers.f16 = storage16_.storageBuffer16BitAccess != VK_FALSE && float16_.shaderFloat16 != VK_FALSE;
        offers.int8_dot = dot_.shaderIntegerDotProduct != VK_FALSE;
        offers.matrix = offers.f16 && matrix_.matrix != VK_FALSE && memory_model_.vulkanMemoryModel != VK_FALSE;

        // The same chain switches on what it names: no more than this.
        all_.features = {};
        const auto only = [](auto& structure, VkBool32& feature, bool on) {
            auto kept = structure;
            structure = {};
            structure.sType = kept.sType;
            structure.pNext = kept.pNext;
            feature = on ? VK_TRUE : VK_FALSE;
        };
        only(storage16_, storage16_.storageBuffer16BitAccess, offers.f16);
        only(float16_, float16_.shaderFloat16, offers.f16);
        only(dot_, dot_.shaderIntegerDotProduct, offers.int8_dot);
        only(memory_model_, memory_model_.vulkanMemoryModel, offers.matrix);
        matrix_.matrix = offers.matrix ? VK_TRUE : VK_FALSE;
        matrix_.robust = VK_FALSE;
    }
    vulkan_features(const vulkan_features&) = delete;  // the chain points into itself
    vulkan_features& operator=(const vulkan_features&) = delete;

    [[nodiscard]] const void* chain() const { return &all_; }

    feature_set offers;
    std::vector<const char*> extensions;
    std::uint32_t subgroup_size = 0;

private:
    VkPhysicalDeviceFeatures2 all_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, nullptr, {}};
    VkPhysicalDevice16BitStorageFeatures storage16_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES, nullptr, 0, 0, 0, 0};
    VkPhysicalDeviceShaderFloat16Int8Features float16_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES, nullptr, 0, 0};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES, nullptr, 0};
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model_{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES, nullptr, 0, 0, 0};
    cooperative_matrix_features matrix_;
};

/// Instance, device and queue, which everything else is made of and keeps alive.
class vulkan_context {
public:
    vulkan_context() = default;
    vulkan_context(const vulkan_context&) = delete;
    vulkan_context& operator=(const vulkan_context&) = delete;
    ~vulkan_context() {
        if (device != VK_NULL_HANDLE) {
            vkDeviceWaitIdle(device);
            vkDestroyBuffer(device, staging, nullptr);
            vkFreeMemory(device, staging_memory, nullptr);
            vkDestroyFence(device, fence, nullptr);
            vkDestroyCommandPool(device, pool, nullptr);
            vkDestroyDevice(device, nullptr);
        }
        if (messenger != VK_NULL_HANDLE) {
            const auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(vkGetInstanceProcAddr(instance, "vkDestroyDebugUtilsMessengerEXT"));
            destroy(instance, messenger, nullptr);
        }
        if (instance != VK_NULL_HANDLE) vkDestroyInstance(instance, nullptr);
    }

    static constexpr std::uint64_t staging_bytes = 16u << 20;

    VkInstance instance = VK_NULL_HANDLE;
    std::uint32_t version = 0;  ///< what the instance and a device may use
    bool validating = false;
    VkDebugUtilsMessengerEXT messenger = VK_NULL_HANDLE;
    std::vector<std::string> messages;  ///< of the validation layer
    VkPhysicalDevice physical = VK_NULL_HANDLE;
    vulkan_device_info info;
    VkDevice device = VK_NULL_HANDLE;
    std::uint32_t family = 0;
    std::uint32_t timestamp_bits = 0;
    double timestamp_seconds = 0;
    VkQueue queue = VK_NULL_HANDLE;
    VkCommandPool pool = VK_NULL_HANDLE;
    VkCommandBuffer commands = VK_NULL_HANDLE;  ///< for copies
    VkFence fence = VK_NULL_HANDLE;
    VkBuffer staging = VK_NULL_HANDLE;
    VkDeviceMemory staging_memory = VK_NULL_HANDLE;
    std::byte* staged = nullptr;

    [[nodiscard]] result<void> make_instance(bool validate);
    [[nodiscard]] std::vector<VkPhysicalDevice> devices() const;
    [[nodiscard]] vulkan_device_info describe(VkPhysicalDevice candidate, std::uint32_t index, const vulkan_features& features) const;
    [[nodiscard]] result<void> make_device();
    [[nodiscard]] result<void> allocate(std::uint64_t n_bytes, bool on_host, VkBuffer& buffer, VkDeviceMemory& memory) const;
    [[nodiscard]] result<void> submit_and_wait(VkCommandBuffer what) const;

    /// Records commands and waits for their end.
    template <class Record>
    [[nodiscard]] result<void> immediately(const Record& record) const {
        VkCommandBufferBeginInfo begin{};
        begin.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
        begin.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
        if (const auto s = vkBeginCommandBuffer(commands, &begin); s != VK_SUCCESS) return vulkan_error(s, "record commands");
        record(commands);
        if (const auto s = vkEndCommandBuffer(commands); s != VK_SUCCESS) return vulkan_error(s, "record commands");
        return submit_and_wait(commands);
    }
};

/// What follows begins after what came before has ended, and sees what it wrote.
inline void vulkan_barrier(VkCommandBuffer commands) {
    constexpr VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier barrier{};
    barrier.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
    barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    barrier.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    vkCmdPipelineBarrier(commands, stages, stages, 0, 1, &barrier, 0, nullptr, 0, nullptr);
}

/// An object of a device, destroyed with the last that holds it.
template <class Handle, auto Destroy>
class vulkan_object {
public:
    explicit vulkan_object(std::shared_ptr<vulkan_context> context, Handle object = VK_NULL_HANDLE) : handle(object), context_(std::move(context)) {}
    ~vulkan_object() { Destroy(context_->device, handle, nullptr); }
    vulkan_object(const vulkan_object&) = delete;
    vulkan_object& operator=(const vulkan_object&) = delete;
    Handle handle;

private:
    std::shared_ptr<vulkan_context> context_;
};

struct vulkan_storage {
    explicit vulkan_storage(const std::shared_ptr<vulkan_context>& context) : memory(context), buffer(context) {}
    vulkan_object<VkDeviceMemory, vkFreeMemory> memory;
    vulkan_object<VkBuffer, vkDestroyBuffer> buffer;
    std::uint64_t n_bytes = 0;
};

inline VKAPI_ATTR VkBool32 VKAPI_CALL take_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                                   const VkDebugUtilsMessengerCallbackDataEXT* data, void* messages) {
    static_cast<std::vector<std::string>*>(messages)->push_back(data->pMessage);
    return VK_FALSE;
}

inline result<void> vulkan_context::make_instance(bool validate) {
    constexpr const char* layer = "VK_LAYER_KHRONOS_validation";
    constexpr const char* portability = "VK_KHR_portability_enumeration";
    std::uint32_t loader = VK_API_VERSION_1_0;
    vkEnumerateInstanceVersion(&loader);
    version = std::min<std::uint32_t>(loader, VK_API_VERSION_1_3);
    if (version < VK_API_VERSION_1_1) return no_vulkan_device("Vulkan's loader is older than 1.1");

    std::vector<const char*> layers;
    std::vector<const char*> extensions;
    std::uint32_t n = 0;
    if (validate) {
        vkEnumerateInstanceLayerProperties(&n, nullptr);
        std::vector<VkLayerProperties> offered(n);
        vkEnumerateInstanceLayerProperties(&n, offered.data());
        validating = std::any_of(offered.begin(), offered.end(), [&](const auto& l) { return std::string_view(l.layerName) == layer; });
        if (validating) {
            layers.push_back(layer);
            extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
        }
    }
    vkEnumerateInstanceExtensionProperties(nullptr, &n, nullptr);
    std::vector<VkExtensionProperties> offered(n);
    vkEnumerateInstanceExtensionProperties(nullptr, &n, offered.data());
    const bool portable = std::any_of(offered.begin(), offered.end(), [&](const auto& e) { return std::string_view(e.extensionName) == portability; });
    if (portable) extensions.push_back(portability);

    VkApplicationInfo application{};
    application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    application.pApplicationName = "nibble";
    application.apiVersion = version;
    VkInstanceCreateInfo info_of_instance{};
    info_of_instance.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    info_of_instance.flags = portable ? 1u : 0u;  // VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR, which older headers lack
    info_of_instance.pApplicationInfo = &application;
    info_of_instance.enabledLayerCount = static_cast<std::uint32_t>(layers.size());
    info_of_instance.ppEnabledLayerNames = layers.data();
    info_of_instance.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
    info_of_instance.ppEnabledExtensionNames = extensions.data();
    const VkResult status = vkCreateInstance(&info_of_instance, nullptr, &instance);
    if (status == VK_ERROR_INCOMPATIBLE_DRIVER) return no_vulkan_device("no Vulkan driver is installed");
    if (status != VK_SUCCESS) return vulkan_error(status, "start");

    if (validating) {
        VkDebugUtilsMessengerCreateInfoEXT wanted{};
        wanted.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
        wanted.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
        wanted.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
        wanted.pfnUserCallback = take_message;
        wanted.pUserData = &messages;
        const auto create = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(vkGetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT"));
        if (const auto s = create(instance, &wanted, nullptr, &messenger); s != VK_SUCCESS) return vulkan_error(s, "listen to its validation layer");
    }
    return {};
}

inline std::vector<VkPhysicalDevice> vulkan_context::devices() const {
    std::uint32_t n = 0;
    vkEnumeratePhysicalDevices(instance, &n, nullptr);
    std::vector<VkPhysicalDevice> all(n);
    vkEnumeratePhysicalDevices(instance, &n, all.data());
    all.resize(n);
    all.erase(std::remove_if(all.begin(), all.end(),
                             [](VkPhysicalDevice d) {
                                 VkPhysicalDeviceProperties p{};
                                 vkGetPhysicalDeviceProperties(d, &p);
                                 return p.apiVersion < VK_API_VERSION_1_1;
                             }),
              all.end());
    return all;
}

/// A queue family that computes, rather one that tells the time; none is the number of families.
[[nodiscard]] inline std::uint32_t compute_family(const std::vector<VkQueueFamilyProperties>& families) {
    const auto computes = [](const VkQueueFamilyProperties& f) { return (f.queueFlags & VK_QUEUE_COMPUTE_BIT) != 0; };
    auto found = std::find_if(families.begin(), families.end(), [&](const auto& f) { return computes(f) && f.timestampValidBits != 0; });
    if (found == families.end()) found = std::find_if(families.begin(), families.end(), computes);
    return static_cast<std::uint32_t>(found - families.begin());
}

[[nodiscard]] inline std::vector<VkQueueFamilyProperties> queue_families(VkPhysicalDevice device) {
    std::uint32_t n = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(device, &n, nullptr);
    std::vector<VkQueueFamilyProperties> families(n);
    vkGetPhysicalDeviceQueueFamilyProperties(device, &n, families.data());
    return families;
}

inline vulkan_device_info vulkan_context::describe(VkPhysicalDevice candidate, std::uint32_t index, const vulkan_features& features) const {
    VkPhysicalDeviceDriverProperties driver{};
    driver.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES;
    VkPhysicalDeviceProperties2 properties{};
    properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    VkPhysicalDeviceProperties basic{};
    vkGetPhysicalDeviceProperties(candidate, &basic);
    if (std::min(basic.apiVersion, version) >= VK_API_VERSION_1_2) properties.pNext = &driver;
    vkGetPhysicalDeviceProperties2(candidate, &properties);

    vulkan_device_info d;
    d.index = index;
    d.name = basic.deviceName;
    d.driver = driver.driverName;
    if (driver.driverInfo[0] != '\0') d.driver.append(", ").append(driver.driverInfo);
    switch (basic.deviceType) {
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
            d.kind = vulkan_kind::discrete;
            break;
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
            d.kind = vulkan_kind::integrated;
            break;
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
            d.kind = vulkan_kind::virtual_gpu;
            break;
        case VK_PHYSICAL_DEVICE_TYPE_CPU:
            d.kind = vulkan_kind::software;
            break;
        default:
            break;
    }
    d.version = std::min(basic.apiVersion, version);
    d.features = features.offers;
    d.subgroup_size = features.subgroup_size;
    const VkPhysicalDeviceLimits& l = basic.limits;
    d.limits.max_binding_bytes = l.maxStorageBufferRange;
    d.limits.max_workgroups = *std::min_element(std::begin(l.maxComputeWorkGroupCount), std::end(l.maxComputeWorkGroupCount));
    d.limits.max_workgroup_bytes = l.maxComputeSharedMemorySize;
    d.limits.max_invocations = l.maxComputeWorkGroupInvocations;
    d.limits.max_storage_buffers = std::min(l.maxPerStageDescriptorStorageBuffers, l.maxDescriptorSetStorageBuffers);
    d.limits.binding_alignment = l.minStorageBufferOffsetAlignment;
    std::copy(std::begin(l.maxComputeWorkGroupSize), std::end(l.maxComputeWorkGroupSize), d.limits.max_workgroup_size.begin());
    d.push_constant_bytes = l.maxPushConstantsSize;
    VkPhysicalDeviceMemoryProperties memory{};
    vkGetPhysicalDeviceMemoryProperties(candidate, &memory);
    for (std::uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
        if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0) d.memory_bytes = std::max(d.memory_bytes, memory.memoryHeaps[i].size);
    }
    const auto families = queue_families(candidate);
    const std::uint32_t f = compute_family(families);
    d.timestamps = f < families.size() && families[f].timestampValidBits != 0 && l.timestampPeriod > 0;
    return d;
}

inline result<void> vulkan_context::make_device() {
    const auto families = queue_families(physical);
    family = compute_family(families);
    if (family == families.size()) return fail(errc::unsupported, "the Vulkan device " + info.name + " has no queue that computes");
    timestamp_bits = families[family].timestampValidBits;
    VkPhysicalDeviceProperties basic{};
    vkGetPhysicalDeviceProperties(physical, &basic);
    timestamp_seconds = static_cast<double>(basic.limits.timestampPeriod) * 1e-9;

    const vulkan_features features(physical, info.version);
    const float priority = 1;
    VkDeviceQueueCreateInfo queues{};
    queues.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
    queues.queueFamilyIndex = family;
    queues.queueCount = 1;
    queues.pQueuePriorities = &priority;
    VkDeviceCreateInfo wanted{};
    wanted.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
    wanted.pNext = features.chain();
    wanted.queueCreateInfoCount = 1;
    wanted.pQueueCreateInfos = &queues;
    wanted.enabledExtensionCount = static_cast<std::uint32_t>(features.extensions.size());
    wanted.ppEnabledExtensionNames = features.extensions.data();
    if (const auto s = vkCreateDevice(physical, &wanted, nullptr, &device); s != VK_SUCCESS) return vulkan_error(s, "open the device " + info.name);
    vkGetDeviceQueue(device, family, 0, &queue);

    VkCommandPoolCreateInfo of_pool{};
    of_pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
    of_pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
    of_pool.queueFamilyIndex = family;
    if (const auto s = vkCreateCommandPool(device, &of_pool, nullptr, &pool); s != VK_SUCCESS) return vulkan_error(s, "make a command pool");
    VkCommandBufferAllocateInfo of_commands{};
    of_commands.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
    of_commands.commandPool = pool;
    of_commands.commandBufferCount = 1;
    if (const auto s = vkAllocateCommandBuffers(device, &of_commands, &commands); s != VK_SUCCESS) return vulkan_error(s, "make a command buffer");
    VkFenceCreateInfo of_fence{};
    of_fence.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
    if (const auto s = vkCreateFence(device, &of_fence, nullptr, &fence); s != VK_SUCCESS) return vulkan_error(s, "make a fence");
    return {};
}

/// A buffer with memory of its own: the device's, or the host's for copies. What was made stays with the caller, also after an error.
inline result<void> vulkan_context::allocate(std::uint64_t n_bytes, bool on_host, VkBuffer& buffer, VkDeviceMemory& memory) const {
    const std::string what = "make a buffer of " + std::to_string(n_bytes) + " bytes";
    VkBufferCreateInfo wanted{};
    wanted.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
    wanted.size = n_bytes;
    wanted.usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    if (!on_host) wanted.usage |= VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
    if (const auto s = vkCreateBuffer(device, &wanted, nullptr, &buffer); s != VK_SUCCESS) return vulkan_error(s, what);
    VkMemoryRequirements needs{};
    vkGetBufferMemoryRequirements(device, buffer, &needs);
    VkPhysicalDeviceMemoryProperties types{};
    vkGetPhysicalDeviceMemoryProperties(physical, &types);
    constexpr VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    // Cached memory is read faster by the host. Every device has memory of the second kind.
    const std::array<VkMemoryPropertyFlags, 2> kinds = on_host ? std::array<VkMemoryPropertyFlags, 2>{visible | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, visible}
                                                               : std::array<VkMemoryPropertyFlags, 2>{VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
    VkResult status = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    for (const VkMemoryPropertyFlags kind : kinds) {
        for (std::uint32_t i = 0; i < types.memoryTypeCount && status != VK_SUCCESS; ++i) {
            if ((needs.memoryTypeBits >> i & 1u) == 0 || (types.memoryTypes[i].propertyFlags & kind) != kind) continue;
            VkMemoryAllocateInfo allocation{};
            allocation.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
            allocation.allocationSize = needs.size;
            allocation.memoryTypeIndex = i;
            status = vkAllocateMemory(device, &allocation, nullptr, &memory);
            if (status != VK_SUCCESS) memory = VK_NULL_HANDLE;
        }
        if (status == VK_SUCCESS) break;
    }
    if (status != VK_SUCCESS) return vulkan_error(status, what);
    if (const auto s = vkBindBufferMemory(device, buffer, memory, 0); s != VK_SUCCESS) return vulkan_error(s, what);
    return {};
}

inline result<void> vulkan_context::submit_and_wait(VkCommandBuffer what) const {
    VkSubmitInfo submission{};
    submission.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
    submission.commandBufferCount = 1;
    submission.pCommandBuffers = &what;
    if (const auto s = vkResetFences(device, 1, &fence); s != VK_SUCCESS) return vulkan_error(s, "reset a fence");
    if (const auto s = vkQueueSubmit(queue, 1, &submission, fence); s != VK_SUCCESS) return vulkan_error(s, "run");
    if (const auto s = vkWaitForFences(device, 1, &fence, VK_TRUE, UINT64_MAX); s != VK_SUCCESS) return vulkan_error(s, "finish");
    return {};
}

}  // namespace nibble::gpu::detail
