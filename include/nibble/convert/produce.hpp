// SPDX-License-Identifier: Apache-2.0
#pragma once
// The bytes of a planned record, produced in order and a stretch at a time: source rows are fetched, changed as the mapping says,
// and encoded. Nothing larger than a chunk is held, but for what has to be transposed.

#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "nibble/codec/ggml.hpp"
#include "nibble/codec/quantize.hpp"
#include "nibble/convert/plan.hpp"
#include "nibble/cpu/kernels.hpp"

namespace nibble::convert {

/// Calls `f.template operator()<T>()` with the storage type of an encoding for which is_float() holds.
template <class F>
decltype(auto) visit_float(encoding type, F&& f) {
    switch (type) {
        case encoding::f16:
            return f.template operator()<f16>();
        case encoding::bf16:
            return f.template operator()<bf16>();
        case encoding::f8_e4m3:
            return f.template operator()<f8_e4m3>();
        case encoding::f8_e5m2:
            return f.template operator()<f8_e5m2>();
        default:
            return f.template operator()<float>();
    }
}

/// Rows of a parameter, one after another in memory: n_rows x columns values of one type.
struct row_run {
    encoding type = encoding::f32;
    const std::byte* data = nullptr;
    std::uint64_t n_rows = 0;
    const source::tensor* of = nullptr;
};

/// How many of n values, stored as From from `data` on, are not finite in To: NaN, infinity, or beyond its range.
template <class To, class From>
[[nodiscard]] std::uint64_t count_nonfinite(const std::byte* data, std::uint64_t n) {
    using bits = std::conditional_t<sizeof(From) == 4, std::uint32_t, std::conditional_t<sizeof(From) == 2, std::uint16_t, std::uint8_t>>;
    constexpr bits sign = static_cast<bits>(bits{1} << (8 * sizeof(bits) - 1));
    // The smallest magnitude that is not finite in To; magnitudes are ordered as their bits.
    constexpr bits limit = [] {
        bits low = 0;
        bits high = sign;
        while (low < high) {
            const auto middle = static_cast<bits>(low + (high - low) / 2);
            const auto u = std::bit_cast<std::uint32_t>(to_f32(number_cast<To>(std::bit_cast<From>(middle))));
            if ((u & 0x7F800000u) == 0x7F800000u)
                high = middle;
            else
                low = static_cast<bits>(middle + 1);
        }
        return low;
    }();
    // Several values to a word: adding sign - limit carries into a value's sign bit from the limit on, and never beyond.
    constexpr std::uint64_t each = ~std::uint64_t{0} / static_cast<bits>(~bits{0});
    const auto beyond = [](std::uint64_t word) { return ((word & ~(each * sign)) + each * static_cast<bits>(sign - limit)) & (each * sign); };
    constexpr std::size_t words = 64;
    constexpr std::size_t values = words * sizeof(std::uint64_t) / sizeof(From);
    std::uint64_t count = 0;
    std::uint64_t i = 0;
    for (; i + values <= n; i += values) {
        const std::byte* at = data + i * sizeof(From);
        std::uint64_t any = 0;
        for (std::size_t j = 0; j < words; ++j) any |= beyond(load<std::uint64_t>(at + 8 * j));
        if (any == 0) continue;
        for (std::size_t j = 0; j < words; ++j) count += static_cast<std::uint64_t>(std::popcount(beyond(load<std::uint64_t>(at + 8 * j))));
    }
    for (; i < n; ++i) count += static_cast<bits>(load<bits>(data + i * sizeof(From)) & static_cast<bits>(~sign)) >= limit ? 1 : 0;
    return count;
}

/// Reads the rows of one planned parameter in its own order.
class row_reader {
public:
    row_reader(const plan& p, const planned_parameter& parameter) : plan_(p), parameter_(parameter) {
        std::uint64_t first = 0;
        for (const auto i : parameter.sources) {
            const auto& t = p.model.tensors[i];
            const std::uint64_t n = parameter.of.transpose ? parameter.rows() : parameter.of.dims.rank() < 2 ? t.dims.elements() : t.dims.rows();
            parts_.push_back({&t, first, n});
            first += n;
        }
    }

