// SPDX-License-Identifier: Apache-2.0
#pragma once
// nibble's side: q4f16_1, the kernels of the best architecture of this machine.

#include <memory>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/kernels.hpp"
#include "peers/crew.hpp"
#include "peers/problem.hpp"

namespace peers {

class nibble_peer {
public:
    using codec = nibble::q4f16_1;
    static constexpr std::size_t bias = 7;

    [[nodiscard]] static std::string version() { return std::string("nibble, kernels for ") + nibble::cpu::arch_name(); }

    /// Codes and scales of [N, K], as MLC stores them: eight codes a word, the earlier ones low.
    struct packed {
        std::vector<std::byte> codes, scales;
    };
    static packed pack(const weights& w) {
        packed p{std::vector<std::byte>(w.codes.size() / 2), std::vector<std::byte>(w.scales.size() * 2)};
        for (std::size_t i = 0; i < p.codes.size(); ++i) p.codes[i] = static_cast<std::byte>((w.codes[2 * i] + 7) | (w.codes[2 * i + 1] + 7) << 4);
        std::memcpy(p.scales.data(), w.scales.data(), p.scales.size());
        return p;
    }

    static std::vector<contestant> matmuls(const matmul_problem& p) { return {decoded(p)}; }

    template <class T>
    static void quantize(const T* values, std::size_t first, std::size_t last, std::size_t k, packed& out) {
        const auto encode = nibble::cpu::encode_row_fn<codec, T>();
        for (std::size_t r = first; r < last; ++r) encode(values + r * k, k, out.codes.data() + r * k / 2, out.scales.data() + r * k / group * 2, {});
    }
    static void dequantize(const packed& w, std::size_t first, std::size_t last, std::size_t k, float* out) {
        const auto decode = nibble::cpu::decode_row_fn<codec, float>();
        for (std::size_t r = first; r < last; ++r) decode(w.codes.data() + r * k / 2, w.scales.data() + r * k / group * 2, k, out + r * k);
    }

private:
    struct state {
        explicit state(int n_threads) : threads(n_threads) {}
        crew threads;
        std::vector<packed> copies;
        std::vector<float> x, y;
    };

    /// Each row decoded, then multiplied.
    static contestant decoded(const matmul_problem& p) {
        const auto s = std::make_shared<state>(p.n_threads);
        s->copies.assign(p.n_copies, pack(p.w));
        s->x = p.x;
        s->y.resize(p.m * p.w.n);
        contestant c;
        c.name = "nibble decoded rows";
        c.exact = true;
        c.run = [s, n = p.w.n, k = p.w.k, m = p.m](std::size_t i) {
            const auto decode = nibble::cpu::decode_row_fn<codec, float>();
            s->threads.split(n, [&](std::size_t first, std::size_t last) {
                std::vector<float> row(k);
                for (std::size_t r = first; r < last; ++r) {
                    decode(s->copies[i].codes.data() + r * k / 2, s->copies[i].scales.data() + r * k / group * 2, k, row.data());
                    for (std::size_t j = 0; j < m; ++j) {
                        float sum[16] = {};
                        for (std::size_t a = 0; a < k; a += 16)
                            for (std::size_t b = 0; b < 16; ++b) sum[b] += row[a + b] * s->x[j * k + a + b];
                        for (std::size_t b = 1; b < 16; ++b) sum[0] += sum[b];
                        s->y[j * n + r] = sum[0];
                    }
                }
            });
        };
        c.output = [s] { return s->y.data(); };
        c.wake = [s] { s->threads.wake(); };
        c.sleep = [s] { s->threads.sleep(); };
        return c;
    }
};

}  // namespace peers
