// SPDX-License-Identifier: Apache-2.0
#pragma once
// GEMV for a few vectors that share one reading of the weights: small batches, and drafts of speculative decoding.

#include "nibble/gpu/gemv.hpp"

namespace nibble::gpu {

/// The same as gemv for spec.columns (2 to 8; 4 where it is 1) vectors: y[columns, n] of x[columns, k].
struct gemv_cols {
    static constexpr std::string_view name = "gemv_cols";
    static constexpr std::string_view purpose = "the same for 2 to 8 vectors that share one reading of W";
    static constexpr bool reads_weights = true;

    [[nodiscard]] static std::vector<trial> trials() {
        kernel_spec s;
        s.n = 19, s.k = 320;
        s.bias = s.residual = true;
        s.act = activation::silu;
        s.activations = scalar::f16;
        const size_values sizes{{"n", s.n}, {"k", s.k}};
        std::vector<trial> all;
        for (const u32 columns : {2u, 3u, 8u}) {
            s.columns = columns;
            all.push_back({"f16, " + std::to_string(columns) + " columns", s, sizes});
        }
        s.tune.subgroups = true;
        all.push_back({"f16, 8 columns, subgroups", s, sizes});
        return all;
    }

    template <shader_codec C>
    [[nodiscard]] static program build(kernel_spec spec, std::string_view codec) {
        if (spec.columns == 1) spec.columns = 4;
        auto p = gemv::build<C>(spec, codec);
        p.manifest.kernel = name;
        return p;
    }

    template <shader_codec C>
    [[nodiscard]] static example make_example(const trial& of) {
        return gemv::make_example<C>(of);
    }
};

}  // namespace nibble::gpu
