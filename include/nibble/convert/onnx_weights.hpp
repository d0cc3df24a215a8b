// SPDX-License-Identifier: Apache-2.0
#pragma once
// Weights as the constants of an ONNX graph, made while they are written: quantized for MatMulNBits, or plain. Several threads encode a
// few rows at a time; of a whole tensor only its scales are kept, because they follow its codes.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "nibble/cpu/nbits.hpp"
#include "nibble/cpu/thread_pool.hpp"
#include "nibble/onnx/graph.hpp"

namespace nibble::convert {

/// Rows of a matrix as f32. One reader serves one thread.
class matrix_reader {
public:
    matrix_reader() = default;
    matrix_reader(const matrix_reader&) = delete;
    matrix_reader& operator=(const matrix_reader&) = delete;
    virtual ~matrix_reader() = default;
    /// Writes rows [begin, begin + n) of k values each to `out`.
    [[nodiscard]] virtual result<void> rows(std::uint64_t begin, std::uint64_t n, float* out) = 0;
};

/// A matrix [n, k] that can be read as often as is needed, by as many threads.
struct matrix_source {
    std::uint64_t n = 0, k = 0;
    std::function<std::unique_ptr<matrix_reader>()> open;
    std::function<result<void>()> check{};  ///< an error if its file has changed; asked before each stretch
    std::string finite{};                   ///< a name: values that are not finite, or not in the type that they are cast to, are an error of it
};

/// How MatMulNBits' weights are made. The scales' type is that of the activations, and the weights are cast to it first.
struct nbits_options {
    unsigned bits = 4;         ///< 2, 4 or 8
    std::uint64_t block = 32;  ///< a power of two from 16 to 256
    bool symmetric = true;
};

/// Errors: refused, for what MatMulNBits does not have.
[[nodiscard]] inline result<void> check_nbits_options(const nbits_options& o) {
    if (o.bits != 2 && o.bits != 4 && o.bits != 8)
        return fail(error{errc::refused, "MatMulNBits has no weights of " + std::to_string(o.bits) + " bits", {}, {}, {}, "take 2, 4 or 8"});
    if (o.block < 16 || o.block > cpu::largest_nbits_block || !std::has_single_bit(o.block))
        return fail(error{errc::refused, "a block of " + std::to_string(o.block) + " is none of 16, 32, 64, 128, 256", {}, {}, {}, "take 32"});
    return {};
}

namespace detail {

/// Runs f(thread's index, first, last) on ranges of [0, n), and gives the first error.
class parallel {
public:
    explicit parallel(std::size_t threads) : pool_(threads) {}
    [[nodiscard]] std::size_t size() const { return pool_.size(); }

