// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finds the tuning of a kernel that is fastest on a device, by trying a small grid.

#include <algorithm>
#include <optional>
#include <vector>

#include "nibble/gpu/spec.hpp"

namespace nibble::gpu {

/// What is worth trying for products with one vector or a few: lanes along K and N, rows, and sums by subgroups where there are any.
[[nodiscard]] inline std::vector<tuning> product_tunings(const feature_set& features, const device_limits& limits, const tuning& base = {}) {
    std::vector<tuning> all;
    for (const bool subgroups : {false, true}) {
        if (subgroups && !(features.subgroups && features.subgroup_id)) continue;
        for (const u32 lanes_k : {4u, 8u, 16u, 32u, 64u, 128u}) {
            for (const u32 lanes_n : {1u, 2u, 4u, 8u}) {
                for (const u32 rows : {1u, 2u, 4u, 8u}) {
                    const u32 lanes = lanes_k * lanes_n;
                    const bool sums_fit = rows <= lanes_k && std::uint64_t{lanes} * rows * 4 <= limits.max_workgroup_bytes;
                    if (lanes < 16 || lanes > std::min<std::uint64_t>(256, limits.max_invocations) || !sums_fit) continue;
                    if (subgroups && (lanes_n != 1 || lanes_k < 32)) continue;
                    tuning t = base;
                    t.lanes_k = lanes_k, t.lanes_n = lanes_n, t.rows_per_lane = rows, t.subgroups = subgroups;
                    all.push_back(t);
                }
            }
        }
    }
    return all;
}

/// The same for tiled products: invocations along M and N, and what each computes.
[[nodiscard]] inline std::vector<tuning> tile_tunings(const device_limits& limits, const tuning& base = {}) {
    std::vector<tuning> all;
    for (const u32 threads : {8u, 16u}) {
        if (std::uint64_t{threads} * threads > limits.max_invocations) continue;
        for (const u32 per_m : {2u, 4u, 8u}) {
            for (const u32 per_n : {2u, 4u, 8u}) {
                tuning t = base;
                t.threads_m = t.threads_n = threads, t.m_per_thread = per_m, t.n_per_thread = per_n;
                all.push_back(t);
            }
        }
    }
    return all;
}

/// One that was tried.
struct timed_tuning {
    tuning choice;
    double seconds = 0;
};

/// All that ran, the fastest first. `time` gives the seconds of one call with a tuning, or nothing where it cannot be built or run.
template <class Time>
[[nodiscard]] std::vector<timed_tuning> tune(const std::vector<tuning>& grid, Time&& time) {
    std::vector<timed_tuning> tried;
    for (const auto& t : grid) {
        if (const std::optional<double> seconds = time(t)) tried.push_back({t, *seconds});
    }
    std::stable_sort(tried.begin(), tried.end(), [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    return tried;
}

}  // namespace nibble::gpu
