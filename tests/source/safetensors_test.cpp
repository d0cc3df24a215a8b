// SPDX-License-Identifier: Apache-2.0
// Rows A1 to A9 and A11 of the list of bad inputs, each by a small generator, mapped and read.
#include "nibble/source/safetensors.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <optional>
#include <random>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using test::safetensors_bytes;

namespace {
std::atomic<std::size_t> largest_allocation{0};
}

// Counts the largest single allocation of this program.
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    std::size_t seen = largest_allocation.load();
    while (n > seen && !largest_allocation.compare_exchange_weak(seen, n)) {
    }
    return std::malloc(n != 0 ? n : 1);
}
void* operator new(std::size_t n) {
    if (void* p = operator new(n, std::nothrow)) return p;
    throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

constexpr std::array both{file_access::map, file_access::read};

result<std::vector<source::tensor>> read_header(const std::string& path, file_access access) {
    auto f = file::open(path, access);
    if (!f) return pass(f);
    return source::read_safetensors_header(**f);
}

struct expected {
    errc code;
    std::string words;
    std::string tensor{};
    std::optional<std::uint64_t> offset{};
    std::string remedy{};
};

/// The file is refused with this code, these words, at this tensor and offset, under its own name.
void refused(const std::string& bytes, const expected& e) {
    const test::temp_folder folder;
    const auto path = folder / "m.safetensors";
    test::write_text(path, bytes);
    CAPTURE(bytes.substr(0, 200), e.words);
    for (const auto access : both) {
        const auto tensors = read_header(path, access);
        REQUIRE(!tensors);
        const auto& got = tensors.error();
        INFO(got.message());
        CHECK(got.code == e.code);
        CHECK(got.rule.find(e.words) != std::string::npos);
        CHECK(got.file == path);
        CHECK(got.tensor == e.tensor);
        if (e.offset) CHECK(got.offset == e.offset);
        CHECK(got.remedy.find(e.remedy) != std::string::npos);
        CHECK(got.message().size() < 2000);
    }
}
void malformed_header(const std::string& header, const std::string& words, const std::string& tensor = {}, const std::string& data = {}) {
    refused(safetensors_bytes(header, data), {errc::malformed, words, tensor});
}
std::vector<source::tensor> accepted(const std::string& bytes) {
    const test::temp_folder folder;
    test::write_text(folder / "m.safetensors", bytes);
    std::vector<source::tensor> first;
    for (const auto access : both) {
        auto tensors = read_header(folder / "m.safetensors", access);
        if (!tensors) FAIL(tensors.error().message());
        first = std::move(*tensors);
    }
    return first;
}
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}
std::string length_only(std::uint64_t n, const std::string& rest) {
    std::string s(8, '\0');
    store(reinterpret_cast<std::byte*>(s.data()), n);
    return s + rest;
}
std::string small_file() {
    return test::safetensors_maker()
        .add<float>("a", "F32", {2, 3}, {1, 2, 3, 4, 5, 6})
        .add<std::uint16_t>("b", "BF16", {3}, {1, 2, 3})
        .add<std::uint8_t>("c", "U8", {0}, {})
        .bytes();
}

}  // namespace

TEST_CASE("a valid file gives its tensors in the order of their data", "[source]") {
    const auto t = accepted(small_file());
    REQUIRE(t.size() == 3);
    CHECK(t[0].name == "a");
    CHECK(t[0].dims == shape{2, 3});
    CHECK(t[0].type == encoding::f32);
    CHECK(t[1].name == "b");
    CHECK(t[1].offset == t[0].offset + 24);
    CHECK(t[2].n_bytes == 0);
    CHECK(accepted(safetensors_bytes("{}", "")).empty());
    CHECK(accepted(safetensors_bytes("{" + entry("y", "U8", "[1]", "[1,2]") + "," + entry("x", "U8", "[1]", "[0,1]") + "}", "ab"))[0].name == "x");
}

