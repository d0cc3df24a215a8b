// SPDX-License-Identifier: Apache-2.0
#include "nibble/shard/writer.hpp"

#include <cstring>

#include "nibble/shard/reader.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;

namespace {

template <class T>
bytes_view bytes_of(const std::vector<T>& values) {
    return std::as_bytes(std::span(values));
}

}  // namespace

TEST_CASE("a folder is written record by record, and is there when it is finished", "[writer]") {
    const test::temp_folder home;
    const auto where = home / "out";
    const std::vector<std::uint32_t> codes{1, 2, 3, 4, 5, 6, 7, 8};
    const std::vector<f16> scales{to_f16(0.5F), to_f16(-2.0F)};
    const std::vector<float> norm{1.0F, 1.00390625F, -3.0e38F};
    shard::manifest said;
    {
        auto out = shard::writer::open(where, {.shard_bytes = 40});
        REQUIRE(out);
        REQUIRE(out->add("a.q_weight", encoding::u32, {2, 4}, bytes_of(codes), 64));
        REQUIRE(out->add("a.q_scale", encoding::f16, {2, 1}, bytes_of(scales), 0));
        REQUIRE(out->add("norm.weight", encoding::f32, {3}, bytes_of(norm), 3));
        CHECK_FALSE(std::filesystem::exists(where));
        auto done = out->finish();
        REQUIRE(done);
        said = *done;
    }
    const auto f = shard::open_folder(where);
    REQUIRE(f);
    CHECK(f->problems.empty());
    CHECK(f->warnings.empty());
    CHECK(shard::check_md5(*f).empty());
    CHECK(std::filesystem::exists(where + "/ndarray-cache.json"));
    CHECK_FALSE(std::filesystem::exists(where + "/.nibble-work"));
    CHECK(shard::to_json(f->manifest) == shard::to_json(said));
    CHECK(f->manifest.n_parameters == 3);
    CHECK(f->manifest.parameter_bytes == 32 + 4 + 12);
    CHECK(std::abs(f->manifest.bits_per_parameter - 8.0 * 48 / 67) < 1e-12);
    REQUIRE(f->manifest.shards.size() == 2);
    CHECK(f->manifest.shards[0].n_bytes == 36);
    CHECK(f->manifest.shards[1].n_bytes == 6);

    std::vector<std::byte> scratch;
    const auto stored = f->bytes(f->by_name.at("a.q_weight"), scratch);
    REQUIRE(stored);
    CHECK(std::memcmp(stored->data(), codes.data(), 32) == 0);
    // bf16, ties to even.
    CHECK(*shard::values(*f, f->by_name.at("norm.weight")) == std::vector<float>{1.0F, 1.0F, to_f32(f32_to_shard_bf16(-3.0e38F))});
}

TEST_CASE("a writer refuses what no reader would understand", "[writer]") {
    const test::temp_folder home;
    auto out = shard::writer::open(home / "out");
    REQUIRE(out);
    const std::vector<std::uint32_t> four{1, 2, 3, 4};
    REQUIRE(out->add("x", encoding::u32, {4}, bytes_of(four), 4));
    const auto code = [&](std::string name, encoding type, const shape& dims, bytes_view bytes) {
        const auto added = out->add(std::move(name), type, dims, bytes, 0);
        REQUIRE_FALSE(added);
        CHECK(added.error().message().find("out") != std::string::npos);
        return added.error().code;
    };
    CHECK(code("x", encoding::u32, {4}, bytes_of(four)) == errc::refused);
    CHECK(code("y", encoding::u32, {5}, bytes_of(four)) == errc::mismatch);
    CHECK(code("y", encoding::u32, {0}, {}) == errc::refused);
    CHECK(code("y", encoding::i64, {2}, bytes_of(four)) == errc::unsupported);
    CHECK(code("y", encoding::q4_0, {32}, {}) == errc::unsupported);
}

TEST_CASE("a writer that does not come to its end leaves nothing, and what was there stays", "[writer]") {
    const test::temp_folder home;
    const auto where = home / "out";
    const std::vector<std::uint32_t> four{1, 2, 3, 4};
    {
        auto out = shard::writer::open(where, {.shard_bytes = 16});
        REQUIRE(out);
        REQUIRE(out->add("x", encoding::u32, {4}, bytes_of(four), 4));
    }
    CHECK(std::filesystem::is_empty(home.path()));

    for (const bool second : {false, true}) {
        auto out = shard::writer::open(where, {.overwrite = second});
        REQUIRE(out);
        REQUIRE(out->add(second ? "y" : "x", encoding::u32, {4}, bytes_of(four), 4));
        if (!second) REQUIRE(out->finish());
    }
    const auto f = shard::open_folder(where);
    REQUIRE(f);
    CHECK(f->problems.empty());
    CHECK(f->warnings.empty());
    CHECK(f->by_name.contains("x"));
    const auto refused = shard::writer::open(where);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::refused);
}
