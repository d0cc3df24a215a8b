// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/file.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/catch.hpp"

using namespace nibble;

namespace {

/// A folder that goes away with the test.
struct temporary {
    std::string path = (std::filesystem::temp_directory_path() / "nibble_file_XXXXXX").string();
    temporary() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
    ~temporary() { std::filesystem::remove_all(path); }
    temporary(const temporary&) = delete;
    temporary& operator=(const temporary&) = delete;

    [[nodiscard]] std::string write(const std::string& name, std::string_view text) const {
        std::ofstream(path + "/" + name, std::ios::binary) << text;
        return path + "/" + name;
    }
};

std::string text_of(bytes_view bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

TEST_CASE("both ways of access give the same bytes and refuse the same ranges", "[core]") {
    const temporary folder;
    const auto path = folder.write("f", "0123456789");
    for (const auto access : {file_access::map, file_access::read}) {
        const auto f = file::open(path, access);
        REQUIRE(f);
        CHECK((*f)->size() == 10);
        std::vector<std::byte> scratch;
        CHECK(text_of(*(*f)->bytes(3, 4, scratch)) == "3456");
        CHECK(text_of(*(*f)->bytes(10, 0, scratch)).empty());
        const auto beyond = (*f)->bytes(8, 3, scratch);
        REQUIRE(!beyond);
        CHECK(beyond.error().code == errc::truncated);
        CHECK(beyond.error().message() == path + ": at byte 8: 3 bytes are needed, the file ends at byte 10");
        CHECK(!(*f)->bytes(~0ull, 2, scratch));
        CHECK((*f)->check_unchanged());
    }
}

TEST_CASE("an empty file has no bytes and is no error", "[core]") {
    const temporary folder;
    const auto f = file::open(folder.write("empty", ""));
    REQUIRE(f);
    std::vector<std::byte> scratch;
    CHECK((*f)->bytes(0, 0, scratch)->empty());
    CHECK(!(*f)->bytes(0, 1, scratch));
}

TEST_CASE("what is no file on disk is refused by kind", "[core]") {
    const temporary folder;
    CHECK(file::open(folder.path + "/none").error().code == errc::missing);
    CHECK(file::open(folder.path).error().code == errc::unsupported);
    CHECK(file::open("/dev/null").error().code == errc::unsupported);
    const auto pipe = folder.path + "/pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(file::open(pipe).error().code == errc::unsupported);  // and it does not wait for a writer
}

TEST_CASE("a file that changes while it is open is noticed", "[core]") {
    const temporary folder;
    const auto path = folder.write("f", "0123456789");
    const auto f = file::open(path, file_access::read);
    REQUIRE(f);
    std::filesystem::resize_file(path, 4);
    REQUIRE(!(*f)->check_unchanged());
    CHECK((*f)->check_unchanged().error().code == errc::mismatch);
    std::vector<std::byte> scratch;
    CHECK((*f)->bytes(0, 10, scratch).error().code == errc::truncated);
}

TEST_CASE("a whole file is read up to a limit", "[core]") {
    const temporary folder;
    const auto path = folder.write("f", "0123456789");
    CHECK(text_of(*read_file(path, 10)) == "0123456789");
    CHECK(read_file(path, 9).error().message().find("10 bytes, more than the 9") != std::string::npos);
}
