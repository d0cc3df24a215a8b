// SPDX-License-Identifier: Apache-2.0
#include "nibble/shard/reader.hpp"

#include <random>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace nibble;
using test::all;
using test::has;
using test::temp_folder;
using test::write_text;

namespace {

std::string md5_of(const std::string& bytes) {
    md5 sum;
    sum.update(std::as_bytes(std::span(bytes)));
    return sum.hex();
}

/// A folder of two shards: a 4-bit pair and two plain vectors, f16 and f32. Its index is JSON that a test may bend.
struct small_folder {
    temp_folder home;
    std::string first = std::string(64, 'w') + std::string(8, '\x3c');  // q_weight [2, 8] u32, q_scale [2, 2] f16
    std::string second = std::string("\x00\x3c\x00\xc0", 4) + std::string("\x80\x3f\x00\x40", 4);
    json index;

    small_folder() {
        const auto record = [](const char* name, std::vector<std::uint64_t> dims, const char* dtype, std::uint64_t n, std::uint64_t at) {
            return json{{"name", name}, {"shape", dims}, {"dtype", dtype}, {"format", "f32-to-bf16"}, {"nbytes", n}, {"byteOffset", at}};
        };
        index = {{"metadata", {{"ParamSize", 4}, {"ParamBytes", 84.0}, {"BitsPerParam", 84.0 * 8 / 132}}},
                 {"records",
                  {{{"dataPath", "params_shard_0.bin"},
                    {"format", "raw-shard"},
                    {"nbytes", 72},
                    {"records", {record("a.q_weight", {2, 8}, "uint32", 64, 0), record("a.q_scale", {2, 2}, "float16", 8, 64)}},
                    {"md5sum", md5_of(first)}},
                   {{"dataPath", "params_shard_1.bin"},
                    {"format", "raw-shard"},
                    {"nbytes", 8},
                    {"records", {record("b.weight", {2}, "float16", 4, 0), record("b.bias", {2}, "float32", 4, 4)}},
                    {"md5sum", md5_of(second)}}}}};
    }
    json& record(std::size_t shard, std::size_t i) { return index["records"][shard]["records"][i]; }
    json& shard(std::size_t i) { return index["records"][i]; }
    void write() const {
        write_text(home / "tensor-cache.json", index.dump(4));
        write_text(home / "params_shard_0.bin", first);
        write_text(home / "params_shard_1.bin", second);
    }
    [[nodiscard]] result<shard::folder> open(file_access access = file_access::map) const {
        return shard::open_folder(home.path().string(), {.access = access});
    }
};

}  // namespace

TEST_CASE("a correct folder is read, mapped or not", "[shard]") {
    const auto access = GENERATE(file_access::map, file_access::read);
    small_folder s;
    s.write();
    const auto f = s.open(access);
    REQUIRE(f);
    CHECK(all(f->problems).empty());
    CHECK(all(f->warnings).empty());
    CHECK(f->by_name.size() == 4);
    CHECK_FALSE(f->partial);
    std::vector<std::byte> scratch;
    const auto bytes = f->bytes(f->by_name.at("a.q_scale"), scratch);
    REQUIRE(bytes);
    CHECK(bytes->size() == 8);
    CHECK((*bytes)[0] == std::byte{0x3c});
    CHECK(*shard::values(*f, f->by_name.at("b.weight")) == std::vector<float>{1.0F, -2.0F});
    CHECK(*shard::values(*f, f->by_name.at("b.bias")) == std::vector<float>{1.0F, 2.0F});
    CHECK_FALSE(shard::values(*f, f->by_name.at("a.q_weight")));
    CHECK(shard::check_md5(*f).empty());
    CHECK(shard::check_md5(*f, 1).empty());
}

