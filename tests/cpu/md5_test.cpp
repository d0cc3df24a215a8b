// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/md5.hpp"

#include <random>
#include <string_view>
#include <vector>

#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

TEST_CASE("md5 sums side by side are those of RFC 1321", "[cpu]") {
    const std::string_view text[] = {"", "a", "abc", "message digest", "abcdefghijklmnopqrstuvwxyz", "12345678901234567890123456789012345678901234567890123456789012345678901234567890"};
    const std::string_view sum[] = {"d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661", "900150983cd24fb0d6963f7d28e17f72",
                                    "f96b697d7cb7938d525a2f31aaf161d0", "c3fcd3d76192e4007dfb496cca67e13b", "57edf4a22be3c955ac49da2e2107b67a"};
    for (const auto* t : kernel_tables()) {
        md5 sums[6];
        md5* states[6];
        const std::byte* data[6];
        std::size_t n_bytes[6];
        for (std::size_t i = 0; i < 6; ++i) {
            states[i] = &sums[i];
            data[i] = reinterpret_cast<const std::byte*>(text[i].data());
            n_bytes[i] = text[i].size();
        }
        t->md5_lanes(states, data, n_bytes, 6);
        for (std::size_t i = 0; i < 6; ++i) CHECK(sums[i].hex() == sum[i]);
    }
}

TEST_CASE("md5 of any number of lanes, of any lengths, in any pieces, is that of each alone", "[cpu]") {
    std::mt19937 random(9);
    std::vector<std::byte> bytes(20000);
    for (auto& b : bytes) b = static_cast<std::byte>(random());
    for (const auto* t : kernel_tables()) {
        for (std::size_t n = 0; n <= 37; ++n) {
            for (const std::size_t longest : {1u, 63u, 64u, 65u, 200u, 5000u}) {
                std::vector<md5> alone(n);
                std::vector<md5> together(n);
                std::vector<md5*> states;
                for (auto& s : together) states.push_back(&s);
                for (int piece = 0; piece < 4; ++piece) {
                    std::vector<const std::byte*> data(n);
                    std::vector<std::size_t> n_bytes(n);
                    for (std::size_t i = 0; i < n; ++i) {
                        n_bytes[i] = random() % 3 == 0 ? longest : random() % (longest + 1);
                        data[i] = bytes.data() + random() % (bytes.size() - n_bytes[i]);
                        alone[i].update(data[i], n_bytes[i]);
                    }
                    t->md5_lanes(states.data(), data.data(), n_bytes.data(), n);
                }
                for (std::size_t i = 0; i < n; ++i) {
                    INFO(t->arch << " lane " << i << " of " << n);
                    REQUIRE(together[i].n_bytes == alone[i].n_bytes);
                    REQUIRE(together[i].digest() == alone[i].digest());
                }
            }
        }
    }
}