    /// Up to `most` rows from row `begin` on (at least one), valid until the next call.
    [[nodiscard]] result<row_run> rows(std::uint64_t begin, std::uint64_t most) {
        if (parameter_.of.transpose) return transposed_rows(begin, most);
        const auto& order = parameter_.of.row_order;
        const std::uint64_t wanted = order.empty() ? begin : order[begin];
        while (wanted < parts_[part_].first) --part_;
        while (wanted >= parts_[part_].first + parts_[part_].n) ++part_;
        const auto& part = parts_[part_];
        std::uint64_t row = wanted - part.first;
        std::uint64_t n = order.empty() ? std::min(most, part.n - row) : 1;
        if (!part.tensor->row_order.empty()) {
            row = part.tensor->row_order[row];
            n = 1;
        }
        return load(*part.tensor, row, n);
    }

private:
    struct source_part {
        const source::tensor* tensor;
        std::uint64_t first;
        std::uint64_t n;
    };

    result<row_run> load(const source::tensor& t, std::uint64_t row, std::uint64_t n) {
        const std::uint64_t columns = parameter_.columns();
        const std::uint64_t values = n * columns;
        const auto& form = info(t.type);
        auto bytes =
            plan_.model.bytes(t, row * columns / form.block_values * form.block_bytes, (row + n) * columns / form.block_values * form.block_bytes, scratch_);
        if (!bytes) return pass(bytes);
        row_run run{t.type, bytes->data(), n, &t};
        if (is_ggml_block(t.type)) {
            decoded_.resize(values);
            ggml::decode_blocks(t.type, bytes->data(), values, decoded_.data());
            run = {encoding::f32, reinterpret_cast<const std::byte*>(decoded_.data()), n, &t};
        }
        if (parameter_.of.plus_one && !t.plus_one_stored) add_one(run, values);
        return run;
    }

    /// x + 1, rounded to the source's own type as numpy adds, or in f32 where the mapping says so.
    void add_one(row_run& run, std::uint64_t values) {
        const bool in_f32 = parameter_.of.plus_one_in_f32;
        const encoding type = in_f32 ? encoding::f32 : run.type;
        changed_.resize(values * info(type).block_bytes);
        visit_float(run.type, [&]<class T>() {
            for (std::uint64_t i = 0; i < values; ++i) {
                const float sum = to_f32(nibble::load<T>(run.data + i * sizeof(T))) + 1.0F;
                std::byte* to = changed_.data() + i * info(type).block_bytes;
                if (in_f32)
                    store(to, sum);
                else if constexpr (std::is_same_v<T, f8_e4m3>)
                    store(to, to_f8_e4m3(sum));
                else if constexpr (std::is_same_v<T, f8_e5m2>)
                    store(to, to_f8_e5m2(sum));
                else
                    store(to, number_cast<T>(sum));
            }
        });
        run.type = type;
        run.data = changed_.data();
    }

    /// The source is [K, N]: it is turned as a whole, once.
    result<row_run> transposed_rows(std::uint64_t begin, std::uint64_t most) {
        const auto& t = *parts_[0].tensor;
        const std::uint64_t n = parameter_.rows();
        const std::uint64_t k = parameter_.columns();
        const std::uint64_t size = info(t.type).block_bytes;
        if (turned_.empty()) {
            auto bytes = plan_.model.bytes(t, 0, t.n_bytes, scratch_);
            if (!bytes) return pass(bytes);
            turned_.resize(n * k * size);
            constexpr std::uint64_t tile = 32;
            for (std::uint64_t i0 = 0; i0 < n; i0 += tile) {
                for (std::uint64_t j0 = 0; j0 < k; j0 += tile) {
                    for (std::uint64_t i = i0; i < std::min(n, i0 + tile); ++i) {
                        for (std::uint64_t j = j0; j < std::min(k, j0 + tile); ++j)
                            std::memcpy(&turned_[(i * k + j) * size], bytes->data() + (j * n + i) * size, size);
                    }
                }
            }
        }
        return row_run{t.type, turned_.data() + begin * k * size, std::min(most, n - begin), &t};
    }

