// SPDX-License-Identifier: Apache-2.0
#pragma once
// One parameter at a time, for converters with a mapping and a choice of codecs of their own: the values of a checkpoint's tensor, a
// parameter into a folder of MLC weights, and out of one.

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "nibble/convert/produce.hpp"
#include "nibble/convert/stored.hpp"
#include "nibble/shard/writer.hpp"

namespace nibble::convert {

/// The values of a tensor, [its dims] row by row, as Hugging Face has them: what GGUF changes is changed back. Errors: unsupported (a type
/// that no weight can be made of), those of checkpoint::bytes.
[[nodiscard]] inline result<std::vector<float>> read_values(const source::checkpoint& c, const source::tensor& t) {
    if (!t.stored_type.empty() || !(is_float(t.type) || is_ggml_block(t.type))) {
        const std::string type = t.stored_type.empty() ? std::string(info(t.type).name) : t.stored_type;
        return fail(error{errc::unsupported, "no weight can be made of type " + type, c.files[t.file]->path(), t.name, t.offset, {}});
    }
    std::vector<std::byte> scratch;
    const auto bytes = c.bytes(t, 0, t.n_bytes, scratch);
    if (!bytes) return fail(bytes.error());
    std::vector<float> values(t.dims.elements());
    if (is_ggml_block(t.type)) {
        ggml::decode_blocks(t.type, bytes->data(), values.size(), values.data());
    } else {
        visit_float(t.type, [&]<class T>() {
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_f32(load<T>(bytes->data() + i * sizeof(T)));
        });
    }
    if (!t.row_order.empty()) {
        const auto stored = values;
        const auto k = t.dims.elements() / t.row_order.size();
        for (std::size_t row = 0; row < t.row_order.size(); ++row)
            std::copy_n(stored.begin() + static_cast<std::ptrdiff_t>(t.row_order[row] * k), k, values.begin() + static_cast<std::ptrdiff_t>(row * k));
    }
    if (t.plus_one_stored) {
        for (auto& x : values) x -= 1;
    }
    return values;
}

namespace detail {

/// quantize<C>, by the kernels of this machine where a codec stores rows one after another.
template <any_codec C>
[[nodiscard]] result<quantized<C>> quantize_by_kernels(std::span<const float> values, const shape& dims, encode_options options) {
    if constexpr (tensor_scaled<C> || C::layout::transposed) {
        return quantize<C>(values, dims, options);
    } else {
        if (auto n = nibble::detail::values_of(values.size(), dims); !n) return pass(n);
        quantized<C> q;
        q.dims = dims;
        std::array<std::uint64_t, 2> row_bytes{};
        for (std::size_t p = 0; p < q.planes.size(); ++p) {
            row_bytes[p] = groups_of<C>(dims.columns()) * C::planes[p].per_group * info(C::planes[p].type).block_bytes;
            q.planes[p].resize(dims.rows() * row_bytes[p]);
        }
        for (std::uint64_t n = 0; n < dims.rows(); ++n) {
            const auto* row = reinterpret_cast<const std::byte*>(values.data() + n * dims.columns());
            std::byte* scales = q.planes.size() < 2 ? nullptr : q.planes.back().data() + n * row_bytes[1];
            encode_dense_row<C, float>(row, dims.columns(), q.planes[0].data() + n * row_bytes[0], scales, options);
        }
        return q;
    }
}

}  // namespace detail

/// Writes a parameter of shape [.., N, K] in the codec of that index in nibble::codecs: one record, or two, "x.q_weight" and
/// "x.q_scale" for the name "x.weight". Errors: mismatch (values that the shape does not describe), refused (values that are not finite
/// in the codec's own type; a codec in layout [K, N] for what is no matrix), those of writer::add.
[[nodiscard]] inline result<void> write_parameter(shard::writer& to, const std::string& name, const shape& dims, std::span<const float> values,
                                                  std::size_t codec, encode_options options = {}) {
    return visit_codec(codec, [&]<class C>() -> result<void> {
        const auto refuse = [&](std::string rule) { return fail(error{errc::refused, std::move(rule), {}, name, {}, {}}); };
        if (C::layout::transposed && dims.rank() != 2) return refuse("layout [K, N] is for matrices, its shape is " + dims.text());
        const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
        if (const auto n = count_nonfinite<typename C::model_type, float>(bytes, values.size()); n != 0)
            return refuse(std::to_string(n) + " of its values are NaN, infinite or beyond " + std::string(info(encoding_of<typename C::model_type>).name));
        const auto q = detail::quantize_by_kernels<C>(values, dims, options);
        if (!q) return fail(error(q.error()).in_tensor(name));
        for (std::size_t p = 0; p < stored_planes<C>.size(); ++p) {
            const auto& plane = stored_planes<C>[p];
            const bytes_view content = p < q->planes.size() ? bytes_view(q->planes[p]) : std::as_bytes(std::span(&q->scale, 1));
            auto added = to.add(detail::plane_name(name, plane.suffix), plane.type, stored_shape<C>(p, dims), content, p == 0 ? values.size() : 0);
            if (!added) return pass(added);
        }
        return {};
    });
}

/// The values of a stored parameter, [rows, columns]: those that pad the last group of a row included. Errors: unsupported (no codec here
/// is stored so), those of folder::bytes.
[[nodiscard]] inline result<std::vector<float>> read_parameter(const shard::folder& f, const stored_parameter& p) {
    if (p.codec == scheme::none) return fail(error{errc::unsupported, "no codec here is stored so", f.path, p.name, {}, {}});
    return visit_codec(p.codec, [&]<class C>() -> result<std::vector<float>> {
        auto view = stored_view<C>::open(f, p.planes);
        if (!view) return pass(view);
        std::vector<float> values(p.rows * p.columns);
        const std::uint64_t n_groups = p.columns / C::group;
        for (std::uint64_t n = 0; n < p.rows; ++n) {
            for (std::uint64_t g = 0; g < n_groups; ++g) {
                float* out = values.data() + n * p.columns + g * C::group;
                if constexpr (tensor_scaled<C>)
                    C::decode(view->block(n, g, p.rows, n_groups), view->tensor_scale(), out);
                else
                    C::decode(view->block(n, g, p.rows, n_groups), out);
            }
        }
        return values;
    });
}

}  // namespace nibble::convert
