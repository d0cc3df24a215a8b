// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which products a program uses, as kernels.hpp has it for rows: those for the best architecture of this machine where nibble::kernels is
// linked, else those that the flags of the including file allow.
//
//     cpu::prepared<cpu::exact, q4f16_1> x(activations, k, m, k);
//     x.multiply(weights, 0, n, y, n);

#include <vector>

#include "nibble/cpu/gemm.hpp"
#include "nibble/cpu/kernels.hpp"
#include "nibble/cpu/repack.hpp"

namespace nibble::cpu {

/// Activations x [M, K], rows ldx apart, brought into the form in which products read them.
using prepare_function = void (*)(const float* x, std::uint64_t ldx, std::uint64_t m, std::uint64_t k, std::byte* prepared);
/// y[first .. last) of W x for one prepared row; y points to row 0 of the weights.
using gemv_function = void (*)(const matrix& w, const std::byte* x, std::uint64_t first, std::uint64_t last, float* y);
/// y[r * ldy + n] for m prepared rows and rows n in [first, last) of the weights.
using gemm_function = void (*)(const matrix& w, const std::byte* x, std::uint64_t m, std::uint64_t first, std::uint64_t last, float* y, std::uint64_t ldy);
/// Rows [first, last) of a matrix to the layout of `packed`.
using repack_function = void (*)(const matrix& w, std::uint64_t first, std::uint64_t last, std::byte* codes, std::byte* scales);

/// The codecs with compiled products: those with codes in both arithmetics, plain ones in `exact` alone.
using product_codecs = std::tuple<q4f16_1, packed<q4f16_1>, q4f16_0, q4f32_1, packed<q4f32_1>, q4bf16_1, q4bf16_0, q3f16_1, packed<q3f16_1>, q3f16_0, q8f16_1,
                                  q0f16, q0bf16, q0f32>;

namespace detail {

struct product {
    prepare_function prepare = nullptr;
    gemv_function gemv = nullptr;
    gemm_function gemm = nullptr;
};

template <class Arch, class Mode, class C>
constexpr product make_product() {
    if constexpr (is_plain<C> && std::is_same_v<Mode, int8>) {
        return {};
    } else {
        return {&cpu::prepare<Arch, Mode, C>, &cpu::gemv<Arch, Mode, C>, &cpu::gemm<Arch, Mode, C>};
    }
}
/// How rows of C are repacked, where they can be.
template <class Arch, class C>
constexpr repack_function make_repack() {
    if constexpr (repackable<C>) {
        return &repack<Arch, C>;
    } else {
        return nullptr;
    }
}

template <class Mode>
inline constexpr std::size_t mode_index = std::is_same_v<Mode, exact> ? 0 : 1;

}  // namespace detail

/// The products compiled for one architecture. Function pointers; all take a range of rows of the weights, so that threads share a product.
struct product_table {
    const char* arch;
    detail::product of[2][std::tuple_size_v<product_codecs>];
    repack_function repacked[std::tuple_size_v<product_codecs>];

    /// For codecs beyond product_codecs, products of the including file's flags: these never mix, so take all three from one place.
    template <class Mode, codec C>
    [[nodiscard]] prepare_function prepare() const {
        return product_of<Mode, C>().prepare;
    }
    template <class Mode, codec C>
    [[nodiscard]] gemv_function gemv() const {
        return product_of<Mode, C>().gemv;
    }
    template <class Mode, codec C>
    [[nodiscard]] gemm_function gemm() const {
        return product_of<Mode, C>().gemm;
    }
    template <codec C>
    [[nodiscard]] repack_function repack() const {
        static_assert(repackable<C>, "nibble: only codecs with codes in words, in layout nk or kn, can be repacked");
        if constexpr (detail::is_in<C, product_codecs>) return repacked[detail::index_in<C, product_codecs>];
        return &cpu::repack<default_arch, C>;
    }

private:
    template <class Mode, class C>
    [[nodiscard]] detail::product product_of() const {
        static_assert(std::is_same_v<Mode, exact> || !is_plain<C>,
                      "nibble: arithmetic int8 is for weights with codes; plain weights are multiplied in arithmetic exact");
        if constexpr (detail::is_in<C, product_codecs>) return of[detail::mode_index<Mode>][detail::index_in<C, product_codecs>];
        return detail::make_product<default_arch, Mode, C>();
    }
};

namespace detail {

template <class Arch, class... Cs>
consteval product_table make_product_table(std::type_identity<std::tuple<Cs...>>) {
    return {Arch::name, {{make_product<Arch, exact, Cs>()...}, {make_product<Arch, int8, Cs>()...}}, {make_repack<Arch, Cs>()...}};
}

}  // namespace detail

/// The table of an architecture; instantiates all of its products.
template <class Arch>
[[nodiscard]] consteval product_table make_product_table() {
    return detail::make_product_table<Arch>(std::type_identity<product_codecs>{});
}

/// The tables compiled into nibble::kernels that this machine can run, best first. Defined in that library.
[[nodiscard]] std::span<const product_table* const> linked_product_tables();
/// The first of them, or the one that NIBBLE_ARCH names; resolved once per process. Defined in that library.
[[nodiscard]] const product_table& linked_products();

/// The table of the including file's own flags.
template <class Arch = default_arch>
inline constexpr product_table header_products = make_product_table<Arch>();

#if defined(NIBBLE_KERNELS_LINKED)
inline namespace linked {
/// The products of this process.
[[nodiscard]] inline const product_table& products() { return linked_products(); }
}  // namespace linked
#else
inline namespace header_only {
/// As a product_table of the including file's flags, but only what is asked for is compiled.
struct products_on_demand {
    const char* arch = default_arch::name;
    template <class Mode, codec C>
    [[nodiscard]] prepare_function prepare() const {
        return &cpu::prepare<default_arch, Mode, C>;
    }
    template <class Mode, codec C>
    [[nodiscard]] gemv_function gemv() const {
        return &cpu::gemv<default_arch, Mode, C>;
    }
    template <class Mode, codec C>
    [[nodiscard]] gemm_function gemm() const {
        return &cpu::gemm<default_arch, Mode, C>;
    }
    template <repackable C>
    [[nodiscard]] repack_function repack() const {
        return &cpu::repack<default_arch, C>;
    }
};
/// The products of the including file's flags.
[[nodiscard]] inline products_on_demand products() { return {}; }
}  // namespace header_only
#endif

/// Prepared activations that own their memory, for those who have no buffer to reuse. [M, K] f32, rows ldx apart.
template <class Mode, codec C>
class prepared {
public:
    prepared(const float* x, std::uint64_t ldx, std::uint64_t m, std::uint64_t k)
        : lines_(static_cast<std::size_t>((prepared_bytes<C>(m, k) + sizeof(line) - 1) / sizeof(line))), m_(m) {
        products().prepare<Mode, C>()(x, ldx, m, k, data());
    }
    /// y[r * ldy + n] for rows n in [first, last) of the weights; threads may share one object, each with its own range.
    void multiply(const matrix& w, std::uint64_t first, std::uint64_t last, float* y, std::uint64_t ldy) {
        products().gemm<Mode, C>()(w, data(), m_, first, last, y, ldy);
    }
    [[nodiscard]] std::byte* data() { return lines_.empty() ? nullptr : lines_.front().bytes; }

private:
    struct alignas(64) line {
        std::byte bytes[64];
    };
    std::vector<line> lines_;
    std::uint64_t m_;
};

}  // namespace nibble::cpu
