// SPDX-License-Identifier: Apache-2.0
// Prints the tables of the pages, each by its name. Without a name it checks what they rest on.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "nibble/codec/ggml.hpp"
#include "nibble/codec/onnx.hpp"
#include "nibble/core/md5.hpp"
#include "nibble/nibble.hpp"
#include "nibble/shard/manifest.hpp"

using namespace nibble;

namespace {

// ---- the worked example of docs/concepts.md

// [weights]
constexpr std::array<float, 32> weights{
    0.50F,  -0.25F, 0.03F, 0.91F,  -1.00F, 0.40F,  0.66F,  -0.72F,   // 0 to 7
    0.12F,  0.08F,  -0.5F, 0.33F,  0.75F,  -0.09F, -0.31F, 0.00F,    // 8 to 15
    -0.88F, 0.21F,  0.57F, -0.44F, 0.02F,  0.99F,  -0.13F, 0.06F,    // 16 to 23
    0.37F,  -0.62F, 0.29F, 0.81F,  -0.18F, 0.46F,  -0.95F, -0.035F,  // 24 to 31
};
// [/weights]

struct example {
    std::array<float, 32> cast, quotients, shifted;
    std::array<std::uint32_t, 32> codes;
    std::array<std::uint32_t, 4> words;
    f16 scale;
    std::array<float, 32> back;
};

// The steps by hand, without the codec.
example by_hand() {
    example e{};
    // [steps]
    float largest = 0;
    for (std::size_t i = 0; i < 32; ++i) {
        e.cast[i] = to_f32(to_f16(weights[i]));             // 1. the model's type is f16
        largest = std::max(largest, std::fabs(e.cast[i]));  // 2. absmax
    }
    e.scale = to_f16(largest / 7);  // 3. codes 0 to 14 stand for -7 to 7
    const float scale = to_f32(e.scale);
    for (std::size_t i = 0; i < 32; ++i) {
        e.quotients[i] = to_f32(to_f16(e.cast[i] / scale));  // 4. every step is rounded to f16
        e.shifted[i] = to_f32(to_f16(e.quotients[i] + 7));
        const float whole = std::nearbyint(e.shifted[i]);  // 5. to nearest, ties to even
        e.codes[i] = static_cast<std::uint32_t>(std::clamp(whole, 0.0F, 14.0F));
        e.words[i / 8] |= e.codes[i] << (i % 8 * 4);  // 6. the first code in the lowest bits
    }
    // [/steps]
    // [back]
    for (std::size_t i = 0; i < 32; ++i) e.back[i] = (static_cast<float>(e.codes[i]) - 7.0F) * scale;
    // [/back]
    return e;
}

bool codec_agrees() {
    const auto e = by_hand();
    const auto q = quantize<q4f16_1>(weights, {1, 32}).value();
    const auto back = dequantize(q).value();
    return q.n_bytes() == 18 && std::memcmp(q.planes[0].data(), e.words.data(), 16) == 0 && std::memcmp(q.planes[1].data(), &e.scale, 2) == 0 &&
           std::equal(back.begin(), back.end(), e.back.begin());
}

std::string bytes_text(const void* from, std::size_t n) {
    std::string text;
    for (std::size_t i = 0; i < n; ++i) {
        char two[4];
        std::snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(from)[i]);
        text += (i == 0 ? "" : " ") + std::string(two);
    }
    return text;
}

void print_worked() {
    const auto e = by_hand();
    std::printf("```text\n");
    std::printf("   i       w  as f16     w / s      + 7   code   (code - 7) * s\n");
    for (std::size_t i = 0; i < 32; ++i) {
        if (i == 4) std::printf("  ...\n");
        if (i >= 4 && i < 28) continue;
        std::printf("  %2zu  %6.3f  %8.5f  %8.4f  %7.4f  %5u   %8.5f\n", i, static_cast<double>(weights[i]), static_cast<double>(e.cast[i]),
                    static_cast<double>(e.quotients[i]), static_cast<double>(e.shifted[i]), e.codes[i], static_cast<double>(e.back[i]));
    }
    std::printf("\n  scale s = f16(%g / 7) = %.9g, bits 0x%04x\n", 1.0, static_cast<double>(to_f32(e.scale)), e.scale.bits);
    double worst = 0;
    for (std::size_t i = 0; i < 32; ++i) worst = std::max(worst, std::fabs(static_cast<double>(e.back[i]) - static_cast<double>(e.cast[i])));
    std::printf("  largest error %.4f = %.2f scales\n", worst, worst / static_cast<double>(to_f32(e.scale)));
    std::printf("```\n");
}