TEST_CASE("A1: a file too small for its header, or a header too large, is refused before it is read", "[source]") {
    for (std::size_t n = 0; n < 8; ++n)
        refused(std::string(n, '\1'), {errc::truncated, "at least 8 bytes, this one has " + std::to_string(n), {}, {}, "download"});
    refused(length_only(0, "{}"), {errc::malformed, "header length 0 leaves no room", {}, 0});
    refused(length_only(1, "{}"), {errc::malformed, "header length 1 leaves no room", {}, 0});
    refused(length_only(~0ull, "{}"), {errc::malformed, "header length 18446744073709551615 exceeds", {}, 0, "damaged"});
    refused(length_only(100'000'001, "{}"), {errc::malformed, "header length 100000001 exceeds the limit", {}, 0});
    refused(length_only(100'000'000, "{}"), {errc::truncated, "header length 100000000 goes beyond the file's 10 bytes", {}, 0, "download it again"});
    refused(length_only(3, "{}"), {errc::truncated, "header length 3 goes beyond the file's 10 bytes", {}, 0});
}

TEST_CASE("A2: the header is one JSON object in UTF-8, and nothing else", "[source]") {
    refused(safetensors_bytes(" {}", ""), {errc::malformed, "must begin with '{'", {}, 8});
    refused(safetensors_bytes("[]", ""), {errc::malformed, "must begin with '{'", {}, 8});
    refused(safetensors_bytes("\xEF\xBB\xBF{}", ""), {errc::malformed, "must begin with '{'", {}, 8});
    refused(safetensors_bytes("{} x", ""), {errc::malformed, "not valid JSON", {}, 11});
    refused(safetensors_bytes("{}{}", ""), {errc::malformed, "not valid JSON", {}, 10});
    refused(safetensors_bytes(std::string("{}\0\0garbage", 11), ""), {errc::malformed, "a NUL byte", {}, 10});
    refused(safetensors_bytes(std::string("{}\0", 3), ""), {errc::malformed, "a NUL byte", {}, 10});
    refused(safetensors_bytes(std::string("{\"a\0\":1}", 8), ""), {errc::malformed, "a NUL byte", {}, 11});
    malformed_header("{\"__metadata__\":{\"a\":\"\xFF\"}}", "UTF-8");
    malformed_header("{\"__metadata__\":{\"a\":\"\\ud800\"}}", "surrogate");
    malformed_header("{\"__metadata__\":{\"a\":\"\\udc00\\ud800\"}}", "surrogate");
    malformed_header("{\"a\":", "not valid JSON", "a");
    malformed_header("{'a':1}", "not valid JSON");
    malformed_header("{/**/}", "not valid JSON");
    CHECK(accepted(safetensors_bytes("{}          ", "")).empty());
    CHECK(accepted(safetensors_bytes("{\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\\ud83d\\ude00\"}}", "")).empty());
}

TEST_CASE("A3: depth, counts, long keys and odd numbers", "[source]") {
    malformed_header("{\"a\":" + std::string(1000000, '['), "an array is not allowed", "a");
    std::string objects = "{\"a\":";
    for (int i = 0; i < 200000; ++i) objects += "{\"a\":";
    malformed_header(objects, "unknown field", "a");
    malformed_header("{\"" + std::string(10'000'000, 'k') + "\":{}}", "1 to 1024 characters", std::string(200, 'k'));
    for (const char* number :
         {"1e999", "-1", "1.0", "18446744073709551616", "9223372036854775808", "01", "-0", "1e2", "NaN", "0x10", "+1", "\"1\"", "true", "null"}) {
        CAPTURE(number);
        const test::temp_folder folder;
        test::write_text(folder / "m", safetensors_bytes("{" + entry("t", "U8", "[" + std::string(number) + "]", "[0,1]") + "}", "x"));
        const auto by_shape = read_header(folder / "m", file_access::map);
        REQUIRE(!by_shape);
        CHECK(by_shape.error().code == errc::malformed);
        CHECK(by_shape.error().tensor == "t");
        test::write_text(folder / "m2", safetensors_bytes("{" + entry("t", "U8", "[1]", "[0," + std::string(number) + "]") + "}", "x"));
        CHECK(!read_header(folder / "m2", file_access::read));
    }
    malformed_header("{" + entry("t", "U8", "[1.0]", "[0,1]") + "}", "number 1.0 is not an integer from 0 to 2^63 - 1", "t", "x");
    malformed_header("{" + entry("t", "U8", "[-1]", "[0,1]") + "}", "a negative number", "t", "x");
    malformed_header("{" + entry("t", "U8", "[9223372036854775808]", "[0,1]") + "}", "exceeds 2^63 - 1", "t", "x");
}

