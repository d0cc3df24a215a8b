// SPDX-License-Identifier: Apache-2.0
#pragma once
// ONNX Runtime's CPU provider, opened at run time: MatMulNBits (f32 and int8 activations), MatMul of f32 weights, DequantizeLinear.
// Its quantizer for MatMulNBits is reachable from Python alone and is left out.

#include <dlfcn.h>

#include <memory>
#include <optional>
#include <stdexcept>

#include "peers/onnx_model.hpp"
#include "peers/problem.hpp"

namespace peers {

/// The functions in use of ONNX Runtime's C API, and its environment.
struct onnx_runtime_api {
    /// Places in the table of the C API (onnxruntime_c_api.h), which only ever grows at its end; all of these are of version 8 or before.
    enum place {
        get_error_message = 2,
        create_session_from_array = 8,
        create_session_options = 10,
        create_tensor_with_data = 49,
        create_cpu_memory_info = 69,
        release_session = 95,
        release_value = 96,
        release_session_options = 100,
        create_env_with_global_threads = 119,
        disable_per_session_threads = 120,
        create_threading_options = 121,
        run_with_binding = 133,
        create_io_binding = 134,
        release_io_binding = 135,
        bind_input = 136,
        bind_output = 137,
        set_global_intra_op_threads = 147,
        set_global_inter_op_threads = 148
    };

    /// Calls a function that gives a status, which is null when all went well.
    template <class... Args>
    void call(place f, Args... args) const {
        void* status = reinterpret_cast<void* (*)(Args...)>(table[f])(args...);
        if (status != nullptr) throw std::runtime_error(reinterpret_cast<const char* (*)(void*)>(table[get_error_message])(status));
    }
    void release(place f, void* object) const { reinterpret_cast<void (*)(void*)>(table[f])(object); }

    void* const* table = nullptr;
    void* env = nullptr;
    void* memory = nullptr;
};

class onnxruntime_peer {
    using api = onnx_runtime_api;

public:
    /// The library at this path; nothing, with a reason in why, where it cannot be opened. n_threads holds for the whole process.
    static std::optional<onnxruntime_peer> open(const char* path, int n_threads, std::string& why) {
        void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            why = dlerror();
            return std::nullopt;
        }
        struct api_base {
            void* const* (*get_api)(std::uint32_t version);
            const char* (*get_version)();
        };
        const auto base = reinterpret_cast<const api_base* (*)()>(dlsym(library, "OrtGetApiBase"));
        onnxruntime_peer peer;
        api& f = peer.api_;
        f.table = base == nullptr ? nullptr : base()->get_api(8);
        if (f.table == nullptr) {
            why = "the library has no C API of version 8";
            return std::nullopt;
        }
        peer.version_ = base()->get_version();
        void* threads = nullptr;
        f.call(api::create_threading_options, &threads);
        f.call(api::set_global_intra_op_threads, threads, n_threads);
        f.call(api::set_global_inter_op_threads, threads, 1);
        f.call(api::create_env_with_global_threads, 3 /* errors only */, "peers", threads, &f.env);
        f.call(api::create_cpu_memory_info, 1 /* arena */, 0 /* default */, &f.memory);
        return peer;
    }
    [[nodiscard]] std::string version() const { return "ONNX Runtime " + version_; }

    [[nodiscard]] std::vector<contestant> matmuls(const matmul_problem& p) const {
        return {nbits("onnxruntime MatMulNBits level 0", p, 0), nbits("onnxruntime MatMulNBits level 4", p, 4)};
    }

    /// f32 weights: what the same product costs without quantization.
    [[nodiscard]] contestant f32_matmul(const matmul_problem& p) const {
        const auto n = static_cast<std::int64_t>(p.w.n);
        const auto k = static_cast<std::int64_t>(p.w.k);
        std::vector<float> w(p.w.codes.size());
        for (std::size_t i = 0; i < p.w.n; ++i)
            for (std::size_t j = 0; j < p.w.k; ++j) w[j * p.w.n + i] = p.w.at(i * p.w.k + j);
        onnx::one_node node{"MatMul", "", 0, {}, {{"B", onnx::type_f32, {k, n}, view(w)}}, {}, {}};
        auto c = matmul("onnxruntime MatMul of f32 weights", p, node);
        c.exact = true;
        c.reference = true;
        return c;
    }

