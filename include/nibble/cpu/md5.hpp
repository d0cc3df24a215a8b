// SPDX-License-Identifier: Apache-2.0
#pragma once
// Many MD5 sums at once, one in each SIMD lane: one sum alone is a chain of dependent additions and leaves most of a core idle.

#include "nibble/core/md5.hpp"
#include "nibble/cpu/simd.hpp"

namespace nibble::cpu {

/// states[i]->update(data[i], n_bytes[i]) for each i < n, sums that differ in length included. No two states may be the same.
template <class Arch>
void md5_update_lanes_for(md5* const* states, const std::byte* const* data, const std::size_t* n_bytes, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) states[i]->update(data[i], n_bytes[i]);
}

}  // namespace nibble::cpu
