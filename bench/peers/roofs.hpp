// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the processor can do at best.

#include <cstddef>
#include <cstdint>

namespace peers {

/// Reads all of [data, data + n_bytes) in four streams.
std::uint64_t stream_read(const std::byte* data, std::size_t n_bytes);
/// Does independent multiply-adds of f32 and gives their number of operations. sink feeds the compiler's doubt.
double fma_flops(std::size_t n_rounds, float& sink);
/// The same with VNNI's products of bytes; 0 where the processor has none.
double vnni_ops(std::size_t n_rounds, float& sink);

}  // namespace peers