    template <class F>
    result<void> operator()(std::uint64_t n, F&& f) {
        std::atomic<std::size_t> next{0};
        std::mutex mutex;
        std::optional<error> failed;
        pool_.for_ranges(n, 1, [&](std::uint64_t first, std::uint64_t last) {
            const auto fault = [&](error e) {
                const std::lock_guard hold(mutex);
                if (!failed) failed = std::move(e);
            };
            try {
                if (auto done = f(next.fetch_add(1), first, last); !done) fault(std::move(done.error()));
            } catch (const std::exception& e) {  // no memory, most likely
                fault(error{errc::io, e.what(), {}, {}, {}, {}});
            }
        });
        if (failed) return fail(std::move(*failed));
        return {};
    }

private:
    cpu::thread_pool pool_;
};

/// Calls f.template operator()<Bits, Scale>() for numbers known at run time.
template <class F>
void visit_nbits(unsigned bits, onnx::element scale, F&& f) {
    const auto with_bits = [&]<unsigned Bits>() {
        if (scale == onnx::element::f16) return f.template operator()<Bits, f16_scale>();
        if (scale == onnx::element::bf16) return f.template operator()<Bits, bf16_scale_unrounded>();
        f.template operator()<Bits, f32_scale>();
    };
    if (bits == 2) return with_bits.template operator()<2>();
    if (bits == 8) return with_bits.template operator()<8>();
    with_bits.template operator()<4>();
}

/// Values of f32 cast to the model's type and back.
inline void round_to(onnx::element type, float* values, std::uint64_t n) {
    constexpr std::uint64_t piece = 1024;
    const auto through = [&]<class T>() {
        T cast[piece];
        for (std::uint64_t i = 0; i < n; i += piece) {
            const auto count = std::min(piece, n - i);
            cpu::cast_row<cpu::default_arch>(values + i, count, cast);
            cpu::cast_row<cpu::default_arch>(cast, count, values + i);
        }
    };
    if (type == onnx::element::f16) through.template operator()<f16>();
    if (type == onnx::element::bf16) through.template operator()<bf16>();
}

[[nodiscard]] constexpr std::uint64_t bytes_of(onnx::element type) { return type == onnx::element::f32 ? 4 : 2; }

/// An error if a value is not finite in the type that it is to be cast to.
[[nodiscard]] inline result<void> check_finite(const matrix_source& source, onnx::element type, const float* values, std::uint64_t n) {
    if (source.finite.empty()) return {};
    // Magnitudes are in the order of their bits; these are the least that f16 and bf16 round to infinity.
    const std::uint32_t limit = type == onnx::element::f16 ? 0x477FF000u : type == onnx::element::bf16 ? 0x7F7F8000u : 0x7F800000u;
    std::uint32_t largest = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
        const auto magnitude = std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu;
        largest = largest > magnitude ? largest : magnitude;
    }
    if (largest < limit) return {};
    const bool finite = largest < 0x7F800000u;
    return fail(error{errc::refused,
                      finite ? "it has values beyond the range of f16" : "it has values that are NaN or infinite",
                      {},
                      source.finite,
                      {},
                      finite ? "take a dtype without f16" : "correct the checkpoint"});
}

/// About so many bytes are made at a time.
inline constexpr std::uint64_t stretch_bytes = 4 << 20;

/// A matrix that becomes B, scales and zero_points of a MatMulNBits node.
class nbits_tensor : public std::enable_shared_from_this<nbits_tensor> {
public:
    nbits_tensor(matrix_source source, nbits_options options, onnx::element type, std::shared_ptr<parallel> threads)
        : source_(std::move(source)), options_(options), type_(type), threads_(std::move(threads)) {}

    [[nodiscard]] std::uint64_t blocks() const { return ceil_div(source_.k, options_.block); }
    [[nodiscard]] std::uint64_t block_bytes() const { return options_.block * options_.bits / 8; }
    [[nodiscard]] std::uint64_t zero_bytes() const { return packed_zero_points(blocks(), options_.bits); }

