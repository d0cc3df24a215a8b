// SPDX-License-Identifier: Apache-2.0
#include "nibble/convert/parameter.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"
#include "support/conversion.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;

namespace {

/// A checkpoint of one tensor in a file of bytes.
source::checkpoint one_tensor(const std::string& path, const std::string& bytes, source::tensor t) {
    test::write_text(path, bytes);
    source::checkpoint c;
    c.files.push_back(*file::open(path));
    c.tensors.push_back(std::move(t));
    return c;
}

template <class T>
std::string raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("parameters written one by one are the folder that the converter makes", "[parameter]") {
    const test::temp_folder home;
    test::tiny_llama().write(home / "model");
    for (const auto& s : schemes) {
        for (const std::uint64_t shard_bytes : {std::uint64_t{1} << 25, std::uint64_t{6000}}) {
            CAPTURE(s.name, shard_bytes);
            const auto end = std::string(s.name) + std::to_string(shard_bytes);
            test::convert_to(home / "model", home / ("law-" + end), s.name, {}, shard_bytes);
            convert::plan_options options;
            options.quantization = s.name;
            const auto plan = convert::make_plan(home / "model", options);
            REQUIRE(plan);
            auto out = shard::writer::open(home / ("own-" + end), {.shard_bytes = shard_bytes});
            REQUIRE(out);
            for (const auto& p : plan->parameters) {
                std::vector<float> all;
                for (const auto i : p.sources) {
                    const auto values = convert::read_values(plan->model, plan->model.tensors[i]);
                    REQUIRE(values);
                    all.insert(all.end(), values->begin(), values->end());
                }
                REQUIRE(convert::write_parameter(*out, p.of.name, p.of.dims, all, p.codec));
            }
            REQUIRE(out->finish());
            const auto names = test::entries(home / ("law-" + end));
            REQUIRE(test::entries(home / ("own-" + end)) == names);
            for (const auto& name : names) {
                CAPTURE(name);
                CHECK((test::read_text(home / ("law-" + end) + "/" + name) == test::read_text(home / ("own-" + end) + "/" + name)));
            }
        }
    }
}

TEST_CASE("a folder may hold several codecs, and each parameter is read back by its own", "[parameter]") {
    const test::temp_folder home;
    test::tiny_llama model;
    const auto& w = model.values("lm_head.weight");
    const shape dims{test::tiny_llama::vocab, test::tiny_llama::hidden};
    auto out = shard::writer::open(home / "out");
    REQUIRE(out);
    const std::vector<std::size_t> kinds{codec_index<q3f16_1>, codec_index<q4f16_1>, codec_index<q4f16_0>, codec_index<q0f32>, codec_index<e4m3_scaled>};
    for (const auto codec : kinds) REQUIRE(convert::write_parameter(*out, "p" + std::to_string(codec) + ".weight", dims, w, codec, {.fit = fit::mse}));
    REQUIRE(out->finish());
    const auto f = shard::open_folder(home / "out");
    REQUIRE(f);
    CHECK(f->problems.empty());
    const auto stored = convert::stored_parameters(*f);
    REQUIRE(stored.size() == kinds.size());
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        CAPTURE(stored[i].name);
        REQUIRE(stored[i].codec == kinds[i]);
        const auto back = convert::read_parameter(*f, stored[i]);
        REQUIRE(back);
        visit_codec(kinds[i], [&]<class C>() {
            const auto law = dequantize(*quantize<C>(w, dims, {.fit = fit::mse}));
            const auto columns = back->size() / dims[0];
            for (std::uint64_t n = 0; n < dims[0]; ++n) {
                for (std::uint64_t k = 0; k < dims[1]; ++k) {
                    const float expected = (*law)[n * dims[1] + k];
                    const float shard_value = std::is_same_v<C, q0f32> ? to_f32(f32_to_shard_bf16(expected)) : expected;
                    if constexpr (tensor_scaled<C>)  // its scale is stored as bf16
                        REQUIRE(std::fabs((*back)[n * columns + k] - shard_value) <= std::fabs(shard_value) / 256);
                    else
                        REQUIRE((*back)[n * columns + k] == shard_value);
                }
            }
        });
    }
    CHECK_FALSE(convert::read_parameter(*f, {"unknown", scheme::none, {{0, 0}}, 1, 1}));
}

