// SPDX-License-Identifier: Apache-2.0
#pragma once
// A whole conversion in one line.

#include "nibble/convert/run.hpp"
#include "support/catch.hpp"

namespace nibble::test {

inline void convert_to(const std::string& source, const std::string& out, std::string_view quantization, encode_options encode = {},
                       std::uint64_t shard_bytes = shard::default_shard_bytes) {
    convert::plan_options options;
    options.quantization = quantization;
    options.encode = encode;
    options.shard_bytes = shard_bytes;
    const auto plan = convert::make_plan(source, options);
    REQUIRE(plan);
    REQUIRE(convert::run(*plan, out));
}

}  // namespace nibble::test