    const plan& plan_;
    const planned_parameter& parameter_;
    std::vector<source_part> parts_;
    std::size_t part_ = 0;
    std::vector<std::byte> scratch_;
    std::vector<float> decoded_;
    std::vector<std::byte> changed_;
    std::vector<std::byte> turned_;
};

namespace detail {

/// Encodes one row of `columns` values to dense planes, by the kernels of this machine; either plane may be null.
template <encoder C, class T>
void encode_dense_row(const std::byte* row, std::uint64_t columns, std::byte* codes, std::byte* scales, encode_options options) {
    if constexpr (std::is_same_v<T, f8_e4m3> || std::is_same_v<T, f8_e5m2>) {
        // No kernels for these: each is exact in f32, whose kernels cast it further.
        std::vector<float> wide(columns);
        for (std::uint64_t i = 0; i < columns; ++i) wide[i] = to_f32(load<T>(row + i));
        encode_dense_row<C, float>(reinterpret_cast<const std::byte*>(wide.data()), columns, codes, scales, options);
    } else if constexpr (std::is_same_v<C, plain<typename C::model_type>>) {
        using to = typename C::model_type;
        cpu::cast_row_fn<to, T>()(reinterpret_cast<const T*>(row), columns, reinterpret_cast<to*>(codes));
    } else {
        cpu::encode_row_fn<C, T>()(reinterpret_cast<const T*>(row), columns, codes, scales, options);
    }
}

}  // namespace detail

/// How a codec takes the rows of its source.
enum class taking : std::uint8_t {
    values,  ///< one plane of values, cast one by one
    rows,    ///< row by row
    whole,   ///< all rows at once, to be turned
    scaled   ///< twice, the first time for the tensor's scale
};
template <class C>
inline constexpr taking taking_of = [] {
    if constexpr (tensor_scaled<C>) {
        return taking::scaled;
    } else if constexpr (C::layout::transposed) {
        return taking::whole;
    } else {
        return C::planes.size() == 1 ? taking::values : taking::rows;
    }
}();

/// Whether plans of one checkpoint put the same planes of the same parameters at the same places, so that one reading of the source
/// serves them all (q4f16_1 and q4f32_1 do). Errors: refused.
[[nodiscard]] inline result<void> can_be_made_together(const std::vector<const plan*>& plans) {
    const auto& first = *plans[0];
    for (const auto* p : plans) {
        bool same = p->parameters.size() == first.parameters.size() && p->manifest.shards.size() == first.manifest.shards.size();
        for (std::size_t i = 0; same && i < first.parameters.size(); ++i) {
            const auto kind = [](const planned_parameter& q) { return visit_codec(q.codec, []<class C>() { return taking_of<C>; }); };
            const auto k = kind(first.parameters[i]);
            same = first.parameters[i].sources == p->parameters[i].sources && k == kind(p->parameters[i]) && (k == taking::values || k == taking::rows);
        }
        for (std::size_t s = 0; same && s < first.manifest.shards.size(); ++s) {
            const auto& a = first.manifest.shards[s].records;
            const auto& b = p->manifest.shards[s].records;
            same = a.size() == b.size();
            for (std::size_t i = 0; same && i < a.size(); ++i) same = a[i].name == b[i].name && a[i].offset == b[i].offset && a[i].n_bytes == b[i].n_bytes;
        }
        if (!same && p != &first)
            return fail(errc::refused, std::string(first.quantization->name) + " and " + std::string(p->quantization->name) + " cannot be made in one reading");
    }
    return {};
}

/// The bytes of one shard, from the first to the last; or of the same shard of several plans that can be made together.
class shard_stream {
public:
    shard_stream(const plan& p, std::size_t shard) : shard_stream(std::vector<const plan*>{&p}, shard) {}
    shard_stream(const std::vector<const plan*>& plans, std::size_t shard)
        : plan_(*plans[0]), contents_(plan_.contents[shard]), records_(plan_.manifest.shards[shard].records), made_(plans.size()) {
        for (std::size_t i = 0; i < plans.size(); ++i) made_[i].of = plans[i];
    }

