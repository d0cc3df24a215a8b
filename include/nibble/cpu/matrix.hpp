// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the products (gemv.hpp, gemm.hpp) are given: a matrix of weights as it is stored, and the arithmetic that the caller chose.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nibble/codec/affine.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/cpu/cast.hpp"

namespace nibble::cpu {

/// Arithmetic: f32 activations, f32 accumulation. Within 1e-6 of f64 in the 2-norm. Where an architecture multiplies bytes fastest, an
/// activation is taken as three signed bytes: sums within a group are then exact, and an activation is off by at most 2^-23 of the
/// largest magnitude of its group (by nothing where the group comes from bf16, f16 or integers of a like size).
struct exact {
    static constexpr const char* name = "exact";
};
/// Arithmetic: activations are rounded to int8 by groups (the codec's: 32 for 4 bits, 40 for 3), each with an f32 scale, max|x| / 127; sums
/// within a group are exact integers. An activation is off by at most 1/254 of the largest magnitude of its group: for normally
/// distributed activations about 5e-3 of a result, in the 2-norm.
struct int8 {
    static constexpr const char* name = "int8";
};

/// Weights [N, K] as a codec stores them: where its planes begin, in the codec's order. The bytes may be those of a mapped shard; no
/// alignment is needed, though 64 bytes are faster.
struct matrix {
    std::array<const std::byte*, 4> planes{};
    std::uint64_t n = 0;
    std::uint64_t k = 0;
};

namespace detail {

template <class Layout>
inline constexpr std::size_t rows_interleaved = 0;
template <std::size_t R>
inline constexpr std::size_t rows_interleaved<interleaved<R>> = R;

/// The same codec in another layout.
template <class C, class Layout>
struct relayout;
template <class Packing, class Scale, class Bias, std::size_t Group, class From, class Fit, class To>
struct relayout<affine<Packing, Scale, Bias, Group, From, Fit>, To> {
    using type = affine<Packing, Scale, Bias, Group, To, Fit>;
};

/// Codecs whose codes lie in u32 words, a whole number of words a group, with one scale in a second plane: what vectors can take apart.
template <class C>
concept word_coded = nibble::detail::codes_and_scale<C> && std::is_same_v<typename C::packing::word, std::uint32_t> && C::group % C::packing::per_word == 0 &&
                     nibble::detail::packs_low_first<typename C::packing>&& is_loaded_number<nibble::detail::stored_scale<C>> &&
                     (std::is_same_v<typename C::layout, nk> || std::is_same_v<typename C::layout, kn> || rows_interleaved<typename C::layout> != 0);

template <class C>
inline constexpr std::size_t group_words = C::group / C::packing::per_word;
template <class C>
using scale_type = nibble::detail::stored_scale<C>;

/// Rows of weights that lie side by side, in any layout of word_coded codecs: where they begin, and how far apart elements are.
template <class C>
struct row_block {
    using stored = scale_type<C>;
    static constexpr bool in_rows = std::is_same_v<typename C::layout, nk>;
    const std::byte* words = nullptr;   ///< of the first row
    const std::byte* scales = nullptr;  ///< of the first row
    std::uint64_t n_groups = 0;         ///< of a row
    std::uint64_t n_words = 0;          ///< of a row
    std::uint64_t across = 1;           ///< words, or scales, from one of a row to the next of the same row
    std::size_t count = 0;              ///< rows

