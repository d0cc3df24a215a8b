// SPDX-License-Identifier: Apache-2.0
// Codecs of policies that are not ours, through row kernels and products, with the flags of the machine that compiles this and with those
// of every one: fast where vectors fit, and right everywhere.
#include <bit>
#include <cstring>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/decode.hpp"
#include "nibble/cpu/encode.hpp"
#include "nibble/cpu/gemm.hpp"
#include "nibble/cpu/repack.hpp"
#include "support/products.hpp"

using namespace nibble;
using namespace nibble::tests;

namespace {

/// Of two values of a fit the first is as good as any.
struct careless_fit {
    template <class Packing, class Bias>
    static constexpr int max_code = Packing::mask;
    template <class C>
    static typename C::block encode(const float* w, std::size_t n) {
        return C::encode_nearest(w, n, C::scale::stored(n == 0 ? 0 : w[0]));
    }
};

/// Code 0 in the highest bits: a packing with the names of ours.
struct high_first {
    using word = std::uint32_t;
    static constexpr unsigned bits = 4;
    static constexpr std::size_t per_word = 8;
    static constexpr std::uint32_t mask = 15;
    static constexpr word put(std::uint32_t code, std::size_t i) { return code << (28 - 4 * i); }
    static constexpr std::uint32_t get(word w, std::size_t i) { return (w >> (28 - 4 * i)) & mask; }
};

/// Scales that are powers of two, a byte each.
struct power_of_two {
    std::uint8_t exponent;
};
[[maybe_unused]] float to_f32(power_of_two s) { return std::bit_cast<float>(std::uint32_t{s.exponent} << 23); }

/// A formula without a zero: four levels about it.
template <std::size_t Group, class Packing = low_first<2, std::uint32_t>, class Scale = f16>
struct mid_rise {
    using packing = Packing;
    using layout = nk;
    using model_type = float;
    static constexpr std::size_t group = Group;
    static constexpr std::size_t n_words = Group / Packing::per_word;
    using block = std::tuple<std::array<std::uint32_t, n_words>, std::array<Scale, 1>>;
    static constexpr std::array<plane, 2> planes{plane{"codes", encoding::u32, n_words}, plane{"scale", sizeof(Scale) == 1 ? encoding::u8 : encoding::f16, 1}};