    /// Fills as much of `out` as the shard still has bytes for; returns how much. 0: the shard is complete.
    [[nodiscard]] result<std::size_t> fill(std::span<std::byte> out) { return fill(std::vector<std::span<std::byte>>{out}); }
    /// The same for one buffer a plan, all of one size.
    [[nodiscard]] result<std::size_t> fill(const std::vector<std::span<std::byte>>& out) {
        std::size_t done = 0;
        while (done < out[0].size()) {
            if (ready_begin_ < made_[0].ready.size()) {
                const std::size_t n = std::min(out[0].size() - done, made_[0].ready.size() - ready_begin_);
                for (std::size_t i = 0; i < made_.size(); ++i) std::memcpy(out[i].data() + done, made_[i].ready.data() + ready_begin_, n);
                ready_begin_ += n;
                done += n;
                continue;
            }
            if (record_ == records_.size()) break;
            if (auto made = produce(); !made) return pass(made);
        }
        return done;
    }

    /// Values that were not finite in the model's type of plan i, by source tensor. Each value is met once: with its parameter's first plane.
    [[nodiscard]] const std::unordered_map<const source::tensor*, std::uint64_t>& nonfinite(std::size_t i = 0) const { return made_[i].nonfinite; }

private:
    static constexpr std::size_t stretch = 1 << 16;

    /// What is being made for one of the plans.
    struct product {
        const plan* of = nullptr;
        std::vector<std::byte> ready;
        std::vector<std::byte> kept;  ///< the plane after this one, made in the same pass
        std::unordered_map<const source::tensor*, std::uint64_t> nonfinite;

        template <class C>
        void count(const row_run& run, std::uint64_t n) {
            const auto found = visit_float(run.type, [&]<class T>() { return count_nonfinite<typename C::model_type, T>(run.data, n); });
            if (found != 0) nonfinite[run.of] += found;
        }
        void append(const std::vector<std::byte>& bytes, encoding type) {
            const std::size_t at = ready.size();
            if (type == encoding::f32) {
                ready.resize(at + bytes.size() / 2);
                cpu::shard_bf16_row_fn()(reinterpret_cast<const float*>(bytes.data()), bytes.size() / 4, reinterpret_cast<bf16*>(ready.data() + at));
            } else {
                ready.insert(ready.end(), bytes.begin(), bytes.end());
            }
        }
    };

    /// Calls f<C>(product) for every product with its own codec of the open parameter, of those that are taken as `Taking`.
    template <taking Taking, class F>
    void for_each_product(F&& f) {
        for (auto& m : made_) {
            visit_codec(m.of->parameters[open_].codec, [&]<class C>() {
                if constexpr (taking_of<C> == Taking) f.template operator()<C>(m);
            });
        }
    }

    /// Puts the next bytes of the current record into what is ready, or goes on to the next record.
    result<void> produce() {
        for (auto& m : made_) m.ready.clear();
        ready_begin_ = 0;
        const std::size_t parameter = contents_[record_].parameter;
        const std::size_t plane = contents_[record_].plane;
        const auto& p = plan_.parameters[parameter];
        if (!reader_ || parameter != open_) {
            reader_ = std::make_unique<row_reader>(plan_, p);
            open_ = parameter;
            for (auto& m : made_) m.kept.clear();
            kept_plane_ = 0;
            scale_.reset();
        }
        return visit_codec(p.codec, [&]<class C>() { return this->template advance<C>(p, plane); });
    }

    template <class C>
    result<void> advance(const planned_parameter& p, std::size_t plane) {
        result<void> made;
        if (row_ == 0 && kept_plane_ == plane && !made_[0].kept.empty()) {
            for (auto& m : made_) {
                visit_codec(m.of->parameters[open_].codec, [&]<class D>() {
                    if (plane < stored_planes<D>.size()) m.append(m.kept, stored_planes<D>[plane].type);
                });
            }
            row_ = p.rows();
        } else if constexpr (taking_of<C> == taking::scaled) {
            made = scaled<C>(p, plane);
        } else if constexpr (taking_of<C> == taking::whole) {
            made = whole<C>(p, plane);
        } else if constexpr (taking_of<C> == taking::values) {
            made = some_values(p, sizeof(typename C::model_type));
        } else {
            made = some_rows(p, plane, row_bytes<C>(p.columns(), plane));
        }
        if (row_ == p.rows()) {
            ++record_;
            row_ = 0;
        }
        return made;
    }