TEST_CASE("A3: many tensors are read in time that grows with the header", "[source]") {
    constexpr std::size_t n = 100000;
    std::string header = "{";
    for (std::size_t i = 0; i < n; ++i)
        header += (i != 0 ? "," : "") + entry("t" + std::to_string(i), "U8", "[1]", "[" + std::to_string(i) + "," + std::to_string(i + 1) + "]");
    CHECK(accepted(safetensors_bytes(header + "}", std::string(n, 'x'))).size() == n);
}

TEST_CASE("A4: names and fields stand once, and names are text", "[source]") {
    const auto t = entry("t", "U8", "[1]", "[0,1]");
    malformed_header("{" + t + "," + t + "}", "tensor \"t\" stands twice", "", "x");
    malformed_header("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "field \"dtype\" stands twice", "t", "x");
    malformed_header("{\"t\":{\"shape\":[1],\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "field \"shape\" stands twice", "t", "x");
    malformed_header("{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", "needs dtype, shape and data_offsets", "t", "x");
    malformed_header("{\"t\":{}}", "needs dtype, shape and data_offsets", "t");
    malformed_header("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":1}}", "unknown field \"extra\"", "t", "x");
    malformed_header("{\"t\":5}", "a number is not allowed here", "t");
    malformed_header("{\"__metadata__\":5}", "a number is not allowed here");
    malformed_header("{\"__metadata__\":[\"a\"]}", "an array is not allowed here");
    malformed_header("{\"__metadata__\":{\"a\":1}}", "a number is not allowed here");
    malformed_header("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", "an object is not allowed here");
    malformed_header("{\"__metadata__\":{\"a\":\"b\",\"a\":\"b\"}}", "__metadata__ has key \"a\" twice");
    malformed_header("{\"__metadata__\":{},\"__metadata__\":{}}", "\"__metadata__\" stands twice");
    malformed_header("{" + entry("", "U8", "[1]", "[0,1]") + "}", "1 to 1024 characters", "", "x");
    for (const char* escape : {"\\u0000", "\\u0001", "\\n", "\\u001f", "\\u007f"}) {
        const auto header = "{" + entry(std::string("a") + escape, "U8", "[1]", "[0,1]") + "}";
        const test::temp_folder folder;
        test::write_text(folder / "m", safetensors_bytes(header, "x"));
        const auto got = read_header(folder / "m", file_access::map);
        REQUIRE(!got);
        CHECK(got.error().rule.find("none of them a control character") != std::string::npos);
    }
    malformed_header("{" + entry(std::string(1025, 'n'), "U8", "[1]", "[0,1]") + "}", "1 to 1024 characters", std::string(200, 'n'), "x");
}