    /// Rows from n on: at most `most`, none from `last` on.
    NIBBLE_INLINE static row_block at(const matrix& w, std::uint64_t n, std::uint64_t last, std::uint64_t most) {
        row_block b;
        b.n_groups = groups_of<C>(w.k);
        b.n_words = b.n_groups * group_words<C>;
        b.count = static_cast<std::size_t>(last - n < most ? last - n : most);
        std::uint64_t first_word = n * b.n_words;
        std::uint64_t first_scale = n * b.n_groups;
        if constexpr (!in_rows) {
            std::uint64_t tile = 0;
            b.across = w.n;
            if constexpr (constexpr std::size_t rows = rows_interleaved<typename C::layout>; rows != 0) {
                tile = n - n % rows;
                b.across = w.n - tile < rows ? w.n - tile : rows;
                b.count = static_cast<std::size_t>(b.count < tile + b.across - n ? b.count : tile + b.across - n);
            }
            first_word = tile * b.n_words + n - tile;
            first_scale = tile * b.n_groups + n - tile;
        }
        b.words = w.planes[0] + first_word * 4;
        b.scales = w.planes[1] + first_scale * sizeof(stored);
        return b;
    }
    /// Bytes from a word of a row to that of the next row.
    [[nodiscard]] NIBBLE_INLINE std::uint64_t word_between_rows() const { return in_rows ? n_words * 4 : 4; }
    [[nodiscard]] NIBBLE_INLINE std::uint64_t scale_between_rows() const { return in_rows ? n_groups * sizeof(stored) : sizeof(stored); }
};

/// Where the values of 4 * 16 words lie when a vector of 16 lanes holds word j of 16 runs of 4 words: the unit in which integer products go
/// along K. A run is a group or a whole part of one, so that a lane has one scale.
template <class C>
struct runs {
    static constexpr std::size_t words = 4;                               ///< of a run
    static constexpr std::size_t values = words * C::packing::per_word;   ///< of a run
    static constexpr std::size_t block_values = 16 * values;              ///< of 16 runs
    static constexpr std::size_t parts = (C::packing::per_word + 3) / 4;  ///< quadruples of codes in a word
    static constexpr std::size_t per_group = group_words<C> / words;
    static constexpr std::size_t block_groups = 16 / (per_group == 0 ? 1 : per_group);
    /// A run's place among the 16 when words of a row are transposed four by four: lane l has run `of_lane(l)`, and the other way round.
    static constexpr std::size_t of_lane(std::size_t l) { return l % 4 * 4 + l / 4; }
    /// The code in byte b of part p of a word: 8-bit codes as they lie; 4-bit and 2-bit ones by shift and mask; else in order.
    static constexpr std::size_t code(std::size_t part, std::size_t b) {
        return 32 % C::packing::bits == 0 && C::packing::per_word * C::packing::bits == 32 ? b * (8 / C::packing::bits) + part : 4 * part + b;
    }
};

/// Codecs whose products can be taken by multiplying bytes: unsigned codes with a constant zero point.
template <class C>
concept byte_coded = word_coded<C> && requires {
    C::zero_code;
    requires C::packing::bits <= 8 && C::packing::bits != 5 && C::packing::bits != 6 && C::packing::bits != 7;
    requires group_words<C>
    % runs<C>::words == 0 && 16 % (group_words<C> / runs<C>::words) == 0;
};

/// Calls f with the integral constant `count`, 1 <= count <= most.
template <std::size_t most, class F>
NIBBLE_INLINE void with_count(std::size_t count, F f) {
    if constexpr (most > 1) {
        if (count != most) return with_count<most - 1>(count, f);
    }
    f(std::integral_constant<std::size_t, most>{});
}

/// Values of a row, padded to whole blocks of any kernel.
template <class C>
[[nodiscard]] constexpr std::uint64_t padded_k(std::uint64_t k) {
    if constexpr (word_coded<C>) {
        return (k + 64 * C::packing::per_word - 1) / (64 * C::packing::per_word) * (64 * C::packing::per_word);
    } else {
        return (k + 63) / 64 * 64;
    }
}

}  // namespace detail

/// Bytes that `prepare` writes for m rows of k activations; the place must be aligned to 64 bytes.
template <class C>
[[nodiscard]] constexpr std::uint64_t prepared_bytes(std::uint64_t m, std::uint64_t k) {
    return m * detail::padded_k<C>(k) * sizeof(float);
}

}  // namespace nibble::cpu
