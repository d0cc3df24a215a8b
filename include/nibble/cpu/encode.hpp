// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of weights encoded at the speed of memory, equal bit for bit to codec/quantize.hpp, which is the law.

#include "nibble/codec/affine.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/cpu/cast.hpp"
#include "nibble/cpu/encode_avx2.hpp"
#include "nibble/cpu/encode_avx512.hpp"
#include "nibble/cpu/encode_generic.hpp"

namespace nibble::cpu {

namespace detail {

/// The scalar law for one group, kept out of line: a unit that is compiled for one architecture must neither inline nor emit it.
template <encoder C, class T>
struct law {
    [[gnu::noinline]] static void encode_group(const T* values, std::size_t n, std::byte* codes, std::byte* scales, encode_options options);
};

template <encoder C, class T>
void law<C, T>::encode_group(const T* values, std::size_t n, std::byte* codes, std::byte* scales, encode_options options) {
    T source[C::group];
    std::memcpy(static_cast<void*>(source), static_cast<const void*>(values), n * sizeof(T));  // `values` need not be aligned
    float w[C::group]{};                                                                       // a group of one value else draws a false warning
    for (std::size_t i = 0; i < n; ++i) w[i] = to_f32(number_cast<typename C::model_type>(source[i]));
    const typename C::block b = C::encode(w, n, options);
    if (codes != nullptr) std::memcpy(codes, &std::get<0>(b), sizeof(std::get<0>(b)));
    if constexpr (C::planes.size() > 1) {
        if (scales != nullptr) std::memcpy(scales, &std::get<1>(b), sizeof(std::get<1>(b)));
    }
}

template <class C>
struct rows_of_codec {
    using type = C;
};
template <class Packing, class Scale, class Bias, std::size_t Group, class Fit>
struct rows_of_codec<affine<Packing, Scale, Bias, Group, kn, Fit>> {
    using type = affine<Packing, Scale, Bias, Group, nk, Fit>;
};

/// Bytes that a group takes in plane p.
template <class C, std::size_t p>
inline constexpr std::size_t group_bytes = p < C::planes.size() ? sizeof(std::tuple_element_t<(p < C::planes.size() ? p : 0), typename C::block>) : 0;

/// Scales whose arithmetic the vector encoders know.
template <class Scale>
inline constexpr bool is_known_scale =
    std::is_same_v<Scale, f16_scale> || std::is_same_v<Scale, f32_scale> || std::is_same_v<Scale, bf16_scale> || std::is_same_v<Scale, bf16_scale_unrounded>;

/// Whether a codec's groups are encoded by vectors: MLC's shapes, and bytes.
template <class C>
inline constexpr bool has_vector_encoder = false;
template <class Scale, class Layout>
inline constexpr bool has_vector_encoder<affine<low_first<4, std::uint32_t>, Scale, bias<7>, 32, Layout>> = is_known_scale<Scale>;
template <class Scale, class Layout>
inline constexpr bool has_vector_encoder<affine<low_first<3, std::uint32_t>, Scale, bias<3>, 40, Layout>> = is_known_scale<Scale>;
template <class Scale, class Layout>
inline constexpr bool has_vector_encoder<affine<low_first<8, std::uint32_t>, Scale, bias<127>, 32, Layout>> = is_known_scale<Scale>;

template <class Arch, class C, class T>
struct vector_encoder_of {
    using type = generic_encoder<Arch, C, T>;
};
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
template <class Arch, class C, class T>
requires(has<Arch, avx2> && !has<Arch, avx512> && by_thresholds<C>) struct vector_encoder_of<Arch, C, T> {
    using type = avx2_encoder<Arch, C, T>;
};
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
template <class Arch, class C, class T>
requires has<Arch, avx512>
struct vector_encoder_of<Arch, C, T> {
    using type = avx512_encoder<Arch, C, T>;
};
#endif

}  // namespace detail

/// The codec whose rows look like those of C before any transposition: affine codecs in layout kn have a sibling in nk.
template <class C>
using rows_of = typename detail::rows_of_codec<C>::type;

/// Encodes a row of k values (no alignment needed) to the dense planes of that row: codes [groups * words], scales [groups], as
/// layout nk has them (for a kn codec too: the caller transposes). A plane whose pointer is null is not written.
template <class Arch, encoder C, class T>
void encode_row(const T* row, std::uint64_t k, std::byte* codes, std::byte* scales, encode_options options = {}) {
    static_assert(C::planes.size() <= 2, "nibble: cpu::encode_row writes a plane of codes and a plane of scales; this codec has more");
    if constexpr (is_plain<C>) {
        if (codes != nullptr) cast_row<Arch>(row, k, static_cast<typename C::model_type*>(static_cast<void*>(codes)));
    } else {
        const auto* values = reinterpret_cast<const std::byte*>(row);
        const auto by_law = [&](std::uint64_t g) __attribute__((always_inline)) {
            const std::uint64_t rest = k - g * C::group;
            detail::law<C, T>::encode_group(reinterpret_cast<const T*>(values + g * C::group * sizeof(T)),
                                            static_cast<std::size_t>(rest < C::group ? rest : C::group),
                                            codes == nullptr ? nullptr : codes + g * detail::group_bytes<C, 0>,
                                            scales == nullptr ? nullptr : scales + g * detail::group_bytes<C, 1>, options);
        };
        std::uint64_t g = 0;
        if constexpr (detail::has_vector_encoder<C>) {
            if (options.fit == fit::absmax) {
                g = k / C::group;
                detail::vector_encoder_of<Arch, C, T>::type::encode_groups(values, g, codes, scales, options.rounding, by_law);
            }
        }
        for (; g * C::group < k; ++g) by_law(g);
    }
}

}  // namespace nibble::cpu