TEST_CASE("A5: the data of all tensors tile the file", "[source]") {
    const auto two = [](const std::string& a, const std::string& b) { return "{" + entry("a", "U8", "[1]", a) + "," + entry("b", "U8", "[1]", b) + "}"; };
    malformed_header("{" + entry("t", "U8", "[1]", "[1,0]") + "}", "begin <= end", "t", "x");
    malformed_header("{" + entry("t", "U8", "[1]", "[0]") + "}", "two numbers", "t", "x");
    malformed_header("{" + entry("t", "U8", "[1]", "[0,1,2]") + "}", "more than two numbers", "t", "x");
    malformed_header("{" + entry("t", "U8", "[1]", "[-1,0]") + "}", "negative", "t", "x");
    const auto hole = two("[0,1]", "[2,3]");
    refused(safetensors_bytes(hole, "abc"), {errc::malformed, "begin at 2 where 1 is expected: there is a hole", "b", 8 + hole.size() + 2});
    const auto overlap = two("[0,1]", "[0,1]");
    refused(safetensors_bytes(overlap, "a"), {errc::malformed, "begin at 0 where 1 is expected: tensors overlap", "b", 8 + overlap.size()});
    refused(safetensors_bytes(two("[1,2]", "[2,3]"), "abc"), {errc::malformed, "begin at 1 where 0 is expected", "a"});
    const auto beyond = "{" + entry("t", "U8", "[4]", "[0,4]") + "}";
    refused(safetensors_bytes(beyond, "abc"),
            {errc::truncated, "end at byte " + std::to_string(12 + beyond.size()) + ", the file has " + std::to_string(11 + beyond.size()), "t",
             8 + beyond.size(), "cut short"});
    const auto far = "{" + entry("t", "U8", "[9223372036854775807]", "[0,9223372036854775807]") + "}";
    refused(safetensors_bytes(far, "abc"), {errc::truncated, "its data end at byte", "t", 8 + far.size()});
    refused(safetensors_bytes(two("[0,1]", "[1,2]"), "abPK"),
            {errc::malformed, "2 bytes follow the last tensor", {}, 10 + two("[0,1]", "[1,2]").size(), "appended"});
    refused(safetensors_bytes("{}", "x"), {errc::malformed, "1 bytes follow the last tensor", {}, 10});
    // A tensor without values may stand where two others meet, and nowhere else.
    const auto with_empty = [](const std::string& at) {
        return safetensors_bytes("{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("e", "F32", "[0,7]", at) + "," + entry("b", "U8", "[1]", "[2,3]") + "}",
                                 "abc");
    };
    CHECK(accepted(with_empty("[2,2]"))[1].name == "e");
    CHECK(accepted(with_empty("[0,0]"))[0].name == "e");
    CHECK(accepted(with_empty("[3,3]"))[2].name == "e");
    refused(with_empty("[1,1]"), {errc::malformed, "tensors overlap", "e"});
    refused(with_empty("[4,4]"), {errc::malformed, "hole", "e"});
    refused(with_empty("[2,3]"), {errc::malformed, "does not fill its 1 bytes", "e"});
}

