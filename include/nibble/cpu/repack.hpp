// SPDX-License-Identifier: Apache-2.0
#pragma once
// Weights in the order in which products read them fastest: sixteen rows side by side, word by word. A copy of the tensor, made once;
// the files stay as they are.

#include "nibble/cpu/gemm_avx512.hpp"

namespace nibble::cpu {

/// The codec of repacked weights: the same planes and sizes in another order.
template <class C>
using packed = typename detail::relayout<C, interleaved<16>>::type;

template <class C>
concept repackable = detail::word_coded<C> && detail::rows_interleaved<typename C::layout>
== 0 && requires { typename packed<C>; };

/// Repacks rows [first, last) of the weights; codes and scales are the planes of the whole repacked tensor, as large as those of w.
/// `first` is a multiple of 16, and so is `last` unless it is w.n.
template <class Arch, repackable C>
void repack(const matrix& w, std::uint64_t first, std::uint64_t last, std::byte* codes, std::byte* scales) {
    using stored = detail::scale_type<C>;
    const std::uint64_t n_groups = groups_of<C>(w.k);
    const std::uint64_t n_words = n_groups * detail::group_words<C>;
    for (std::uint64_t n = first; n < last; n += 16) {
        const std::uint64_t count = last - n < 16 ? last - n : 16;
        std::byte* to = codes + n * n_words * 4;
        std::byte* to_scales = scales + n * n_groups * sizeof(stored);
        std::uint64_t j = 0;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
        if constexpr (has<Arch, avx512>) {
            const auto rows = detail::sixteen_rows<Arch, C>::at(w, n, last);
            for (; count == 16 && j + 16 <= n_words; j += 16) {
                __m512i words[16];
                rows.load_words(j, words);
#pragma GCC unroll 16
                for (std::size_t i = 0; i < 16; ++i) _mm512_storeu_si512(to + (j + i) * 64, words[i]);
            }
        }
#endif
        const auto element = [&](const std::byte* plane, std::uint64_t i, std::uint64_t at, std::uint64_t columns, std::size_t size)
            __attribute__((always_inline)) {
            return plane + C::layout::index(n + i, at, w.n, columns) * size;
        };
        for (; j < n_words; ++j) {
            for (std::uint64_t i = 0; i < count; ++i) std::memcpy(to + (j * count + i) * 4, element(w.planes[0], i, j, n_words, 4), 4);
        }
        for (std::uint64_t g = 0; g < n_groups; ++g) {
            for (std::uint64_t i = 0; i < count; ++i) {
                std::memcpy(to_scales + (g * count + i) * sizeof(stored), element(w.planes[1], i, g, n_groups, sizeof(stored)), sizeof(stored));
            }
        }
    }
}

}  // namespace nibble::cpu
