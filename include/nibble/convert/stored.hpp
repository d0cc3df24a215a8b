// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parameters of an MLC folder as they are stored: records grouped to codec and planes, and their groups loaded one by one.

#include <string>
#include <vector>

#include "nibble/codec/registry.hpp"
#include "nibble/shard/reader.hpp"

namespace nibble::convert {

/// What a codec is called in tables: "4 bit x 32, f16" is four bits a code, 32 codes to an f16 scale.
[[nodiscard]] inline std::string codec_label(std::size_t codec) {
    if (codec == scheme::none) return "?";
    return visit_codec(codec, []<class C>() -> std::string {
        if constexpr (formulaic<C>) {
            return std::to_string(C::packing::bits) + " bit x " + std::to_string(C::group) + ", " + std::string(info(C::planes[1].type).name) +
                   (C::layout::transposed ? ", transposed" : "");
        } else {
            return std::string(info(C::planes[0].type).name);
        }
    });
}

/// A parameter of a folder. For a quantized one the name is "x.weight" where the records are "x.q_weight" and "x.q_scale".
struct stored_parameter {
    std::string name;
    std::size_t codec = scheme::none;  ///< index into nibble::codecs; none: no codec here is stored so
    std::vector<shard::place> planes;
    std::uint64_t rows = 0;
    std::uint64_t columns = 0;  ///< values in a row, those that pad the last group included: a folder does not say how many are real
};

namespace detail {

/// Calls f(word) for the first words of a record, at most 16,384; false, and no further call, once f has given false.
template <class F>
bool every_word(const shard::folder& folder, shard::place where, std::vector<std::byte>& scratch, F&& f) {
    const auto bytes = folder.bytes(where, scratch);
    for (std::size_t i = 0; bytes && i + 4 <= bytes->size() && i < (1 << 16); i += 4) {
        if (!f(load<std::uint32_t>(bytes->data() + i))) return false;
    }
    return true;
}

/// Whether all codes are 3 bits wide: ten of them leave the two upper bits of every word empty. (Of 4-bit codes one in four does.)
inline bool has_three_bit_codes(const shard::folder& f) {
    std::uint64_t seen = 0;
    std::vector<std::byte> scratch;
    for (const auto& [name, where] : f.by_name) {
        if (f.at(where).type != encoding::u32 || !name.ends_with(".q_weight")) continue;
        const bool empty = every_word(f, where, scratch, [&](std::uint32_t word) {
            ++seen;
            return word >> 30 == 0;
        });
        if (!empty) return false;
    }
    return seen != 0;
}

/// Whether the codes of one record are, in a folder that has wider ones too: then none of them is 7 either, which is twice the zero
/// point and one. Of few words, or of zeros alone, nothing can be said.
inline bool has_three_bit_codes(const shard::folder& f, shard::place where) {
    std::uint64_t seen = 0;
    bool any = false;
    std::vector<std::byte> scratch;
    const bool narrow = every_word(f, where, scratch, [&](std::uint32_t word) {
        ++seen;
        any = any || word != 0;
        return word >> 30 == 0 && (word & word >> 1 & word >> 2 & 0x09249249u) == 0;
    });
    return narrow && any && seen >= 16;
}

inline std::size_t codec_of_pair(bool three_bits, encoding scale, bool transposed) {
    for (std::size_t i = 0; i < codecs::size; ++i) {
        const bool fits = visit_codec(i, [&]<class C>() {
            if constexpr (formulaic<C>) {
                return C::packing::bits == (three_bits ? 3 : 4) && C::planes[1].type == scale && C::layout::transposed == transposed;
            } else {
                return false;
            }
        });
        if (fits) return i;
    }
    return scheme::none;
}

}  // namespace detail

/// All parameters of a folder, in the order of its index.
[[nodiscard]] inline std::vector<stored_parameter> stored_parameters(const shard::folder& f) {
    std::vector<stored_parameter> all;
    const bool all_three_bits = detail::has_three_bit_codes(f);
    constexpr std::string_view weight = ".q_weight";
    constexpr std::string_view scale = ".q_scale";
    for (std::size_t s = 0; s < f.manifest.shards.size(); ++s) {
        for (std::size_t i = 0; i < f.manifest.shards[s].records.size(); ++i) {
            const auto& r = f.manifest.shards[s].records[i];
            const bool is_weight = r.name.ends_with(weight);
            const auto base = r.name.substr(0, r.name.size() - (is_weight ? weight.size() : std::min(scale.size(), r.name.size())));
            if (r.name.ends_with(scale) && f.find(base + std::string(weight)) != nullptr) continue;  // told with its q_weight
            stored_parameter p{is_weight ? base + ".weight" : r.name, scheme::none, {{s, i}}, 1, r.dims.elements()};
            const auto partner = f.by_name.find(base + std::string(scale));
            if (!is_weight) {
                if (r.type == encoding::f16) p.codec = codec_index<q0f16>;
                if (r.type == encoding::bf16) p.codec = codec_index<q0bf16>;
                if (r.type == encoding::f32) p.codec = codec_index<q0f32>;
            } else if (r.type == encoding::f8_e5m2) {
                p.codec = codec_index<e5m2_cast>;
            } else if (partner != f.by_name.end()) {
                p.planes.push_back(partner->second);
                const auto& q = f.at(partner->second);
                const auto layout = shard::pair_layout(r.dims, q.dims);
                if (r.type == encoding::f8_e4m3 && q.dims.elements() == 1) p.codec = codec_index<e4m3_scaled>;
                if (r.type == encoding::u32 && layout != shard::pair::none) {
                    const bool three_bits = all_three_bits || detail::has_three_bit_codes(f, {s, i});
                    p.codec = detail::codec_of_pair(three_bits, q.type, layout == shard::pair::transposed);
                    p.rows = layout == shard::pair::transposed ? q.dims[1] : q.dims.rows();
                    p.columns = (layout == shard::pair::transposed ? q.dims[0] : q.dims.columns()) * (three_bits ? 40 : 32);
                }
            }
            all.push_back(std::move(p));
        }
    }
    return all;
}

/// The planes of one stored parameter in memory, in which f32 may be kept as bf16.
template <any_codec C>
class stored_view {
public:
    /// Errors: those of folder::bytes. `where` has a place for each of stored_planes<C>.
    [[nodiscard]] static result<stored_view> open(const shard::folder& f, const std::vector<shard::place>& where) {
        stored_view v;
        for (std::size_t p = 0; p < n_planes; ++p) {
            auto bytes = f.bytes(where[p], v.scratch_[p]);
            if (!bytes) return pass(bytes);
            v.data_[p] = *bytes;
            v.size_[p] = shard::stored_bytes(f.at(where[p]));
        }
        return v;
    }

