// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/md5.hpp"

#include <random>
#include <vector>

#include "support/catch.hpp"

using namespace nibble;

namespace {

std::vector<std::byte> noise(std::size_t n) {
    std::mt19937 random(1);
    std::vector<std::byte> bytes(n);
    for (auto& b : bytes) b = static_cast<std::byte>(random());
    return bytes;
}

template <class Arch>
void equals_scalar(std::size_t lanes, std::size_t most_bytes) {
    static const auto bytes = noise(1 << 16);
    std::mt19937 random(static_cast<unsigned>(lanes));
    std::vector<md5> sums(lanes), expected(lanes);
    std::vector<md5*> to(lanes);
    std::vector<const std::byte*> data(lanes);
    std::vector<std::size_t> n(lanes);
    for (std::size_t repeat = 0; repeat < 60; ++repeat) {
        for (std::size_t i = 0; i < lanes; ++i) {
            to[i] = &sums[i];
            n[i] = random() % 5 == 0 ? 0 : random() % (most_bytes + 1);
            // Blocks that are whole from the start, alongside those that are not.
            if (repeat % 3 == 0) n[i] += (128 - (expected[i].lane().n_bytes + n[i]) % 64) % 64;
            const auto from = random() % (bytes.size() - n[i]);
            data[i] = bytes.data() + from;
            expected[i].update(bytes_view(data[i], n[i]));
        }
        cpu::md5_update<Arch>(to.data(), data.data(), n.data(), lanes);
        for (std::size_t i = 0; i < lanes; ++i) {
            INFO("lane " << i << " of " << lanes << ", update " << repeat);
            REQUIRE(sums[i].hex() == expected[i].hex());
        }
    }
}

/// Runs V's groups on blocks of their own and compares every lane with the scalar code.
template <class V, std::size_t groups>
void lockstep_equals_scalar() {
    constexpr auto lanes = V::lanes * groups;
    const auto bytes = noise(lanes * 640);
    md5 sums[lanes], expected[lanes];
    std::uint32_t* states[lanes];
    const std::byte* data[lanes];
    for (std::size_t i = 0; i < lanes; ++i) {
        states[i] = sums[i].lane().state;
        data[i] = bytes.data() + 640 * i;
        sums[i].lane().n_bytes = 640;
        expected[i].update(bytes_view(data[i], 640));
    }
    cpu::detail::md5_lockstep<V, groups>(states, data, 10);
    for (std::size_t i = 0; i < lanes; ++i) CHECK(sums[i].hex() == expected[i].hex());
}

}  // namespace

TEST_CASE("md5 lanes: random lengths and repeated updates equal the scalar sum") {
    for (std::size_t lanes = 1; lanes <= 16; ++lanes) {
        equals_scalar<cpu::default_arch>(lanes, 70);
        equals_scalar<cpu::default_arch>(lanes, 3000);
    }
    for (const std::size_t lanes : {0U, 17U, 31U, 32U, 33U, 70U}) equals_scalar<cpu::default_arch>(lanes, 1000);
}

TEST_CASE("md5 lanes: every vector that this build has") {
    using arch = cpu::default_arch;
    lockstep_equals_scalar<cpu::detail::md5_scalar<arch>, 1>();
    lockstep_equals_scalar<cpu::detail::md5_scalar<arch>, 2>();
#if defined(__SSE2__)
    lockstep_equals_scalar<cpu::detail::md5_sse2<arch>, 2>();
    lockstep_equals_scalar<cpu::detail::md5_xsimd<cpu::sse2>, 2>();
    for (std::size_t lanes = 1; lanes <= 16; ++lanes) equals_scalar<cpu::sse2>(lanes, 1000);
#endif
#if defined(__AVX2__)
    lockstep_equals_scalar<cpu::detail::md5_avx2<arch>, 2>();
    for (std::size_t lanes = 1; lanes <= 16; ++lanes) equals_scalar<cpu::avx2>(lanes, 1000);
#endif
#if defined(__AVX512BW__)
    lockstep_equals_scalar<cpu::detail::md5_avx512<arch>, 2>();
    for (std::size_t lanes = 1; lanes <= 33; ++lanes) equals_scalar<cpu::avx512>(lanes, 1000);
#endif
}
