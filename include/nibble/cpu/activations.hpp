// SPDX-License-Identifier: Apache-2.0
#pragma once
// Activations brought into the form in which the products read them: once for each call, shared by all rows of the weights and by
// all threads. What is written depends on codec, arithmetic, architecture and whether there is one row or more, and is for those alone.

#include <bit>
#include <cmath>

#include "nibble/cpu/activations_avx2.hpp"
#include "nibble/cpu/activations_avx512.hpp"
#include "nibble/cpu/matrix.hpp"

namespace nibble::cpu {

namespace detail {

/// Rows that a product takes at once; prepared activations interleave that many.
inline constexpr std::size_t tile_rows = 8;

/// Bytes that an activation is taken as, where products multiply bytes.
template <class Mode>
inline constexpr std::size_t digits_of = std::is_same_v<Mode, exact> ? 3 : 1;

/// Whether products of an architecture multiply bytes for this arithmetic and codec; else they go by f32.
template <class Arch, class Mode, class C>
inline constexpr bool by_bytes = false;
/// Whether the sum of a run, in which activations have 24 bits, fits in 32.
template <byte_coded C>
inline constexpr bool fits_exact = runs<C>::values*(C::zero_code > static_cast<int>(C::packing::mask / 2) ? C::zero_code : C::packing::mask - C::zero_code) <=
                                   256;
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
template <class Arch, byte_coded C>
inline constexpr bool by_bytes<Arch, int8, C> = has<Arch, avx512vnni>;
template <class Arch, byte_coded C>
inline constexpr bool by_bytes<Arch, exact, C> = has<Arch, avx512vnni>&& fits_exact<C>;
#endif

/// The same by 256-bit vectors, for architectures without AVX-512's VNNI.
template <class Arch, class Mode, class C>
inline constexpr bool by_short_bytes = false;
#if defined(__AVX2__) && defined(__F16C__)
template <class Arch, short_coded C>
inline constexpr bool by_short_bytes<Arch, int8, C> = has<Arch, avx2> && !by_bytes<Arch, int8, C> && sums_fit<Arch, C>;
template <class Arch, short_coded C>
inline constexpr bool by_short_bytes<Arch, exact, C> = has<Arch, avx2> && !by_bytes<Arch, exact, C> && sums_fit<Arch, C> && fits_exact<C>;
#endif
/// Three digits are worth it where weights are read once: for several rows of activations f32 is as fast.
template <class Arch, class Mode, class C>
inline constexpr bool several_by_short_bytes = by_short_bytes<Arch, Mode, C>&& std::is_same_v<Mode, int8>;

/// One group of activations rounded as int8 rounds them, but left as f32: for architectures that have nothing better.
template <class Arch>
NIBBLE_INLINE void round_group(float* x, std::size_t n) {
    float top = 0;
    bool finite = true;
    for (std::size_t i = 0; i < n; ++i) {
        const float v = std::fabs(x[i]);
        finite = finite && v <= 3.4028234663852886e38F;
        top = v > top ? v : top;
    }
    const float scale = top / 127.0F;
    const float inverse = top > 0x1p-100F ? 127.0F / top : 0.0F;
    for (std::size_t i = 0; i < n; ++i) x[i] = finite ? std::nearbyint(x[i] * inverse) * scale : std::bit_cast<float>(0x7FC00000u);
}

template <class C>
inline constexpr std::size_t group_of = 32;
template <codec C>
inline constexpr std::size_t group_of<C> = C::group > 1 ? C::group : 32;

}  // namespace detail

/// Prepares m rows x[r * ldx .. + k) of f32 (any alignment) for products with a matrix of C: prepared_bytes<C>(m, k) bytes at `prepared`,
/// aligned to 64. Groups with a value that is not finite make every result of their row NaN in arithmetic int8, and in
/// `exact` where it goes by bytes.
template <class Arch, class Mode, codec C>
void prepare(const float* x, std::uint64_t ldx, std::uint64_t m, std::uint64_t k, std::byte* prepared) {
    static_assert(std::is_same_v<Mode, exact> || !is_plain<C>,
                  "nibble: arithmetic int8 is for weights with codes; plain weights are multiplied in arithmetic exact");
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    if constexpr (detail::by_bytes<Arch, Mode, C>) {
        if constexpr (std::is_same_v<typename C::layout, nk>) {
            if (m == 1) return detail::prepare_bytes<Arch, C, detail::digits_of<Mode>>(x, k, prepared);
        }
        return detail::prepare_byte_tiles<Arch, C, detail::digits_of<Mode>, detail::tile_rows>(x, ldx, m, k, prepared);
    }
#endif
#if defined(__AVX2__) && defined(__F16C__)
    if constexpr (detail::by_short_bytes<Arch, Mode, C>) {
        if (m == 1) return detail::prepare_short_bytes<Arch, C, detail::digits_of<Mode>>(x, k, prepared);
    }
    if constexpr (detail::several_by_short_bytes<Arch, Mode, C>) {
        return detail::prepare_short_tiles<Arch, C, detail::digits_of<Mode>, detail::tile_rows>(x, ldx, m, k, prepared);
    }
#endif
    const std::uint64_t padded = detail::padded_k<C>(k);
    constexpr std::size_t group = detail::group_of<C>;
    auto* out = reinterpret_cast<float*>(prepared);
    for (std::uint64_t first = 0; first < m; first += detail::tile_rows) {
        const std::uint64_t rows = m - first < detail::tile_rows ? m - first : detail::tile_rows;
        for (std::uint64_t r = 0; r < rows; ++r) {
            const float* row = x + (first + r) * ldx;
            for (std::uint64_t g = 0; g < padded; g += group) {
                float values[group] = {};
                const auto n = static_cast<std::size_t>(g >= k ? 0 : k - g < group ? k - g : group);
                if (n != 0) std::memcpy(values, row + g, n * sizeof(float));
                if constexpr (std::is_same_v<Mode, int8>) detail::round_group<Arch>(values, n);
                const std::uint64_t to = padded - g < group ? padded - g : group;
                for (std::uint64_t i = 0; i < to; ++i) {
                    std::uint64_t at = g + i;
                    if constexpr (detail::word_coded<C> && std::is_same_v<typename C::layout, nk>) {
                        // One row goes along with vectors of words: all first codes of the words of a vector, all second ones, ...
                        constexpr std::size_t per_word = C::packing::per_word;
                        constexpr std::size_t width = lanes<Arch>;
                        if (m == 1) at = at / (width * per_word) * (width * per_word) + at % per_word * width + at / per_word % width;
                    }
                    out[at * rows + r] = values[i];
                }
            }
        }
        out += rows * padded;
    }
}

}  // namespace nibble::cpu
