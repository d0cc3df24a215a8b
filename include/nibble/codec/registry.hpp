// SPDX-License-Identifier: Apache-2.0
#pragma once
// The lists that tests, benches and the converter loop over: all codecs, and the quantization schemes that users name.

#include <optional>
#include <string>

#include "nibble/codec/affine.hpp"
#include "nibble/codec/fp8.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/core/error.hpp"

namespace nibble {

/// Types in an order.
template <class... T>
struct type_list {
    static constexpr std::size_t size = sizeof...(T);
};

/// Every codec that may be a conversion target. A new codec is one entry here.
using codecs = type_list<q0f16, q0bf16, q0f32, q3f16_0, q3f16_1, q4f16_0, q4f16_1, q4f32_1, q4bf16_0, q4bf16_1, e5m2_cast, e4m3_scaled>;

namespace detail {

template <class C, class... T>
consteval std::size_t index_in(type_list<T...>) {
    static_assert((std::is_same_v<C, T> || ...), "nibble: this codec is not in the list `codecs`");
    std::size_t i = 0;
    (void)((std::is_same_v<C, T> ? true : (++i, false)) || ...);
    return i;
}

}  // namespace detail

/// The place of a codec in `codecs`: its name at run time.
template <class C>
inline constexpr std::size_t codec_index = detail::index_in<C>(codecs{});

/// Calls `f.template operator()<C>()` with the codec of that index and returns what it returns.
template <class F, class First, class... Rest>
decltype(auto) visit_codec(std::size_t index, F&& f, type_list<First, Rest...>) {
    if constexpr (sizeof...(Rest) == 0) {
        return f.template operator()<First>();
    } else {
        if (index == 0) return f.template operator()<First>();
        return visit_codec(index - 1, std::forward<F>(f), type_list<Rest...>{});
    }
}
template <class F>
decltype(auto) visit_codec(std::size_t index, F&& f) {
    return visit_codec(index, std::forward<F>(f), codecs{});
}

/// A quantization as users name it: the model's own type, and the codec of each kind of weight. What is none of these is cast.
struct scheme {
    std::string_view name;
    encoding model_type;
    std::size_t linear;
    std::size_t table;         ///< embeddings
    std::size_t final_linear;  ///< the Linear that makes the logits
    std::size_t experts;       ///< stacked expert weights; `none` where mlc_llm has no layout for them
    std::size_t cast;          ///< everything else
    bool fp8;                  ///< mlc_llm has it for few architectures only

    static constexpr std::size_t none = static_cast<std::size_t>(-1);
};

namespace detail {

template <class Linear, class Table = Linear, class Final = Table, class Experts = Linear>
constexpr scheme make_scheme(std::string_view name) {
    using model_type = typename Linear::model_type;
    std::size_t experts = scheme::none;
    if constexpr (!Experts::layout::transposed) experts = codec_index<Experts>;
    return {name,
            encoding_of<model_type>,
            codec_index<Linear>,
            codec_index<Table>,
            codec_index<Final>,
            experts,
            codec_index<plain<model_type>>,
            std::is_same_v<Linear, e5m2_cast> || std::is_same_v<Linear, e4m3_scaled>};
}

}  // namespace detail

/// mlc_llm's names and rules (python/mlc_llm/quantization/quantization.py).
inline constexpr std::array schemes{
    detail::make_scheme<q0f16>("q0f16"),
    detail::make_scheme<q0f32>("q0f32"),
    detail::make_scheme<q0bf16>("q0bf16"),
    detail::make_scheme<q3f16_0, q3f16_1, q3f16_0>("q3f16_0"),
    detail::make_scheme<q3f16_1>("q3f16_1"),
    detail::make_scheme<q4f16_0, q4f16_1, q4f16_0>("q4f16_0"),
    detail::make_scheme<q4f16_1>("q4f16_1"),
    detail::make_scheme<q4f16_1, q0f16>("q4f16_2"),
    detail::make_scheme<q4f32_1>("q4f32_1"),
    detail::make_scheme<q4bf16_0, q4bf16_1, q4bf16_0>("q4bf16_0"),
    detail::make_scheme<q4bf16_1>("q4bf16_1"),
    detail::make_scheme<e5m2_cast, q0f16>("e5m2_e5m2_f16"),
    detail::make_scheme<e4m3_scaled, q0f16>("e4m3_e4m3_f16_max_calibrate"),
};

/// What mlc_llm has beside these, and why it is not here.
struct scheme_left_out {
    std::string_view name;
    std::string_view why;
};
/// All of them, for messages.
inline constexpr std::array schemes_left_out{
    scheme_left_out{"e4m3_e4m3_f16", "its calibration scales come from running the model; mlc_llm writes uninitialised memory in their place"},
    scheme_left_out{"q4f16_autoawq", "it needs a checkpoint that AutoAWQ has quantized"},
    scheme_left_out{"q4f16_ft", "its layout is made by CUTLASS on an NVIDIA GPU, for that GPU"},
    scheme_left_out{"fp8_e4m3fn_bf16_block_scale", "it takes over the block scales of a checkpoint that was trained in fp8"},
    scheme_left_out{"fp8_e4m3fn_bf16_block_scale_static_activation", "it takes over the scales of a checkpoint that was trained in fp8"},
};

/// The scheme of that name, or nullptr.
[[nodiscard]] constexpr const scheme* find_scheme(std::string_view name) {
    for (const auto& s : schemes) {
        if (s.name == name) return &s;
    }
    return nullptr;
}

/// The names of all schemes, for messages: "q0f16, q0f32, ...".
[[nodiscard]] inline std::string scheme_names() {
    std::string text;
    for (const auto& s : schemes) text += (text.empty() ? "" : ", ") + std::string(s.name);
    return text;
}

/// Why a name is no scheme: an error to return.
[[nodiscard]] inline error unknown_scheme(std::string_view name) {
    error e{errc::unsupported, "unknown quantization \"" + std::string(name) + "\"", {}, {}, {}, "known are " + scheme_names()};
    for (const auto& s : schemes_left_out) {
        if (s.name == name) e.rule = "quantization \"" + std::string(name) + "\" cannot be made here: " + std::string(s.why);
    }
    return e;
}

/// The planes that a codec stores: its own and, for a tensor-scaled one, that of the scale, which comes last.
template <any_codec C>
inline constexpr auto stored_planes = [] {
    if constexpr (tensor_scaled<C>) {
        std::array<plane, C::planes.size() + 1> all{};
        for (std::size_t i = 0; i < C::planes.size(); ++i) all[i] = C::planes[i];
        all.back() = C::tensor_plane;
        return all;
    } else {
        return C::planes;
    }
}();

/// Shape of stored plane p for weights of shape [.., N, K].
template <any_codec C>
[[nodiscard]] constexpr shape stored_shape(std::size_t p, const shape& weights) {
    return p < C::planes.size() ? plane_shape<C>(p, weights) : shape{1};
}

}  // namespace nibble
