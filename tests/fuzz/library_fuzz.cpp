// SPDX-License-Identifier: Apache-2.0
// Any bytes as a model library: an error, or metadata that an empty folder can be compared with.
#include <cstdlib>
#include <span>

#include "nibble/convert/library.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    const auto library = nibble::convert::parse_library(std::as_bytes(std::span(data, n)), "x.wasm");
    if (!library) return library.error().rule.empty() ? std::abort(), 0 : 0;
    const auto report = nibble::convert::compare_with_library(*library, {}, nullptr, "out");
    if (report.n_matching != 0 || report.problems.size() < library->parameters.size()) std::abort();
    return 0;
}
