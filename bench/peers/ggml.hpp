// SPDX-License-Identifier: Apache-2.0
#pragma once
// ggml's CPU backend: mul_mat of Q4_0 weights, repacked (what llama.cpp runs) and plain; its quantizer and dequantizer.

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cstring>
#include <memory>
#include <optional>

#include "peers/problem.hpp"

namespace peers {

class ggml_peer {
public:
    static std::optional<ggml_peer> open() {
        ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // it tells of every tensor that it repacks
        ggml_cpu_init();
        return ggml_peer{};
    }
    [[nodiscard]] std::string version() const { return "ggml"; }

    [[nodiscard]] std::vector<contestant> matmuls(const matmul_problem& p) const {
        std::vector<contestant> all;
        if (auto* type = repacking()) all.push_back(matmul("ggml Q4_0 repacked", p, type));
        all.push_back(matmul("ggml Q4_0", p, ggml_backend_cpu_buffer_type()));
        return all;
    }

    /// Repacks copy i of the weights, where its kernels for this processor want them so; the output is the product with the last of them.
    [[nodiscard]] static std::optional<contestant> repack(const matmul_problem& p) {
        auto* type = repacking();
        if (type == nullptr) return std::nullopt;
        matmul_problem one = p;
        one.n_copies = 1;
        const auto g = make_graphs(one, type);
        const auto copies = std::make_shared<std::vector<std::vector<std::byte>>>(p.n_copies, pack(p.w));
        contestant c = as_contestant("ggml Q4_0 repack", g);
        c.exact = true;
        c.run = [g, copies](std::size_t i) { ggml_backend_tensor_set(g->weights[0], (*copies)[i].data(), 0, (*copies)[i].size()); };
        c.output = [g] {
            ggml_graph_compute(g->each[0], &g->plan);
            return g->y.data();
        };
        return c;
    }

    /// Q4_0 from values of T, by rows: 16-bit sources are converted to f32 first, as its tools do.
    template <class T>
    static void quantize(const T* values, std::size_t n, std::size_t k, std::byte* out) {
        if constexpr (std::is_same_v<T, float>) {
            ggml_quantize_chunk(GGML_TYPE_Q4_0, values, out, 0, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), nullptr);
        } else {
            std::vector<float> row(k);
            const std::size_t row_bytes = k / group * 18;
            for (std::size_t r = 0; r < n; ++r) {
                if constexpr (std::is_same_v<T, nibble::f16>)
                    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(values + r * k), row.data(), static_cast<std::int64_t>(k));
                else
                    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t*>(values + r * k), row.data(), static_cast<std::int64_t>(k));
                ggml_quantize_chunk(GGML_TYPE_Q4_0, row.data(), out + r * row_bytes, 0, 1, static_cast<std::int64_t>(k), nullptr);
            }
        }
    }
    static void dequantize(const std::byte* q4_0, std::size_t count, float* out) {
        ggml_get_type_traits(GGML_TYPE_Q4_0)->to_float(q4_0, out, static_cast<std::int64_t>(count));
    }
    /// The blocks of Q4_0: an f16 scale, then 16 bytes, of which byte j holds weight j (low) and weight j + 16, both with bias 8.
    static std::vector<std::byte> pack(const weights& w) {
        std::vector<std::byte> blocks(w.scales.size() * 18);
        for (std::size_t b = 0; b < w.scales.size(); ++b) {
            std::byte* out = blocks.data() + b * 18;
            std::memcpy(out, &w.scales[b].bits, 2);
            const std::int8_t* c = w.codes.data() + b * group;
            for (std::size_t j = 0; j < 16; ++j) out[2 + j] = static_cast<std::byte>((c[j] + 8) | ((c[j + 16] + 8) << 4));
        }
        return blocks;
    }