TEST_CASE("E1: a shard's path is a plain name, used once", "[shard]") {
    for (const char* path : {"/etc/passwd", "../params_shard_0.bin", "https://example.org/x.bin", "C:\\x", "C:x", "", "..", ".", "a/b", "a b", "%2e%2e"}) {
        small_folder s;
        s.shard(1)["dataPath"] = path;
        s.write();
        const auto f = s.open();
        REQUIRE(f);
        CHECK(has(all(f->problems), "is not a plain file name"));
        CHECK(f->manifest.shards.size() == 1);
    }
    small_folder s;
    s.shard(1)["dataPath"] = "params_shard_0.bin";
    s.write();
    CHECK(has(all(s.open()->problems), "is used twice"));

    small_folder linked;
    linked.write();
    temp_folder elsewhere;
    write_text(elsewhere / "secret", linked.second);
    std::filesystem::remove(linked.home / "params_shard_1.bin");
    std::filesystem::create_symlink(elsewhere / "secret", linked.home / "params_shard_1.bin");
    CHECK(has(all(linked.open()->problems), "link that leads out of the folder"));
    CHECK(shard::open_folder(linked.home.path().string(), {.follow_links = true})->problems.empty());
}

TEST_CASE("E2: a shard's size and md5", "[shard]") {
    small_folder s;
    s.write();
    SECTION("cut short") {
        write_text(s.home / "params_shard_1.bin", s.second.substr(0, 7));
        const auto f = s.open();
        CHECK(has(all(f->problems), "params_shard_1.bin: at byte 7: the shard has 7 bytes, the index says 8: it is cut short"));
        std::vector<std::byte> scratch;
        CHECK_FALSE(f->bytes(f->by_name.at("b.bias"), scratch));
        CHECK_FALSE(shard::values(*f, f->by_name.at("b.bias")));
    }
    SECTION("bytes after the end") {
        write_text(s.home / "params_shard_1.bin", s.second + "x");
        CHECK(has(all(s.open()->problems), "something follows its data"));
    }
    SECTION("missing") {
        std::filesystem::remove(s.home / "params_shard_0.bin");
        CHECK(has(all(s.open()->problems), "params_shard_0.bin: the shard is not there"));
    }
    SECTION("a folder in its place") {
        std::filesystem::remove(s.home / "params_shard_0.bin");
        std::filesystem::create_directory(s.home / "params_shard_0.bin");
        CHECK(has(all(s.open()->problems), "not a regular file"));
    }
    SECTION("another byte") {
        s.second[3] = 'x';
        write_text(s.home / "params_shard_1.bin", s.second);
        const auto access = GENERATE(file_access::map, file_access::read);
        const auto f = s.open(access);
        CHECK(f->problems.empty());
        const auto wrong = shard::check_md5(*f);
        REQUIRE(wrong.size() == 1);
        CHECK(has(wrong[0].message(), "params_shard_1.bin: its md5 is " + md5_of(s.second)));
    }
    SECTION("no md5 is a warning, a false one a problem") {
        s.shard(0).erase("md5sum");
        s.shard(1)["md5sum"] = "0123";
        s.write();
        const auto f = s.open();
        CHECK(has(all(f->warnings), "params_shard_0.bin: the index has no md5sum for it"));
        CHECK(has(all(f->problems), "params_shard_1.bin: its md5sum in the index is \"0123\""));
        CHECK(shard::check_md5(*f).empty());
    }
    SECTION("changed while it is in use") {
        const auto f = s.open(file_access::read);
        std::filesystem::resize_file(s.home / "params_shard_0.bin", 10);
        CHECK(has(all(shard::check_md5(*f)), "the file changed while it was in use"));
    }
    SECTION("a shard that the index does not name") {
        write_text(s.home / "params_shard_2.bin", "x");
        CHECK(has(all(s.open()->warnings), "params_shard_2.bin: the index does not name it"));
    }
}

