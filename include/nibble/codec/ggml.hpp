// SPDX-License-Identifier: Apache-2.0
#pragma once
// ggml's block codecs, as GGUF files hold them: q4_0 q4_1 q5_0 q5_1 q8_0 and the K-quants q2_k to q6_k. They decode bit for bit
// as dequantize_row_* of ggml/src/ggml-quants.c. A block is one array of bytes: its scales lie between its codes.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "nibble/codec/affine.hpp"
#include "nibble/codec/codec.hpp"

// Where a sum follows a product, the product is exact in f32: 11 bits of the f16 scale, at most 6 of the sub-scale and 5 of the code
// make 22 of 24. So a compiler that contracts the two into one FMA changes no bit, and no flag or pragma is needed against it.

namespace nibble::ggml {

/// What the codecs share: sizes from the table of encodings, one plane of bytes, and decode() of a block through the codec's
/// own decode_bytes(first byte, out).
template <encoding Id, class Codec>
struct block_codec {
    static constexpr encoding id = Id;
    static constexpr std::size_t group = info(Id).block_values;
    static constexpr std::size_t n_bytes = info(Id).block_bytes;
    using layout = nk;
    using block = std::tuple<std::array<std::uint8_t, n_bytes>>;
    static constexpr std::array<plane, 1> planes{plane{"", encoding::u8, n_bytes}};

    static constexpr void decode(const block& b, float* out) { Codec::decode_bytes(std::get<0>(b).data(), out); }
};

namespace detail {

constexpr float half_at(const std::uint8_t* bytes) { return to_f32(f16{static_cast<std::uint16_t>(bytes[0] | (bytes[1] << 8))}); }

/// 32 codes of `Bits` bits: run number `run` of codes that share bytes 32 apart, the first run in the lowest bits.
template <unsigned Bits>
constexpr unsigned run_code(const std::uint8_t* bytes, std::size_t run, std::size_t i) {
    constexpr std::size_t per_byte = 8 / Bits;
    return (static_cast<unsigned>(bytes[32 * (run / per_byte) + i]) >> (Bits * (run % per_byte))) & ((1u << Bits) - 1);
}

}  // namespace detail

// The codes of the blocks of 32: how many bytes they take, and how they unpack.

/// Code i in the low half of byte i, code i + 16 in its high half.
struct nibble_codes {
    static constexpr std::size_t n_bytes = 16;
    static constexpr void unpack(const std::uint8_t* bytes, std::int8_t* codes) {
        for (std::size_t i = 0; i < 16; ++i) {
            codes[i] = static_cast<std::int8_t>(bytes[i] & 15);
            codes[i + 16] = static_cast<std::int8_t>(bytes[i] >> 4);
        }
    }
};
/// Bit i of a u32 is bit 4 of code i; nibbles follow.
struct five_bit_codes {
    static constexpr std::size_t n_bytes = 4 + nibble_codes::n_bytes;
    static constexpr void unpack(const std::uint8_t* bytes, std::int8_t* codes) {
        nibble_codes::unpack(bytes + 4, codes);
        for (std::size_t i = 0; i < 32; ++i) codes[i] = static_cast<std::int8_t>(codes[i] | (((bytes[i / 8] >> (i % 8)) & 1) << 4));
    }
};
/// Signed bytes.
struct byte_codes {
    static constexpr std::size_t n_bytes = 32;
    static constexpr void unpack(const std::uint8_t* bytes, std::int8_t* codes) {
        for (std::size_t i = 0; i < 32; ++i) codes[i] = static_cast<std::int8_t>(bytes[i]);
    }
};

/// In place of a constant bias: an f16 minimum stored after the scale, added to each value.
struct stored_min {};

/// A block of 32: f16 scale, f16 minimum if any, codes.
template <encoding Id, class Codes, class Zero>
struct simple : block_codec<Id, simple<Id, Codes, Zero>> {
    static constexpr bool has_min = std::is_same_v<Zero, stored_min>;
    static_assert(info(Id).block_bytes == (has_min ? 4 : 2) + Codes::n_bytes);

