// SPDX-License-Identifier: Apache-2.0
#include "nibble/gpu/int8.hpp"

#include <bit>
#include <random>

#include "nibble/gpu/kernels.hpp"
#include "support/catch.hpp"

using namespace nibble;
using namespace nibble::gpu;

namespace {

/// The first code in the highest bits.
struct high_first {
    using word = std::uint32_t;
    static constexpr unsigned bits = 4;
    static constexpr std::size_t per_word = 8;
    static constexpr std::uint32_t mask = 15;
    static constexpr word put(std::uint32_t code, std::size_t i) { return code << (28 - 4 * i); }
    static constexpr std::uint32_t get(word w, std::size_t i) { return code(w, i); }
    template <class T>
    static constexpr T code(const T& w, std::size_t i) {
        return (w >> T(static_cast<std::uint32_t>(28 - 4 * i))) & T(mask);
    }
};
using high_first_4 = affine<high_first, f16_scale, bias<7>, 32>;
using bytes_of_two = affine<low_first<4, std::uint8_t>, f16_scale, bias<7>, 32>;
using three_in_16 = affine<low_first<5, std::uint16_t>, f16_scale, bias<15>, 30>;

template <packed_codec C>
std::string order_text() {
    return gpu::detail::int8_codes<C>::text();
}

/// Every code of a unit comes out once, in its byte, less what makes it signed.
template <packed_codec C>
void check_codes() {
    using codes_of = gpu::detail::int8_codes<C>;
    std::mt19937 bits(7);
    for (int repeat = 0; repeat < 100; ++repeat) {
        const auto unit = static_cast<u32>(bits());
        std::array<int, gpu::detail::int8_order<C>::unit> seen{};
        for (unsigned i = 0; i < codes_of::words; ++i) {
            const u32 four = codes_of::of(unit, i);
            for (unsigned byte = 0; byte < 4; ++byte) {
                const unsigned code = codes_of::order.code[4 * i + byte];
                if (code == codes_of::order.none) continue;
                ++seen[code];
                const auto got = std::bit_cast<std::int8_t>(static_cast<std::uint8_t>(four >> 8 * byte));
                CHECK(int{got} == static_cast<int>(gpu::detail::unit_code<C>(unit, code)) - codes_of::shifted_by);
            }
        }
        for (const int n : seen) CHECK(n == 1);
    }
}

}  // namespace

TEST_CASE("which codes meet in a u32 is derived from the packing", "[gpu]") {
    CHECK(order_text<q4f16_1>() == "codes that meet in a u32: 0 2 4 6, 1 3 5 7 of each 8");
    CHECK(order_text<q8f16_1>() == "codes that meet in a u32: 0 1 2 3 of each 4");
    CHECK(order_text<q3f16_0>() == "codes that meet in a u32: 0 1 2 3, 4 5 6 7, 8 9 - - of each 10");
    CHECK(order_text<high_first_4>() == "codes that meet in a u32: 7 5 3 1, 6 4 2 0 of each 8");
    CHECK(order_text<bytes_of_two>() == "codes that meet in a u32: 0 2 4 6, 1 3 5 7 of each 8");
    CHECK(order_text<three_in_16>() == "codes that meet in a u32: 0 1 2 3, 4 5 - - of each 6");
    check_codes<q4f16_1>();
    check_codes<q8f16_1>();
    check_codes<q3f16_0>();
    check_codes<high_first_4>();
    check_codes<bytes_of_two>();
    check_codes<three_in_16>();
}

TEST_CASE("four codes that lie 8 bits apart cost one shift and one mask, others one for each", "[gpu]") {
    CHECK(gpu::detail::int8_codes<q4f16_1>::order.shift == std::array<unsigned, 2>{0, 4});
    CHECK(gpu::detail::int8_codes<q8f16_1>::order.shift == std::array<unsigned, 1>{0});
    constexpr unsigned none = gpu::detail::int8_order<q3f16_1>::none;
    CHECK(gpu::detail::int8_codes<q3f16_1>::order.shift == std::array<unsigned, 3>{none, none, none});
}

TEST_CASE("products of whole numbers err by the rounding of activations, and by no more", "[gpu]") {
    for_each_shader_codec([&]<class C>(std::string_view codec) {
        if constexpr (packed_codec<C>) {
            constexpr std::size_t n = 64;
            constexpr std::size_t k = 1000;
            const auto w = make_weights<C>(n, k, 1);
            const auto x = random_numbers(k, 2);
            auto rounded = x;
            const gpu::detail::int8_example<C> made(rounded, 1, k);
            const auto exact = w.times(x, 0, n, k);
            const auto y = w.times(rounded, 0, n, k);
            double error = 0;
            double largest = 0;
            for (std::size_t r = 0; r < n; ++r) {
                error = std::max(error, std::abs(y[r] - exact[r]));
                largest = std::max(largest, std::abs(exact[r]));
            }
            INFO(codec << ": " << error / largest);
            CHECK(error / largest < 8e-3);
            CHECK(error / largest > 1e-3);

            using codes_of = gpu::detail::int8_codes<C>;
            const std::size_t groups = groups_of<C>(k);
            for (std::size_t g = 0; g < groups; ++g) {
                int sum = 0;
                for (std::size_t i = 0; i < codes_of::step_words; ++i) {
                    for (unsigned byte = 0; byte < 4; ++byte) {
                        sum += std::bit_cast<std::int8_t>(static_cast<std::uint8_t>(made.codes[g * codes_of::step_words + i] >> 8 * byte));
                    }
                }
                CHECK(static_cast<float>(sum) == made.scales[2 * g + 1]);
            }
        }
    });
}

TEST_CASE("a kernel that is not made for a codec says for which it is", "[gpu]") {
    const auto refused = build_kernel("gemm_int8", "q0f16", {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().message() == "the kernel \"gemm_int8\" is not made for the codec \"q0f16\"; it is made for " + codec_names_of<gemm_int8>());
    CHECK(codec_names_of<gemm_int8>().find("q0") == std::string::npos);
    CHECK(codec_names_of<gemm_int8>().find("q4f16_1, ") == 0);
    CHECK(build_kernel("gemm_int8", "q8f16_1", {}));
    CHECK(build_kernel("gemm", "q0f16", {}));
    for_each_trial([](std::string_view kernel, std::string_view codec, const auto&...) {
        if (kernel.ends_with("int8") || kernel == "quantize_activations") CHECK_FALSE(codec.starts_with("q0"));
    });
}