TEST_CASE("A6: sizes are multiplied with care", "[source]") {
    for (const char* dims : {"[4294967296,4294967296]", "[4611686018427387904,4,4]", "[0,9223372036854775807,9223372036854775807]"})
        malformed_header("{" + entry("t", "U8", dims, "[0,0]") + "}", "more than 2^64 elements", "t");
    malformed_header("{" + entry("t", "F32", "[4611686018427387904]", "[0,0]") + "}", "does not fill its 0 bytes", "t");
    malformed_header("{" + entry("t", "X9", "[4294967296,4294967296]", "[0,0]") + "}", "more than 2^64 elements", "t");
    std::string ones = "[1";
    for (int i = 1; i < 1000000; ++i) ones += ",1";
    malformed_header("{" + entry("t", "U8", ones + "]", "[0,1]") + "}", "more than 8 dimensions", "t", "x");
    malformed_header("{" + entry("t", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") + "}", "more than 8 dimensions", "t", "x");
    CHECK(accepted(safetensors_bytes("{" + entry("t", "U8", "[1,1,1,1,1,1,1,1]", "[0,1]") + "}", "x"))[0].dims.rank() == 8);
    CHECK(accepted(safetensors_bytes("{" + entry("t", "F32", "[]", "[0,4]") + "}", "abcd"))[0].dims.elements() == 1);
    malformed_header("{" + entry("t", "F32", "[3]", "[0,11]") + "}", "shape [3] of f32 does not fill its 11 bytes", "t", std::string(11, 'x'));
    malformed_header("{" + entry("t", "F32", "[3]", "[0,13]") + "}", "shape [3] of f32 does not fill its 13 bytes", "t", std::string(13, 'x'));
}

TEST_CASE("A7: a type that is not known is kept by its name, for the plan to refuse where it matters", "[source]") {
    for (const char* type : {"F4", "F6_E2M3", "F8_E4M3FNUZ", "C64", "f32", ""}) {
        const auto t = accepted(safetensors_bytes("{" + entry("t", type, "[3]", "[0,2]") + "}", "xx"));
        CHECK(t[0].stored_type == (*type != '\0' ? type : "(none)"));
    }
    malformed_header("{\"t\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,1]}}", "a number is not allowed here", "t", "x");
}

TEST_CASE("A8: data may begin at any byte", "[source]") {
    for (std::size_t pad = 0; pad < 8; ++pad) {
        const auto header = "{" + entry("t", "F32", "[2]", "[0,8]") + "}" + std::string(pad, ' ');
        const test::temp_folder folder;
        const std::array<float, 2> values{1.5F, -2.0F};
        test::write_text(folder / "m", safetensors_bytes(header, {reinterpret_cast<const char*>(values.data()), 8}));
        for (const auto access : both) {
            const auto f = file::open(folder / "m", access);
            const auto t = source::read_safetensors_header(**f);
            if (!t) FAIL(t.error().message());
            CHECK((*t)[0].offset == 8 + header.size());
            std::vector<std::byte> scratch;
            const auto bytes = (*f)->bytes((*t)[0].offset, 8, scratch);
            CHECK(load<float>(bytes->data()) == 1.5F);
            CHECK(load<float>(bytes->data() + 4) == -2.0F);
        }
    }
}

TEST_CASE("A9: what is no regular file is refused, and a hole in a file is no header", "[source]") {
    const test::temp_folder folder;
    const auto pipe = folder / "pipe.safetensors";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    for (const auto access : both) {
        for (const auto& path : {pipe, folder.path().string(), std::string("/dev/zero")}) {
            const auto got = read_header(path, access);
            REQUIRE(!got);
            CHECK(got.error().code == errc::unsupported);
            CHECK(got.error().message().find(path + ": not a regular file; give a file on disk") == 0);
        }
    }
    test::write_text(folder / "sparse", length_only(90'000'000, "{"));
    std::filesystem::resize_file(folder / "sparse", std::uint64_t{1} << 32);
    const auto got = read_header(folder / "sparse", file_access::map);
    REQUIRE(!got);
    CHECK(got.error().rule.find("NUL") != std::string::npos);
}

TEST_CASE("A9: a file that shrinks after its header was read gives an error where it is read", "[source]") {
    const test::temp_folder folder;
    test::write_text(folder / "m", small_file());
    const auto f = file::open(folder / "m", file_access::read);
    const auto t = source::read_safetensors_header(**f);
    REQUIRE(t);
    std::filesystem::resize_file(folder / "m", (*t)[1].offset + 1);
    source::checkpoint c;
    c.files.push_back(*f);
    std::vector<std::byte> scratch;
    CHECK(c.bytes((*t)[0], 0, (*t)[0].n_bytes, scratch));
    const auto cut = c.bytes((*t)[1], 0, (*t)[1].n_bytes, scratch);
    REQUIRE(!cut);
    CHECK(cut.error().code == errc::truncated);
    CHECK(cut.error().tensor == "b");
    CHECK(cut.error().file == folder / "m");
    CHECK(cut.error().offset == (*t)[1].offset + 1);
    CHECK(!(*f)->check_unchanged());
}

TEST_CASE("A11: other kinds of files under this name are recognised", "[source]") {
    refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", {errc::unsupported, "a Git LFS pointer: run `git lfs pull`"});
    refused("<!DOCTYPE html><html><body>404</body></html>", {errc::unsupported, "an HTML or XML page"});
    refused("\n  <html>", {errc::unsupported, "an HTML or XML page"});
    refused("<h", {errc::unsupported, "an HTML or XML page"});
    refused(std::string("PK\x03\x04\0\0\0\0\0\0", 10), {errc::unsupported, "a zip archive, as torch.save writes"});
    refused(std::string("\x1f\x8b\x08\0\0\0\0\0\0\0", 10), {errc::unsupported, "a gzip archive"});
    refused("\x80\x02}q\x01(X\x05", {errc::unsupported, "a Python pickle"});
    refused("\x80\x04\x95\x10zzzzzz", {errc::unsupported, "a Python pickle"});
    refused(std::string("GGUF\x03\0\0\0\1\0\0\0\0\0\0\0", 16), {errc::unsupported, "a GGUF file: give it by its own name, ending in .gguf"});
}

TEST_CASE("a header's length is not taken for another format's magic", "[source]") {
    for (const std::size_t n :
         {std::size_t{'<'}, std::size_t{0x3C20}, std::size_t{0x3C0A}, std::size_t{0x0280}, std::size_t{0x0480}, std::size_t{0x8B1F}, std::size_t{0x04034B50}}) {
        auto header = "{" + entry("t", "U8", "[1]", "[0,1]") + "}";
        header.resize(n, ' ');
        CHECK(accepted(safetensors_bytes(header, "x")).size() == 1);
    }
}

TEST_CASE("a file cut at any byte is refused, never misread", "[source]") {
    const auto whole = small_file();
    const test::temp_folder folder;
    for (std::size_t n = 0; n < whole.size(); ++n) {
        test::write_text(folder / "m", whole.substr(0, n));
        for (const auto access : both) {
            const auto got = read_header(folder / "m", access);
            REQUIRE(!got);
            const bool named = got.error().file == folder / "m" && !got.error().rule.empty();
            REQUIRE(named);
        }
    }
}

TEST_CASE("flipped bytes never crash, and what is accepted holds the rules", "[source]") {
    const auto whole = small_file();
    const test::temp_folder folder;
    std::ofstream out(folder / "m", std::ios::binary);  // kept open: closing a truncated file may wait for the disk
    std::mt19937 random(7);
    std::size_t n_accepted = 0;
    for (std::size_t i = 0; i < 20000; ++i) {
        auto bytes = whole;
        for (auto flips = 1 + random() % 3; flips-- != 0;) bytes[random() % bytes.size()] = static_cast<char>(random());
        out.seekp(0).write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush();
        const auto got = read_header(folder / "m", both[i % 2]);
        if (!got) {
            REQUIRE(!got.error().rule.empty());
            continue;
        }
        ++n_accepted;
        std::uint64_t end = 8 + load<std::uint64_t>(reinterpret_cast<const std::byte*>(bytes.data()));
        for (const auto& t : *got) {
            const bool tiles = t.offset == end && !t.name.empty() && t.dims.checked_elements().has_value();
            REQUIRE(tiles);
            end += t.n_bytes;
        }
        REQUIRE(end == bytes.size());
    }
    CHECK(n_accepted > 100);  // flips in the data
    CHECK(n_accepted < 15000);
}

TEST_CASE("no allocation exceeds what the file holds", "[source]") {
    const auto bounded = [](const std::string& bytes) {
        const test::temp_folder folder;
        test::write_text(folder / "m", bytes);
        for (const auto access : both) {
            largest_allocation = 0;
            (void)read_header(folder / "m", access);
            CHECK(largest_allocation.load() <= 8 * bytes.size() + 4096);
        }
    };
    bounded(length_only(100'000'000, "{}"));
    bounded(length_only(99'999'999, "{\"a\":"));
    bounded(safetensors_bytes("{" + entry("t", "U8", "[9223372036854775807]", "[0,9223372036854775807]") + "}", ""));
    bounded(safetensors_bytes("{\"" + std::string(1'000'000, 'k') + "\":{}}", ""));
    std::string header = "{";
    for (int i = 0; i < 20000; ++i) header += (i != 0 ? "," : "") + entry(std::to_string(i), "U8", "[0]", "[0,0]");
    bounded(safetensors_bytes(header + "}", ""));
}