    /// DequantizeLinear over blocks of 32: int4 [N, K] and f32 scales to f32.
    [[nodiscard]] contestant dequantize(const weights& w) const {
        const auto n = static_cast<std::int64_t>(w.n);
        const auto k = static_cast<std::int64_t>(w.k);
        const auto s = std::make_shared<state>(api_);
        s->codes = nibbles(w, 0);
        s->scales = f32_scales(w);
        s->y.resize(w.n * w.k);
        const std::int64_t groups = k / static_cast<std::int64_t>(group);
        const onnx::one_node node{"DequantizeLinear",
                                  "",
                                  0,
                                  {{"Q", onnx::type_i4, {n, k}, {}}, {"S", onnx::type_f32, {n, groups}, {}}},
                                  {},
                                  {"Y", onnx::type_f32, {n, k}, {}},
                                  {{"axis", 1}, {"block_size", group}}};
        s->add_session(node);
        s->bind(api::bind_input, "Q", s->codes.data(), s->codes.size(), {n, k}, onnx::type_i4);
        s->bind(api::bind_input, "S", s->scales.data(), s->scales.size() * 4, {n, groups}, onnx::type_f32);
        s->bind(api::bind_output, "Y", s->y.data(), s->y.size() * 4, {n, k}, onnx::type_f32);
        return as_contestant("onnxruntime DequantizeLinear", s);
    }

private:
    template <class T>
    static std::string_view view(const std::vector<T>& v) {
        return {reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T)};
    }
    /// Two codes a byte, the earlier one low, with this bias.
    static std::vector<std::uint8_t> nibbles(const weights& w, int bias) {
        std::vector<std::uint8_t> out(w.codes.size() / 2);
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = static_cast<std::uint8_t>(((w.codes[2 * i] + bias) & 15) | ((w.codes[2 * i + 1] + bias) & 15) << 4);
        return out;
    }
    static std::vector<float> f32_scales(const weights& w) {
        std::vector<float> out;
        for (const auto s : w.scales) out.push_back(nibble::to_f32(s));
        return out;
    }

    /// One session for each copy of the weights, all bound to the same input and output.
    struct state {
        explicit state(const api& a) : f(a) {}
        state(const state&) = delete;
        state& operator=(const state&) = delete;
        ~state() {
            for (auto* b : bindings) f.release(api::release_io_binding, b);
            for (auto* v : values) f.release(api::release_value, v);
            for (auto* s : sessions) f.release(api::release_session, s);
        }
        void add_session(const onnx::one_node& node) {
            const std::string model = node.model();
            void* options = nullptr;
            void* session = nullptr;
            void* binding = nullptr;
            f.call(api::create_session_options, &options);
            f.call(api::disable_per_session_threads, options);
            f.call(api::create_session_from_array, f.env, static_cast<const void*>(model.data()), model.size(), options, &session);
            f.release(api::release_session_options, options);
            f.call(api::create_io_binding, session, &binding);
            sessions.push_back(session);
            bindings.push_back(binding);
        }
        /// Binds to the latest session.
        void bind(api::place how, const char* name, void* data, std::size_t n_bytes, std::vector<std::int64_t> dims, onnx::data_type type) {
            void* value = nullptr;
            f.call(api::create_tensor_with_data, f.memory, data, n_bytes, dims.data(), dims.size(), static_cast<int>(type), &value);
            values.push_back(value);
            f.call(how, bindings.back(), name, value);
        }
        api f;
        std::vector<void*> sessions, bindings, values;
        std::vector<float> x, y, scales;
        std::vector<std::uint8_t> codes;
    };

    static contestant as_contestant(const char* name, const std::shared_ptr<state>& s) {
        contestant c;
        c.name = name;
        c.run = [s](std::size_t i) { s->f.call(api::run_with_binding, s->sessions[i], static_cast<void*>(nullptr), s->bindings[i]); };
        c.output = [s] { return s->y.data(); };
        return c;
    }

    /// The node with its input A and output Y set to those of the problem.
    contestant matmul(const char* name, const matmul_problem& p, onnx::one_node& node) const {
        const auto s = std::make_shared<state>(api_);
        s->x.assign(p.x.begin(), p.x.begin() + static_cast<std::ptrdiff_t>(p.m * p.w.k));
        s->y.resize(p.m * p.w.n);
        const auto m = static_cast<std::int64_t>(p.m);
        node.inputs = {{"A", onnx::type_f32, {m, static_cast<std::int64_t>(p.w.k)}, {}}};
        node.output = {"Y", onnx::type_f32, {m, static_cast<std::int64_t>(p.w.n)}, {}};
        for (std::size_t i = 0; i < p.n_copies; ++i) {
            s->add_session(node);
            s->bind(api::bind_input, "A", s->x.data(), s->x.size() * 4, node.inputs[0].dims, onnx::type_f32);
            s->bind(api::bind_output, "Y", s->y.data(), s->y.size() * 4, node.output.dims, onnx::type_f32);
        }
        return as_contestant(name, s);
    }

    contestant nbits(const char* name, const matmul_problem& p, int accuracy_level) const {
        const auto n = static_cast<std::int64_t>(p.w.n);
        const auto k = static_cast<std::int64_t>(p.w.k);
        const auto groups = k / static_cast<std::int64_t>(group);
        const auto codes = nibbles(p.w, 8);
        const auto scales = f32_scales(p.w);
        onnx::one_node node{"MatMulNBits",
                            "com.microsoft",
                            1,
                            {},
                            {{"B", onnx::type_u8, {n, groups, group / 2}, view(codes)}, {"S", onnx::type_f32, {n * groups}, view(scales)}},
                            {},
                            {{"K", k}, {"N", n}, {"bits", 4}, {"block_size", group}, {"accuracy_level", accuracy_level}}};
        auto c = matmul(name, p, node);
        c.exact = accuracy_level == 0;
        return c;
    }

    onnx_runtime_api api_;
    std::string version_;
};

}  // namespace peers
