// SPDX-License-Identifier: Apache-2.0
#pragma once
// What ONNX Runtime's quantizers made of small weights (tests/data/onnx/quantizers.json), case by case.

#include <array>
#include <string>
#include <vector>

#include "nibble/codec/onnx.hpp"
#include "nibble/core/file.hpp"
#include "nibble/core/json.hpp"
#include "support/catch.hpp"

namespace nibble::test {

struct quantizer_case {
    std::string name, kind;
    unsigned bits = 4;
    std::size_t block = 32;
    bool symmetric = true;
    bool half = false;                ///< weights and scales are f16, else f32
    std::uint64_t n_rows = 0, k = 0;  ///< [n_rows, k], K fastest
    std::vector<float> weights;
    std::vector<std::byte> q, scales, zeros;  ///< as stored in a model

    [[nodiscard]] std::uint64_t n_blocks() const { return ceil_div(k, block); }
};

[[nodiscard]] inline std::vector<quantizer_case> quantizer_cases() {
    const std::string base = NIBBLE_TEST_DATA "/onnx/quantizers";
    const auto text = read_file(base + ".json", 1 << 20);
    const auto bytes = read_file(base + ".bin", 1 << 20);
    REQUIRE(text);
    REQUIRE(bytes);
    const auto list = parse_json(*text);
    REQUIRE(list);
    std::vector<quantizer_case> cases;
    for (const auto& j : list->at("cases")) {
        quantizer_case c;
        c.name = j["name"];
        c.kind = j["kind"];
        c.bits = j["bits"];
        c.block = j["block"];
        c.symmetric = j["symmetric"];
        c.half = j["type"] == "f16";
        const auto part = [&](const char* key) {
            if (!j.contains(key)) return std::vector<std::byte>{};
            const auto* from = bytes->data() + j[key][0].get<std::size_t>();
            return std::vector<std::byte>(from, from + j[key][1].get<std::size_t>());
        };
        c.q = part("q");
        c.scales = part("scales");
        c.zeros = part("zp");
        const bool turned = c.kind != "gather4";
        c.k = j["shape"][turned ? 0 : 1];
        c.n_rows = j["shape"][turned ? 1 : 0];
        const auto w = part("w");
        for (std::uint64_t n = 0; n < c.n_rows; ++n) {
            for (std::uint64_t i = 0; i < c.k; ++i) {
                const auto at = turned ? i * c.n_rows + n : n * c.k + i;
                c.weights.push_back(c.half ? to_f32(load<f16>(w.data() + 2 * at)) : load<float>(w.data() + 4 * at));
            }
        }
        cases.push_back(std::move(c));
    }
    return cases;
}

/// Calls f.template operator()<codec>() with the codec of a case.
template <class F>
void visit_quantizer(const quantizer_case& c, F&& f) {
    const auto with_block = [&]<class Scale, std::size_t block>() {
        if (c.kind == "gather4") {
            c.symmetric ? f.template operator()<gather_int4<Scale, block>>() : f.template operator()<gather_uint4<Scale, block>>();
        } else if (c.kind == "qdq4") {
            c.symmetric ? f.template operator()<dequantize_int4<Scale, block>>() : f.template operator()<dequantize_uint4<Scale, block>>();
        } else if (c.bits == 2) {
            c.symmetric ? f.template operator()<nbits<2, Scale, block>>() : f.template operator()<nbits_with_zero<2, Scale, block>>();
        } else if (c.bits == 8) {
            c.symmetric ? f.template operator()<nbits<8, Scale, block>>() : f.template operator()<nbits_with_zero<8, Scale, block>>();
        } else {
            c.symmetric ? f.template operator()<nbits<4, Scale, block>>() : f.template operator()<nbits_with_zero<4, Scale, block>>();
        }
    };
    const auto with_scale = [&]<class Scale>() {
        if (c.block == 16) return with_block.template operator()<Scale, 16>();
        if (c.block == 32) return with_block.template operator()<Scale, 32>();
        if (c.block == 64) return with_block.template operator()<Scale, 64>();
        REQUIRE(c.block == 128);
        with_block.template operator()<Scale, 128>();
    };
    c.half ? with_scale.template operator()<f16_scale>() : with_scale.template operator()<f32_scale>();
}

/// Codes of `bits` bits of n bytes, one by one, but those beyond `k` of each row of `row_bytes`: nobody reads them, and ONNX Runtime
/// leaves there what it had before.
[[nodiscard]] inline std::vector<unsigned> used_codes(const std::vector<std::byte>& bytes, std::size_t row_bytes, std::uint64_t k, unsigned bits) {
    std::vector<unsigned> codes;
    for (std::size_t row = 0; row < bytes.size(); row += row_bytes) {
        for (std::uint64_t i = 0; i < k; ++i) codes.push_back((static_cast<unsigned>(bytes[row + i * bits / 8]) >> (i * bits % 8)) & ((1u << bits) - 1));
    }
    return codes;
}

}  // namespace nibble::test
