// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/products.hpp"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

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

struct free_aligned {
    void operator()(std::byte* p) const { std::free(p); }
};
/// Exactly n bytes for ASan to watch over, aligned to 64.
std::unique_ptr<std::byte, free_aligned> aligned_bytes(std::size_t n) {
    void* p = nullptr;
    REQUIRE(posix_memalign(&p, 64, n == 0 ? 64 : n) == 0);
    return std::unique_ptr<std::byte, free_aligned>(static_cast<std::byte*>(p));
}

/// Planes at addresses that are aligned to nothing, with nothing behind them.
struct unaligned_planes {
    std::vector<std::vector<std::byte>> bytes;
    cpu::matrix view;

    template <class Planes>
    unaligned_planes(const Planes& planes, std::uint64_t n, std::uint64_t k) {
        view.n = n;
        view.k = k;
        for (std::size_t i = 0; i < planes.size(); ++i) {
            bytes.emplace_back(planes[i].size() + 1);
            if (!planes[i].empty()) std::memcpy(bytes[i].data() + 1, planes[i].data(), planes[i].size());
        }
        for (std::size_t i = 0; i < planes.size(); ++i) view.planes[i] = bytes[i].data() + 1;
    }
};

/// Every stored code and scale at random: codes that no encoder writes, and padding that is not zero.
template <class C>
unaligned_planes random_weights(std::uint64_t n, std::uint64_t k, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<std::vector<std::byte>> planes(C::planes.size());
    for (std::size_t p = 0; p < planes.size(); ++p) {
        const std::uint64_t elements = groups_of<C>(k) * n * C::planes[p].per_group;
        const std::size_t size = info(C::planes[p].type).block_bytes;
        planes[p].resize(elements * size);
        for (std::uint64_t i = 0; i < elements; ++i) {
            const float value = normal(random) * 0.02F;
            std::byte* to = planes[p].data() + i * size;
            switch (C::planes[p].type) {
                case encoding::f32:
                    store(to, value);
                    break;
                case encoding::f16:
                    store(to, to_f16(value));
                    break;
                case encoding::bf16:
                    store(to, number_cast<bf16>(value));
                    break;
                default:
                    for (std::size_t b = 0; b < size; ++b) to[b] = static_cast<std::byte>(random());
            }
        }
    }
    return unaligned_planes(planes, n, k);
}

struct expected_result {
    double value;
    double terms;  ///< the sum of its terms' squares: what a result would be if their signs were random
};
/// The law: f64 sums of the scalar decoder's weights.
template <class C>
std::vector<expected_result> reference(const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m) {
    std::array<const std::byte*, C::planes.size()> planes;
    for (std::size_t p = 0; p < planes.size(); ++p) planes[p] = w.planes[p];
    const std::uint64_t n_groups = groups_of<C>(w.k);
    std::vector<expected_result> y(m * w.n);
    for (std::uint64_t n = 0; n < w.n; ++n) {
        std::vector<float> row(n_groups * C::group);
        for (std::uint64_t g = 0; g < n_groups; ++g) C::decode(load_block<C>(planes, n, g, w.n, n_groups), row.data() + g * C::group);
        for (std::uint64_t r = 0; r < m; ++r) {
            for (std::uint64_t k = 0; k < w.k; ++k) {
                const double term = static_cast<double>(row[k]) * static_cast<double>(x[r * w.k + k]);
                y[r * w.n + n].value += term;
                y[r * w.n + n].terms += term * term;
            }
        }
    }
    return y;
}

/// The error of results within [first, last) in the 2-norm, relative to that of results whose terms have random signs (one result may be
/// small by accident); whatever lies outside must be as it was.
double error_of(const std::vector<float>& y, std::uint64_t ldy, const std::vector<expected_result>& expected, std::uint64_t m, std::uint64_t n,
                std::uint64_t first, std::uint64_t last) {
    double wrong = 0;
    double all = 0;
    for (std::uint64_t r = 0; r < m; ++r) {
        for (std::uint64_t i = 0; i < ldy; ++i) {
            const float got = y[r * ldy + i];
            if (i < first || i >= last) {
                if (got != -77.0F) return 1e9;
                continue;
            }
            const double want = expected[r * n + i].value;
            wrong += (static_cast<double>(got) - want) * (static_cast<double>(got) - want);
            all += expected[r * n + i].terms;
        }
    }
    return all == 0 ? wrong : std::sqrt(wrong / all);
}

template <class Mode, class C>
double product_error(const cpu::product_table& table, const cpu::matrix& w, const std::vector<float>& x, std::uint64_t m, std::uint64_t first,
                     std::uint64_t last, const std::vector<expected_result>& expected, bool by_gemm) {
    const std::uint64_t n_bytes = cpu::prepared_bytes<C>(m, w.k);
    const auto prepared = aligned_bytes(n_bytes);
    std::vector<float> unaligned(x.size() + 1);
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

std::vector<float> activations(std::uint64_t n, std::mt19937& random) {
    std::normal_distribution<float> normal(0.3F, 1.0F);
    std::vector<float> x(n);
    for (auto& v : x) v = normal(random);
    return x;
}

template <class C>
void check_products() {
    std::mt19937 random(7);
    for (const auto& [n, k] : {std::pair{17, 72}, {3, 100}, {1, 80}, {17, 40}, {1, 1}, {33, 513}, {40, 1288}, {70, 3000}}) {
        const auto rows = static_cast<std::uint64_t>(n);
        const auto columns = static_cast<std::uint64_t>(k);
        const auto weights = random_weights<C>(rows, columns, random);
        for (const std::uint64_t m : {1u, 2u, 3u, 8u, 11u}) {
            if (m > 3 && k == 3000) continue;
            const auto x = activations(m * columns, random);
            const auto expected = reference<C>(weights.view, x, m);
            for (const auto* table : tables()) {
                INFO(table->arch << " n " << n << " k " << k << " m " << m);
                const std::uint64_t middle = rows / 3;
                // Whole, and in two ranges that no tile foresees
                for (const auto& [first, last] : {std::pair{std::uint64_t{0}, rows}, {middle, rows}, {std::uint64_t{0}, middle}}) {
                    CHECK(product_error<cpu::exact, C>(*table, weights.view, x, m, first, last, expected, m != 1) < 1e-6);
                    if (m == 1) CHECK(product_error<cpu::exact, C>(*table, weights.view, x, m, first, last, expected, true) < 1e-6);
                    if constexpr (!cpu::detail::is_pass_through<C>) {
                        const double error = product_error<cpu::int8, C>(*table, weights.view, x, m, first, last, expected, m != 1);
                        // Many results are as the bound says, a few as it happens; and none is too good to be int8.
                        CHECK(error < ((last - first) * m > 100 ? 8e-3 : 5e-2));
                        if ((last - first) * m > 100 && k > 40) CHECK(error > 1e-3);
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