TEST_CASE("values are as Hugging Face has them, whatever the format did to them", "[parameter]") {
    const test::temp_folder home;
    const std::vector<float> six{1, 2, 3, 4, 5, 6};
    source::tensor t{"x", encoding::f32, {3, 2}, 0, 0, 24, {}, false, {2, 0, 1}};  // row 0 is stored as row 2
    CHECK(*convert::read_values(one_tensor(home / "a", raw(six), t), t) == std::vector<float>{5, 6, 1, 2, 3, 4});
    t = {"x", encoding::f32, {6}, 0, 0, 24, {}, true, {}};
    CHECK(*convert::read_values(one_tensor(home / "b", raw(six), t), t) == std::vector<float>{0, 1, 2, 3, 4, 5});
    t = {"x", encoding::bf16, {2}, 0, 2, 4, {}, false, {}};
    const std::vector<bf16> three{to_bf16(9), to_bf16(0.5F), to_bf16(-3)};
    CHECK(*convert::read_values(one_tensor(home / "c", raw(three), t), t) == std::vector<float>{0.5F, -3});

    std::string block(18, '\x99');  // q4_0: a scale, then codes of which 8 is zero: all are 1
    const f16 two = to_f16(2);
    std::memcpy(block.data(), &two, 2);
    t = {"x", encoding::q4_0, {1, 32}, 0, 0, 18, {}, false, {}};
    CHECK(*convert::read_values(one_tensor(home / "d", block, t), t) == std::vector<float>(32, 2.0F));

    t = {"x", encoding::i64, {3}, 0, 0, 24, {}, false, {}};
    const auto no_weight = convert::read_values(one_tensor(home / "e", raw(six), t), t);
    REQUIRE_FALSE(no_weight);
    CHECK(no_weight.error().code == errc::unsupported);
    t = {"x", encoding::f32, {7}, 0, 0, 28, {}, false, {}};
    const auto cut = convert::read_values(one_tensor(home / "f", raw(six), t), t);
    REQUIRE_FALSE(cut);
    CHECK(cut.error().code == errc::truncated);
    CHECK(cut.error().tensor == "x");
}

TEST_CASE("a parameter that cannot be stored is named", "[parameter]") {
    const test::temp_folder home;
    auto out = shard::writer::open(home / "out");
    REQUIRE(out);
    std::vector<float> w(64, 1.0F);
    const auto why = [&](const shape& dims, std::size_t codec) {
        const auto written = convert::write_parameter(*out, "w.weight", dims, w, codec);
        REQUIRE_FALSE(written);
        CHECK(written.error().tensor.starts_with("w."));
        return written.error().message();
    };
    CHECK(why({3, 32}, codec_index<q4f16_1>).find("does not describe the 64 values") != std::string::npos);
    CHECK(why({2, 1, 32}, codec_index<q4f16_0>).find("is for matrices, its shape is [2, 1, 32]") != std::string::npos);
    w[5] = 70000.0F;
    CHECK(why({2, 32}, codec_index<q4f16_1>).find("1 of its values are NaN, infinite or beyond f16") != std::string::npos);
    REQUIRE(convert::write_parameter(*out, "w.weight", {2, 32}, w, codec_index<q4f32_1>));
    CHECK(why({2, 32}, codec_index<q4f32_1>).find("has a record of this name already") != std::string::npos);
    w[5] = std::numeric_limits<float>::quiet_NaN();
    CHECK(why({2, 32}, codec_index<q0f32>).find("1 of its values are NaN") != std::string::npos);
}