    template <class C>
    [[nodiscard]] static std::size_t row_bytes(std::uint64_t columns, std::size_t plane) {
        return groups_of<C>(columns) * C::planes[plane].per_group * info(C::planes[plane].type).block_bytes;
    }

    /// Whether the record after this one is the next plane of the same parameter, whose bytes then are worth keeping.
    [[nodiscard]] bool next_plane_follows(std::size_t plane) const {
        return record_ + 1 < records_.size() && contents_[record_ + 1].parameter == contents_[record_].parameter && contents_[record_ + 1].plane == plane + 1;
    }

    result<void> some_values(const planned_parameter& p, std::size_t value_bytes) {
        const std::uint64_t columns = p.columns();
        const auto most = std::max<std::uint64_t>(1, stretch / (columns * value_bytes));
        auto run = reader_->rows(row_, std::min(most, p.rows() - row_));
        if (!run) return pass(run);
        const auto n = run->n_rows * columns;
        for_each_product<taking::values>([&]<class C>(product& m) {
            std::vector<std::byte> values(n * info(C::planes[0].type).block_bytes);
            m.template count<C>(*run, n);
            visit_float(run->type, [&]<class T>() { detail::encode_dense_row<C, T>(run->data, n, values.data(), nullptr, {}); });
            m.append(values, C::planes[0].type);
        });
        row_ += run->n_rows;
        return {};
    }

    /// A plane of a codec with one scale for the tensor, which takes a pass over all values to find.
    template <class C>
    result<void> scaled(const planned_parameter& p, std::size_t plane) {
        const std::uint64_t columns = p.columns();
        auto& m = made_[0];
        std::vector<float> w;
        const auto next_rows = [&](std::uint64_t row, bool counted) -> result<std::uint64_t> {
            auto run = reader_->rows(row, std::min(std::max<std::uint64_t>(1, stretch / columns), p.rows() - row));
            if (!run) return pass(run);
            w.resize(run->n_rows * columns);
            if (counted) m.template count<C>(*run, w.size());
            visit_float(run->type, [&]<class T>() {
                for (std::size_t i = 0; i < w.size(); ++i) w[i] = to_f32(number_cast<typename C::model_type>(load<T>(run->data + i * sizeof(T))));
            });
            return run->n_rows;
        };
        if (row_ == 0 && (plane == 0 || !scale_)) {
            float top = C::lowest_magnitude;
            for (std::uint64_t row = 0; row < p.rows();) {
                auto n = next_rows(row, false);
                if (!n) return pass(n);
                top = C::max_abs(w.data(), w.size(), top);
                row += *n;
            }
            scale_ = C::tensor_scale(top);
        }
        if (plane == C::planes.size()) {
            std::vector<std::byte> bytes(sizeof(float));
            store(bytes.data(), *scale_);
            m.append(bytes, C::tensor_plane.type);
            row_ = p.rows();
            return {};
        }
        auto n = next_rows(row_, true);
        if (!n) return pass(n);
        for (const float x : w) {
            const auto block = C::encode(&x, 1, *scale_);
            const auto& code = std::get<0>(block);
            m.ready.insert(m.ready.end(), reinterpret_cast<const std::byte*>(code.data()), reinterpret_cast<const std::byte*>(code.data()) + sizeof(code));
        }
        row_ += *n;
        return {};
    }

