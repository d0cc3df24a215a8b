// SPDX-License-Identifier: Apache-2.0
#include "nibble/core/sha256.hpp"

#include <span>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

using namespace nibble;

namespace {

sha256 sum_of(std::string_view text) {
    sha256 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum;
}

}  // namespace

TEST_CASE("sha256: the examples of FIPS 180-4 and of NIST") {
    CHECK(sum_of("").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sum_of("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sum_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").hex() == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sum_of(std::string(1000000, 'a')).hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256: an integrity string as browsers take it") {
    CHECK(sum_of("").integrity() == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    CHECK(sum_of("abc").integrity() == "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

TEST_CASE("sha256: an update may be split anywhere, and a sum taken on the way changes nothing") {
    std::vector<std::byte> data(200);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + 11);
    for (std::size_t n = 0; n <= data.size(); ++n) {
        const bytes_view all(data.data(), n);
        sha256 whole, single;
        whole.update(all);
        for (std::size_t i = 0; i < n; ++i) {
            single.update(all.subspan(i, 1));
            if (i % 50 == 0) (void)single.digest();
        }
        REQUIRE(whole.hex() == single.hex());
    }
}
