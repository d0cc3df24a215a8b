// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whole tensors through a codec, by the scalar law: into the caller's memory, or owning the result.

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nibble/codec/codec.hpp"
#include "nibble/core/result.hpp"

namespace nibble {

/// The planes of a quantized tensor in memory that somebody else owns, each dense in the codec's layout.
template <any_codec C>
using plane_pointers = std::array<std::byte*, C::planes.size()>;
/// The same for reading.
template <any_codec C>
using const_plane_pointers = std::array<const std::byte*, C::planes.size()>;

/// A quantized tensor that owns its planes.
template <any_codec C>
struct quantized {
    shape dims;  ///< of the weights, [.., N, K]
    std::array<std::vector<std::byte>, C::planes.size()> planes;
    float scale = 1;  ///< of the whole tensor, for a tensor-scaled codec

    [[nodiscard]] plane_pointers<C> data() {
        plane_pointers<C> p{};
        for (std::size_t i = 0; i < p.size(); ++i) p[i] = planes[i].data();
        return p;
    }
    [[nodiscard]] const_plane_pointers<C> data() const {
        const_plane_pointers<C> p{};
        for (std::size_t i = 0; i < p.size(); ++i) p[i] = planes[i].data();
        return p;
    }
    [[nodiscard]] std::size_t n_bytes() const {
        std::size_t n = 0;
        for (const auto& p : planes) n += p.size();
        if constexpr (tensor_scaled<C>) n += info(C::tensor_plane.type).block_bytes;
        return n;
    }
};

namespace detail {

template <class C, class T, class How>
void encode_groups(const T* row, std::uint64_t k, const plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, How how) {
    const std::uint64_t n_groups = groups_of<C>(k);
    float w[C::group];
    for (std::uint64_t g = 0; g < n_groups; ++g) {
        const std::uint64_t begin = g * C::group;
        const std::size_t count = k - begin < C::group ? static_cast<std::size_t>(k - begin) : C::group;
        for (std::size_t i = 0; i < count; ++i) w[i] = to_f32(number_cast<typename C::model_type>(row[begin + i]));
        store_block<C>(C::encode(w, count, how), planes, n, g, n_rows, n_groups);
    }
}

/// decode_block(block, w) writes a group to w.
template <class C, class F>
void decode_groups(const const_plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, std::uint64_t k, float* out, F decode_block) {
    const std::uint64_t n_groups = groups_of<C>(k);
    float w[C::group];
    for (std::uint64_t g = 0; g < n_groups; ++g) {
        decode_block(load_block<C>(planes, n, g, n_rows, n_groups), w);
        const std::uint64_t begin = g * C::group;
        for (std::size_t i = 0; i < C::group && begin + i < k; ++i) out[begin + i] = w[i];
    }
}

}  // namespace detail

/// Encodes one row of k values into row n of the planes. T is any storage type; it is cast to the codec's model type first.
template <encoder C, class T>
void encode_row(const T* row, std::uint64_t k, const plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, encode_options options = {}) {
    detail::encode_groups<C>(row, k, planes, n, n_rows, options);
}
/// The same with the tensor's scale.
template <tensor_scaled C, class T>
void encode_row(const T* row, std::uint64_t k, const plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, float scale) {
    detail::encode_groups<C>(row, k, planes, n, n_rows, scale);
}

/// Decodes row n of the planes to k floats.
template <codec C>
void decode_row(const const_plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, std::uint64_t k, float* out) {
    detail::decode_groups<C>(planes, n, n_rows, k, out, [](const auto& b, float* w) { C::decode(b, w); });
}
/// The same with the tensor's scale.
template <tensor_scaled C>
void decode_row(const const_plane_pointers<C>& planes, std::uint64_t n, std::uint64_t n_rows, std::uint64_t k, float* out, float scale) {
    detail::decode_groups<C>(planes, n, n_rows, k, out, [scale](const auto& b, float* w) { C::decode(b, scale, w); });
}

/// The scale of a whole tensor, of any storage type.
template <tensor_scaled C, class T>
[[nodiscard]] float tensor_scale(std::span<const T> weights) {
    float largest = C::max_abs(nullptr, 0);
    for (const T x : weights) {
        const float w = to_f32(number_cast<typename C::model_type>(x));
        largest = C::max_abs(&w, 1, largest);
    }
    return C::tensor_scale(largest);
}

namespace detail {

inline result<std::uint64_t> values_of(std::size_t given, const shape& dims) {
    const auto n = dims.checked_elements();
    if (!n || *n != given || dims.rank() == 0) {
        return fail(errc::mismatch, "shape " + dims.text() + " does not describe the " + std::to_string(given) + " values that were given");
    }
    return *n;
}

}  // namespace detail

/// Quantizes weights of shape [.., N, K] into planes of the sizes that plane_shape<C> gives.
/// Errors: mismatch, when the shape does not hold as many values as there are weights.
template <encoder C, class T>
[[nodiscard]] result<void> quantize_into(std::span<const T> weights, const shape& dims, const plane_pointers<C>& planes, encode_options options = {}) {
    static_assert(check_codec<C>());
    if (auto n = detail::values_of(weights.size(), dims); !n) return pass(n);
    const std::uint64_t k = dims.columns();
    const std::uint64_t n_rows = dims.rows();
    for (std::uint64_t n = 0; n < n_rows && k != 0; ++n) encode_row<C>(weights.data() + n * k, k, planes, n, n_rows, options);
    return {};
}

/// The same for a tensor-scaled codec; gives the tensor's scale.
template <tensor_scaled C, class T>
[[nodiscard]] result<float> quantize_into(std::span<const T> weights, const shape& dims, const plane_pointers<C>& planes) {
    if (auto n = detail::values_of(weights.size(), dims); !n) return pass(n);
    const float scale = tensor_scale<C>(weights);
    const std::uint64_t k = dims.columns();
    const std::uint64_t n_rows = dims.rows();
    for (std::uint64_t n = 0; n < n_rows && k != 0; ++n) encode_row<C>(weights.data() + n * k, k, planes, n, n_rows, scale);
    return scale;
}

/// The same, owning: `auto q = quantize<q4f16_1>(weights, {N, K});` The weights are anything that a span can view.
template <class C, class Weights>
requires encoder<C> || tensor_scaled<C>
[[nodiscard]] result<quantized<C>> quantize(const Weights& weights, const shape& dims, encode_options options = {}) {
    const std::span values(weights);
    quantized<C> q;
    if (auto n = detail::values_of(values.size(), dims); !n) return pass(n);
    q.dims = dims;
    for (std::size_t p = 0; p < q.planes.size(); ++p) {
        const std::uint64_t n_bytes = plane_shape<C>(p, dims).elements() * info(C::planes[p].type).block_bytes;
        if (!std::in_range<std::size_t>(n_bytes)) return fail(errc::unsupported, "a plane of " + std::to_string(n_bytes) + " bytes is beyond a 32-bit program");
        q.planes[p].resize(static_cast<std::size_t>(n_bytes));
    }
    using value = std::remove_const_t<typename decltype(values)::element_type>;
    if constexpr (tensor_scaled<C>) {
        auto scale = quantize_into<C>(std::span<const value>(values), dims, q.data());
        if (!scale) return pass(scale);
        q.scale = *scale;
    } else {
        if (auto done = quantize_into<C>(std::span<const value>(values), dims, q.data(), options); !done) return pass(done);
    }
    return q;
}

/// Decodes planes of weights of shape [.., N, K] into as many floats. Errors: mismatch, when `out` has another size.
template <codec C>
[[nodiscard]] result<void> dequantize_into(const const_plane_pointers<C>& planes, const shape& dims, std::span<float> out) {
    static_assert(check_codec<C>());
    if (auto n = detail::values_of(out.size(), dims); !n) return pass(n);
    const std::uint64_t k = dims.columns();
    const std::uint64_t n_rows = dims.rows();
    for (std::uint64_t n = 0; n < n_rows && k != 0; ++n) decode_row<C>(planes, n, n_rows, k, out.data() + n * k);
    return {};
}

/// The same with the tensor's scale.
template <tensor_scaled C>
[[nodiscard]] result<void> dequantize_into(const const_plane_pointers<C>& planes, float scale, const shape& dims, std::span<float> out) {
    if (auto n = detail::values_of(out.size(), dims); !n) return pass(n);
    const std::uint64_t k = dims.columns();
    const std::uint64_t n_rows = dims.rows();
    for (std::uint64_t n = 0; n < n_rows && k != 0; ++n) decode_row<C>(planes, n, n_rows, k, out.data() + n * k, scale);
    return {};
}

/// The same, owning.
template <any_codec C>
[[nodiscard]] result<std::vector<float>> dequantize(const quantized<C>& q) {
    std::vector<float> out(static_cast<std::size_t>(q.dims.elements()));
    if constexpr (tensor_scaled<C>) {
        if (auto done = dequantize_into<C>(q.data(), q.scale, q.dims, out); !done) return pass(done);
    } else {
        if (auto done = dequantize_into<C>(q.data(), q.dims, out); !done) return pass(done);
    }
    return out;
}

// The verbs for a policy that is no codec, or no encoder: each says in one sentence what it lacks.

/// Says what the policy lacks.
template <class C, class Value, class Planes>
requires(!encoder<C> && !tensor_scaled<C>) auto quantize_into(std::span<const Value>, const shape&, const Planes&, encode_options = {}) {
    static_assert(check_encoder<C>());
}
/// Says what the policy lacks.
template <class C, class Weights>
requires(!encoder<C> && !tensor_scaled<C>) auto quantize(const Weights&, const shape&, encode_options = {}) { static_assert(check_encoder<C>()); }
/// Says what the policy lacks.
template <class C, class Planes>
requires(!any_codec<C>) auto dequantize_into(const Planes&, const shape&, std::span<float>) { static_assert(check_codec<C>()); }

}  // namespace nibble
