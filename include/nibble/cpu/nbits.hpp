// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows of ONNX Runtime's MatMulNBits codecs encoded and decoded by vectors, equal bit for bit to codec/onnx.hpp, which is the law. The
// block size is a number at run time, so that a program that offers all of them holds one loop.

#include "nibble/codec/onnx.hpp"
#include "nibble/cpu/cast.hpp"
#include "nibble/cpu/encode_generic.hpp"

namespace nibble::cpu {

/// Where the bytes of one row go: codes [KB * block * bits / 8], scales [KB] of the codec's type and, with stored zero points,
/// those [KB], a byte each.
struct nbits_row {
    std::byte* codes = nullptr;
    std::byte* scales = nullptr;
    std::uint8_t* zeros = nullptr;
};

/// The largest block of MatMulNBits.
inline constexpr std::uint64_t largest_nbits_block = 256;

namespace detail {

template <class Arch>
NIBBLE_INLINE float smallest_lane(vector_f32<Arch> v) {
    float lane[lanes<Arch>];
    v.store_unaligned(lane);
    float low = lane[0];
    for (std::size_t i = 1; i < lanes<Arch>; ++i) low = lane[i] < low ? lane[i] : low;
    return low;
}

/// value_range::over_nan of n values, a multiple of the vector's width.
template <class Arch>
NIBBLE_INLINE nibble::detail::value_range range_of(const float* w, std::size_t n) {
    using f32 = vector_f32<Arch>;
    const nibble::detail::value_range none;
    f32 low(none.low);
    f32 high(none.high);
    for (std::size_t i = 0; i < n; i += lanes<Arch>) {
        const f32 x = f32::load_unaligned(w + i);
        low = xsimd::select(x < low, x, low);
        high = xsimd::select(x > high, x, high);
    }
    nibble::detail::value_range r{smallest_lane<Arch>(low), largest_lane<Arch>(high)};
    // Which sign a zero has depends on the first one.
    if (r.low == 0.0F || r.high == 0.0F) r = nibble::detail::value_range::over_nan(w, n);
    return r;
}

/// Codes of n values, a multiple of the vector's width; those of NaNs are 0.
template <class Arch>
NIBBLE_INLINE void nbits_codes(const float* w, std::size_t n, float reciprocal, float zero, float top, std::uint32_t* codes) {
    using f32 = vector_f32<Arch>;
    using u32 = vector_u32<Arch>;
    for (std::size_t i = 0; i < n; i += lanes<Arch>) {
        // The choice stands between product and sum, so that no compiler joins them to one rounding.
        f32 x = f32::load_unaligned(w + i) * f32(reciprocal);
        x = xsimd::select(x > f32(-1024.0F), x, f32(-1024.0F)) + f32(zero);
        x = xsimd::select(x > f32(0.0F), x, f32(0.0F));
        x = xsimd::select(x < f32(top), x, f32(top));
        const f32 shifted = x + f32(0x1p23F);  // to the nearest integer, ties to even
        const u32 c = as_u32<Arch>(shifted) - u32(0x4B000000u);
        xsimd::select(as_u32<Arch>(x - (shifted - f32(0x1p23F))) == u32(0x3F000000u), c + u32(1u), c).store_unaligned(codes + i);  // a tie that went down
    }
}

template <class Arch, unsigned bits>
NIBBLE_INLINE void pack_codes(const std::uint32_t* codes, std::size_t n, std::byte* to) {
    constexpr std::size_t per_byte = 8 / bits;
    std::size_t i = 0;
    if constexpr (bits == 4) {
        for (; i + 32 <= n; i += 32) pack_32_nibbles<Arch>(codes + i, to + i / 2);
    }
    for (; i < n; i += per_byte) {
        std::uint32_t byte = 0;
        for (std::size_t j = 0; j < per_byte; ++j) byte |= codes[i + j] << (bits * j);
        to[i / per_byte] = static_cast<std::byte>(byte);
    }
}

}  // namespace detail

/// Encodes k values of the model's type, widened to f32, as nbits<Bits, Scale, block> does, or as nbits_with_zero where there is
/// room for zero points. `block` is a power of two from 16 to 256.
template <class Arch, unsigned Bits, class Scale>
void encode_nbits_row(const float* w, std::uint64_t k, std::uint64_t block, const nbits_row& out) {
    constexpr int top = (1 << Bits) - 1;
    constexpr int middle = 1 << (Bits - 1);
    alignas(64) float last[largest_nbits_block];
    alignas(64) std::uint32_t codes[largest_nbits_block];
    const std::uint64_t n_blocks = ceil_div(k, block);
    for (std::uint64_t b = 0; b < n_blocks; ++b) {
        const float* values = w + b * block;
        if (const std::uint64_t rest = k - b * block; rest < block) {
            // NaNs are passed over, and their codes are those of the padding.
            for (std::uint64_t i = 0; i < block; ++i) last[i] = i < rest ? values[i] : std::numeric_limits<float>::quiet_NaN();
            values = last;
        }
        auto range = detail::range_of<Arch>(values, block);
        float s;
        int zero = middle;
        if (out.zeros == nullptr) {
            s = signed_absmax_fit::unrounded_scale(range, middle);
        } else {
            range = range.with_zero();
            s = range_fit::unrounded_scale(range, top);
            out.zeros[b] = range_fit::zero_of(range, s, top);
            zero = out.zeros[b];
        }
        const typename Scale::type stored = Scale::stored(s);
        std::memcpy(out.scales + b * sizeof stored, &stored, sizeof stored);
        detail::nbits_codes<Arch>(values, block, signed_absmax_fit::reciprocal<Scale>(s), static_cast<float>(zero), static_cast<float>(top), codes);
        detail::pack_codes<Arch, Bits>(codes, block, out.codes + b * block * Bits / 8);
    }
}

/// Decodes k values; `zeros` (a byte each) may be null: all are the symmetric one.
template <class Arch, unsigned Bits, class Scale>
void decode_nbits_row(const std::byte* codes, const std::byte* scales, const std::uint8_t* zeros, std::uint64_t k, std::uint64_t block, float* out) {
    using f32 = vector_f32<Arch>;
    using codec = nbits_with_zero<Bits, Scale, 32>;
    constexpr std::size_t per_byte = 8 / Bits;
    alignas(64) float c[largest_nbits_block];
    const std::uint64_t n_blocks = ceil_div(k, block);
    for (std::uint64_t b = 0; b < n_blocks; ++b) {
        typename Scale::type stored;
        std::memcpy(&stored, scales + b * sizeof stored, sizeof stored);
        const f32 s(to_f32(stored));
        const f32 zero(zeros == nullptr ? static_cast<float>(1 << (Bits - 1)) : static_cast<float>(zeros[b]));
        const std::byte* from = codes + b * block / per_byte;
        for (std::uint64_t i = 0; i < block; ++i) c[i] = static_cast<float>(codec::packing::get(static_cast<std::uint8_t>(from[i / per_byte]), i % per_byte));
        const std::uint64_t rest = k - b * block;
        const std::uint64_t n = rest < block ? rest : block;
        std::uint64_t i = 0;
        for (; i + lanes<Arch> <= n; i += lanes<Arch>) codec::template value<f32>(f32::load_unaligned(c + i), s, zero).store_unaligned(out + b * block + i);
        if (i == n) continue;
        codec::template value<f32>(f32::load_unaligned(c + i), s, zero).store_unaligned(c + i);  // there are whole vectors of codes
        std::memcpy(out + b * block + i, c + i, static_cast<std::size_t>(n - i) * sizeof(float));
    }
}

}  // namespace nibble::cpu
