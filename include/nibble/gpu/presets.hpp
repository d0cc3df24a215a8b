// SPDX-License-Identifier: Apache-2.0
#pragma once
// What to start from on a vendor's devices: numbers that others chose for their kernels there (ggml-vulkan and ggml-webgpu, MatMulNBits of ONNX
// Runtime, WebLLM), and not measured by us but for software devices. A tuner does better wherever it can run.

#include <array>
#include <string_view>

#include "nibble/gpu/spec.hpp"

namespace nibble::gpu {

/// Tuning for the devices of a vendor, and how to know them.
struct preset {
    std::string_view vendor;                ///< "nvidia": also what WebGPU's adapter.info.vendor says, but for software devices
    std::array<std::uint32_t, 3> ids;       ///< vendor ids of PCI and of Khronos; 0: no more
    std::array<std::string_view, 4> names;  ///< how a word of a device's name begins, in small letters; empty: no more
    tuning tune;                            ///< of which `subgroups` is a wish: see tuned()
    u32 int8_from_k = 0;                    ///< smallest K for which activations of int8 are expected to be faster; 0: for none
};

/// By vendor; the last one is for devices of which nothing is known.
inline constexpr std::array presets{
    preset{"software",
           {0x10005, 0x1AE0, 0x1414},  // Mesa, Google (SwiftShader), Microsoft (WARP)
           {"llvmpipe", "swiftshader", "lavapipe", "basic render"},
           // Measured on lavapipe, q4f16_1, 9728 x 896: 4.6 ms; 6.5 ms where sums go through barriers; 31 ms so with one row a lane.
           {.lanes_k = 32, .lanes_n = 1, .rows_per_lane = 4, .subgroups = true}},
    preset{"nvidia", {0x10DE}, {"nvidia", "geforce", "quadro", "tesla"}, {.lanes_k = 32, .lanes_n = 2, .rows_per_lane = 2}, 4097},
    preset{"amd", {0x1002, 0x1022}, {"amd", "radeon"}, {.lanes_k = 64, .lanes_n = 1, .rows_per_lane = 2, .subgroups = true}, 2048},
    preset{"intel", {0x8086}, {"intel"}, {.lanes_k = 16, .lanes_n = 4, .rows_per_lane = 4}},
    preset{"apple", {0x106B}, {"apple"}, {.lanes_k = 32, .lanes_n = 2, .rows_per_lane = 4}},  // without integer dot products
    preset{"qualcomm", {0x5143}, {"qualcomm", "adreno"}, {.lanes_k = 16, .lanes_n = 4, .rows_per_lane = 4}, 1},
    preset{"general", {}, {}, {}},
};

namespace detail {

constexpr char small_letter(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// Whether a word of `name` begins with `word`, which is in small letters.
constexpr bool has_word(std::string_view name, std::string_view word) {
    const auto in_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    for (std::size_t at = 0; at + word.size() <= name.size(); ++at) {
        if (at > 0 && in_word(small_letter(name[at - 1]))) continue;
        std::size_t same = 0;
        while (same < word.size() && small_letter(name[at + same]) == word[same]) ++same;
        if (same == word.size()) return true;
    }
    return false;
}

constexpr bool is_named(const preset& p, std::string_view name) {
    for (const auto word : p.names) {
        if (!word.empty() && has_word(name, word)) return true;
    }
    return false;
}

}  // namespace detail

/// The preset of a device: that of software if its name says so, for such devices may have the vendor id of what they imitate; else by its vendor id
/// (0: not known), else by a name, which may be the device's, the driver's or the vendor's; else the general one.
[[nodiscard]] constexpr const preset& preset_of(std::uint32_t vendor_id, std::string_view name = {}) {
    if (detail::is_named(presets.front(), name)) return presets.front();
    for (const preset& p : presets) {
        for (const auto id : p.ids) {
            if (id != 0 && id == vendor_id) return p;
        }
    }
    for (const preset& p : presets) {
        if (detail::is_named(p, name)) return p;
    }
    return presets.back();
}

/// The preset of that vendor by our name for it; none if there is none.
[[nodiscard]] constexpr const preset* find_preset(std::string_view vendor) {
    for (const preset& p : presets) {
        if (p.vendor == vendor) return &p;
    }
    return nullptr;
}

/// The tuning of a preset for a device that offers this: sums by subgroups only where the device can.
[[nodiscard]] constexpr tuning tuned(const preset& p, const feature_set& offered) {
    tuning t = p.tune;
    t.subgroups = t.subgroups && offered.subgroups && offered.subgroup_id;
    return t;
}

}  // namespace nibble::gpu
