// SPDX-License-Identifier: Apache-2.0
// Stands in for the libvk_swiftshader.so of a copied Chromium: hands all calls on to the system's Vulkan loader with Mesa's lavapipe, which has
// shader-f16 and is faster. Chromium's WebGPU takes no other software device than SwiftShader, so lavapipe's ids are reported as its ids.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*function)(void);
typedef function (*lookup)(void* instance, const char* name);
typedef void (*describe)(void* device, void* properties);

static const uint32_t google = 0x1AE0, swiftshader = 0xC0DE;
static describe properties_1, properties_2;

// VkPhysicalDeviceProperties begins with apiVersion, driverVersion, vendorID, deviceID.
static void rename_device(uint32_t* properties) {
    properties[2] = google;
    properties[3] = swiftshader;
}

static void describe_1(void* device, void* properties) {
    properties_1(device, properties);
    rename_device(properties);
}

// VkPhysicalDeviceProperties2 has sType and pNext (16 bytes) before that.
static void describe_2(void* device, void* properties) {
    properties_2(device, properties);
    rename_device((uint32_t*)((char*)properties + 16));
}

static lookup system_loader(void) {
    static lookup found;
    if (found) return found;
    const char* named = getenv("LAVAPIPE_ICD");
    setenv("VK_DRIVER_FILES", named ? named : "/usr/share/vulkan/icd.d/lvp_icd.json", 1);
    setenv("VK_ICD_FILENAMES", getenv("VK_DRIVER_FILES"), 1);
    void* library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "software_adapter: %s\n", dlerror());
        return NULL;
    }
    found = (lookup)dlsym(library, "vkGetInstanceProcAddr");
    return found;
}

__attribute__((visibility("default"))) function vkGetInstanceProcAddr(void* instance, const char* name) {
    const lookup loader = system_loader();
    const function f = loader ? loader(instance, name) : NULL;
    if (!f) return NULL;
    if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (function)vkGetInstanceProcAddr;
    if (strcmp(name, "vkGetPhysicalDeviceProperties") == 0) {
        properties_1 = (describe)f;
        return (function)describe_1;
    }
    if (strncmp(name, "vkGetPhysicalDeviceProperties2", 30) == 0) {
        properties_2 = (describe)f;
        return (function)describe_2;
    }
    return f;
}
