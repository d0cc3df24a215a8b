// SPDX-License-Identifier: Apache-2.0
// Any bytes as JSON, as config.json and the indexes are read: an error, or a value that comes back from its own text.
#include <cstdlib>
#include <span>

#include "nibble/core/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    const auto value = nibble::parse_json(std::as_bytes(std::span(data, n)));
    if (!value) return value.error().rule.empty() ? std::abort(), 0 : 0;
    const auto text = value->dump();
    const auto again = nibble::parse_json(std::as_bytes(std::span(text)));
    if (!again || *again != *value) std::abort();
    return 0;
}