TEST_CASE("E3: offsets and sizes", "[shard]") {
    for (const char* key : {"byteOffset", "nbytes"}) {
        for (const json& value : {json(-1), json(9007199254740993), json(1.5), json(18446744073709551615u), json("0"), json(nullptr), json::array()}) {
            small_folder s;
            s.record(1, 0)[key] = value;
            s.write();
            const auto f = s.open();
            REQUIRE(f);
            CHECK(has(all(f->problems), "tensor 'b.weight': params_shard_1.bin records[1].records[0]: \"" + std::string(key) + "\" is "));
        }
        small_folder s;
        s.shard(1)["nbytes"] = -4;
        s.write();
        CHECK(has(all(s.open()->problems), "records[1]: \"nbytes\" is -4"));
    }
    small_folder beyond;
    beyond.record(1, 1)["byteOffset"] = 5;
    beyond.write();
    CHECK(has(all(beyond.open()->problems), "params_shard_1.bin: tensor 'b.bias': at byte 5: 4 bytes from byte 5 are beyond the shard's 8"));
    small_folder overlap;
    overlap.record(1, 1)["byteOffset"] = 2;
    overlap.write();
    CHECK(has(all(overlap.open()->problems), "tensor 'b.bias': at byte 2: it overlaps with 'b.weight', which ends at byte 4"));
    small_folder gap;
    gap.record(1, 1)["byteOffset"] = 6;
    gap.shard(1)["nbytes"] = 10;
    gap.second += "xx";
    gap.shard(1)["md5sum"] = md5_of(gap.second);
    gap.write();
    CHECK(gap.open()->problems.empty());
    CHECK(has(all(gap.open()->warnings), "bytes 4 to 6 belong to no record"));
    small_folder odd;
    odd.record(1, 1)["dtype"] = "bfloat16";
    odd.record(1, 1)["nbytes"] = 3;
    odd.write();
    CHECK(has(all(odd.open()->problems), "shape [2] of bfloat16 in format \"f32-to-bf16\" takes 4 bytes, the index says 3"));
}

TEST_CASE("E4: shapes, types and formats", "[shard]") {
    const auto problem = [](const char* key, const json& value) {
        small_folder s;
        s.record(1, 1)[key] = value;
        s.write();
        const auto f = s.open();
        REQUIRE(f);
        CHECK(f->find("b.bias") == nullptr);
        return all(f->problems);
    };
    CHECK(has(problem("shape", {3}), "takes 6 bytes, the index says 4"));
    CHECK(has(problem("shape", {9007199254740992, 9007199254740992}), "takes more than 2^64 bytes"));
    CHECK(has(problem("shape", {0, 9007199254740992, 9007199254740992}), "takes more than 2^64 bytes"));
    CHECK(has(problem("shape", {1, 1, 1, 1, 1, 1, 1, 1, 2}), "expected an array of up to 8 integers"));
    CHECK(has(problem("shape", {-2}), "expected an array of up to 8 integers"));
    CHECK(has(problem("shape", {2.0}), "expected an array of up to 8 integers"));
    CHECK(has(problem("shape", "2"), "expected an array of up to 8 integers"));
    CHECK(has(problem("dtype", "e2m1"), "dtype \"e2m1\" is unknown; known are uint32"));
    CHECK(has(problem("dtype", 7), "\"dtype\" is 7, expected a text"));
    CHECK(has(problem("format", "zip"), "format \"zip\" is unknown"));
    CHECK(has(problem("format", "raw"), "in format \"raw\" takes 8 bytes"));  // f32 as it is
    CHECK(has(problem("name", ""), "is empty or holds control characters"));
    CHECK(has(problem("name", std::string("b\0c", 3)), "is empty or holds control characters"));
    small_folder s;
    s.shard(0)["format"] = "zip";
    s.write();
    CHECK(has(all(s.open()->problems), "format \"zip\" is unknown, expected \"raw-shard\""));
}