    [[nodiscard]] std::vector<onnx::initializer> constants(const std::string& name) {
        auto self = shared_from_this();
        const std::vector<std::uint64_t> b{source_.n, blocks(), block_bytes()};
        std::vector<onnx::initializer> list;
        list.push_back({name + "_Q" + std::to_string(options_.bits), onnx::element::u8, b, source_.n * blocks() * block_bytes(),
                        [self](const onnx::sink& to) { return self->encode(to); }});
        const auto kept = [&self](std::vector<std::byte> nbits_tensor::*part) -> onnx::producer {
            return [self, part](const onnx::sink& to) -> result<void> {
                if (!self->encoded_)
                    if (auto made = self->encode([](bytes_view) -> result<void> { return {}; }); !made) return made;
                return to(*self.*part);
            };
        };
        list.push_back({name + "_scales", type_, {source_.n, blocks()}, source_.n * blocks() * bytes_of(type_), kept(&nbits_tensor::scales_)});
        if (!options_.symmetric)
            list.push_back({name + "_zero_points", onnx::element::u8, {source_.n, zero_bytes()}, source_.n * zero_bytes(), kept(&nbits_tensor::zeros_)});
        return list;
    }

private:
    result<void> encode(const onnx::sink& to) {
        const auto n_blocks = blocks();
        const auto code_row = n_blocks * block_bytes();
        const auto scale_row = n_blocks * bytes_of(type_);
        scales_.resize(source_.n * scale_row);
        if (!options_.symmetric) zeros_.resize(source_.n * zero_bytes());
        const auto rows_at_once = std::max<std::uint64_t>(threads_->size(), stretch_bytes / std::max<std::uint64_t>(1, source_.k));
        std::vector<std::byte> codes(std::min(rows_at_once, source_.n) * code_row);
        std::vector<std::unique_ptr<matrix_reader>> readers(threads_->size());
        for (auto& r : readers) r = source_.open();
        for (std::uint64_t begin = 0; begin < source_.n; begin += rows_at_once) {
            if (source_.check)
                if (auto same = source_.check(); !same) return same;
            const auto n = std::min(rows_at_once, source_.n - begin);
            auto made = (*threads_)(n, [&](std::size_t thread, std::uint64_t first, std::uint64_t last) -> result<void> {
                // A few rows at a time stay in the second-level cache.
                const auto step = std::max<std::uint64_t>(1, (1 << 16) / std::max<std::uint64_t>(1, source_.k));
                std::vector<float> w(std::min(step, last - first) * source_.k);
                std::vector<std::uint8_t> zeros(options_.symmetric ? 0 : n_blocks);
                for (std::uint64_t at = first; at < last; at += step) {
                    const auto count = std::min(step, last - at);
                    if (auto read = readers[thread]->rows(begin + at, count, w.data()); !read) return read;
                    if (auto good = check_finite(source_, type_, w.data(), count * source_.k); !good) return good;
                    round_to(type_, w.data(), count * source_.k);
                    for (std::uint64_t i = 0; i < count; ++i) {
                        const auto row = begin + at + i;
                        const cpu::nbits_row out{codes.data() + (at + i) * code_row, scales_.data() + row * scale_row,
                                                 options_.symmetric ? nullptr : zeros.data()};
                        visit_nbits(options_.bits, type_, [&]<unsigned Bits, class Scale>() {
                            cpu::encode_nbits_row<cpu::default_arch, Bits, Scale>(w.data() + i * source_.k, source_.k, options_.block, out);
                        });
                        repeat_stale_codes(codes.data() + (at + i) * code_row);
                        if (!options_.symmetric)
                            pack_zero_points(zeros.data(), n_blocks, options_.bits, reinterpret_cast<std::uint8_t*>(zeros_.data()) + row * zero_bytes());
                    }
                }
                return {};
            });
            if (!made) return made;
            if (auto written = to(bytes_view(codes.data(), n * code_row)); !written) return written;
        }
        encoded_ = true;
        return {};
    }

    /// Where a row's values do not fill its last byte, ONNX Runtime's quantizer leaves in the rest of it what the byte before had, if that is
    /// one of the 8 / bits blocks that it takes at a time. Nobody reads it; but so whole tensors are the same bytes.
    void repeat_stale_codes(std::byte* row) const {
        const std::uint64_t per_byte = 8 / options_.bits;
        const std::uint64_t used = source_.k % per_byte;
        if (used == 0) return;
        const std::uint64_t at = source_.k / per_byte;
        const std::uint64_t tile = options_.block * per_byte;
        if (at == 0 || (at - 1) * per_byte < (source_.k - 1) / tile * tile) return;
        row[at] |= row[at - 1] & static_cast<std::byte>(0xFFu << (used * options_.bits));
    }

    matrix_source source_;
    nbits_options options_;
    onnx::element type_;
    std::shared_ptr<parallel> threads_;
    std::vector<std::byte> scales_;
    std::vector<std::byte> zeros_;
    bool encoded_ = false;
};

/// f32 values as bytes of a type.
inline void cast_to(onnx::element type, const float* from, std::uint64_t n, std::byte* to) {
    if (type == onnx::element::f16) return cpu::cast_row<cpu::default_arch>(from, n, reinterpret_cast<f16*>(to));
    if (type == onnx::element::bf16) return cpu::cast_row<cpu::default_arch>(from, n, reinterpret_cast<bf16*>(to));
    std::memcpy(to, from, n * 4);
}

}  // namespace detail

