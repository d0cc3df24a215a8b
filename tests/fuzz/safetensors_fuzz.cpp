// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file: an error or tensors whose bytes all lie in the file.
#include "fuzz/memory_file.hpp"
#include "nibble/source/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    const nibble::test::memory_file bytes(data, n);
    const auto f = nibble::file::open(bytes.path(), n % 2 == 0 ? nibble::file_access::map : nibble::file_access::read);
    if (!f) std::abort();
    const auto tensors = nibble::source::read_safetensors_header(**f);
    if (!tensors) return tensors.error().rule.empty() ? std::abort(), 0 : 0;
    std::vector<std::byte> scratch;
    for (const auto& t : *tensors) {
        if (!(*f)->bytes(t.offset, t.n_bytes, scratch)) std::abort();
    }
    return 0;
}