TEST_CASE("E5: pairs of codes and scales", "[shard]") {
    const auto problems = [](auto bend) {
        small_folder s;
        bend(s);
        s.write();
        return all(s.open()->problems);
    };
    CHECK(has(problems([](auto& s) { s.record(0, 1)["name"] = "c.q_scale"; }),
              "tensor 'a': at byte 0: the pair of q_weight and q_scale is broken: there is no q_scale"));
    CHECK(has(problems([](auto& s) { s.record(0, 1)["name"] = "c.q_scale"; }),
              "tensor 'c': at byte 64: the pair of q_weight and q_scale is broken: there is no q_weight"));
    CHECK(has(problems([](auto& s) { s.record(0, 1)["shape"] = {1, 4}; }), "q_weight [2, 8] (uint32) and q_scale [1, 4] do not go together"));
    CHECK(has(problems([](auto& s) { s.record(0, 0)["shape"] = {16}; }), "do not go together"));
    CHECK(has(problems([](auto& s) { s.record(0, 0)["shape"] = {4, 4}; }), "do not go together"));
    CHECK(has(problems([](auto& s) {
                  s.record(0, 1)["dtype"] = "uint32";
                  s.record(0, 1)["shape"] = {2, 1};
              }),
              "q_scale is uint32, expected a float type"));
    CHECK(problems([](auto& s) {  // transposed, as the _0 schemes are
              s.record(0, 0)["shape"] = {8, 2};
          })
              .empty());
    CHECK(has(problems([](auto& s) { s.record(1, 0)["name"] = "a.q_weight"; }),
              "tensor 'a.q_weight': records[1].records[0]: the name stands twice in the index"));
}

TEST_CASE("E6: several indexes in one folder", "[shard]") {
    small_folder s;
    s.write();
    write_text(s.home / "ndarray-cache.json", s.index.dump());  // another text, the same content
    CHECK(s.open()->problems.empty());
    json other = s.index;
    other["records"][1]["records"][1]["name"] = "other";
    write_text(s.home / "ndarray-cache.json", other.dump());
    const auto text = all(s.open()->problems);
    CHECK(has(text, "ndarray-cache.json: it disagrees with tensor-cache.json: record 'b.bias'"));
    CHECK(has(text, "WebLLM up to 0.2.79 reads ndarray-cache.json, from 0.2.80 on tensor-cache.json"));
    write_text(s.home / "ndarray-cache.json", "{");
    CHECK(has(all(s.open()->problems), "it disagrees with tensor-cache.json: "));
    std::filesystem::remove(s.home / "ndarray-cache.json");

    json b16 = s.index;
    b16["records"][1]["records"][1]["dtype"] = "bfloat16";
    b16["records"][1]["records"][1]["format"] = "raw";
    write_text(s.home / "tensor-cache-b16.json", b16.dump());
    CHECK(s.open()->problems.empty());
    const auto alone = shard::open_folder(s.home / "tensor-cache-b16.json");
    REQUIRE(alone);
    CHECK(alone->problems.empty());
    CHECK(*shard::values(*alone, alone->by_name.at("b.bias")) == std::vector<float>{1.0F, 2.0F});
    b16["records"][0]["md5sum"] = std::string(32, '0');
    write_text(s.home / "tensor-cache-b16.json", b16.dump());
    CHECK(has(all(s.open()->problems), "tensor-cache-b16.json: it disagrees with tensor-cache.json: shard params_shard_0.bin; no WebLLM reads the -b16 file"));

    std::filesystem::remove(s.home / "tensor-cache-b16.json");
    std::filesystem::rename(s.home / "tensor-cache.json", s.home / "ndarray-cache.json");
    CHECK(s.open()->problems.empty());
    CHECK(s.open()->index == s.home / "ndarray-cache.json");
}

