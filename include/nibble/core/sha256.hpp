// SPDX-License-Identifier: Apache-2.0
#pragma once
// SHA-256 (FIPS 180-4), for manifests of files and for the integrity strings of browsers ("sha256-" and base64).

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "nibble/core/bytes.hpp"

namespace nibble {

/// SHA-256 (FIPS 180-4) of bytes that come in pieces.
class sha256 {
public:
    void update(bytes_view bytes);

    /// The sum of all bytes so far; more may follow.
    [[nodiscard]] std::array<std::uint8_t, 32> digest() const;
    /// The same as 64 lower-case hexadecimal digits.
    [[nodiscard]] std::string hex() const;
    /// The same as a browser's integrity string: "sha256-" and 44 digits of base64.
    [[nodiscard]] std::string integrity() const;

private:
    void block(const std::byte* data);

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint64_t n_bytes_ = 0;
    std::byte held_[64] = {};  ///< the first n_bytes_ % 64 are those that make up no whole block yet
};

namespace detail {

inline constexpr std::uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,  //
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,  //
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,  //
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,  //
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,  //
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,  //
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,  //
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,  //
};

}  // namespace detail

inline void sha256::block(const std::byte* data) {
    std::uint32_t w[64];
    for (std::size_t i = 0; i < 16; ++i) {
        const auto at = [&](std::size_t k) { return static_cast<std::uint32_t>(data[4 * i + k]); };
        w[i] = at(0) << 24 | at(1) << 16 | at(2) << 8 | at(3);
    }
    for (std::size_t i = 16; i < 64; ++i) {
        const auto s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const auto s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    std::uint32_t v[8];
    std::memcpy(v, state_, sizeof v);
    for (std::size_t i = 0; i < 64; ++i) {
        const auto s1 = std::rotr(v[4], 6) ^ std::rotr(v[4], 11) ^ std::rotr(v[4], 25);
        const auto choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        const auto t1 = v[7] + s1 + choice + detail::sha256_constants[i] + w[i];
        const auto s0 = std::rotr(v[0], 2) ^ std::rotr(v[0], 13) ^ std::rotr(v[0], 22);
        const auto majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        std::memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (std::size_t i = 0; i < 8; ++i) state_[i] += v[i];
}

inline void sha256::update(bytes_view bytes) {
    if (bytes.empty()) return;
    const std::size_t held = n_bytes_ % 64;
    n_bytes_ += bytes.size();
    if (held != 0) {
        const auto n = bytes.size() < 64 - held ? bytes.size() : 64 - held;
        std::memcpy(held_ + held, bytes.data(), n);
        if (held + n < 64) return;
        block(held_);
        bytes = bytes.subspan(n);
    }
    for (; bytes.size() >= 64; bytes = bytes.subspan(64)) block(bytes.data());
    if (!bytes.empty()) std::memcpy(held_, bytes.data(), bytes.size());
}

inline std::array<std::uint8_t, 32> sha256::digest() const {
    auto end = *this;
    const std::uint64_t n_bits = n_bytes_ * 8;
    const std::size_t held = n_bytes_ % 64;
    const std::byte padding[64] = {std::byte{0x80}};
    end.update(bytes_view(padding, held < 56 ? 56 - held : 120 - held));
    std::byte length[8];
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(n_bits >> (56 - 8 * i));
    end.update(length);
    std::array<std::uint8_t, 32> sum{};
    for (std::size_t i = 0; i < 32; ++i) sum[i] = static_cast<std::uint8_t>(end.state_[i / 4] >> (24 - 8 * (i % 4)));
    return sum;
}

inline std::string sha256::hex() const {
    std::string text;
    for (const unsigned byte : digest()) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

inline std::string sha256::integrity() const {
    constexpr const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto sum = digest();
    std::string text = "sha256-";
    for (std::size_t i = 0; i < sum.size(); i += 3) {
        const auto byte = [&](std::size_t k) { return i + k < sum.size() ? std::uint32_t{sum[i + k]} : 0u; };
        const auto word = byte(0) << 16 | byte(1) << 8 | byte(2);
        text += digits[word >> 18];
        text += digits[word >> 12 & 63];
        text += digits[word >> 6 & 63];
        text += i + 2 < sum.size() ? digits[word & 63] : '=';
    }
    return text;
}

}  // namespace nibble
