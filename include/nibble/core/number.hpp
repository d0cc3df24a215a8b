// SPDX-License-Identifier: Apache-2.0
#pragma once
// Storage types f16 (IEEE binary16), bf16, f8_e4m3 (OCP E4M3FN) and f8_e5m2, with exact conversions to and from f32.
// All rounding is to nearest, ties to even. NaN payloads are part of the law, because converters are compared byte for byte.

#include <bit>
#include <cfloat>
#include <cstdint>

// 16: float is float, only narrower numbers are widened.
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "nibble: float must be computed as float, or no two machines would write the same bytes; on 32-bit x86 that takes the flags -msse2 -mfpmath=sse"
#endif

namespace nibble {

/// IEEE binary16, by its bits.
struct f16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(f16, f16) = default;  ///< compares bits: NaN equals itself, +0 differs from -0
};
/// bfloat16, by its bits: the upper half of an f32.
struct bf16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(bf16, bf16) = default;
};
/// An 8-bit float with 4 bits of exponent, by its bits.
struct f8_e4m3 {
    std::uint8_t bits = 0;  ///< OCP E4M3FN: no infinities, S.1111.111 is NaN, largest value 448
    friend constexpr bool operator==(f8_e4m3, f8_e4m3) = default;
};
/// An 8-bit float with 5 bits of exponent, by its bits.
struct f8_e5m2 {
    std::uint8_t bits = 0;  ///< OCP E5M2: the upper byte of an f16
    friend constexpr bool operator==(f8_e5m2, f8_e5m2) = default;
};

/// Exact; NaN payloads are kept, a signalling NaN stays one.
[[nodiscard]] constexpr float to_f32(f16 h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
    const std::uint32_t exponent = (h.bits >> 10) & 0x1Fu;
    std::uint32_t mantissa = h.bits & 0x3FFu;
    if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
    if (mantissa == 0) return std::bit_cast<float>(sign);
    const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21;  // brings the top bit to position 10
    mantissa = (mantissa << shift) & 0x3FFu;
    return std::bit_cast<float>(sign | ((113 - shift) << 23) | (mantissa << 13));
}

/// Exact.
[[nodiscard]] constexpr float to_f32(bf16 h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h.bits) << 16); }

/// Exact; both NaN codes give a quiet NaN of their sign.
[[nodiscard]] constexpr float to_f32(f8_e4m3 h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x80u) << 24;
    const std::uint32_t exponent = (h.bits >> 3) & 0xFu;
    std::uint32_t mantissa = h.bits & 7u;
    if ((h.bits & 0x7F) == 0x7F) return std::bit_cast<float>(sign | 0x7FC00000u);
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
    if (mantissa == 0) return std::bit_cast<float>(sign);
    const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 28;
    mantissa = (mantissa << shift) & 7u;
    return std::bit_cast<float>(sign | ((121 - shift) << 23) | (mantissa << 20));
}

/// Exact.
[[nodiscard]] constexpr float to_f32(f8_e5m2 h) { return to_f32(f16{static_cast<std::uint16_t>(h.bits << 8)}); }

/// Any storage type as f32, which holds all of them exactly.
[[nodiscard]] constexpr float to_f32(float x) { return x; }

namespace detail {

/// The upper part of an f32's magnitude (sign removed) after rounding away `drop` bits to nearest even.
[[nodiscard]] constexpr std::uint32_t round_shift(std::uint32_t value, std::uint32_t drop) {
    const std::uint32_t half = 1u << (drop - 1);
    const std::uint32_t kept = value >> drop;
    const std::uint32_t rest = value & ((half << 1) - 1);
    return kept + ((rest > half || (rest == half && (kept & 1u) != 0)) ? 1u : 0u);
}

/// Rounds a finite or infinite magnitude to a format of 5 exponent bits and `10 - less` mantissa bits, as f16 bits >> less.
[[nodiscard]] constexpr std::uint32_t round_to_five_exponent_bits(std::uint32_t magnitude, std::uint32_t less) {
    if (magnitude >= 0x47800000u) return 0x7C00u >> less;                                  // 2^16 and above
    if (magnitude >= 0x38800000u) return round_shift(magnitude - 0x38000000u, 13 + less);  // may carry into infinity, rightly
    if (magnitude < 0x32000000u) return 0;
    return round_shift((magnitude & 0x7FFFFFu) | 0x800000u, 126 - (magnitude >> 23) + less);
}

}  // namespace detail

/// RNE, overflow to infinity. A NaN keeps its sign and the top ten payload bits (numpy's rule; the lowest bit is set where
/// nothing would be left).
[[nodiscard]] constexpr f16 to_f16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        const std::uint32_t payload = (magnitude >> 13) & 0x3FFu;
        return f16{static_cast<std::uint16_t>(sign | 0x7C00u | (payload != 0 ? payload : 1u))};
    }
    return f16{static_cast<std::uint16_t>(sign | detail::round_to_five_exponent_bits(magnitude, 0))};
}

