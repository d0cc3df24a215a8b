// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a codec is: a stateless policy that says how one group of values along K is stored. The functions here and in the codecs
// themselves are scalar and are the law; SIMD and GPU code derives from the same policies and is tested equal to them.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "nibble/core/tensor.hpp"

namespace nibble {

/// How an encoder rounds w / scale + bias to a code.
enum class rounding : std::uint8_t {
    half_even,  ///< to nearest, ties to even: mlc_llm with TVM since 2026-04
    half_away   ///< to nearest, ties away from zero: mlc_llm with older TVM
};

/// How an encoder chooses the scale of a group. Not part of a format: every reader reads the result of any fit.
enum class fit : std::uint8_t {
    absmax,  ///< the format's own rule
    mse      ///< the representable scale with the least squared error, and the nearest codes
};

/// How an encoder rounds and fits. The defaults are the bytes of mlc_llm today.
struct encode_options {
    nibble::rounding rounding = nibble::rounding::half_even;
    nibble::fit fit = nibble::fit::absmax;
};

/// One stored array of a codec: its name's suffix ("q_weight" in place of "weight"; empty: the tensor keeps its name), the type
/// of its elements, and how many of them one group has.
struct plane {
    std::string_view suffix;
    encoding type;
    std::size_t per_group;
};

/// Layout [N, J]: a row's elements one after another (MLC's "_1").
struct nk {
    static constexpr bool transposed = false;
    static constexpr std::uint64_t index(std::uint64_t n, std::uint64_t j, std::uint64_t n_rows, std::uint64_t n_columns) {
        return at(n, j, n_rows, n_columns);
    }
    /// The same for any type that has sums and products: a shader expression too.
    template <class T>
    static constexpr T at(const T& n, const T& j, const T&, const T& n_columns) {
        return n * n_columns + j;
    }
};
/// Layout [J, N]: element j of all rows one after another (MLC's "_0").
struct kn {
    static constexpr bool transposed = true;
    static constexpr std::uint64_t index(std::uint64_t n, std::uint64_t j, std::uint64_t n_rows, std::uint64_t n_columns) {
        return at(n, j, n_rows, n_columns);
    }
    template <class T>
    static constexpr T at(const T& n, const T& j, const T& n_rows, const T&) {
        return j * n_rows + n;
    }
};

/// Layout of R rows side by side: element j of rows 0 to R - 1, then element j + 1 of the same rows, and so on; then the next R rows
/// (fewer at the end). Not on disk anywhere: it is what kernels read fastest, and cpu/repack.hpp makes it.
template <std::size_t R>
struct interleaved {
    static constexpr bool transposed = false;
    static constexpr std::size_t rows = R;
    static constexpr std::uint64_t index(std::uint64_t n, std::uint64_t j, std::uint64_t n_rows, std::uint64_t n_columns) {
        const std::uint64_t first = n - n % R;
        const std::uint64_t width = n_rows - first < R ? n_rows - first : R;
        return first * n_columns + j * width + n % R;
    }
};

/// A codec can at least decode. Its members:
///   group            values that are stored together, along K
///   block            tuple of one std::array per plane: what one group is stored as
///   planes           std::array<plane, n>, in the order of the block's arrays
///   layout           nk, kn or interleaved<R>: where element j of row n of a plane lies
///   decode(b, out)   writes `group` floats
template <class C>
concept codec = requires(const typename C::block& b, float* out) {
    { C::group } -> std::convertible_to<std::size_t>;
    { C::planes.size() } -> std::convertible_to<std::size_t>;
    { C::layout::index(0, 0, 0, 0) } -> std::convertible_to<std::uint64_t>;
    { C::layout::transposed } -> std::convertible_to<bool>;
    { C::decode(b, out) } -> std::same_as<void>;
};

/// An encoder is a codec that may be a conversion target. Further members:
///   model_type           the type that weights are cast to first, and in whose arithmetic the encoder rounds
///   encode(w, n, opts)   w: n values (n <= group) of model_type, widened to f32; returns the block of a group padded to `group`
template <class C>
concept encoder = codec<C> && requires(const float* w, std::size_t n, encode_options o) {
    typename C::model_type;
    { C::encode(w, n, o) } -> std::same_as<typename C::block>;
};

/// A tensor-scaled codec has, beside its planes, one scale for a whole tensor. It is no `codec`: its blocks mean nothing without
/// that scale. Members as an encoder's, but
///   tensor_plane               the plane of the scale, shape [1]
///   max_abs(w, n[, so_far])    the largest magnitude of n values of model_type, widened to f32, and of those before them
///   tensor_scale(max_abs)      the scale for it
///   encode(w, n, scale)        the block of a group
///   decode(b, scale, out)      writes `group` floats
template <class C>
concept tensor_scaled = requires(const float* w, std::size_t n, float scale, const typename C::block& b, float* out) {
    typename C::model_type;
    { C::group } -> std::convertible_to<std::size_t>;
    { C::planes.size() } -> std::convertible_to<std::size_t>;
    { C::layout::index(0, 0, 0, 0) } -> std::convertible_to<std::uint64_t>;
    { C::tensor_plane } -> std::convertible_to<plane>;
    { C::max_abs(w, n) } -> std::same_as<float>;
    { C::max_abs(w, n, scale) } -> std::same_as<float>;
    { C::tensor_scale(scale) } -> std::same_as<float>;
    { C::encode(w, n, scale) } -> std::same_as<typename C::block>;
    { C::decode(b, scale, out) } -> std::same_as<void>;
};

/// What a quantized tensor may be made by.
template <class C>
concept any_codec = codec<C> || tensor_scaled<C>;

/// A formulaic codec is one from which SIMD and shaders derive: codes in words of `packing`, and value(code, scale), written once
/// for any arithmetic type. A member `zero_code` promises that the value is (code - zero_code) * scale: kernels then look codes up and
/// multiply by the scale where it is cheapest.
template <class C>
concept formulaic = codec<C> && requires(float code, float scale) {
    typename C::packing;
    typename C::packing::word;
    { C::packing::get(typename C::packing::word{}, std::size_t{}) } -> std::convertible_to<std::uint32_t>;
    { C::value(code, scale) } -> std::same_as<float>;
};

namespace detail {

template <class P>
constexpr bool takes_low_bits_first() {
    for (std::size_t i = 0; i < P::per_word; ++i) {
        for (unsigned bit = 0; bit < 8 * sizeof(typename P::word); ++bit) {
            const auto one = std::uint32_t{1} << bit;
            if (P::get(static_cast<typename P::word>(one), i) != ((one >> (i * P::bits)) & P::mask)) return false;
        }
    }
    return true;
}

/// A packing in u32 or less whose code i is the bits from i * bits on: what vectors of words take for granted, whatever its name is.
template <class P>
concept packs_low_first = sizeof(typename P::word) <= 4 && requires {
    requires P::bits* P::per_word <= 8 * sizeof(typename P::word);
    P::mask;
    typename std::bool_constant<takes_low_bits_first<P>()>;
    requires takes_low_bits_first<P>();
};

/// A codec of two planes, the words of its packing and one scale a group: what row decoders are given.
template <class C>
concept codes_and_scale = formulaic<C> && C::planes.size() == 2 &&
                          std::is_same_v<typename std::tuple_element_t<0, typename C::block>::value_type,
                                         typename C::packing::word>&& std::tuple_size_v<std::tuple_element_t<0, typename C::block>> ==
                              (C::group + C::packing::per_word - 1) / C::packing::per_word&& std::tuple_size_v<std::tuple_element_t<1, typename C::block>> == 1;
template <class C>
using stored_scale = typename std::tuple_element_t<1, typename C::block>::value_type;

/// Whether each plane has as many bytes a group as the array of the block that it stores.
template <class C, std::size_t... I>
consteval bool planes_match_block(std::index_sequence<I...>) {
    return ((C::planes[I].per_group * info(C::planes[I].type).block_bytes == sizeof(std::tuple_element_t<I, typename C::block>)) && ...);
}

}  // namespace detail

/// One readable sentence for each thing that a would-be codec lacks: `static_assert(check_codec<mine>());`
template <class C>
consteval bool check_codec() {
    constexpr bool has_group = requires { C::group; };
    constexpr bool has_block = requires { std::tuple_size<typename C::block>::value; };
    constexpr bool has_planes = requires { C::planes.size(); };
    constexpr bool has_layout = requires {
        C::layout::index(0, 0, 0, 0);
        C::layout::transposed;
    };
    static_assert(has_group, "nibble: a codec needs `static constexpr std::size_t group`, the values that are stored together along K");
    static_assert(has_block, "nibble: a codec needs `block`, a tuple with one std::array of elements per plane");
    static_assert(has_planes, "nibble: a codec needs `static constexpr std::array<plane, n> planes`, the arrays that it stores");
    static_assert(has_layout, "nibble: a codec needs `layout`, nk or kn or a policy with their members");
    if constexpr (has_group) static_assert(C::group > 0, "nibble: a codec's group must hold at least one value");
    if constexpr (has_block && has_planes) {
        constexpr bool one_array_each = std::tuple_size_v<typename C::block> == C::planes.size();
        static_assert(one_array_each, "nibble: a codec's block needs one array for each of its planes");
        if constexpr (one_array_each) {
            static_assert(detail::planes_match_block<C>(std::make_index_sequence<C::planes.size()>{}),
                          "nibble: each of a codec's planes must have as many bytes a group as the array of its block");
        }
    }
    if constexpr (has_block) {
        static_assert(
            requires(const typename C::block& b, float* out) {
                { C::decode(b, out) } -> std::same_as<void>;
            },
            "nibble: a codec needs `static void decode(const block&, float* out)`, which writes `group` values");
    }
    return codec<C>;
}

/// The same for a conversion target: `static_assert(check_encoder<mine>());`
template <class C>
consteval bool check_encoder() {
    constexpr bool is_codec = check_codec<C>();
    if constexpr (is_codec) {
        static_assert(
            requires { typename C::model_type; },
            "nibble: this codec cannot be a conversion target: it has no `model_type`, the type that weights are cast to");
        static_assert(
            requires(const float* w, std::size_t n, encode_options o) {
                { C::encode(w, n, o) } -> std::same_as<typename C::block>;
            },
            "nibble: this codec cannot be a conversion target: it has no `static block encode(const float* w, std::size_t n, encode_options)`");
    }
    return is_codec && encoder<C>;
}

namespace detail {

template <class Block, std::size_t I>
using plane_element = typename std::tuple_element_t<I, Block>::value_type;

template <class F, std::size_t... I>
constexpr void for_each_index(F&& f, std::index_sequence<I...>) {
    (f(std::integral_constant<std::size_t, I>{}), ...);
}

/// Calls f(integral_constant<i>) for each plane of C.
template <class C, class F>
constexpr void for_each_plane(F&& f) {
    for_each_index(std::forward<F>(f), std::make_index_sequence<std::tuple_size_v<typename C::block>>{});
}

}  // namespace detail

/// Groups in a row of K values; the last one may be partly filled.
template <class C>
[[nodiscard]] constexpr std::uint64_t groups_of(std::uint64_t k) {
    return ceil_div(k, C::group);
}

/// Shape of plane p for weights of shape [.., N, K]: [.., N, J], or [J, N] in a transposed layout (two dimensions only).
template <class C>
[[nodiscard]] constexpr shape plane_shape(std::size_t p, const shape& weights) {
    const std::uint64_t columns = groups_of<C>(weights.columns()) * C::planes[p].per_group;
    if constexpr (C::layout::transposed) return shape{columns, weights.rows()};
    shape s = weights;
    if (s.rank() == 0) return shape{columns};
    s[s.rank() - 1] = columns;
    return s;
}

/// Bits per value of full groups, all planes together: 4.5 for q4f16_1.
template <class C>
inline constexpr double bits_per_value = [] {
    std::size_t bytes = 0;
    for (const auto& p : C::planes) bytes += p.per_group * info(p.type).block_bytes;
    return static_cast<double>(8 * bytes) / static_cast<double>(C::group);
}();

/// Copies the block of group g of row n from, or to, the planes of a tensor of n_rows rows and n_groups groups a row.
template <class C>
[[nodiscard]] typename C::block load_block(const std::array<const std::byte*, C::planes.size()>& planes, std::uint64_t n, std::uint64_t g, std::uint64_t n_rows,
                                           std::uint64_t n_groups) {
    typename C::block b;
    detail::for_each_plane<C>([&](auto p) {
        auto& elements = std::get<p.value>(b);
        using element = detail::plane_element<typename C::block, p.value>;
        for (std::size_t j = 0; j < elements.size(); ++j) {
            const auto at = C::layout::index(n, g * elements.size() + j, n_rows, n_groups * elements.size());
            elements[j] = load<element>(planes[p.value] + at * sizeof(element));
        }
    });
    return b;
}
/// The block of group g of row n to the planes.
template <class C>
void store_block(const typename C::block& b, const std::array<std::byte*, C::planes.size()>& planes, std::uint64_t n, std::uint64_t g, std::uint64_t n_rows,
                 std::uint64_t n_groups) {
    detail::for_each_plane<C>([&](auto p) {
        const auto& elements = std::get<p.value>(b);
        using element = detail::plane_element<typename C::block, p.value>;
        for (std::size_t j = 0; j < elements.size(); ++j) {
            const auto at = C::layout::index(n, g * elements.size() + j, n_rows, n_groups * elements.size());
            store(planes[p.value] + at * sizeof(element), elements[j]);
        }
    });
}

}  // namespace nibble