void print_worked_bytes() {
    const auto e = by_hand();
    std::printf("```text\n");
    std::size_t at = 0;
    for (std::size_t w = 0; w < 4; ++w) {
        std::printf("  values %2zu to %2zu   codes", 8 * w, 8 * w + 7);
        for (std::size_t i = 0; i < 8; ++i) std::printf(" %2u", e.codes[8 * w + i]);
        std::printf("   word 0x%08x   bytes %2zu to %2zu: %s\n", e.words[w], at, at + 3, bytes_text(&e.words[w], 4).c_str());
        at += 4;
    }
    std::printf("  scale %-40s f16  0x%04x       bytes %2zu to %2zu: %s\n", "", e.scale.bits, at, at + 1, bytes_text(&e.scale, 2).c_str());
    std::printf("```\n");
}

/// One word drawn with its bits, the highest first, as hexadecimal is written.
void print_word() {
    const auto e = by_hand();
    const std::uint32_t word = e.words[0];
    const auto row = [](const char* head, auto&& cell) {
        std::printf("  %-7s", head);
        for (unsigned i = 8; i-- > 0;) std::printf("|%6s", cell(i).c_str());
        std::printf("|\n");
    };
    const auto line = [] { std::printf("         +------+------+------+------+------+------+------+------+\n"); };
    std::printf("```text\n");
    row("bits", [](unsigned i) { return std::to_string(4 * i + 3) + ".." + std::to_string(4 * i); });
    line();
    row("value", [](unsigned i) { return std::to_string(i); });
    row("code", [&](unsigned i) { return std::to_string((word >> (4 * i)) & 15); });
    row("binary", [&](unsigned i) {
        std::string text;
        for (unsigned b = 4; b-- > 0;) text += (word >> (4 * i + b)) & 1 ? '1' : '0';
        return text;
    });
    line();
    std::printf("  0x%08x, in memory %s (the lowest byte first)\n", word, bytes_text(&word, 4).c_str());
    std::printf("```\n");
}

/// The index of a shard that holds the example's 18 bytes and nothing else.
void print_index() {
    const auto e = by_hand();
    shard::packer packer;
    packer.add({.name = "example.q_weight", .dims = {1, 4}, .type = encoding::u32, .n_bytes = 16});
    packer.add({.name = "example.q_scale", .dims = {1, 1}, .type = encoding::f16, .n_bytes = 2});
    shard::manifest m{.n_parameters = 2, .parameter_bytes = 18, .bits_per_parameter = 18 * 8.0 / 32, .shards = packer.finish()};
    md5 sum;
    sum.update(std::as_bytes(std::span(e.words)));
    sum.update(std::as_bytes(std::span(&e.scale, 1)));
    m.shards[0].md5 = sum.hex();
    std::printf("```text\n%s\n```\n", shard::to_json(m).c_str());
}

// ---- codecs

/// Normally distributed numbers, by Box and Muller from the engine's bits, the same with every library.
std::vector<float> normal_numbers(std::size_t n) {
    std::mt19937 bits(1);
    const auto uniform = [&] { return (static_cast<double>(bits()) + 0.5) / 4294967296.0; };
    std::vector<float> numbers(n);
    for (auto& x : numbers) {
        const double radius = std::sqrt(-2 * std::log(uniform()));
        x = static_cast<float>(0.02 * radius * std::cos(2 * std::numbers::pi * uniform()));
    }
    return numbers;
}

constexpr std::uint64_t rows = 64, columns = 960;  // a multiple of the groups 32 and 40

/// Root of the mean squared error over that of the values, in percent.
template <class C>
double rms_error(nibble::fit how = fit::absmax) {
    static const auto values = normal_numbers(rows * columns);
    const auto q = quantize<C>(values, {rows, columns}, {.fit = how}).value();
    const auto back = dequantize(q).value();
    double wrong = 0, all = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double v = static_cast<double>(values[i]), e = static_cast<double>(back[i]) - v;
        wrong += e * e;
        all += v * v;
    }
    return 100 * std::sqrt(wrong / all);
}

std::string percent(double x) {
    char text[32];
    std::snprintf(text, sizeof text, x < 1 ? "%.2g %%" : "%.1f %%", x);
    return text;
}
std::string number(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", x);
    return text;
}

/// Bits a value in a shard, which keeps f32 as bf16.
template <class C>
double bits_on_disk() {
    double bytes = 0;
    for (const auto& p : C::planes) bytes += static_cast<double>(p.per_group) * (p.type == encoding::f32 ? 2 : info(p.type).block_bytes);
    return 8 * bytes / static_cast<double>(C::group);
}

