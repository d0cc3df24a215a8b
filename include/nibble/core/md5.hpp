// SPDX-License-Identifier: Apache-2.0
#pragma once
// MD5 (RFC 1321), streaming: the checksum that MLC's shard index carries. Not for anything that needs security.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "nibble/core/bytes.hpp"

namespace nibble {

/// `md5 h; h.update(bytes); h.hex()`. The parts (state, buffer, length) are public so that cpu/md5.hpp can advance many at once.
struct md5 {
    static constexpr std::size_t block_bytes = 64;
    static constexpr std::array<std::uint32_t, 4> start{0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u};

    std::array<std::uint32_t, 4> state = start;
    std::uint64_t n_bytes = 0;                      ///< that were given so far
    std::array<std::byte, block_bytes> buffer{};  ///< the last n_bytes % 64 of them

    void update(const std::byte* data, std::size_t n);
    void update(bytes_view data) { update(data.data(), data.size()); }

    /// The 16 bytes of the digest of what was given so far; more may follow.
    [[nodiscard]] std::array<std::byte, 16> digest() const;

    /// The digest as 32 lower-case hexadecimal digits.
    [[nodiscard]] std::string hex() const;

    /// Advances a state over n_blocks blocks of 64 bytes.
    static void compress(std::array<std::uint32_t, 4>& state, const std::byte* blocks, std::size_t n_blocks);
};

namespace detail {

/// floor(2^32 * |sin(i + 1)|).
inline constexpr std::array<std::uint32_t, 64> md5_constants{
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122,
    0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6,
    0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60,
    0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039,
    0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

/// Rotations of the four steps of each round, and the word that step i of round r reads: (i * stride + first) % 16.
inline constexpr int md5_rotations[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
inline constexpr int md5_word_stride[4] = {1, 5, 3, 7};
inline constexpr int md5_word_first[4] = {0, 1, 5, 0};

}  // namespace detail

inline void md5::compress(std::array<std::uint32_t, 4>& s, const std::byte* blocks, std::size_t n_blocks) {
    std::uint32_t a = s[0];
    std::uint32_t b = s[1];
    std::uint32_t c = s[2];
    std::uint32_t d = s[3];
    for (; n_blocks != 0; --n_blocks, blocks += block_bytes) {
        const std::uint32_t before[4] = {a, b, c, d};
        const auto step = [&](std::uint32_t f, int i, int word, int rotation) {
            const std::uint32_t t = a + f + detail::md5_constants[static_cast<std::size_t>(i)] + load<std::uint32_t>(blocks + 4 * word);
            a = d;
            d = c;
            c = b;
            b += std::rotl(t, rotation);
        };
        const auto word = [](int round, int i) { return (i * detail::md5_word_stride[round] + detail::md5_word_first[round]) % 16; };
        // The mixing functions as sums of disjoint parts: the part without b, the newest value, is off the critical path.
        for (int i = 0; i < 16; ++i) step(d ^ (b & (c ^ d)), i, word(0, i), detail::md5_rotations[0][i % 4]);
        for (int i = 0; i < 16; ++i) step((d & b) + (~d & c), 16 + i, word(1, i), detail::md5_rotations[1][i % 4]);
        for (int i = 0; i < 16; ++i) step(b ^ (c ^ d), 32 + i, word(2, i), detail::md5_rotations[2][i % 4]);
        for (int i = 0; i < 16; ++i) step(c ^ (b | ~d), 48 + i, word(3, i), detail::md5_rotations[3][i % 4]);
        a += before[0];
        b += before[1];
        c += before[2];
        d += before[3];
    }
    s = {a, b, c, d};
}

inline void md5::update(const std::byte* data, std::size_t n) {
    const auto held = static_cast<std::size_t>(n_bytes % block_bytes);
    n_bytes += n;
    if (held != 0) {
        const std::size_t taken = n < block_bytes - held ? n : block_bytes - held;
        if (taken != 0) std::memcpy(buffer.data() + held, data, taken);
        if (held + taken < block_bytes) return;
        compress(state, buffer.data(), 1);
        data += taken;
        n -= taken;
    }
    compress(state, data, n / block_bytes);
    if (n % block_bytes != 0) std::memcpy(buffer.data(), data + n / block_bytes * block_bytes, n % block_bytes);
}

inline std::array<std::byte, 16> md5::digest() const {
    const auto held = static_cast<std::size_t>(n_bytes % block_bytes);
    std::array<std::byte, 2 * block_bytes> last{};
    std::memcpy(last.data(), buffer.data(), held);
    last[held] = std::byte{0x80};
    const std::size_t n_blocks = held < 56 ? 1 : 2;
    store(last.data() + n_blocks * block_bytes - 8, n_bytes * 8);
    auto s = state;
    compress(s, last.data(), n_blocks);
    return std::bit_cast<std::array<std::byte, 16>>(s);
}

inline std::string md5::hex() const {
    std::string text;
    for (const auto b : digest()) {
        text += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
        text += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
    }
    return text;
}

}  // namespace nibble
