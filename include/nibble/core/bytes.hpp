// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bytes from outside: checked arithmetic and unaligned little-endian loads.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>

namespace nibble {

static_assert(std::endian::native == std::endian::little, "nibble: the formats are little-endian and are used in place; big-endian machines are not supported");

/// Bytes that somebody else owns.
using bytes_view = std::span<const std::byte>;

/// a + b and a * b, or nothing if the true value does not fit in 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
    if (a > std::numeric_limits<std::uint64_t>::max() - b) return std::nullopt;
    return a + b;
}
/// a * b, or nothing beyond 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
    if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) return std::nullopt;
    return a * b;
}

/// Whether [offset, offset + n) lies within `size` bytes, without wrapping.
[[nodiscard]] constexpr bool in_range(std::uint64_t offset, std::uint64_t n, std::uint64_t size) { return offset <= size && n <= size - offset; }

/// a / b rounded up; b is not 0.
[[nodiscard]] constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0); }

/// Reads a T from unaligned bytes; the caller has checked the range.
template <class T>
[[nodiscard]] T load(const std::byte* from) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}

/// Writes a T to unaligned bytes; the caller has checked the range.
template <class T>
void store(std::byte* to, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(to, &value, sizeof(T));
}

}  // namespace nibble
