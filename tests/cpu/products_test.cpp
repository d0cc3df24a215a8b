// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/products.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

using namespace nibble;
using namespace nibble::tests;

namespace {

std::vector<const cpu::product_table*> tables() {
#if defined(NIBBLE_KERNELS_LINKED)
    const auto linked = cpu::linked_product_tables();
    return {linked.begin(), linked.end()};
#else
#if !defined(NIBBLE_TEST_ARCH)
#define NIBBLE_TEST_ARCH default_arch
#endif
    return {&cpu::header_products<cpu::NIBBLE_TEST_ARCH>};
#endif
}

template <class Mode, class C>
double product_error(const cpu::product_table& table, const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m, std::uint64_t first,
                     std::uint64_t last, const std::vector<expected_result>& expected, bool by_gemm) {
    const std::uint64_t n_bytes = cpu::prepared_bytes<C>(m, w.k);
    const auto prepared = aligned_bytes(n_bytes);
    table.prepare<Mode, C>()(x.data(), w.k, m, w.k, prepared.get());
    const std::uint64_t ldy = w.n + 3;
    std::vector<float> y(m * ldy, -77.0F);
    if (by_gemm) {
        table.gemm<Mode, C>()(w, prepared.get(), m, first, last, y.data(), ldy);
    } else {
        table.gemv<Mode, C>()(w, prepared.get(), first, last, y.data());
    }
    return error_of(y, ldy, expected, m, w.n, first, last);
}

template <class C>
void check_products() {
    std::mt19937 random(7);
    for (const auto& [rows, columns] : odd_shapes()) {
        const auto weights = random_weights<C>(rows, columns, random);
        for (const std::uint64_t m : {1u, 2u, 3u, 8u, 11u}) {
            if (m > 3 && columns == 3000) continue;
            const auto x = activations(m * columns, random);
            const auto expected = reference<C>(weights.view, x, m);
            for (const auto* table : tables()) {
                INFO(table->arch << " n " << rows << " k " << columns << " m " << m);
                const std::uint64_t middle = rows / 3;
                // Whole, and in two ranges that no tile foresees
                for (const auto& [first, last] : {std::pair{std::uint64_t{0}, rows}, {middle, rows}, {std::uint64_t{0}, middle}}) {
                    CHECK(product_error<cpu::exact, C>(*table, weights.view, x, m, first, last, expected, m != 1) < 1e-6);
                    if (m == 1) CHECK(product_error<cpu::exact, C>(*table, weights.view, x, m, first, last, expected, true) < 1e-6);
                    if constexpr (!is_plain<C>) {
                        const double error = product_error<cpu::int8, C>(*table, weights.view, x, m, first, last, expected, m != 1);
                        // Many results are as the bound says, a few as it happens; and none is too good to be int8.
                        CHECK(error < ((last - first) * m > 100 ? 8e-3 : 5e-2));
                        if ((last - first) * m > 100 && columns > 40) CHECK(error > 1e-3);
                    }
                }
            }
        }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("products equal the law within their bounds, for each codec, arithmetic and architecture", "[cpu][products]", q4f16_1, cpu::packed<q4f16_1>,
                   q4f16_0, q4f32_1, cpu::packed<q4f32_1>, q4bf16_1, q4bf16_0) {
    check_products<TestType>();
}
TEMPLATE_TEST_CASE("products of 3-bit, 8-bit and plain weights too", "[cpu][products]", q3f16_1, cpu::packed<q3f16_1>, q3f16_0, q8f16_1, q0f16, q0bf16, q0f32) {
    check_products<TestType>();
}

TEST_CASE("prepared activations that own their memory give the same", "[cpu][products]") {
    std::mt19937 random(9);
    const auto weights = random_weights<q3f16_1>(40, 200, random);
    for (const std::uint64_t m : {1u, 5u}) {
        const auto x = activations(m * 200, random);
        const auto expected = reference<q3f16_1>(weights.view, x, m);
        cpu::prepared<cpu::exact, q3f16_1> prepared(x.data(), 200, m, 200);
        std::vector<float> y(m * 40);
        prepared.multiply(weights.view, 0, 40, y.data(), 40);
        CHECK(error_of(y, 40, expected, m, 40, 0, 40) < 1e-6);
    }
}

TEST_CASE("exact products are exact where f32 is: small integers", "[cpu][products]") {
    std::mt19937 random(1);
    constexpr std::uint64_t n = 37;
    constexpr std::uint64_t k = 256;
    auto weights = random_weights<q4f16_1>(n, k, random);
    for (std::size_t i = 1; i < weights.bytes[1].size(); i += 2) store(weights.bytes[1].data() + i, to_f16(0.25F));
    std::vector<float> x(k * 2);
    for (auto& v : x) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000);
    const auto expected = reference<q4f16_1>(weights.view, x, 2);
    for (const auto* table : tables()) {
        INFO(table->arch);
        CHECK(product_error<cpu::exact, q4f16_1>(*table, weights.view, x, 2, 0, n, expected, true) == 0.0);
    }
}

TEST_CASE("activations far from 1 lose nothing, and those that are not finite are seen", "[cpu][products]") {
    std::mt19937 random(2);
    constexpr std::uint64_t n = 40;
    constexpr std::uint64_t k = 160;
    const auto weights = random_weights<q4f32_1>(n, k, random);
    for (const auto* table : tables()) {
        for (const float size : {1e-34F, 1e-20F, 1e20F, 1e34F}) {
            INFO(table->arch << " size " << size);
            auto x = activations(k, random);
            for (auto& v : x) v *= size;
            const auto expected = reference<q4f32_1>(weights.view, x, 1);
            CHECK(product_error<cpu::exact, q4f32_1>(*table, weights.view, x, 1, 0, n, expected, false) < 1e-6);
            if (size > 1e-30F) CHECK(product_error<cpu::int8, q4f32_1>(*table, weights.view, x, 1, 0, n, expected, false) < 2e-2);
        }
        const auto prepared = aligned_bytes(cpu::prepared_bytes<q4f32_1>(1, k));
        for (const float bad : {std::nanf(""), HUGE_VALF}) {
            auto x = activations(k, random);
            x[77] = bad;
            std::vector<float> y(n);
            table->prepare<cpu::exact, q4f32_1>()(x.data(), k, 1, k, prepared.get());
            table->gemv<cpu::exact, q4f32_1>()(weights.view, prepared.get(), 0, n, y.data());
            for (const float v : y) CHECK(!std::isfinite(v));
            table->prepare<cpu::int8, q4f32_1>()(x.data(), k, 1, k, prepared.get());
            table->gemv<cpu::int8, q4f32_1>()(weights.view, prepared.get(), 0, n, y.data());
            for (const float v : y) CHECK(std::isnan(v));
        }
        const std::vector<float> zero(k);
        const auto expected = reference<q4f32_1>(weights.view, zero, 1);
        CHECK(product_error<cpu::int8, q4f32_1>(*table, weights.view, zero, 1, 0, n, expected, false) == 0.0);
        CHECK(product_error<cpu::exact, q4f32_1>(*table, weights.view, zero, 1, 0, n, expected, false) == 0.0);
    }
}