template <class C>
void error_row(const char* name, const char* what) {
    std::printf("| `%s` | %s | %s | %s |", name, what, number(bits_on_disk<C>()).c_str(), percent(rms_error<C>()).c_str());
    if constexpr (requires { C::zero_code; }) {
        std::printf(" %s |\n", percent(rms_error<C>(fit::mse)).c_str());
    } else {
        std::printf(" |\n");
    }
}

void print_errors() {
    std::printf("| codec | stored | bits a value | RMS error | with `fit::mse` |\n|---|---|---|---|---|\n");
    error_row<q4f16_1>("q4f16_1", "4-bit codes, groups of 32 along K, f16 scales");
    error_row<q4f32_1>("q4f32_1", "the same codes by f32 arithmetic; a shard has the scales as bf16");
    error_row<q4bf16_1>("q4bf16_1", "bf16 scales");
    error_row<q4f16_0>("q4f16_0", "as `q4f16_1`, transposed: `[K/8, N]`; so `q4bf16_0`");
    error_row<q3f16_1>("q3f16_1", "3-bit codes, groups of 40; transposed: `q3f16_0`");
    error_row<e4m3_scaled>("e4m3_scaled", "fp8, one scale a tensor");
    error_row<e5m2_cast>("e5m2_cast", "fp8, cast only");
    error_row<q0f16>("q0f16", "cast only");
    error_row<q0bf16>("q0bf16", "cast only; so `q0f32` in a shard");
}

template <class C>
const char* name_of() {
    if constexpr (std::is_same_v<C, q0f16>)
        return "q0f16";
    else if constexpr (std::is_same_v<C, q0bf16>)
        return "q0bf16";
    else if constexpr (std::is_same_v<C, q0f32>)
        return "q0f32";
    else if constexpr (std::is_same_v<C, q3f16_0>)
        return "q3f16_0";
    else if constexpr (std::is_same_v<C, q3f16_1>)
        return "q3f16_1";
    else if constexpr (std::is_same_v<C, q4f16_0>)
        return "q4f16_0";
    else if constexpr (std::is_same_v<C, q4f16_1>)
        return "q4f16_1";
    else if constexpr (std::is_same_v<C, q4f32_1>)
        return "q4f32_1";
    else if constexpr (std::is_same_v<C, q4bf16_0>)
        return "q4bf16_0";
    else if constexpr (std::is_same_v<C, q4bf16_1>)
        return "q4bf16_1";
    else if constexpr (std::is_same_v<C, e5m2_cast>)
        return "e5m2_cast";
    else if constexpr (std::is_same_v<C, e4m3_scaled>)
        return "e4m3_scaled";
    else
        static_assert(sizeof(C) == 0, "a codec of the list needs its name here");
}

template <class C>
std::string shape_text(std::size_t p) {
    const auto& own = stored_planes<C>[p];
    if (p >= C::planes.size()) return "[1]";
    const std::string columns_text =
        C::group == 1 && own.per_group == 1 ? "K" : (own.per_group == 1 ? "" : number(static_cast<double>(own.per_group)) + " ") + "G";
    return C::layout::transposed ? "[" + columns_text + ", N]" : "[N, " + columns_text + "]";
}

template <class C>
void plane_row() {
    const char* arithmetic = info(encoding_of<typename C::model_type>).name.data();
    std::string planes;
    for (std::size_t p = 0; p < stored_planes<C>.size(); ++p) {
        const auto& own = stored_planes<C>[p];
        planes += (p == 0 ? "" : "<br>") + (own.suffix.empty() ? std::string("its own name") : "`" + std::string(own.suffix) + "`") + " " +
                  std::string(info(own.type).name) + " `" + shape_text<C>(p) + "`";
    }
    std::string codes = "–", zero = "–", largest = "–";
    if constexpr (requires { C::zero_code; }) {
        codes = std::to_string(C::packing::bits) + " bits, " + std::to_string(C::packing::per_word) + " a word";
        zero = std::to_string(C::zero_code);
        largest = "0 to " + std::to_string(C::max_code);
    }
    double bytes = 0;
    for (const auto& p : C::planes) bytes += static_cast<double>(p.per_group) * info(p.type).block_bytes;
    std::printf("| `%s` | %s | %s | %s | %zu | %s | %s | %s |\n", name_of<C>(), arithmetic, codes.c_str(), zero.c_str(), static_cast<std::size_t>(C::group),
                largest.c_str(), planes.c_str(), number(bytes).c_str());
}

template <class... C>
void plane_rows(type_list<C...>) {
    (plane_row<C>(), ...);
}

void print_planes() {
    std::printf("| codec | cast to first | codes | zero is code | group | codes made | planes of `[N, K]`, G = ceil(K / group) | bytes a group |\n");
    std::printf("|---|---|---|---|---|---|---|---|\n");
    plane_rows(codecs{});
}

