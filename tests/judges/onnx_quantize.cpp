// SPDX-License-Identifier: Apache-2.0
// Quantizes matrices for onnx_quantize_equal.py. Standard input has one after another: ten u32 (kind 0 MatMulNBits, 1 GatherBlockQuantized; bits;
// block; 1 if symmetric; 1 if f16; N; K; three unused), then N * K values as f32. Standard output gets for each what a model stores:
// codes, scales, zero points, each after its length as u32. The codes of MatMulNBits are made by the law and by vectors: if they differ,
// the program ends with status 3.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/nbits.hpp"

using namespace nibble;

namespace {

struct request {
    std::uint32_t kind, bits, block, symmetric, half, n, k, unused[3];
};

void put(const std::vector<std::byte>& bytes) {
    const auto n = static_cast<std::uint32_t>(bytes.size());
    std::fwrite(&n, 4, 1, stdout);
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
}

template <class C>
void by_vectors(const request& r, const std::vector<float>& w, const quantized<C>& law) {
    for (std::uint32_t n = 0; n < r.n; ++n) {
        std::vector<std::byte> codes(law.planes[0].size() / r.n);
        std::vector<std::byte> scales(law.planes[1].size() / r.n);
        std::vector<std::uint8_t> zeros(groups_of<C>(r.k));
        cpu::encode_nbits_row<cpu::default_arch, C::packing::bits, typename C::scale>(w.data() + std::size_t{n} * r.k, r.k, r.block,
                                                                                      {codes.data(), scales.data(), r.symmetric != 0 ? nullptr : zeros.data()});
        if (std::memcmp(codes.data(), law.planes[0].data() + n * codes.size(), codes.size()) != 0) std::exit(3);
        if (std::memcmp(scales.data(), law.planes[1].data() + n * scales.size(), scales.size()) != 0) std::exit(3);
        if constexpr (C::planes.size() == 3) {
            if (std::memcmp(zeros.data(), law.planes[2].data() + n * zeros.size(), zeros.size()) != 0) std::exit(3);
        }
    }
}

template <class C>
void answer(const request& r, const std::vector<float>& w) {
    using model = typename C::model_type;
    std::vector<model> values;
    for (const float x : w) values.push_back(number_cast<model>(x));
    const auto q = quantize<C>(values, {r.n, r.k});
    if (!q) std::exit(4);
    if (r.kind == 0) by_vectors<C>(r, w, *q);
    put(q->planes[0]);
    put(q->planes[1]);
    std::vector<std::byte> zeros;
    if constexpr (C::planes.size() == 3) {
        const auto* from = reinterpret_cast<const std::uint8_t*>(q->planes[2].data());
        const auto blocks = groups_of<C>(r.k);
        const auto row = r.kind == 0 ? packed_zero_points(blocks, r.bits) : 0;
        zeros.resize(r.kind == 0 ? r.n * row : (r.n * blocks + 1) / 2);
        auto* to = reinterpret_cast<std::uint8_t*>(zeros.data());
        if (r.kind == 1) pack_nibbles(from, r.n * blocks, to);
        for (std::uint32_t n = 0; r.kind == 0 && n < r.n; ++n) pack_zero_points(from + n * blocks, blocks, r.bits, to + n * row);
    }
    put(zeros);
}

template <class Scale, std::size_t block>
void with_block(const request& r, const std::vector<float>& w) {
    if (r.kind == 1) return r.symmetric != 0 ? answer<gather_int4<Scale, block>>(r, w) : answer<gather_uint4<Scale, block>>(r, w);
    if (r.bits == 2) return r.symmetric != 0 ? answer<nbits<2, Scale, block>>(r, w) : answer<nbits_with_zero<2, Scale, block>>(r, w);
    if (r.bits == 4) return r.symmetric != 0 ? answer<nbits<4, Scale, block>>(r, w) : answer<nbits_with_zero<4, Scale, block>>(r, w);
    return r.symmetric != 0 ? answer<nbits<8, Scale, block>>(r, w) : answer<nbits_with_zero<8, Scale, block>>(r, w);
}

template <class Scale>
void with_scale(const request& r, const std::vector<float>& w) {
    if (r.block == 16) return with_block<Scale, 16>(r, w);
    if (r.block == 32) return with_block<Scale, 32>(r, w);
    if (r.block == 64) return with_block<Scale, 64>(r, w);
    if (r.block == 128) return with_block<Scale, 128>(r, w);
    return with_block<Scale, 256>(r, w);
}

}  // namespace

int main() {
    request r;
    while (std::fread(&r, sizeof r, 1, stdin) == 1) {
        std::vector<float> w(std::size_t{r.n} * r.k);
        if (std::fread(w.data(), 4, w.size(), stdin) != w.size()) return 2;
        r.half != 0 ? with_scale<f16_scale>(r, w) : with_scale<f32_scale>(r, w);
    }
    return 0;
}