    template <class T>
    static constexpr T value(T code, T scale) {
        return (code - T(1.5F)) * scale;
    }
    static void decode(const block& b, float* out) {
        const float s = to_f32(std::get<1>(b)[0]);
        for (std::size_t i = 0; i < Group; ++i)
            out[i] = value(static_cast<float>(packing::get(std::get<0>(b)[i / Packing::per_word], i % Packing::per_word)), s);
    }
};
static_assert(formulaic<mid_rise<32>>);

using own_fit = affine<low_first<2, std::uint32_t>, f16_scale, bias<1>, 64, nk, careless_fit>;
using own_fit_kn = affine<low_first<4, std::uint32_t>, f16_scale, bias<7>, 32, kn, careless_fit>;
using groups_of_16 = affine<low_first<4, std::uint32_t>, bf16_scale, bias<7>, 16>;
using pairs_of_16 = affine<low_first<2, std::uint32_t>, f32_scale, bias<1>, 16>;
using groups_of_64 = affine<low_first<4, std::uint32_t>, f32_scale, bias<8 - 1>, 64>;
using own_packing = affine<high_first, f16_scale, bias<7>, 32>;

static_assert(!nibble::detail::packs_low_first<high_first>);
static_assert(nibble::detail::packs_low_first<low_first<3, std::uint32_t>> && nibble::detail::packs_low_first<low_first<5, std::uint16_t>>);
static_assert(std::is_same_v<cpu::packed<own_fit>::layout, interleaved<16>> && std::is_same_v<cpu::rows_of<own_fit_kn>::layout, nk>);

template <class Arch, class C, class Out>
void compare_decoded(std::uint64_t k, std::mt19937& random) {
    const std::uint64_t groups = groups_of<C>(k);
    std::vector<std::byte> codes(groups * sizeof(std::tuple_element_t<0, typename C::block>));
    std::vector<std::byte> scales(groups * sizeof(std::tuple_element_t<1, typename C::block>));
    for (auto* plane : {&codes, &scales}) {
        for (auto& b : *plane) b = static_cast<std::byte>(random());
    }
    std::vector<float> expected(k);
    decode_row<C>({codes.data(), scales.data()}, 0, 1, k, expected.data());
    std::vector<Out> got(k);
    cpu::decode_row<Arch, C>(codes.data(), scales.data(), k, got.data());
    for (std::size_t i = 0; i < k; ++i) {
        const Out law = number_cast<Out>(expected[i]);
        if (expected[i] != expected[i]) {  // which of two NaNs a product keeps is the machine's affair
            REQUIRE(nibble::to_f32(got[i]) != nibble::to_f32(got[i]));
        } else {
            REQUIRE(std::memcmp(&law, &got[i], sizeof law) == 0);
        }
    }
}

template <class Arch, class C>
void compare_all() {
    std::mt19937 random(7);
    for (const std::uint64_t k : {1u, 16u, 63u, 64u, 128u, 200u, 512u, 1000u}) {
        INFO(Arch::name << " k " << k);
        for (int round = 0; round < 8; ++round) {
            compare_decoded<Arch, C, float>(k, random);
            compare_decoded<Arch, C, f16>(k, random);
        }
    }
}

template <class Arch, class C>
void compare_encoded() {
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    for (const std::uint64_t k : {1u, 64u, 200u, 640u}) {
        std::vector<float> w(k);
        for (auto& x : w) x = normal(random);
        const auto law = quantize<C>(w, {1, k});
        REQUIRE(law);
        std::vector<std::byte> codes(law->planes[0].size()), scales(law->planes[1].size());
        cpu::encode_row<Arch, C>(w.data(), k, codes.data(), scales.data());
        CHECK((codes == law->planes[0] && scales == law->planes[1]));
    }
}

template <class C>
double product_error(const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m, const std::vector<expected_result>& expected) {
    const auto prepared = aligned_bytes(cpu::prepared_bytes<C>(m, w.k));
    cpu::prepare<cpu::default_arch, cpu::exact, C>(x.data(), w.k, m, w.k, prepared.get());
    std::vector<float> y(m * w.n);
    cpu::gemm<cpu::default_arch, cpu::exact, C>(w, prepared.get(), m, 0, w.n, y.data(), w.n);
    return error_of(y, w.n, expected, m, w.n, 0, w.n);
}

}  // namespace

TEMPLATE_TEST_CASE("rows of strangers' codecs are decoded as the law has it", "[native][strangers]", own_fit, own_fit_kn, groups_of_16, pairs_of_16,
                   groups_of_64, own_packing, mid_rise<16>, mid_rise<32>, mid_rise<64>, mid_rise<128>,
                   (mid_rise<64, low_first<2, std::uint32_t>, power_of_two>)) {
    compare_all<cpu::default_arch, TestType>();
#if defined(__AVX2__)
    compare_all<cpu::avx2, TestType>();
#endif
#if defined(__SSE2__)
    compare_all<cpu::sse2, TestType>();
#endif
}

TEMPLATE_TEST_CASE("rows of strangers' codecs are encoded as the law has it", "[native][strangers]", own_fit, own_fit_kn, groups_of_16, own_packing) {
    compare_encoded<cpu::default_arch, TestType>();
#if defined(__SSE2__)
    compare_encoded<cpu::sse2, TestType>();
#endif
}

TEMPLATE_TEST_CASE("products of strangers' codecs", "[native][strangers]", own_fit, cpu::packed<own_fit>, own_fit_kn, own_packing, groups_of_16, mid_rise<64>) {
    std::mt19937 random(11);
    for (const std::uint64_t m : {1u, 3u}) {
        const auto weights = random_weights<TestType>(21, 200, random);
        const auto x = activations(m * 200, random);
        CHECK(product_error<TestType>(weights.view, x, m, reference<TestType>(weights.view, x, m)) < 1e-6);
    }
}