std::string codec_name(std::size_t index) {
    if (index == scheme::none) return "refused";
    return "`" + std::string(visit_codec(index, []<class C>() { return name_of<C>(); })) + "`";
}

void print_schemes() {
    std::printf("| scheme | Linear | embedding | output layer | experts `[E, N, K]` | everything else |\n|---|---|---|---|---|---|\n");
    for (const auto& s : schemes) {
        std::printf("| `%s` | %s | %s | %s | %s | %s |\n", std::string(s.name).c_str(), codec_name(s.linear).c_str(), codec_name(s.table).c_str(),
                    codec_name(s.final_linear).c_str(), codec_name(s.experts).c_str(), codec_name(s.cast).c_str());
    }
}

void print_left_out() {
    std::printf("| scheme | why not |\n|---|---|\n");
    for (const auto& s : schemes_left_out) std::printf("| `%s` | %s |\n", std::string(s.name).c_str(), std::string(s.why).c_str());
}

template <class C>
void onnx_row(const char* where, const char* name, const char* shapes) {
    double bytes = 0;
    for (const auto& p : C::planes) bytes += static_cast<double>(p.per_group) * info(p.type).block_bytes;
    std::string zero = "stored";
    if constexpr (requires { C::zero_code; }) zero = std::to_string(C::zero_code);
    std::printf("| %s | `%s` | %u bits, %zu a byte | %s | %s | %s |\n", where, name, C::packing::bits, static_cast<std::size_t>(C::packing::per_word),
                zero.c_str(), shapes, number(8 * bytes / static_cast<double>(C::group)).c_str());
}

void print_onnx() {
    std::printf("| node | codec | codes | zero is code | B or data; scales; zero points | bits a value in memory |\n|---|---|---|---|---|---|\n");
    onnx_row<nbits<4, f32_scale, 32>>("MatMulNBits", "nbits<4, f32_scale, 32>", "u8 `[N, KB, 16]`; f32 `[N, KB]`");
    onnx_row<nbits<4, f16_scale, 32>>("MatMulNBits", "nbits<4, f16_scale, 32>", "u8 `[N, KB, 16]`; f16 `[N, KB]`");
    onnx_row<nbits<2, f32_scale, 32>>("MatMulNBits", "nbits<2, f32_scale, 32>", "u8 `[N, KB, 8]`; f32 `[N, KB]`");
    onnx_row<nbits<8, f32_scale, 32>>("MatMulNBits", "nbits<8, f32_scale, 32>", "u8 `[N, KB, 32]`; f32 `[N, KB]`");
    onnx_row<nbits_with_zero<4, f32_scale, 32>>("MatMulNBits", "nbits_with_zero<4, f32_scale, 32>", "u8 `[N, KB, 16]`; f32 `[N, KB]`; u8 `[N, ceil(KB / 2)]`");
    onnx_row<gather_int4<f32_scale, 32>>("GatherBlockQuantized", "gather_int4<f32_scale, 32>", "INT4 `[V, H]`; f32 `[V, H / 32]`");
    onnx_row<gather_uint4<f32_scale, 32>>("GatherBlockQuantized", "gather_uint4<f32_scale, 32>", "UINT4 `[V, H]`; f32 `[V, H / 32]`; UINT4 `[V, H / 32]`");
}

void print_ggml() {
    std::printf("| type | values of a block | bytes of a block | bits a value |\n|---|---|---|---|\n");
    for (const auto& e : encodings) {
        if (!is_ggml_block(e.id)) continue;
        std::printf("| `%s` | %u | %u | %s |\n", std::string(e.name).c_str(), e.block_values, e.block_bytes,
                    number(8.0 * e.block_bytes / e.block_values).c_str());
    }
}

struct printer {
    const char* name;
    void (*print)();
};
constexpr std::array printers{printer{"worked-example", print_worked},
                              printer{"worked-bytes", print_worked_bytes},
                              printer{"worked-word", print_word},
                              printer{"errors", print_errors},
                              printer{"planes", print_planes},
                              printer{"schemes", print_schemes},
                              printer{"schemes-left-out", print_left_out},
                              printer{"ggml", print_ggml},
                              printer{"onnx", print_onnx},
                              printer{"index", print_index}};

}  // namespace

int main(int argc, char** argv) {
    if (argc == 1) {
        std::printf("the worked example %s\n", codec_agrees() ? "agrees with the codec" : "DIFFERS from the codec");
        return codec_agrees() ? 0 : 1;
    }
    for (const auto& p : printers) {
        if (std::strcmp(p.name, argv[1]) == 0) return p.print(), 0;
    }
    std::fprintf(stderr, "there is no table \"%s\"\n", argv[1]);
    return 2;
}
