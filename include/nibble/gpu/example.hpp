// SPDX-License-Identifier: Apache-2.0
#pragma once
// An example of a call: everything that a kernel reads, and what it must give by the scalar law. By it a host, or a test, sees that a
// kernel is right on a device.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/codec/codec.hpp"
#include "nibble/core/bytes.hpp"
#include "nibble/core/number.hpp"
#include "nibble/gpu/spec.hpp"

namespace nibble::gpu {

/// A kernel as it is tried: which one exactly, and the sizes of the call.
struct trial {
    std::string label;
    kernel_spec spec;
    size_values sizes;
    [[nodiscard]] std::size_t size(std::string_view name) const { return static_cast<std::size_t>(find_size(sizes, name).value_or(0)); }
};

/// Lists trials of products: n and k are numbers in the text, or with `baked` false its parameters.
class trial_adder {
public:
    explicit trial_adder(std::vector<trial>& all) : all_(&all) {}
    void operator()(std::string label, const kernel_spec& spec, std::uint64_t n, std::uint64_t k, bool baked = true) const {
        add(std::move(label), spec, {{"n", n}, {"k", k}}, baked);
    }
    /// With m vectors.
    void batch(std::string label, const kernel_spec& spec, std::uint64_t m, std::uint64_t n, std::uint64_t k, bool baked = true) const {
        add(std::move(label), spec, {{"m", m}, {"n", n}, {"k", k}}, baked);
    }

private:
    std::vector<trial>* all_;

    void add(std::string label, kernel_spec spec, size_values sizes, bool baked) const {
        trial t{std::move(label), std::move(spec), std::move(sizes)};
        if (baked) t.spec.n = static_cast<u32>(t.size("n")), t.spec.k = static_cast<u32>(t.size("k"));
        all_->push_back(std::move(t));
    }
};

/// One call with everything that it reads and what it must give.
struct example {
    size_values sizes;
    parameter_values host;                                              ///< what the host gives
    std::vector<std::vector<std::byte>> buffers;                        ///< in the order of the bindings, outputs too: as they are before
    std::vector<std::pair<std::size_t, std::vector<double>>> expected;  ///< by binding: every element afterwards
    double tolerance = 1e-5;                                            ///< of the largest difference, in the largest magnitude expected
};

/// Tolerance for what is stored as f32 or f16, when sums are f32.
[[nodiscard]] constexpr double tolerance_of(scalar stored) { return stored == scalar::f16 ? 1e-3 : 1e-5; }

/// Numbers as bytes of a buffer of f32 or f16; `numbers` become what the buffer holds.
[[nodiscard]] inline std::vector<std::byte> buffer_of(std::vector<float>& numbers, scalar type) {
    std::vector<std::byte> bytes(numbers.size() * bytes_of(type));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (type == scalar::f16) {
            const nibble::f16 h = to_f16(numbers[i]);
            numbers[i] = to_f32(h);
            std::memcpy(&bytes[i * 2], &h, 2);
        } else {
            std::memcpy(&bytes[i * 4], &numbers[i], 4);
        }
    }
    return bytes;
}
[[nodiscard]] inline std::vector<std::byte> buffer_of(const std::vector<u32>& numbers) {
    std::vector<std::byte> bytes(numbers.size() * 4);
    if (!bytes.empty()) std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return bytes;
}

/// `count` normally distributed numbers, the same on every machine.
[[nodiscard]] inline std::vector<float> random_numbers(std::size_t count, std::uint32_t seed, double scale = 1.0) {
    std::mt19937 bits(seed);
    std::vector<float> numbers(count);
    for (auto& x : numbers) {  // the sum of four uniform numbers: no library's normal_distribution is the same everywhere
        double sum = 0;
        for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits()) / 4294967296.0 - 0.5;
        x = static_cast<float>(sum * 1.7320508 * scale);
    }
    return numbers;
}