/// The constants `name`_Q4, `name`_scales and, with stored zero points, `name`_zero_points of a matrix [N, K].
[[nodiscard]] inline std::vector<onnx::initializer> nbits_constants(const std::string& name, matrix_source source, const nbits_options& options,
                                                                    onnx::element type, std::shared_ptr<detail::parallel> threads) {
    return std::make_shared<detail::nbits_tensor>(std::move(source), options, type, std::move(threads))->constants(name);
}

/// A matrix as it is, [N, K].
[[nodiscard]] inline onnx::initializer plain_constant(std::string name, matrix_source source, onnx::element type) {
    const auto n_bytes = source.n * source.k * detail::bytes_of(type);
    std::vector<std::uint64_t> dims{source.n, source.k};
    auto make = [source = std::move(source), type](const onnx::sink& to) -> result<void> {
        auto reader = source.open();
        const auto step = std::max<std::uint64_t>(1, detail::stretch_bytes / 4 / std::max<std::uint64_t>(1, source.k));
        std::vector<float> w(std::min(step, source.n) * source.k);
        std::vector<std::byte> bytes(w.size() * detail::bytes_of(type));
        for (std::uint64_t begin = 0; begin < source.n; begin += step) {
            if (source.check)
                if (auto same = source.check(); !same) return same;
            const auto n = std::min(step, source.n - begin);
            if (auto read = reader->rows(begin, n, w.data()); !read) return read;
            if (auto good = detail::check_finite(source, type, w.data(), n * source.k); !good) return good;
            detail::cast_to(type, w.data(), n * source.k, bytes.data());
            if (auto written = to(bytes_view(bytes.data(), n * source.k * detail::bytes_of(type))); !written) return written;
        }
        return {};
    };
    return {std::move(name), type, std::move(dims), n_bytes, std::move(make)};
}

/// A matrix turned over, [K, N], as MatMul takes it. Its rows are read once for each stretch of columns.
[[nodiscard]] inline onnx::initializer turned_constant(std::string name, matrix_source source, onnx::element type) {
    const auto n_bytes = source.n * source.k * detail::bytes_of(type);
    std::vector<std::uint64_t> dims{source.k, source.n};
    auto make = [source = std::move(source), type](const onnx::sink& to) -> result<void> {
        constexpr std::uint64_t memory = 64 << 20;
        auto reader = source.open();
        const auto size = detail::bytes_of(type);
        const auto columns = std::clamp<std::uint64_t>(memory / std::max<std::uint64_t>(1, source.n * size), 1, source.k);
        const auto step = std::max<std::uint64_t>(1, (1 << 18) / std::max<std::uint64_t>(1, source.k));
        std::vector<float> w(std::min(step, source.n) * source.k);
        std::vector<std::byte> cast(w.size() * size);
        std::vector<std::byte> turned(columns * source.n * size);
        for (std::uint64_t first = 0; first < source.k; first += columns) {
            if (source.check)
                if (auto same = source.check(); !same) return same;
            const auto width = std::min(columns, source.k - first);
            for (std::uint64_t begin = 0; begin < source.n; begin += step) {
                const auto n = std::min(step, source.n - begin);
                if (auto read = reader->rows(begin, n, w.data()); !read) return read;
                if (auto good = detail::check_finite(source, type, w.data(), n * source.k); !good) return good;
                detail::cast_to(type, w.data(), n * source.k, cast.data());
                const auto turn = [&](auto zero) {
                    using word = decltype(zero);
                    for (std::uint64_t j = 0; j < width; ++j)
                        for (std::uint64_t i = 0; i < n; ++i)
                            store(turned.data() + (j * source.n + begin + i) * sizeof(word),
                                  load<word>(cast.data() + (i * source.k + first + j) * sizeof(word)));
                };
                size == 4 ? turn(std::uint32_t{}) : turn(std::uint16_t{});
            }
            if (auto written = to(bytes_view(turned.data(), width * source.n * size)); !written) return written;
        }
        return {};
    };
    return {std::move(name), type, std::move(dims), n_bytes, std::move(make)};
}

}  // namespace nibble::convert
