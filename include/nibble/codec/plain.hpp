// SPDX-License-Identifier: Apache-2.0
#pragma once
// Codecs that only cast: q0f16, q0f32, q0bf16.

#include "nibble/codec/codec.hpp"

namespace nibble {

/// One number of type T a value, nothing else; the tensor keeps its name.
template <class T>
struct plain {
    using model_type = T;
    using layout = nk;
    using block = std::tuple<std::array<T, 1>>;
    static constexpr std::size_t group = 1;
    static constexpr std::array<plane, 1> planes{plane{"", encoding_of<T>, 1}};
    static constexpr void decode(const block& b, float* out) { out[0] = to_f32(std::get<0>(b)[0]); }
    static constexpr block encode(const float* w, std::size_t, encode_options = {}) { return block{{number_cast<T>(*w)}}; }
};

/// Whether a codec only casts.
template <class C>
inline constexpr bool is_plain = false;
template <class T>
inline constexpr bool is_plain<plain<T>> = true;

/// Cast to f16.
using q0f16 = plain<f16>;
/// Cast to bf16.
using q0bf16 = plain<bf16>;
/// f32 as it is; shards keep it as bf16.
using q0f32 = plain<float>;

}  // namespace nibble
