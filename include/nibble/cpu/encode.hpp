// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of weights encoded at the speed of memory, equal bit for bit to codec/quantize.hpp, which is the law.

#include "nibble/codec/affine.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/cpu/cast.hpp"

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
    float w[C::group];
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
template <class Packing, class Scale, class Bias, std::size_t Group>
struct rows_of_codec<affine<Packing, Scale, Bias, Group, kn>> {
    using type = affine<Packing, Scale, Bias, Group, nk>;
};

/// Bytes that a group takes in plane p.
template <class C, std::size_t p>
inline constexpr std::size_t group_bytes = p < C::planes.size() ? sizeof(std::tuple_element_t<(p < C::planes.size() ? p : 0), typename C::block>) : 0;

template <class C>
inline constexpr bool is_plain = false;
template <class T>
inline constexpr bool is_plain<plain<T>> = true;

}  // namespace detail

/// The codec whose rows look like those of C before any transposition: affine codecs in layout kn have a sibling in nk.
template <class C>
using rows_of = typename detail::rows_of_codec<C>::type;

/// Encodes a row of k values (no alignment needed) to the dense planes of that row: codes [groups * words], scales [groups], as
/// layout nk has them (for a kn codec too: the caller transposes). A plane whose pointer is null is not written.
template <class Arch, encoder C, class T>
void encode_row(const T* row, std::uint64_t k, std::byte* codes, std::byte* scales, encode_options options = {}) {
    static_assert(C::planes.size() <= 2, "nibble: cpu::encode_row writes a plane of codes and a plane of scales; this codec has more");
    if constexpr (detail::is_plain<C>) {
        if (codes != nullptr) cast_row<Arch>(row, k, static_cast<typename C::model_type*>(static_cast<void*>(codes)));
    } else {
        const auto* values = reinterpret_cast<const std::byte*>(row);
        std::uint64_t g = 0;
        for (; g * C::group < k; ++g) {
            const std::uint64_t rest = k - g * C::group;
            const auto n = static_cast<std::size_t>(rest < C::group ? rest : C::group);
            const auto* group = reinterpret_cast<const T*>(values + g * C::group * sizeof(T));
            detail::law<C, T>::encode_group(group, n, codes == nullptr ? nullptr : codes + g * detail::group_bytes<C, 0>,
                                            scales == nullptr ? nullptr : scales + g * detail::group_bytes<C, 1>, options);
        }
    }
}

}  // namespace nibble::cpu
