// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of codes and scales decoded to f32 or f16, equal bit for bit to the codec's own decode, which is the law.

#include "nibble/codec/affine.hpp"
#include "nibble/cpu/cast.hpp"

namespace nibble::cpu {

/// Decodes a row of k values from its dense planes (layout nk) to float or f16 (rounded to nearest even).
template <class Arch, formulaic C, class Out>
void decode_row(const std::byte* codes, const std::byte* scales, std::uint64_t k, Out* out) {
    using word = typename C::packing::word;
    using scale = typename C::scale::type;
    constexpr std::size_t per_word = C::packing::per_word;
    auto* target = reinterpret_cast<std::byte*>(out);
    float w[C::group];
    for (std::uint64_t g = 0; g * C::group < k; ++g) {
        word words[C::words_per_group];
        scale stored;
        std::memcpy(words, codes + g * sizeof words, sizeof words);
        std::memcpy(&stored, scales + g * sizeof stored, sizeof stored);
        const float s = to_f32(stored);
        for (std::size_t i = 0; i < C::group; ++i) w[i] = C::value(static_cast<float>(C::packing::get(words[i / per_word], i % per_word)), s);
        const std::uint64_t rest = k - g * C::group;
        const std::uint64_t n = rest < C::group ? rest : C::group;
        cast_row<Arch>(w, n, reinterpret_cast<Out*>(target + g * C::group * sizeof(Out)));
    }
}

}  // namespace nibble::cpu
