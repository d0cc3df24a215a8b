// SPDX-License-Identifier: Apache-2.0
#include "nibble/codec/onnx.hpp"

#include "nibble/codec/quantize.hpp"
#include "support/onnx_goldens.hpp"

using namespace nibble;
using namespace nibble::test;

namespace {

template <class T>
std::vector<T> values_of(const quantizer_case& c) {
    std::vector<T> w;
    for (const float x : c.weights) w.push_back(number_cast<T>(x));
    return w;
}

/// [N, KB] as [KB, N].
template <class T>
std::vector<std::byte> turned(const std::vector<std::byte>& bytes, std::uint64_t n_rows) {
    const std::size_t columns = bytes.size() / sizeof(T) / n_rows;
    std::vector<std::byte> out(bytes.size());
    for (std::size_t n = 0; n < n_rows; ++n)
        for (std::size_t j = 0; j < columns; ++j) store(out.data() + (j * n_rows + n) * sizeof(T), load<T>(bytes.data() + (n * columns + j) * sizeof(T)));
    return out;
}

std::vector<std::byte> nibbles(const std::vector<std::byte>& bytes) {
    std::vector<std::byte> out((bytes.size() + 1) / 2);
    pack_nibbles(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), reinterpret_cast<std::uint8_t*>(out.data()));
    return out;
}

/// Zero points, a byte each, as a MatMulNBits node has them.
std::vector<std::byte> packed_rows(const std::vector<std::byte>& zeros, const quantizer_case& c) {
    std::vector<std::byte> out;
    for (std::size_t n = 0; n < c.n_rows; ++n) {
        std::vector<std::byte> row(packed_zero_points(c.n_blocks(), c.bits));
        pack_zero_points(reinterpret_cast<const std::uint8_t*>(zeros.data()) + n * c.n_blocks(), c.n_blocks(), c.bits,
                         reinterpret_cast<std::uint8_t*>(row.data()));
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

template <class C>
void check(const quantizer_case& c) {
    using model = typename C::model_type;
    const auto q = quantize<C>(values_of<model>(c), {c.n_rows, c.k});
    REQUIRE(q);
    if (c.kind == "qdq4") {  // [K, N], and there each code is one of the file's
        auto codes = turned<std::uint8_t>(q->planes[0], c.n_rows);
        codes.resize(c.k * c.n_rows);  // without the padding
        if (c.symmetric)
            for (auto& code : codes) code ^= std::byte{8};
        CHECK(nibbles(codes) == c.q);
        CHECK(turned<typename C::scale::type>(q->planes[1], c.n_rows) == c.scales);
        if constexpr (C::planes.size() == 3) CHECK(nibbles(turned<std::uint8_t>(q->planes[2], c.n_rows)) == c.zeros);
        return;
    }
    const auto row_bytes = q->planes[0].size() / c.n_rows;
    CHECK(used_codes(q->planes[0], row_bytes, c.k, c.bits) == used_codes(c.q, row_bytes, c.k, c.bits));
    CHECK(q->planes[0].size() == c.q.size());
    CHECK(q->planes[1] == c.scales);
    if constexpr (C::planes.size() == 3) CHECK((c.kind == "gather4" ? nibbles(q->planes[2]) : packed_rows(q->planes[2], c)) == c.zeros);
}

}  // namespace

TEST_CASE("ONNX Runtime's quantizers, bit for bit", "[codec][onnx]") {
    const auto cases = quantizer_cases();
    REQUIRE(cases.size() == 60);
    for (const auto& c : cases) {
        INFO(c.name);
        visit_quantizer(c, [&]<class C>() { check<C>(c); });
    }
}

TEST_CASE("a scale keeps the sign of the value that is exact", "[codec][onnx]") {
    std::vector<float> w(32, 0.0F);
    w[0] = 4.0F;
    w[1] = -4.0F;
    w[2] = 0.25F;  // half a step of 0.5: away from zero
    w[3] = -0.25F;
    auto q = quantize<nbits<4, f32_scale, 32>>(w, {1, 32});
    REQUIRE(q);
    CHECK(load<float>(q->planes[1].data()) == 0.5F);  // of two equal magnitudes the negative one is exact
    CHECK(used_codes(q->planes[0], 16, 4, 4) == std::vector<unsigned>{15, 0, 9, 8});
    w[1] = 0;
    q = quantize<nbits<4, f32_scale, 32>>(w, {1, 32});
    CHECK(load<float>(q->planes[1].data()) == -0.5F);
    CHECK(used_codes(q->planes[0], 16, 4, 4) == std::vector<unsigned>{0, 8, 8, 9});  // -0.5 + 8 = 7.5 is rounded to 8
    const auto back = dequantize(*q);
    REQUIRE(back);
    CHECK((*back)[0] == 4.0F);
    CHECK((*back)[3] == -0.5F);
}

TEST_CASE("stored zero points make zero exact, and a group decodes by its own", "[codec][onnx]") {
    std::vector<float> w(48);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 16) - (i < 32 ? 3.0F : 0.0F);
    const auto q = quantize<nbits_with_zero<4, f32_scale, 32>>(w, {1, 48});
    REQUIRE(q);
    CHECK(q->planes[2] == std::vector<std::byte>{std::byte{3}, std::byte{0}});
    const auto back = dequantize(*q);
    REQUIRE(back);
    CHECK(*back == w);
    CHECK(packed_zero_points(3, 4) == 2);
    const std::uint8_t zeros[3] = {3, 0, 5};
    std::uint8_t out[2];
    pack_zero_points(zeros, 3, 4, out);
    CHECK(out[0] == 0x03);
    CHECK(out[1] == 0x85);  // what is left is 8
}