/// RNE; NaN becomes sign | 0x7FC0 (ml_dtypes' rule).
[[nodiscard]] constexpr bf16 to_bf16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return bf16{static_cast<std::uint16_t>(((u >> 16) & 0x8000u) | 0x7FC0u)};
    return bf16{static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
}

/// What mlc_llm's "f32-to-bf16" shards store (tvm/contrib/tvmjs.py): RNE where |x| < 0x7F7F0000 as bits (3.3895e38), else plain
/// truncation, so that the largest finite values clip to 0x7F7F and a NaN whose payload is low becomes an infinity.
[[nodiscard]] constexpr bf16 f32_to_shard_bf16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t half = (u & 0x7FFFFFFFu) < 0x7F7F0000u ? 0x7FFFu + ((u >> 16) & 1u) : 0;
    return bf16{static_cast<std::uint16_t>((u + half) >> 16)};
}

/// RNE, overflow to infinity; NaN becomes sign | 0x7E.
[[nodiscard]] constexpr f8_e5m2 to_f8_e5m2(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 24) & 0x80u;
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return f8_e5m2{static_cast<std::uint8_t>(sign | 0x7Eu)};
    return f8_e5m2{static_cast<std::uint8_t>(sign | detail::round_to_five_exponent_bits(magnitude, 8))};
}

/// RNE; NaN, infinities and what rounds above 448 become sign | 0x7F (E4M3FN has no infinity).
[[nodiscard]] constexpr f8_e4m3 to_f8_e4m3(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 24) & 0x80u;
    const std::uint32_t magnitude = u & 0x7FFFFFFFu;
    std::uint32_t code = 0;
    if (magnitude >= 0x44000000u) {
        code = 0x7F;  // 512 and above
    } else if (magnitude >= 0x3C800000u) {
        code = detail::round_shift(magnitude - 0x3C000000u, 20);
    } else if (magnitude >= 0x39000000u) {
        code = detail::round_shift((magnitude & 0x7FFFFFu) | 0x800000u, 141 - (magnitude >> 23));
    }
    return f8_e4m3{static_cast<std::uint8_t>(sign | (code > 0x7F ? 0x7Fu : code))};
}

/// bf16 to f16 as ml_dtypes casts it: through f32, RNE, except that NaN becomes sign | 0x7E00.
[[nodiscard]] constexpr f16 to_f16(bf16 x) {
    if ((x.bits & 0x7FFF) > 0x7F80) return f16{static_cast<std::uint16_t>((x.bits & 0x8000u) | 0x7E00u)};
    return to_f16(to_f32(x));
}

/// Conversion between any two of the types by name of the target: `number_cast<f16>(x)`.
template <class To, class From>
[[nodiscard]] constexpr To number_cast(From x);

template <>
[[nodiscard]] constexpr f16 number_cast<f16>(bf16 x) {
    return to_f16(x);
}
template <>
[[nodiscard]] constexpr f16 number_cast<f16>(float x) {
    return to_f16(x);
}
template <>
[[nodiscard]] constexpr f16 number_cast<f16>(f16 x) {
    return x;
}
template <>
[[nodiscard]] constexpr f16 number_cast<f16>(f8_e4m3 x) {
    return to_f16(to_f32(x));
}
template <>
[[nodiscard]] constexpr f16 number_cast<f16>(f8_e5m2 x) {
    return f16{static_cast<std::uint16_t>(x.bits << 8)};
}
template <>
[[nodiscard]] constexpr bf16 number_cast<bf16>(bf16 x) {
    return x;
}
template <>
[[nodiscard]] constexpr bf16 number_cast<bf16>(float x) {
    return to_bf16(x);
}
template <>
[[nodiscard]] constexpr bf16 number_cast<bf16>(f16 x) {
    return to_bf16(to_f32(x));
}
template <>
[[nodiscard]] constexpr bf16 number_cast<bf16>(f8_e4m3 x) {
    return to_bf16(to_f32(x));
}
template <>
[[nodiscard]] constexpr bf16 number_cast<bf16>(f8_e5m2 x) {
    return to_bf16(to_f32(x));
}
template <>
[[nodiscard]] constexpr float number_cast<float>(float x) {
    return x;
}
template <>
[[nodiscard]] constexpr float number_cast<float>(f16 x) {
    return to_f32(x);
}
template <>
[[nodiscard]] constexpr float number_cast<float>(bf16 x) {
    return to_f32(x);
}
template <>
[[nodiscard]] constexpr float number_cast<float>(f8_e4m3 x) {
    return to_f32(x);
}
template <>
[[nodiscard]] constexpr float number_cast<float>(f8_e5m2 x) {
    return to_f32(x);
}

}  // namespace nibble