    static constexpr void decode_bytes(const std::uint8_t* bytes, float* out) {
        std::int8_t codes[32]{};
        const float scale = detail::half_at(bytes);
        Codes::unpack(bytes + (has_min ? 4 : 2), codes);
        if constexpr (has_min) {
            const float min = detail::half_at(bytes + 2);
            for (std::size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(codes[i]) * scale + min;
        } else {
            for (std::size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(codes[i] - Zero::code) * scale;
        }
    }
};

/// 4-bit codes for -8 to 7, f16 scale.
using q4_0 = simple<encoding::q4_0, nibble_codes, bias<8>>;
/// 4-bit codes, f16 scale and minimum.
using q4_1 = simple<encoding::q4_1, nibble_codes, stored_min>;
/// 5-bit codes for -16 to 15, f16 scale.
using q5_0 = simple<encoding::q5_0, five_bit_codes, bias<16>>;
/// 5-bit codes, f16 scale and minimum.
using q5_1 = simple<encoding::q5_1, five_bit_codes, stored_min>;
/// Signed bytes, f16 scale.
using q8_0 = simple<encoding::q8_0, byte_codes, bias<0>>;

/// 16 sub-blocks of 16: u8 scale and minimum (4 bits each) [16], codes [64], f16 scale, f16 scale of the minimums.
struct q2_k : block_codec<encoding::q2_k, q2_k> {
    static constexpr void decode_bytes(const std::uint8_t* bytes, float* out) {
        const std::uint8_t* codes = bytes + 16;
        const float d = detail::half_at(bytes + 80);
        const float d_min = detail::half_at(bytes + 82);
        for (std::size_t sub = 0; sub < 16; ++sub) {
            const float scale = d * static_cast<float>(bytes[sub] & 15);
            const float min = d_min * static_cast<float>(bytes[sub] >> 4);
            for (std::size_t i = 0; i < 16; ++i) {
                out[16 * sub + i] = scale * static_cast<float>(static_cast<int>(detail::run_code<2>(codes, sub / 2, 16 * (sub % 2) + i))) - min;
            }
        }
    }
};

/// 16 sub-blocks of 16: high bits [32], low bits of the codes [64], 6-bit scales [12], f16 scale.
struct q3_k : block_codec<encoding::q3_k, q3_k> {
    static constexpr void decode_bytes(const std::uint8_t* bytes, float* out) {
        const std::uint8_t* high = bytes;
        const std::uint8_t* low = bytes + 32;
        const std::uint8_t* scales = bytes + 96;
        const float d = detail::half_at(bytes + 108);
        for (std::size_t sub = 0; sub < 16; ++sub) {
            const int low_bits = (scales[sub % 8] >> (4 * (sub / 8))) & 15;
            const int high_bits = (scales[8 + sub % 4] >> (2 * (sub / 4))) & 3;
            const float scale = d * static_cast<float>((low_bits | (high_bits << 4)) - 32);
            for (std::size_t i = 0; i < 16; ++i) {
                const std::size_t at = 16 * (sub % 2) + i;
                const auto code = detail::run_code<2>(low, sub / 2, at) | (detail::run_code<1>(high, sub / 2, at) << 2);
                out[16 * sub + i] = scale * static_cast<float>(static_cast<int>(code) - 4);
            }
        }
    }
};

/// q4_k and q5_k, 8 sub-blocks of 32: f16 scale, f16 scale of the minimums, 6-bit scales and minimums [12], for q5_k the codes'
/// high bits [32], codes' low nibbles [128].
template <encoding Id, class Codec>
struct six_bit_scaled : block_codec<Id, Codec> {
    static constexpr void decode_bytes(const std::uint8_t* bytes, float* out) {
        const std::uint8_t* scales = bytes + 4;
        const std::uint8_t* codes = bytes + 16;
        const float d = detail::half_at(bytes);
        const float d_min = detail::half_at(bytes + 2);
        for (std::size_t sub = 0; sub < 8; ++sub) {
            const float scale = d * static_cast<float>(six_bits(scales, sub, 0));
            const float min = d_min * static_cast<float>(six_bits(scales, sub, 1));
            for (std::size_t i = 0; i < 32; ++i) out[32 * sub + i] = scale * static_cast<float>(static_cast<int>(Codec::code(codes, sub, i))) - min;
        }
    }

private:
    /// Number `sub` of the scales (which = 0) or the minimums (1): the first four in bytes of their own, the others with their low
    /// nibbles in bytes 8 to 11 and their high bits above those of the first four.
    static constexpr int six_bits(const std::uint8_t* bytes, std::size_t sub, std::size_t which) {
        if (sub < 4) return bytes[4 * which + sub] & 63;
        return ((bytes[4 + sub] >> (4 * which)) & 15) | ((bytes[4 * which + sub - 4] >> 6) << 4);
    }
};
/// 4-bit codes with 6-bit scales and minima, blocks of 256.
struct q4_k : six_bit_scaled<encoding::q4_k, q4_k> {
    static constexpr unsigned code(const std::uint8_t* codes, std::size_t sub, std::size_t i) { return detail::run_code<4>(codes, sub, i); }
};
/// 5-bit codes with 6-bit scales and minima, blocks of 256.
struct q5_k : six_bit_scaled<encoding::q5_k, q5_k> {
    static constexpr unsigned code(const std::uint8_t* codes, std::size_t sub, std::size_t i) {
        return detail::run_code<4>(codes + 32, sub, i) | (detail::run_code<1>(codes, sub, i) << 4);
    }
};

/// 16 sub-blocks of 16: low nibbles [128], high bits [64], i8 scales [16], f16 scale. Runs of nibbles share bytes 64 apart here.
struct q6_k : block_codec<encoding::q6_k, q6_k> {
    static constexpr void decode_bytes(const std::uint8_t* bytes, float* out) {
        const std::uint8_t* high = bytes + 128;
        const std::uint8_t* scales = bytes + 192;
        const float d = detail::half_at(bytes + 208);
        for (std::size_t sub = 0; sub < 16; ++sub) {
            const float scale = d * static_cast<float>(static_cast<std::int8_t>(scales[sub]));
            const std::size_t run = sub / 2;
            const std::uint8_t* low = bytes + 64 * (run / 4) + 32 * (run % 2);
            for (std::size_t i = 0; i < 16; ++i) {
                const std::size_t at = 16 * (sub % 2) + i;
                const auto code = detail::run_code<4>(low, run / 2 % 2, at % 32) | (detail::run_code<2>(high, run, at) << 4);
                out[16 * sub + i] = scale * static_cast<float>(static_cast<int>(code) - 32);
            }
        }
    }
};

/// All of them, for loops over codecs.
using codecs = std::tuple<q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k>;

static_assert(bits_per_value<q4_0> == 4.5 && bits_per_value<q4_1> == 5.0 && bits_per_value<q5_0> == 5.5 && bits_per_value<q5_1> == 6.0);
static_assert(bits_per_value<q8_0> == 8.5 && bits_per_value<q2_k> == 2.625 && bits_per_value<q3_k> == 3.4375);
static_assert(bits_per_value<q4_k> == 4.5 && bits_per_value<q5_k> == 5.5 && bits_per_value<q6_k> == 6.5625);

/// Decodes n_values values of consecutive blocks. The encoding is one of ggml's, n_values a multiple of its block.
inline void decode_blocks(encoding type, const std::byte* blocks, std::uint64_t n_values, float* out) {
    assert(is_ggml_block(type) && n_values % info(type).block_values == 0);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(blocks);
    const auto with = [&]<class C>() {
        if (C::id != type) return false;
        for (std::uint64_t b = 0; b < n_values / C::group; ++b) C::decode_bytes(bytes + b * C::n_bytes, out + b * C::group);
        return true;
    };
    [&]<class... C>(std::type_identity<std::tuple<C...>>) { (void)(with.template operator()<C>() || ...); }(std::type_identity<codecs>{});
}

}  // namespace nibble::ggml
