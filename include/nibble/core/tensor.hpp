// SPDX-License-Identifier: Apache-2.0
#pragma once
// Encodings (how values lie in bytes), shapes with checked sizes, and tensor views.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "nibble/core/bytes.hpp"
#include "nibble/core/number.hpp"

namespace nibble {

/// How the values of a tensor lie in bytes: plain numbers, or ggml's blocks.
enum class encoding : std::uint8_t {
    // numbers that a weight may be made of
    f32,
    f16,
    bf16,
    f8_e4m3,
    f8_e5m2,
    // numbers that are known by name only
    f64,
    i8,
    u8,
    i16,
    u16,
    i32,
    u32,
    i64,
    u64,
    boolean,
    f8_e8m0,
    // ggml blocks
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k
};

/// values and bytes of one block (a plain number is a block of one value).
struct encoding_info {
    encoding id;
    std::string_view name;
    std::uint32_t block_values;
    std::uint32_t block_bytes;
};

/// All encodings, in the order of the enumeration.
inline constexpr std::array encodings{
    encoding_info{encoding::f32, "f32", 1, 4},         encoding_info{encoding::f16, "f16", 1, 2},         encoding_info{encoding::bf16, "bf16", 1, 2},
    encoding_info{encoding::f8_e4m3, "f8_e4m3", 1, 1}, encoding_info{encoding::f8_e5m2, "f8_e5m2", 1, 1}, encoding_info{encoding::f64, "f64", 1, 8},
    encoding_info{encoding::i8, "i8", 1, 1},           encoding_info{encoding::u8, "u8", 1, 1},           encoding_info{encoding::i16, "i16", 1, 2},
    encoding_info{encoding::u16, "u16", 1, 2},         encoding_info{encoding::i32, "i32", 1, 4},         encoding_info{encoding::u32, "u32", 1, 4},
    encoding_info{encoding::i64, "i64", 1, 8},         encoding_info{encoding::u64, "u64", 1, 8},         encoding_info{encoding::boolean, "bool", 1, 1},
    encoding_info{encoding::f8_e8m0, "f8_e8m0", 1, 1}, encoding_info{encoding::q4_0, "q4_0", 32, 18},     encoding_info{encoding::q4_1, "q4_1", 32, 20},
    encoding_info{encoding::q5_0, "q5_0", 32, 22},     encoding_info{encoding::q5_1, "q5_1", 32, 24},     encoding_info{encoding::q8_0, "q8_0", 32, 34},
    encoding_info{encoding::q2_k, "q2_k", 256, 84},    encoding_info{encoding::q3_k, "q3_k", 256, 110},   encoding_info{encoding::q4_k, "q4_k", 256, 144},
    encoding_info{encoding::q5_k, "q5_k", 256, 176},   encoding_info{encoding::q6_k, "q6_k", 256, 210},
};

/// The row of an encoding.
[[nodiscard]] constexpr const encoding_info& info(encoding e) { return encodings[static_cast<std::size_t>(e)]; }

/// Whether the encoding holds one number of 1, 2 or 4 bytes that to_f32 reads.
[[nodiscard]] constexpr bool is_float(encoding e) { return e <= encoding::f8_e5m2; }
/// Whether the encoding is one of ggml's blocks.
[[nodiscard]] constexpr bool is_ggml_block(encoding e) { return e >= encoding::q4_0; }

/// The encoding of a storage type: encoding_of<f16> == encoding::f16.
template <class T>
inline constexpr encoding encoding_of = [] {
    static_assert(sizeof(T) == 0, "nibble: this type is not a storage type of a tensor");
    return encoding::f32;
}();
template <>
inline constexpr encoding encoding_of<float> = encoding::f32;
template <>
inline constexpr encoding encoding_of<f16> = encoding::f16;
template <>
inline constexpr encoding encoding_of<bf16> = encoding::bf16;
template <>
inline constexpr encoding encoding_of<f8_e4m3> = encoding::f8_e4m3;
template <>
inline constexpr encoding encoding_of<f8_e5m2> = encoding::f8_e5m2;
template <>
inline constexpr encoding encoding_of<std::uint8_t> = encoding::u8;
template <>
inline constexpr encoding encoding_of<std::uint16_t> = encoding::u16;
template <>
inline constexpr encoding encoding_of<std::uint32_t> = encoding::u32;

/// Up to eight dimensions, outermost first, the last one fastest in memory: [N, K].
class shape {
public:
    static constexpr std::size_t max_rank = 8;

    constexpr shape() = default;
    constexpr shape(std::initializer_list<std::uint64_t> dims) {
        for (const auto d : dims) push_back(d);
    }

    /// Appends a dimension; false (and no change) beyond max_rank.
    constexpr bool push_back(std::uint64_t dim) {
        if (rank_ == max_rank) return false;
        dims_[rank_++] = dim;
        return true;
    }

    [[nodiscard]] constexpr std::size_t rank() const { return rank_; }
    [[nodiscard]] constexpr std::uint64_t operator[](std::size_t i) const { return dims_[i]; }
    [[nodiscard]] constexpr std::uint64_t& operator[](std::size_t i) { return dims_[i]; }
    [[nodiscard]] constexpr const std::uint64_t* begin() const { return dims_.data(); }
    [[nodiscard]] constexpr const std::uint64_t* end() const { return dims_.data() + rank_; }

    /// Number of elements (1 for rank 0), or nothing if any partial product of non-zero dimensions exceeds 64 bits.
    [[nodiscard]] constexpr std::optional<std::uint64_t> checked_elements() const {
        std::uint64_t n = 1;
        bool zero = false;
        for (const auto d : *this) {
            if (d == 0) {
                zero = true;
                continue;
            }
            const auto next = checked_mul(n, d);
            if (!next) return std::nullopt;
            n = *next;
        }
        return zero ? 0 : n;
    }

    /// Number of elements of a shape that was checked before.
    [[nodiscard]] constexpr std::uint64_t elements() const { return checked_elements().value_or(0); }

    /// The last dimension: the length K of a row (1 for rank 0).
    [[nodiscard]] constexpr std::uint64_t columns() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }

    /// All dimensions but the last, multiplied: the number N of rows.
    [[nodiscard]] constexpr std::uint64_t rows() const {
        std::uint64_t n = 1;
        for (std::size_t i = 0; i + 1 < rank_; ++i) n *= dims_[i];
        return n;
    }

    [[nodiscard]] std::string text() const {
        std::string s = "[";
        for (std::size_t i = 0; i < rank_; ++i) s += (i != 0 ? ", " : "") + std::to_string(dims_[i]);
        return s + "]";
    }

    friend constexpr bool operator==(const shape& a, const shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

private:
    std::array<std::uint64_t, max_rank> dims_{};
    std::size_t rank_ = 0;
};

/// Bytes of a tensor, or nothing if they do not fit in 64 bits or a row is not a whole number of blocks.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_bytes(const shape& s, encoding e) {
    const auto n = s.checked_elements();
    if (!n || s.columns() % info(e).block_values != 0) return std::nullopt;
    return checked_mul(*n / info(e).block_values, info(e).block_bytes);
}

/// A named tensor over bytes that somebody else owns.
struct tensor_view {
    std::string_view name;
    encoding type = encoding::f32;
    shape dims;
    bytes_view bytes;
};

}  // namespace nibble
