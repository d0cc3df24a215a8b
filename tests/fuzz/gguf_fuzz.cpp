// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: an error or tensors whose bytes all lie in the file.
#include "fuzz/memory_file.hpp"
#include "nibble/source/gguf.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    const nibble::test::memory_file bytes(data, n);
    const auto c = nibble::source::open_gguf(bytes.path(), {.access = n % 2 == 0 ? nibble::file_access::map : nibble::file_access::read});
    if (!c) return c.error().rule.empty() ? std::abort(), 0 : 0;
    std::vector<std::byte> scratch;
    for (const auto& t : c->tensors) {
        if (!c->bytes(t, 0, t.n_bytes, scratch)) std::abort();
    }
    return 0;
}