/// The numbers that a buffer holds.
[[nodiscard]] inline std::vector<double> numbers_in(const std::vector<std::byte>& bytes, scalar type, std::size_t count) {
    std::vector<double> numbers(count, std::numeric_limits<double>::quiet_NaN());
    for (std::size_t i = 0; i < count && (i + 1) * bytes_of(type) <= bytes.size(); ++i) {
        const std::byte* at = &bytes[i * bytes_of(type)];
        switch (type) {
            case scalar::f16:
                numbers[i] = static_cast<double>(to_f32(load<nibble::f16>(at)));
                break;
            case scalar::f32:
                numbers[i] = static_cast<double>(load<float>(at));
                break;
            case scalar::i32:
                numbers[i] = static_cast<double>(load<std::int32_t>(at));
                break;
            default:
                numbers[i] = static_cast<double>(load<std::uint32_t>(at));
                break;
        }
    }
    return numbers;
}

/// How far a device is from the law, and where it is farthest: max |y - expected| / max |expected| of the worst output.
struct deviation {
    double error = 0;  ///< infinite where something expected to be a number is none
    std::string output;
    std::size_t index = 0;
};
/// `after`: the buffers as the kernel left them, in the order of the bindings.
[[nodiscard]] inline deviation compare(const example& e, const manifest& m, const std::vector<std::vector<std::byte>>& after) {
    deviation worst;
    for (const auto& [binding, expected] : e.expected) {
        const auto& b = m.bindings[binding];
        const auto numbers = numbers_in(after[binding], b.type, expected.size());
        double largest = 0;
        for (const double x : expected) largest = std::max(largest, std::abs(x));
        for (std::size_t i = 0; i < expected.size(); ++i) {
            const double distance = std::abs(numbers[i] - expected[i]);
            const double relative = std::isfinite(distance) ? distance / std::max(largest, 1e-30) : std::numeric_limits<double>::infinity();
            if (relative > worst.error) worst = {relative, b.name, i};
        }
    }
    return worst;
}

/// Weights [n, k] of codec C, the bytes of their planes and what they decode to.
struct example_weights {
    std::vector<std::vector<std::byte>> planes;
    std::vector<float> values;

    /// W x, in double.
    [[nodiscard]] std::vector<double> times(const std::vector<float>& x, std::size_t at, std::size_t n, std::size_t k) const {
        std::vector<double> y(n);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t i = 0; i < k; ++i) y[r] += static_cast<double>(values[r * k + i]) * static_cast<double>(x[at + i]);
        }
        return y;
    }
};

template <encoder C>
[[nodiscard]] example_weights make_weights(std::size_t n, std::size_t k, std::uint32_t seed) {
    const auto numbers = random_numbers(n * k, seed, 0.05);
    const auto groups = static_cast<std::size_t>(groups_of<C>(k));
    example_weights made;
    std::array<std::byte*, C::planes.size()> planes{};
    for (std::size_t p = 0; p < planes.size(); ++p) {
        const std::size_t bytes = n * groups * C::planes[p].per_group * info(C::planes[p].type).block_bytes;
        made.planes.emplace_back((bytes + 3) / 4 * 4);  // buffers are whole u32
    }
    for (std::size_t p = 0; p < planes.size(); ++p) planes[p] = made.planes[p].data();
    made.values.resize(n * k);
    std::array<float, C::group> values{};
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t g = 0; g < groups; ++g) {
            const std::size_t count = std::min<std::size_t>(C::group, k - g * C::group);
            std::array<float, C::group> narrow{};
            for (std::size_t i = 0; i < count; ++i) narrow[i] = to_f32(number_cast<typename C::model_type>(numbers[r * k + g * C::group + i]));
            const auto block = C::encode(narrow.data(), count, {});
            store_block<C>(block, planes, r, g, n, groups);
            C::decode(block, values.data());
            for (std::size_t i = 0; i < count; ++i) made.values[r * k + g * C::group + i] = values[i];
        }
    }
    return made;
}

}  // namespace nibble::gpu