    result<void> some_rows(const planned_parameter& p, std::size_t plane, std::size_t bytes_a_row) {
        const std::uint64_t columns = p.columns();
        const bool keep = next_plane_follows(plane);
        const auto most = std::max<std::uint64_t>(1, stretch / bytes_a_row);
        auto run = reader_->rows(row_, std::min(most, p.rows() - row_));
        if (!run) return pass(run);
        for_each_product<taking::rows>([&]<class C>(product& m) {
            const std::size_t here_bytes = row_bytes<C>(columns, plane);
            const std::size_t there_bytes = keep ? row_bytes<C>(columns, plane + 1) : 0;
            if (keep && m.kept.empty()) {
                m.kept.resize(p.rows() * there_bytes);
                kept_plane_ = plane + 1;
            }
            if (plane == 0) m.template count<C>(*run, run->n_rows * columns);
            std::vector<std::byte> values(run->n_rows * here_bytes);
            visit_float(run->type, [&]<class T>() {
                for (std::uint64_t i = 0; i < run->n_rows; ++i) {
                    std::byte* here = values.data() + i * here_bytes;
                    std::byte* there = keep ? m.kept.data() + (row_ + i) * there_bytes : nullptr;
                    detail::encode_dense_row<C, T>(run->data + i * columns * sizeof(T), columns, plane == 0 ? here : nullptr, plane == 0 ? there : here,
                                                   m.of->options.encode);
                }
            });
            m.append(values, C::planes[plane].type);
        });
        row_ += run->n_rows;
        return {};
    }

    /// A plane that lies transposed: encoded row by row as a whole, then turned.
    template <class C>
    result<void> whole(const planned_parameter& p, std::size_t plane) {
        const std::uint64_t columns = p.columns();
        const std::uint64_t n_rows = p.rows();
        auto& m = made_[0];
        std::array<std::vector<std::byte>, C::planes.size()> dense;
        const bool keep = next_plane_follows(plane);
        for (std::size_t i = 0; i < dense.size(); ++i) {
            if (i == plane || (keep && i == plane + 1)) dense[i].resize(n_rows * row_bytes<C>(columns, i));
        }
        for (std::uint64_t row = 0; row < n_rows;) {
            auto run = reader_->rows(row, n_rows - row);
            if (!run) return pass(run);
            if (plane == 0) m.template count<C>(*run, run->n_rows * columns);
            visit_float(run->type, [&]<class T>() {
                for (std::uint64_t i = 0; i < run->n_rows; ++i) {
                    const auto at = [&](std::size_t j) { return dense[j].empty() ? nullptr : dense[j].data() + (row + i) * (dense[j].size() / n_rows); };
                    detail::encode_dense_row<C, T>(run->data + i * columns * sizeof(T), columns, at(0), at(1), plan_.options.encode);
                }
            });
            row += run->n_rows;
        }
        m.append(turned<C>(dense[plane], plane, n_rows), C::planes[plane].type);
        if (keep) {
            m.kept = turned<C>(dense[plane + 1], plane + 1, n_rows);
            kept_plane_ = plane + 1;
        }
        row_ = n_rows;
        return {};
    }

    template <class C>
    static std::vector<std::byte> turned(const std::vector<std::byte>& dense, std::size_t plane, std::uint64_t n_rows) {
        const std::size_t size = info(C::planes[plane].type).block_bytes;
        const std::uint64_t n_columns = dense.size() / size / n_rows;
        std::vector<std::byte> out(dense.size());
        for (std::uint64_t n = 0; n < n_rows; ++n) {
            for (std::uint64_t j = 0; j < n_columns; ++j) {
                std::memcpy(&out[C::layout::index(n, j, n_rows, n_columns) * size], &dense[(n * n_columns + j) * size], size);
            }
        }
        return out;
    }

    const plan& plan_;
    const std::vector<planned_record>& contents_;
    const std::vector<shard::record>& records_;
    std::vector<product> made_;
    std::size_t record_ = 0;
    std::uint64_t row_ = 0;  ///< next row of the current record
    std::size_t open_ = 0;   ///< parameter of reader_
    std::unique_ptr<row_reader> reader_;
    std::size_t ready_begin_ = 0;
    std::size_t kept_plane_ = 0;
    std::optional<float> scale_;  ///< of a tensor-scaled codec, once known
};

}  // namespace nibble::convert
