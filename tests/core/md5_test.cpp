// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/md5.hpp"

#include <string_view>
#include <vector>

#include "support/catch.hpp"

using namespace nibble;

namespace {

std::string md5_of(std::string_view text) {
    md5 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}

}  // namespace

TEST_CASE("md5: the test suite of RFC 1321") {
    CHECK(md5_of("") == "d41d8cd98f00b204e9800998ecf8427e");
    CHECK(md5_of("a") == "0cc175b9c0f1b6a831c399e269772661");
    CHECK(md5_of("abc") == "900150983cd24fb0d6963f7d28e17f72");
    CHECK(md5_of("message digest") == "f96b697d7cb7938d525a2f31aaf161d0");
    CHECK(md5_of("abcdefghijklmnopqrstuvwxyz") == "c3fcd3d76192e4007dfb496cca67e13b");
    CHECK(md5_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == "d174ab98d277d9f5a5611c2c9f419d9f");
    CHECK(md5_of("12345678901234567890123456789012345678901234567890123456789012345678901234567890") == "57edf4a22be3c955ac49da2e2107b67a");
}

TEST_CASE("md5: a million times a") { CHECK(md5_of(std::string(1000000, 'a')) == "7707d6ae4e027c70eea2a935c2296f21"); }

TEST_CASE("md5: an update may be split anywhere, and a sum taken on the way changes nothing") {
    std::vector<std::byte> data(200);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + 11);
    for (std::size_t n = 0; n <= data.size(); ++n) {
        const bytes_view all(data.data(), n);
        md5 whole, single;
        whole.update(all);
        for (std::size_t i = 0; i < n; ++i) single.update(all.subspan(i, 1));
        REQUIRE(single.digest() == whole.digest());
        for (std::size_t cut = 0; cut <= n; ++cut) {
            md5 split;
            split.update(all.first(cut));
            const auto before = split.digest();
            CHECK(split.digest() == before);
            split.update(all.subspan(cut));
            REQUIRE(split.digest() == whole.digest());
        }
    }
}