    /// The group g of row n.
    [[nodiscard]] typename C::block block(std::uint64_t n, std::uint64_t g, std::uint64_t n_rows, std::uint64_t n_groups) const {
        typename C::block b;
        nibble::detail::for_each_plane<C>([&](auto p) {
            auto& elements = std::get<p.value>(b);
            for (std::size_t j = 0; j < elements.size(); ++j) {
                const auto at = C::layout::index(n, g * elements.size() + j, n_rows, n_groups * elements.size());
                elements[j] = element<nibble::detail::plane_element<typename C::block, p.value>>(p.value, at);
            }
        });
        return b;
    }

    /// The scale of the whole tensor, of a tensor-scaled codec.
    [[nodiscard]] float tensor_scale() const { return element<float>(n_planes - 1, 0); }

    /// Byte in plane p's record at which group g of row n begins.
    [[nodiscard]] std::uint64_t offset(std::size_t p, std::uint64_t n, std::uint64_t g, std::uint64_t n_rows, std::uint64_t n_groups) const {
        return size_[p] * C::layout::index(n, g * C::planes[p].per_group, n_rows, n_groups * C::planes[p].per_group);
    }
    [[nodiscard]] std::size_t element_bytes(std::size_t p) const { return size_[p]; }

private:
    static constexpr std::size_t n_planes = stored_planes<C>.size();

    template <class T>
    [[nodiscard]] T element(std::size_t p, std::uint64_t at) const {
        const auto* from = data_[p].data() + at * size_[p];
        if constexpr (std::is_same_v<T, float>) {
            if (size_[p] == 2) return to_f32(load<bf16>(from));
        }
        return load<T>(from);
    }

    std::array<std::vector<std::byte>, n_planes> scratch_;
    std::array<bytes_view, n_planes> data_;
    std::array<std::size_t, n_planes> size_{};
};

}  // namespace nibble::convert
