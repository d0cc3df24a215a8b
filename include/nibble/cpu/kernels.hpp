// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which kernels a program uses: the ones for the best architecture of this machine where nibble::kernels is linked, else the ones
// that the flags of the including file allow. All are raw function pointers that work on whole rows; hold them, and call them
// for row after row. The environment variable NIBBLE_ARCH (a name such as "avx2") forces a lower architecture.

#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>

#include "nibble/cpu/decode.hpp"
#include "nibble/cpu/encode.hpp"
#include "nibble/cpu/md5.hpp"

namespace nibble::cpu {

/// Encodes a row of k values, [K] -> codes and scales of a row.
template <class T>
using encode_row_function = void (*)(const T* row, std::uint64_t k, std::byte* codes, std::byte* scales, encode_options options);
/// Decodes a row to k values.
template <class Out>
using decode_row_function = void (*)(const std::byte* codes, const std::byte* scales, std::uint64_t k, Out* out);
/// decode_rows of a codec's nk sibling, told at run time whether the planes are those of layout kn.
template <class Out>
using decode_rows_function = void (*)(const std::byte* codes, const std::byte* scales, const stored_rows& stored, Out* out);
/// Casts n values.
template <class To, class From>
using cast_row_function = void (*)(const From* from, std::uint64_t n, To* to);
/// f32_to_shard_bf16 of n values.
using shard_bf16_row_function = void (*)(const float* from, std::uint64_t n, bf16* to);
/// Several MD5 sums at once, see md5_update_lanes.
using md5_update_lanes_function = void (*)(md5* const* states, const std::byte* const* data, const std::size_t* n_bytes, std::size_t n);

/// The codecs with compiled kernels. A row of a kn codec is encoded as that of its nk sibling.
using kernel_codecs = std::tuple<q4f16_1, q4f32_1, q4bf16_1, rows_of<q4bf16_0>, q3f16_1, q8f16_1>;
/// The types of numbers that rows are encoded from.
using kernel_numbers = std::tuple<float, f16, bf16>;

namespace detail {

template <class T, class List>
inline constexpr std::size_t index_in = 0;
template <class T, class... Ts>
inline constexpr std::size_t index_in<T, std::tuple<Ts...>> = [] {
    std::size_t i = 0;
    (void)((std::is_same_v<T, Ts> || (++i, false)) || ...);
    return i;
}();
template <class T, class List>
inline constexpr bool is_in = index_in<T, List> < std::tuple_size_v<List>;

template <class T>
struct from_column {
    encode_row_function<T> encode[std::tuple_size_v<kernel_codecs>];
    cast_row_function<float, T> to_float;
    cast_row_function<f16, T> to_f16;
    cast_row_function<bf16, T> to_bf16;
};
template <class Out>
struct decode_column {
    decode_row_function<Out> decode[std::tuple_size_v<kernel_codecs>];
    decode_rows_function<Out> decode_rows[std::tuple_size_v<kernel_codecs>];
};

}  // namespace detail

/// Everything compiled for one architecture.
struct kernel_table : detail::from_column<float>,
                      detail::from_column<f16>,
                      detail::from_column<bf16>,
                      detail::decode_column<float>,
                      detail::decode_column<f16> {
    const char* arch;
    shard_bf16_row_function shard_bf16;
    md5_update_lanes_function md5_lanes;

    /// Encodes rows of T; for codecs beyond kernel_codecs and plain, a kernel of the including file's flags.
    template <encoder C, class T>
    [[nodiscard]] encode_row_function<T> encode() const {
        if constexpr (detail::is_in<rows_of<C>, kernel_codecs>)
            return detail::from_column<T>::encode[detail::index_in<rows_of<C>, kernel_codecs>];
        else
            return &encode_row<default_arch, C, T>;
    }
    template <formulaic C, class Out>
    [[nodiscard]] decode_row_function<Out> decode() const {
        if constexpr (detail::is_in<rows_of<C>, kernel_codecs>)
            return detail::decode_column<Out>::decode[detail::index_in<rows_of<C>, kernel_codecs>];
        else
            return &decode_row<default_arch, C, Out>;
    }
    template <formulaic C, class Out>
    [[nodiscard]] decode_rows_function<Out> decode_rows() const {
        if constexpr (detail::is_in<rows_of<C>, kernel_codecs>)
            return detail::decode_column<Out>::decode_rows[detail::index_in<rows_of<C>, kernel_codecs>];
        else
            return &cpu::decode_rows<default_arch, rows_of<C>, Out>;
    }
    template <class To, class From>
    [[nodiscard]] cast_row_function<To, From> cast() const {
        const detail::from_column<From>& column = *this;
        if constexpr (std::is_same_v<To, float>) return column.to_float;
        if constexpr (std::is_same_v<To, f16>) return column.to_f16;
        if constexpr (std::is_same_v<To, bf16>) return column.to_bf16;
    }
};

namespace detail {

template <class Arch, class T, class... Cs>
constexpr void fill_from(from_column<T>& column, std::type_identity<std::tuple<Cs...>>) {
    std::size_t i = 0;
    ((column.encode[i++] = &cpu::encode_row<Arch, Cs, T>), ...);
    column.to_float = &cpu::cast_row<Arch, float, T>;
    column.to_f16 = &cpu::cast_row<Arch, f16, T>;
    column.to_bf16 = &cpu::cast_row<Arch, bf16, T>;
}
template <class Arch, class Out, class... Cs>
constexpr void fill_decode(decode_column<Out>& column, std::type_identity<std::tuple<Cs...>>) {
    std::size_t i = 0;
    ((column.decode[i] = &cpu::decode_row<Arch, Cs, Out>, column.decode_rows[i++] = &cpu::decode_rows<Arch, Cs, Out>), ...);
}

}  // namespace detail

/// The table of an architecture; instantiates all of its kernels.
template <class Arch>
[[nodiscard]] consteval kernel_table make_kernel_table() {
    kernel_table t{};
    constexpr std::type_identity<kernel_codecs> codecs;
    detail::fill_from<Arch, float>(t, codecs);
    detail::fill_from<Arch, f16>(t, codecs);
    detail::fill_from<Arch, bf16>(t, codecs);
    detail::fill_decode<Arch, float>(t, codecs);
    detail::fill_decode<Arch, f16>(t, codecs);
    t.arch = Arch::name;
    t.shard_bf16 = &shard_bf16_row<Arch>;
    t.md5_lanes = &cpu::md5_update<Arch>;
    return t;
}

/// The tables compiled into nibble::kernels that this machine can run, best first. Defined in that library.
[[nodiscard]] std::span<const kernel_table* const> linked_kernel_tables();
/// The first of them, or the one that NIBBLE_ARCH names; resolved once per process. Defined in that library.
[[nodiscard]] const kernel_table& linked_kernels();

/// The table of the including file's own flags.
template <class Arch = default_arch>
inline constexpr kernel_table header_kernels = make_kernel_table<Arch>();

// Programs may mix files that link nibble::kernels and files that do not, so these functions are not the same ones in both.
#if defined(NIBBLE_KERNELS_LINKED)
inline namespace linked {

/// The architecture whose kernels are used, as in "avx2".
[[nodiscard]] inline const char* arch_name() { return linked_kernels().arch; }
/// How rows of T are encoded by C; a row of a kn codec as that of its nk sibling.
template <encoder C, class T>
[[nodiscard]] encode_row_function<T> encode_row_fn() {
    return linked_kernels().encode<C, T>();
}
/// How rows of C are decoded to Out, which is f32 or f16.
template <formulaic C, class Out>
[[nodiscard]] decode_row_function<Out> decode_row_fn() {
    return linked_kernels().decode<C, Out>();
}
/// The same for a range of rows, from either layout.
template <formulaic C, class Out>
[[nodiscard]] decode_rows_function<Out> decode_rows_fn() {
    return linked_kernels().decode_rows<C, Out>();
}
/// How rows are cast; f32, f16 and bf16 to each other.
template <class To, class From>
[[nodiscard]] cast_row_function<To, From> cast_row_fn() {
    return linked_kernels().cast<To, From>();
}
/// How f32 becomes the bf16 of a shard.
[[nodiscard]] inline shard_bf16_row_function shard_bf16_row_fn() { return linked_kernels().shard_bf16; }
/// states[i]->update(data[i], n_bytes[i]) for each i < n, side by side; no two states may be the same.
inline void md5_update_lanes(md5* const* states, const std::byte* const* data, const std::size_t* n_bytes, std::size_t n) {
    linked_kernels().md5_lanes(states, data, n_bytes, n);
}

}  // namespace linked
#else
inline namespace header_only {

/// The architecture whose kernels are used, as in "avx2".
[[nodiscard]] inline const char* arch_name() { return default_arch::name; }
/// How rows of T are encoded by C; a row of a kn codec as that of its nk sibling.
template <encoder C, class T>
[[nodiscard]] encode_row_function<T> encode_row_fn() {
    return &encode_row<default_arch, rows_of<C>, T>;
}
/// How rows of C are decoded to Out, which is f32 or f16.
template <formulaic C, class Out>
[[nodiscard]] decode_row_function<Out> decode_row_fn() {
    return &decode_row<default_arch, rows_of<C>, Out>;
}
/// The same for a range of rows, from either layout.
template <formulaic C, class Out>
[[nodiscard]] decode_rows_function<Out> decode_rows_fn() {
    return &decode_rows<default_arch, rows_of<C>, Out>;
}
/// How rows are cast; f32, f16 and bf16 to each other.
template <class To, class From>
[[nodiscard]] cast_row_function<To, From> cast_row_fn() {
    return &cast_row<default_arch, To, From>;
}
/// How f32 becomes the bf16 of a shard.
[[nodiscard]] inline shard_bf16_row_function shard_bf16_row_fn() { return &shard_bf16_row<default_arch>; }
/// states[i]->update(data[i], n_bytes[i]) for each i < n, side by side; no two states may be the same.
inline void md5_update_lanes(md5* const* states, const std::byte* const* data, const std::size_t* n_bytes, std::size_t n) {
    md5_update<default_arch>(states, data, n_bytes, n);
}

}  // namespace header_only
#endif

}  // namespace nibble::cpu
