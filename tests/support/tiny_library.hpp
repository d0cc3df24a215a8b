// SPDX-License-Identifier: Apache-2.0
#pragma once
// WebAssembly modules as small as a model library can be: imports, and data that holds the metadata.

#include <string>
#include <string_view>
#include <vector>

namespace nibble::test {

[[nodiscard]] inline std::string leb(std::uint64_t n) {
    std::string out;
    do {
        const auto low = static_cast<unsigned char>(n & 0x7F);
        n >>= 7;
        out += static_cast<char>(n != 0 ? low | 0x80 : low);
    } while (n != 0);
    return out;
}
[[nodiscard]] inline std::string counted(std::string_view bytes) { return leb(bytes.size()) + std::string(bytes); }

/// A section by its id.
[[nodiscard]] inline std::string wasm_section(char id, std::string_view content) { return id + counted(content); }

[[nodiscard]] inline std::string wasm_module(const std::vector<std::string>& imports, const std::vector<std::string>& segments) {
    std::string out("\0asm\1\0\0\0", 8);
    std::string content = leb(imports.size());
    for (const auto& name : imports) content += counted("env") + counted(name) + std::string("\0\0", 2);
    out += wasm_section(1, std::string("\1\x60\0\0", 4));
    out += wasm_section(2, content);
    content = leb(segments.size());
    std::uint64_t at = 1024;
    for (const auto& s : segments) {
        content += std::string("\0\x41", 2) + leb(at) + "\x0b" + counted(s);
        at += s.size();
    }
    return out + wasm_section(11, content);
}

[[nodiscard]] inline std::string library_module(const std::string& metadata, const std::string& calls = "TVMFFIWasmSafeCall") {
    return wasm_module({"emscripten_notify_memory_growth", calls},
                       {"vm.builtin\0other", std::string("fn {\"model_type\" is a text\0", 26) + metadata + std::string("\0rest", 5)});
}

}  // namespace nibble::test