TEST_CASE("E7: the totals are recomputed", "[shard]") {
    const auto warnings = [](const char* key, const json& value) {
        small_folder s;
        s.index["metadata"][key] = value;
        s.write();
        const auto f = s.open();
        CHECK(f->problems.empty());
        CHECK(f->manifest.n_parameters == 4);
        CHECK(f->manifest.parameter_bytes == 84);
        return all(f->warnings);
    };
    CHECK(has(warnings("ParamSize", 5), "\"ParamSize\" is 5, the index has 4 records"));
    CHECK(has(warnings("ParamBytes", nullptr), "\"ParamBytes\" is null, the records add up to 84.0"));
    CHECK(has(warnings("BitsPerParam", 5.5), "\"BitsPerParam\" is 5.5, which no number of parameters gives"));
    CHECK(has(warnings("BitsPerParam", -1), "\"BitsPerParam\" is -1"));
    small_folder s;
    s.index.erase("metadata");
    s.write();
    CHECK(has(all(s.open()->warnings), "\"ParamSize\" is missing"));
    auto text = small_folder().index.dump();
    text.replace(text.find("84.0"), 4, "NaN");
    write_text(s.home / "tensor-cache.json", text);
    CHECK(has(s.open().error().message(), "not valid JSON"));  // no browser reads it either
}

TEST_CASE("what cannot be read at all says what to do", "[shard]") {
    temp_folder home;
    CHECK(has(shard::open_folder(home / "nothing").error().message(), "no such file or folder"));
    CHECK(has(shard::open_folder(home.path().string()).error().message(), "neither tensor-cache.json nor ndarray-cache.json"));
    std::filesystem::create_directory(home / ".nibble-work");
    CHECK(has(shard::open_folder(home.path().string()).error().message(), "--resume"));
    small_folder s;
    s.write();
    std::filesystem::create_directory(s.home / ".nibble-work");
    CHECK(s.open()->partial);
    CHECK(has(all(s.open()->warnings), "at work or was interrupted"));
    for (const char* text : {"", "[]", "{}", "{\"records\": 1}", "null", "{\"records\": [1, null, {}]}", "\xff", "{\"a\":1,\"a\":2}"}) {
        write_text(s.home / "tensor-cache.json", text);
        const auto f = s.open();
        CHECK((!f || !f->problems.empty()));
    }
    write_text(s.home / "tensor-cache.json", std::string(1000000, '['));
    CHECK(has(s.open().error().message(), "nested deeper than 8"));
}

TEST_CASE("a truncated index is an error at every byte", "[shard]") {
    small_folder s;
    s.write();
    const auto text = s.index.dump();
    for (std::size_t n = 0; n < text.size(); ++n) {
        write_text(s.home / "tensor-cache.json", std::string_view(text).substr(0, n));
        CHECK_FALSE(s.open());
    }
}

TEST_CASE("flipped bytes are survived, and records stay within their shards", "[shard]") {
    small_folder s;
    s.write();
    const auto text = s.index.dump();
    std::mt19937 random(7);
    const auto folder = s.home.path().string();
    for (int i = 0; i < 10000; ++i) {
        auto bent = text;
        for (auto flips = 1 + random() % 3; flips-- > 0;) bent[random() % bent.size()] = static_cast<char>(random() % 256);
        error_list problems;
        error_list warnings;
        shard::detail::index_parser parser(folder, "index", problems, warnings);
        const auto m = parser.parse(std::as_bytes(std::span(bent)));
        if (!m) continue;
        for (const auto& f : m->shards) {
            for (const auto& r : f.records) {
                REQUIRE(in_range(r.offset, r.n_bytes, f.n_bytes));
                REQUIRE(r.dims.elements() * shard::stored_bytes(r) == r.n_bytes);
            }
        }
        if (i % 50 != 0) continue;
        write_text(s.home / "tensor-cache.json", bent);
        const auto f = s.open(i % 100 == 0 ? file_access::map : file_access::read);
        if (!f) continue;
        std::vector<std::byte> scratch;
        for (const auto& [name, where] : f->by_name) (void)f->bytes(where, scratch);
        (void)shard::check_md5(*f, 1);
    }
}
