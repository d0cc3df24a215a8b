// SPDX-License-Identifier: Apache-2.0
#pragma once
// The lists of GPU kernels and of the codecs that they are generated for. A new kernel is a header and a row in `kernels`; tests, the
// command and benches loop over the list.
//
// A kernel is a struct of static members: name, purpose (a line), reads_weights, trials() (what is to be tried, edges included), and
//   build<C>(spec, codec name)  make_example<C>(trial)   where it reads weights,
//   build(spec)                 make_example(trial)      where it does not.

#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "nibble/codec/onnx.hpp"
#include "nibble/codec/registry.hpp"
#include "nibble/gpu/attention.hpp"
#include "nibble/gpu/dequantize.hpp"
#include "nibble/gpu/gate_up.hpp"
#include "nibble/gpu/gather_embedding.hpp"
#include "nibble/gpu/gemm.hpp"
#include "nibble/gpu/gemm_int8.hpp"
#include "nibble/gpu/gemv.hpp"
#include "nibble/gpu/gemv_cols.hpp"
#include "nibble/gpu/gemv_int8.hpp"
#include "nibble/gpu/quantize_activations.hpp"
#include "nibble/gpu/rms_norm.hpp"
#include "nibble/gpu/rope.hpp"
#include "nibble/gpu/softmax.hpp"
#include "nibble/gpu/stream_read.hpp"
#include "nibble/gpu/top_k.hpp"

namespace nibble::gpu {

using kernels = type_list<dequantize, gather_embedding, gemv, gemv_cols, gate_up, gemm, quantize_activations, gemv_int8, gemm_int8, rms_norm, rope,
                          attention_decode, attention_merge, attention_prefill, softmax, argmax, top_k, stream_read>;

/// A codec with the name by which programs ask for it.
template <class C>
struct named_codec {
    using codec = C;
    std::string_view name;
};
/// Every codec that kernels are generated for; the last two are weights of MatMulNBits in blocks of 32, with a fixed zero point and with stored ones.
inline constexpr std::tuple shader_codecs{named_codec<q4f16_1>{"q4f16_1"},
                                          named_codec<q4f32_1>{"q4f32_1"},
                                          named_codec<q4f16_0>{"q4f16_0"},
                                          named_codec<q4bf16_1>{"q4bf16_1"},
                                          named_codec<q4bf16_0>{"q4bf16_0"},
                                          named_codec<q3f16_1>{"q3f16_1"},
                                          named_codec<q3f16_0>{"q3f16_0"},
                                          named_codec<q8f16_1>{"q8f16_1"},
                                          named_codec<q0f16>{"q0f16"},
                                          named_codec<q0bf16>{"q0bf16"},
                                          named_codec<q0f32>{"q0f32"},
                                          named_codec<nbits<4, f16_scale, 32>>{"nbits4f16"},
                                          named_codec<nbits_with_zero<4, f32_scale, 32>>{"nbits4f32_zero"}};

/// Calls `f.template operator()<Kernel>()` for each kernel, in the order of the list.
template <class F, class... K>
void for_each_kernel(F&& f, type_list<K...>) {
    (f.template operator()<K>(), ...);
}
template <class F>
void for_each_kernel(F&& f) {
    for_each_kernel(f, kernels{});
}
/// Calls `f.template operator()<C>(name)` for each codec.
template <class F>
void for_each_shader_codec(F&& f) {
    std::apply([&](const auto&... c) { (f.template operator()<typename std::remove_cvref_t<decltype(c)>::codec>(c.name), ...); }, shader_codecs);
}

/// Whether a kernel that reads weights is made for a codec: its build<C> may ask more of C than that shaders can read it.
template <class K, class C>
concept made_for = requires(const kernel_spec& spec) {
    K::template build<C>(spec, std::string_view());
};

template <class Kernels = kernels>
[[nodiscard]] std::string kernel_names() {
    std::string names;
    for_each_kernel([&]<class K>() { names += (names.empty() ? "" : ", ") + std::string(K::name); }, Kernels{});
    return names;
}
[[nodiscard]] inline std::string shader_codec_names() {
    std::string names;
    for_each_shader_codec([&]<class C>(std::string_view name) { names += (names.empty() ? "" : ", ") + std::string(name); });
    return names;
}
/// The codecs that kernel K is made for.
template <class K>
[[nodiscard]] std::string codec_names_of() {
    std::string names;
    for_each_shader_codec([&]<class C>(std::string_view name) {
        if constexpr (made_for<K, C>) names += (names.empty() ? "" : ", ") + std::string(name);
    });
    return names;
}

/// The kernel of that name for that codec, which is ignored by kernels that read no weights. Errors: unsupported (no such kernel or codec, or the
/// kernel is not made for the codec). A program with kernels of its own passes its list: build_kernel<type_list<mine, gemv>>(..). All of the list
/// is compiled where this is called, and only there.
template <class Kernels = kernels>
[[nodiscard]] result<program> build_kernel(std::string_view kernel, std::string_view codec, const kernel_spec& spec) {
    result<program> built =
        fail(error{errc::unsupported, "there is no kernel \"" + std::string(kernel) + "\"", {}, {}, {}, "known are " + kernel_names<Kernels>()});
    const auto build = [&]<class K>() {
        if (K::name != kernel) return;
        if constexpr (K::reads_weights) {
            built = fail(error{
                errc::unsupported, "no kernels are generated for the codec \"" + std::string(codec) + "\"", {}, {}, {}, "known are " + shader_codec_names()});
            for_each_shader_codec([&]<class C>(std::string_view name) {
                if (name != codec) return;
                if constexpr (made_for<K, C>)
                    built = K::template build<C>(spec, name);
                else
                    built = fail(error{errc::unsupported,
                                       "the kernel \"" + std::string(kernel) + "\" is not made for the codec \"" + std::string(codec) + "\"",
                                       {},
                                       {},
                                       {},
                                       "it is made for " + codec_names_of<K>()});
            });
        } else {
            built = K::build(spec);
        }
    };
    for_each_kernel(build, Kernels{});
    return built;
}

/// Calls f(kernel name, codec name, trial, build, make_example) for everything that is to be tried. build(kernel_spec) gives a program and
/// make_example(trial) an example of the kernel and codec.
template <class F>
void for_each_trial(F&& f) {
    for_each_kernel([&]<class K>() {
        const auto trials = K::trials();
        if constexpr (K::reads_weights) {
            for_each_shader_codec([&]<class C>(std::string_view codec) {
                if constexpr (made_for<K, C>) {
                    const auto build = [codec](const kernel_spec& s) { return K::template build<C>(s, codec); };
                    const auto make_example = [](const trial& t) { return K::template make_example<C>(t); };
                    for (const trial& t : trials) f(K::name, codec, t, build, make_example);
                }
            });
        } else {
            const auto build = [](const kernel_spec& s) { return K::build(s); };
            const auto make_example = [](const trial& t) { return K::make_example(t); };
            for (const trial& t : trials) f(K::name, std::string_view(), t, build, make_example);
        }
    });
}

}  // namespace nibble::gpu