private:
    struct graphs {
        ggml_context* context = nullptr;
        ggml_threadpool* threads = nullptr;
        std::vector<ggml_backend_buffer_t> buffers;
        std::vector<ggml_tensor*> weights;
        std::vector<ggml_cgraph*> each;  // one for each copy of the weights
        std::vector<float> x, y;
        std::vector<std::uint8_t> scratch;
        ggml_cplan plan{};
        graphs() = default;
        graphs(const graphs&) = delete;
        graphs& operator=(const graphs&) = delete;
        ~graphs() {
            ggml_threadpool_free(threads);
            for (auto* b : buffers) ggml_backend_buffer_free(b);
            ggml_free(context);
        }
    };

    /// The buffer type in which weights are stored for the kernels of this processor, if it has any.
    static ggml_backend_buffer_type_t repacking() {
        auto* cpu = ggml_backend_cpu_reg();
        const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(cpu, "ggml_backend_dev_get_extra_bufts"));
        if (extra == nullptr) return nullptr;
        for (auto* type = extra(ggml_backend_reg_dev_get(cpu, 0)); *type != nullptr; ++type)
            if (std::strcmp(ggml_backend_buft_name(*type), "CPU_REPACK") == 0) return *type;
        return nullptr;
    }

    static std::shared_ptr<graphs> make_graphs(const matmul_problem& p, ggml_backend_buffer_type_t type) {
        const auto g = std::make_shared<graphs>();
        g->x.assign(p.x.begin(), p.x.begin() + static_cast<std::ptrdiff_t>(p.m * p.w.k));
        g->y.resize(p.m * p.w.n);
        g->context = ggml_init({p.n_copies * (ggml_graph_overhead_custom(4, false) + 4 * ggml_tensor_overhead()) + 4096, nullptr, true});
        auto params = ggml_threadpool_params_default(p.n_threads);
        params.paused = true;
        g->threads = ggml_threadpool_new(&params);
        const auto blocks = pack(p.w);
        const auto n = static_cast<std::int64_t>(p.w.n);
        const auto k = static_cast<std::int64_t>(p.w.k);
        const auto m = static_cast<std::int64_t>(p.m);
        for (std::size_t i = 0; i < p.n_copies; ++i) {
            auto* w = ggml_new_tensor_2d(g->context, GGML_TYPE_Q4_0, k, n);
            g->buffers.push_back(ggml_backend_buft_alloc_buffer(type, ggml_backend_buft_get_alloc_size(type, w)));
            ggml_backend_tensor_alloc(g->buffers.back(), w, ggml_backend_buffer_get_base(g->buffers.back()));
            ggml_backend_tensor_set(w, blocks.data(), 0, blocks.size());
            g->weights.push_back(w);
            auto* x = ggml_new_tensor_2d(g->context, GGML_TYPE_F32, k, m);
            x->data = g->x.data();
            auto* y = ggml_mul_mat(g->context, w, x);
            y->data = g->y.data();
            g->each.push_back(ggml_new_graph_custom(g->context, 4, false));
            ggml_build_forward_expand(g->each.back(), y);
        }
        g->plan = ggml_graph_plan(g->each[0], p.n_threads, g->threads);
        g->scratch.resize(g->plan.work_size);
        g->plan.work_data = g->scratch.data();
        return g;
    }

    static contestant as_contestant(const char* name, const std::shared_ptr<graphs>& g) {
        contestant c;
        c.name = name;
        c.output = [g] { return g->y.data(); };
        c.wake = [g] { ggml_threadpool_resume(g->threads); };
        c.sleep = [g] { ggml_threadpool_pause(g->threads); };
        return c;
    }

    static contestant matmul(const char* name, const matmul_problem& p, ggml_backend_buffer_type_t type) {
        const auto g = make_graphs(p, type);
        contestant c = as_contestant(name, g);
        c.run = [g](std::size_t i) { ggml_graph_compute(g->each[i], &g->plan); };
        return c;
    }
};

}  // namespace peers
