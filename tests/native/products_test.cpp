// SPDX-License-Identifier: Apache-2.0
// Products of codecs that are in no table, through the headers alone, with the flags of the machine that compiles this.
#include "nibble/cpu/gemm.hpp"

#include "nibble/cpu/repack.hpp"
#include "support/hostile.hpp"
#include "support/products.hpp"

using namespace nibble;
using namespace nibble::tests;

namespace {

/// A stranger's formula, in which the scale is no factor; neither bytes nor tables fit it.
struct squared {
    using packing = low_first<4, std::uint32_t>;
    using layout = nk;
    using block = std::tuple<std::array<std::uint32_t, 2>, std::array<float, 1>>;
    static constexpr std::size_t group = 16;
    static constexpr std::array<plane, 2> planes{plane{"codes", encoding::u32, 2}, plane{"scale", encoding::f32, 1}};

    template <class T>
    static constexpr T value(T code, T scale) {
        return code * code * scale + scale;
    }
    static constexpr void decode(const block& b, float* out) {
        for (std::size_t i = 0; i < group; ++i) out[i] = value(static_cast<float>(packing::get(std::get<0>(b)[i / 8], i % 8)), std::get<1>(b)[0]);
    }
};
static_assert(formulaic<squared>);

using two_bits = affine<low_first<2, std::uint32_t>, f16_scale, bias<1>, 64>;
using wide_groups = affine<low_first<4, std::uint32_t>, bf16_scale, bias<7>, 128>;
using narrow_words = affine<low_first<5, std::uint16_t>, f16_scale, bias<15>, 6, kn>;
using eight_rows = affine<low_first<4, std::uint32_t>, f16_scale, bias<7>, 32, interleaved<8>>;

template <class Mode, class C>
double product_error(const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m, const std::vector<expected_result>& expected) {
    using arch = cpu::default_arch;
    const auto prepared = aligned_bytes(cpu::prepared_bytes<C>(m, w.k));
    cpu::prepare<arch, Mode, C>(x.data(), w.k, m, w.k, prepared.get());
    std::vector<float> y(m * w.n, -77.0F);
    // In two ranges, neither of whole tiles.
    cpu::gemm<arch, Mode, C>(w, prepared.get(), m, 0, w.n / 3, y.data(), w.n);
    cpu::gemm<arch, Mode, C>(w, prepared.get(), m, w.n / 3, w.n, y.data(), w.n);
    return error_of(y, w.n, expected, m, w.n, 0, w.n);
}

template <class C>
void check() {
    std::mt19937 random(5);
    for (const auto& [n, k] : odd_shapes()) {
        const auto weights = random_weights<C>(n, k, random);
        for (const std::uint64_t m : {1u, 2u, 9u}) {
            const auto x = activations(m * k, random);
            const auto expected = reference<C>(weights.view, x, m);
            INFO(cpu::default_arch::name << " n " << n << " k " << k << " m " << m);
            CHECK(product_error<cpu::exact, C>(weights.view, x, m, expected) < 1e-6);
            const double error = product_error<cpu::int8, C>(weights.view, x, m, expected);
            CHECK(error < (n * m > 100 ? 8e-3 : 5e-2));
            if (n * m > 100 && k > 40) CHECK(error > 5e-4);
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("products work with any codec", "[native][products]", hostile, squared, two_bits, cpu::packed<two_bits>, wide_groups, narrow_words,
                   eight_rows, q4f16_1) {
    check<TestType>();
}
