// SPDX-License-Identifier: Apache-2.0
#pragma once
// MD5 (RFC 1321), which the shards' index records; no protection against forgery.
// Several sums at a time share SIMD lanes in cpu/md5.hpp, through md5::lane().

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "nibble/core/bytes.hpp"

namespace nibble {

/// What an md5 under way consists of. The first n_bytes % 64 bytes of `block` are those that do not make up a whole block yet;
/// whoever adds to it hashes a block as soon as it is whole.
struct md5_lane {
    std::uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    std::uint64_t n_bytes = 0;
    std::byte block[64] = {};
};

/// MD5 (RFC 1321) of bytes that come in pieces. For the checksums of formats, not for security.
class md5 {
public:
    void update(bytes_view bytes);

    /// The sum of all bytes so far; more may follow.
    [[nodiscard]] std::array<std::uint8_t, 16> digest() const;
    /// The same as 32 lower-case hexadecimal digits.
    [[nodiscard]] std::string hex() const;

    /// For code that hashes the blocks of several sums at once.
    [[nodiscard]] md5_lane& lane() { return lane_; }

private:
    md5_lane lane_;
};

namespace detail {

inline constexpr std::uint32_t md5_constants[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,  //
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,  //
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,  //
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,  //
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,  //
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,  //
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,  //
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
/// By round and step % 4: the rotation. By round: step i takes message word (first + i * stride) % 16.
inline constexpr int md5_rotations[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
inline constexpr std::size_t md5_first[4] = {0, 1, 5, 0};
inline constexpr std::size_t md5_stride[4] = {1, 5, 3, 7};

/// Step i of 64. a, b, c and d of the RFC are w[-i], w[1 - i], w[2 - i] and w[3 - i], all modulo 4.
template <std::size_t i>
[[gnu::always_inline]] inline void md5_step(std::uint32_t (&w)[4], const std::byte* block) {
    constexpr auto round = i / 16;
    constexpr auto word = (md5_first[round] + i * md5_stride[round]) % 16;
    constexpr int by = md5_rotations[round][i % 4];
    const std::uint32_t b = w[(65 - i) % 4], c = w[(66 - i) % 4], d = w[(67 - i) % 4];
    std::uint32_t message;
    std::memcpy(&message, block + 4 * word, 4);
    std::uint32_t a = w[(64 - i) % 4] + message + md5_constants[i];
    if constexpr (round == 0) a += d ^ (b & (c ^ d));
    // The two halves share no bit: adding the one without b first leaves a shorter way from b to the result.
    if constexpr (round == 1) a = (a + (c & ~d)) + (b & d);
    if constexpr (round == 2) a += (c ^ d) ^ b;
    if constexpr (round == 3) a += c ^ (b | ~d);
    w[(64 - i) % 4] = ((a << by) | (a >> (32 - by))) + b;
}

template <std::size_t... i>
[[gnu::always_inline]] inline void md5_steps(std::uint32_t (&w)[4], const std::byte* block, std::index_sequence<i...>) {
    (md5_step<i>(w, block), ...);
}

inline void md5_run(std::uint32_t* state, const std::byte* data, std::size_t n_blocks) {
    std::uint32_t w[4] = {state[0], state[1], state[2], state[3]};
    for (; n_blocks > 0; --n_blocks, data += 64) {
        const std::uint32_t before[4] = {w[0], w[1], w[2], w[3]};
        md5_steps(w, data, std::make_index_sequence<64>());
        for (std::size_t i = 0; i < 4; ++i) w[i] += before[i];
    }
    std::memcpy(state, w, sizeof(w));
}

}  // namespace detail

inline void md5::update(bytes_view bytes) {
    if (bytes.empty()) return;
    const std::size_t held = lane_.n_bytes % 64;
    lane_.n_bytes += bytes.size();
    if (held != 0) {
        const auto n = bytes.size() < 64 - held ? bytes.size() : 64 - held;
        std::memcpy(lane_.block + held, bytes.data(), n);
        if (held + n < 64) return;
        detail::md5_run(lane_.state, lane_.block, 1);
        bytes = bytes.subspan(n);
    }
    detail::md5_run(lane_.state, bytes.data(), bytes.size() / 64);
    const auto rest = bytes.last(bytes.size() % 64);
    if (!rest.empty()) std::memcpy(lane_.block, rest.data(), rest.size());
}

inline std::array<std::uint8_t, 16> md5::digest() const {
    auto end = *this;
    const std::uint64_t n_bits = lane_.n_bytes * 8;
    const std::size_t held = lane_.n_bytes % 64;
    const std::byte padding[64] = {std::byte{0x80}};
    end.update(bytes_view(padding, held < 56 ? 56 - held : 120 - held));
    end.update(std::as_bytes(std::span(&n_bits, 1)));
    std::array<std::uint8_t, 16> sum;
    std::memcpy(sum.data(), end.lane_.state, sum.size());
    return sum;
}

inline std::string md5::hex() const {
    std::string text;
    for (const unsigned byte : digest()) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

}  // namespace nibble
