// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/md5.hpp"

#include <string_view>
#include <vector>

#include "support/catch.hpp"

using namespace nibble;

namespace {
std::string md5_of(std::string_view text) {
    md5 h;
    h.update(reinterpret_cast<const std::byte*>(text.data()), text.size());
    return h.hex();
}
}  // namespace

TEST_CASE("md5 of RFC 1321's test suite", "[core]") {
    CHECK(md5_of("") == "d41d8cd98f00b204e9800998ecf8427e");
    CHECK(md5_of("a") == "0cc175b9c0f1b6a831c399e269772661");
    CHECK(md5_of("abc") == "900150983cd24fb0d6963f7d28e17f72");
    CHECK(md5_of("message digest") == "f96b697d7cb7938d525a2f31aaf161d0");
    CHECK(md5_of("abcdefghijklmnopqrstuvwxyz") == "c3fcd3d76192e4007dfb496cca67e13b");
    CHECK(md5_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == "d174ab98d277d9f5a5611c2c9f419d9f");
    CHECK(md5_of("12345678901234567890123456789012345678901234567890123456789012345678901234567890") == "57edf4a22be3c955ac49da2e2107b67a");
    CHECK(md5_of(std::string(1000000, 'a')) == "7707d6ae4e027c70eea2a935c2296f21");
}

TEST_CASE("md5 does not depend on how the bytes are cut", "[core]") {
    std::vector<std::byte> data(1000);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + i / 7);
    for (std::size_t n : {0u, 1u, 55u, 56u, 57u, 63u, 64u, 65u, 119u, 120u, 128u, 1000u}) {
        md5 whole;
        whole.update(data.data(), n);
        for (std::size_t cut = 0; cut <= n; cut += 1 + cut / 3) {
            md5 parts;
            parts.update(data.data(), cut);
            parts.update(data.data() + cut, n - cut);
            REQUIRE(parts.digest() == whole.digest());
        }
    }
}
