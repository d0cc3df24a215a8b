// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime's codecs by vectors, with the flags of the machine that compiles this and with those of every one.
#include "nibble/cpu/nbits.hpp"

#include <cstring>
#include <random>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/decode.hpp"
#include "support/onnx_goldens.hpp"

using namespace nibble;
using namespace nibble::test;

namespace {

/// Values among which are ties, zeros of both signs, denormals, NaNs and infinities.
std::vector<float> odd_values(std::size_t n, std::mt19937& random) {
    std::vector<float> w(n);
    const auto kind = random() % 6;
    for (auto& x : w) {
        switch (kind) {
            case 0:
                x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));  // anything
                break;
            case 1:
                x = static_cast<float>(static_cast<int>(random() % 33) - 16) / 2;  // many ties
                break;
            case 2:
                x = (random() & 1) != 0 ? 0.0F : -0.0F;
                break;
            case 3:
                x = std::bit_cast<float>(static_cast<std::uint32_t>(random()) & 0x807FFFFFu);
                break;
            default:
                x = std::normal_distribution<float>(kind == 4 ? 0.0F : 0.5F, 0.02F)(random);
        }
    }
    return w;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

template <class Arch, class C>
void compare(std::uint64_t k, std::mt19937& random) {
    using scale = typename C::scale;
    constexpr unsigned bits = C::packing::bits;
    std::vector<float> w = odd_values(k, random);
    for (auto& x : w) x = to_f32(number_cast<typename C::model_type>(x));
    const auto law = quantize<C>(w, {1, k});
    REQUIRE(law);
    const auto blocks = groups_of<C>(k);
    std::vector<std::byte> codes(blocks * C::group * bits / 8, std::byte{0x5A});
    std::vector<std::byte> scales(blocks * sizeof(typename scale::type));
    std::vector<std::uint8_t> zeros(blocks);
    constexpr bool stored_zero = C::planes.size() == 3;
    cpu::encode_nbits_row<Arch, bits, scale>(w.data(), k, C::group, {codes.data(), scales.data(), stored_zero ? zeros.data() : nullptr});
    INFO(Arch::name << " bits " << bits << " block " << C::group << " k " << k << " zero " << stored_zero);
    REQUIRE(codes == law->planes[0]);
    REQUIRE(scales == law->planes[1]);
    if constexpr (stored_zero) REQUIRE(std::memcmp(zeros.data(), law->planes[2].data(), blocks) == 0);

    for (auto& c : codes) c = static_cast<std::byte>(random());
    for (auto& z : zeros) z = static_cast<std::uint8_t>(random() & C::packing::mask);
    const_plane_pointers<C> planes{};
    planes[0] = codes.data();
    planes[1] = scales.data();
    if constexpr (stored_zero) planes[2] = reinterpret_cast<const std::byte*>(zeros.data());
    std::vector<float> expected(k);
    std::vector<float> got(k);
    decode_row<C>(planes, 0, 1, k, expected.data());
    cpu::decode_nbits_row<Arch, bits, scale>(codes.data(), scales.data(), stored_zero ? zeros.data() : nullptr, k, C::group, got.data());
    for (std::size_t i = 0; i < k; ++i)  // which of two NaNs a product keeps is the machine's affair
        if (expected[i] != expected[i] && got[i] != got[i]) expected[i] = got[i] = 0;
    REQUIRE(same(got, expected));
    if constexpr (!stored_zero) {
        cpu::decode_row<Arch, C>(codes.data(), scales.data(), k, got.data());
        for (std::size_t i = 0; i < k; ++i)
            if (got[i] != got[i]) got[i] = 0;
        REQUIRE(same(got, expected));
    }
}

template <class Arch, class C>
void compare_all() {
    std::mt19937 random(3);
    for (const std::uint64_t k : {1u, 15u, 16u, 31u, 32u, 33u, 64u, 96u, 100u, 256u, 300u, 512u, 1000u})
        for (int round = 0; round < 12; ++round) compare<Arch, C>(k, random);
}

}  // namespace

TEMPLATE_TEST_CASE("rows of ONNX Runtime's codecs are those of the law", "[native][onnx]", (nbits<4, f32_scale, 32>), (nbits<4, f16_scale, 32>),
                   (nbits<4, bf16_scale_unrounded, 64>), (nbits<4, f32_scale, 16>), (nbits<2, f32_scale, 32>), (nbits<8, f16_scale, 128>),
                   (nbits<4, f16_scale, 256>), (nbits_with_zero<4, f32_scale, 32>), (nbits_with_zero<4, f16_scale, 128>), (nbits_with_zero<8, f32_scale, 64>),
                   (nbits_with_zero<2, f16_scale, 32>)) {
    compare_all<cpu::default_arch, TestType>();
#if defined(__SSE2__)
    compare_all<cpu::sse2, TestType>();
#endif
}

TEST_CASE("ONNX Runtime's quantizers, bit for bit, by vectors", "[native][onnx]") {
    int compared = 0;
    for (const auto& c : quantizer_cases()) {
        if (c.kind != "nbits") continue;
        ++compared;
        INFO(c.name);
        visit_quantizer(c, [&]<class C>() {
            if constexpr (!std::is_same_v<typename C::packing, signed_low_first<4, std::uint8_t>> && C::packing::per_word * C::packing::bits == 8) {
                std::vector<std::byte> codes(c.q.size());
                std::vector<std::byte> scales(c.scales.size());
                std::vector<std::byte> zeros;
                for (std::uint64_t n = 0; n < c.n_rows; ++n) {
                    std::vector<std::uint8_t> row(c.n_blocks());
                    cpu::encode_nbits_row<cpu::default_arch, C::packing::bits, typename C::scale>(
                        c.weights.data() + n * c.k, c.k, c.block,
                        {codes.data() + n * c.q.size() / c.n_rows, scales.data() + n * c.scales.size() / c.n_rows, c.symmetric ? nullptr : row.data()});
                    if (c.symmetric) continue;
                    std::vector<std::uint8_t> packed(packed_zero_points(row.size(), c.bits));
                    pack_zero_points(row.data(), row.size(), c.bits, packed.data());
                    for (const auto byte : packed) zeros.push_back(static_cast<std::byte>(byte));
                }
                const auto row_bytes = c.q.size() / c.n_rows;
                CHECK(used_codes(codes, row_bytes, c.k, c.bits) == used_codes(c.q, row_bytes, c.k, c.bits));
                CHECK(scales == c.scales);
                CHECK(zeros == c.zeros);
            }
        });
    }
    CHECK(compared == 48);
}
