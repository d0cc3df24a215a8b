// SPDX-License-Identifier: Apache-2.0
#pragma once
// nibble's side: q4f16_1 as it lies in the files, and repacked, through the table of the best architecture of this machine.

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "nibble/cpu/kernels.hpp"
#include "nibble/cpu/products.hpp"
#include "nibble/cpu/thread_pool.hpp"
#include "peers/problem.hpp"

namespace peers {

class nibble_peer {
public:
    using codec = nibble::q4f16_1;
    using repacked = nibble::cpu::packed<codec>;

    [[nodiscard]] static std::string version() { return std::string("nibble, kernels for ") + nibble::cpu::products().arch; }

    /// Codes and scales of [N, K], as MLC stores them: eight codes a word, the earlier ones low.
    struct planes {
        std::vector<std::byte> codes, scales;
        [[nodiscard]] nibble::cpu::matrix view(std::size_t n, std::size_t k) const { return {{codes.data(), scales.data()}, n, k}; }
    };
    static planes pack(const weights& w) {
        planes p{std::vector<std::byte>(w.codes.size() / 2), std::vector<std::byte>(w.scales.size() * 2)};
        for (std::size_t i = 0; i < p.codes.size(); ++i) p.codes[i] = static_cast<std::byte>((w.codes[2 * i] + 7) | (w.codes[2 * i + 1] + 7) << 4);
        std::memcpy(p.scales.data(), w.scales.data(), p.scales.size());
        return p;
    }

    static std::vector<contestant> matmuls(const matmul_problem& p) {
        using nibble::cpu::exact;
        using nibble::cpu::int8;
        const planes stored = pack(p.w);
        planes tiles = stored;
        nibble::cpu::products().repack<codec>()(stored.view(p.w.n, p.w.k), 0, p.w.n, tiles.codes.data(), tiles.scales.data());
        return {matmul<exact, codec>("nibble exact", p, stored), matmul<int8, codec>("nibble int8", p, stored),
                matmul<exact, repacked>("nibble exact repacked", p, tiles), matmul<int8, repacked>("nibble int8 repacked", p, tiles)};
    }

    /// Repacks copy i of the weights; the output is the exact product of p with what was written.
    static contestant repack(const matmul_problem& p) {
        auto s = std::make_shared<state>(p, pack(p.w), nibble::cpu::prepared_bytes<repacked>(p.m, p.w.k));
        const auto to = std::make_shared<planes>(s->copies[0]);
        contestant c = as_contestant("nibble repack", s);
        c.exact = true;
        c.run = [s, to, n = p.w.n, k = p.w.k](std::size_t i) {
            const auto f = nibble::cpu::products().repack<codec>();
            s->threads.for_ranges(n, 16,
                                  [&](std::size_t first, std::size_t last) { f(s->copies[i].view(n, k), first, last, to->codes.data(), to->scales.data()); });
        };
        c.output = [s, to, n = p.w.n, k = p.w.k] {
            nibble::cpu::products().prepare<nibble::cpu::exact, repacked>()(s->x.data(), k, 1, k, s->prepared.get());
            nibble::cpu::products().gemv<nibble::cpu::exact, repacked>()(to->view(n, k), s->prepared.get(), 0, n, s->y.data());
            return s->y.data();
        };
        return c;
    }

    template <class T>
    static void quantize(const T* values, std::size_t first, std::size_t last, std::size_t k, planes& out) {
        const auto encode = nibble::cpu::encode_row_fn<codec, T>();
        for (std::size_t r = first; r < last; ++r) encode(values + r * k, k, out.codes.data() + r * k / 2, out.scales.data() + r * k / group * 2, {});
    }
    static void dequantize(const planes& w, std::size_t first, std::size_t last, std::size_t k, float* out) {
        const auto decode = nibble::cpu::decode_row_fn<codec, float>();
        for (std::size_t r = first; r < last; ++r) decode(w.codes.data() + r * k / 2, w.scales.data() + r * k / group * 2, k, out + r * k);
    }

private:
    struct free_aligned {
        void operator()(std::byte* p) const { std::free(p); }
    };
    struct state {
        state(const matmul_problem& p, const planes& w, std::size_t prepared_bytes)
            : threads(static_cast<std::size_t>(p.n_threads)),
              copies(p.n_copies, w),
              x(p.x),
              y(p.m * p.w.n),
              prepared(static_cast<std::byte*>(std::aligned_alloc(64, (prepared_bytes + 63) / 64 * 64))) {}
        nibble::cpu::thread_pool threads;
        std::vector<planes> copies;
        std::vector<float> x, y;
        std::unique_ptr<std::byte, free_aligned> prepared;
    };

    static contestant as_contestant(const char* name, const std::shared_ptr<state>& s) {
        contestant c;
        c.name = name;
        c.output = [s] { return s->y.data(); };
        return c;
    }

    /// Activations are prepared in each run, as every caller must.
    template <class Mode, class C>
    static contestant matmul(const char* name, const matmul_problem& p, const planes& w) {
        const auto s = std::make_shared<state>(p, w, nibble::cpu::prepared_bytes<C>(p.m, p.w.k));
        contestant c = as_contestant(name, s);
        c.exact = std::is_same_v<Mode, nibble::cpu::exact>;
        c.run = [s, prepare = nibble::cpu::products().prepare<Mode, C>(), gemv = nibble::cpu::products().gemv<Mode, C>(),
                 gemm = nibble::cpu::products().gemm<Mode, C>(), n = p.w.n, k = p.w.k, m = p.m](std::size_t i) {
            prepare(s->x.data(), k, m, k, s->prepared.get());
            const nibble::cpu::matrix view = s->copies[i].view(n, k);
            s->threads.for_ranges(n, 16, [&](std::size_t first, std::size_t last) {
                if (m == 1)
                    gemv(view, s->prepared.get(), first, last, s->y.data());
                else
                    gemm(view, s->prepared.get(), m, first, last, s->y.data(), n);
            });
        };
        return c;
    }
};

}  // namespace peers
