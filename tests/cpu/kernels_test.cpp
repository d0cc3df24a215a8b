// SPDX-License-Identifier: Apache-2.0
#include "nibble/cpu/kernels.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "nibble/codec/quantize.hpp"
#include "support/catch.hpp"
#include "support/kernel_tables.hpp"

using namespace nibble;

TEST_CASE("the kernels of this process are the best that run here, or those that NIBBLE_ARCH names", "[cpu][arch]") {
    const auto tables = kernel_tables();
    REQUIRE(!tables.empty());
    const char* wanted = std::getenv("NIBBLE_ARCH");
    const bool known = wanted != nullptr && std::any_of(tables.begin(), tables.end(), [&](const auto* t) { return t->arch == std::string(wanted); });
    CHECK(cpu::arch_name() == std::string(known ? wanted : tables.front()->arch));
    WARN("kernels: " << cpu::arch_name());
}

TEST_CASE("function pointers for rows: a codec of the list, its transposed sibling, a plain cast", "[cpu]") {
    const std::vector<float> w{1.0F, -7.0F, 0.5F};
    std::byte codes[16];
    std::byte scales[2];
    cpu::encode_row_fn<q4f16_0, float>()(w.data(), w.size(), codes, scales, {});
    CHECK(load<std::uint32_t>(codes) == 0x808u);
    CHECK(load<f16>(scales) == to_f16(1.0F));
    float back[3];
    cpu::decode_row_fn<q4f16_0, float>()(codes, scales, 3, back);
    CHECK(back[1] == -7.0F);
    cpu::encode_row_fn<q0bf16, float>()(w.data(), w.size(), codes, nullptr, {});
    CHECK(load<bf16>(codes + 2) == to_bf16(-7.0F));
    bf16 cast[3];
    cpu::cast_row_fn<bf16, float>()(w.data(), 3, cast);
    CHECK(cast[2] == to_bf16(0.5F));
    cpu::shard_bf16_row_fn()(w.data(), 3, cast);
    CHECK(cast[2] == to_bf16(0.5F));
}
