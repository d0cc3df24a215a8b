// SPDX-License-Identifier: Apache-2.0
// Writes what shard::open_folder reads: for each record of the index one line (name, type, shape, tab-separated) and then its values: f32
// for every float of 16 or 32 bits, the stored bytes for other types. With --schemes instead of a folder: the names of all schemes. Read by
// tvm_equal.py.
#include <cstdio>
#include <string>
#include <vector>

#include "nibble/codec/registry.hpp"
#include "nibble/shard/reader.hpp"

using namespace nibble;

int main(int n_arguments, char** arguments) {
    if (n_arguments != 2) return 2;
    const std::string where = arguments[1];
    if (where == "--schemes") {
        for (const auto& s : schemes) std::printf("%s\n", std::string(s.name).c_str());
        return 0;
    }
    const auto folder = shard::open_folder(where);
    if (!folder || !folder->problems.empty()) {
        std::fprintf(stderr, "%s\n", (folder ? folder->problems.front() : folder.error()).message().c_str());
        return 1;
    }
    std::vector<std::byte> scratch;
    for (std::size_t s = 0; s < folder->manifest.shards.size(); ++s) {
        const auto& records = folder->manifest.shards[s].records;
        for (std::size_t r = 0; r < records.size(); ++r) {
            std::string dims;
            for (const auto d : records[r].dims) dims += (dims.empty() ? "[" : ", ") + std::to_string(d);
            std::printf("%s\t%s\t%s]\n", records[r].name.c_str(), std::string(shard::dtype_text(records[r].type)).c_str(), dims.c_str());
            const bool widened = records[r].type == encoding::f32 || records[r].type == encoding::f16 || records[r].type == encoding::bf16;
            if (widened) {
                const auto values = shard::values(*folder, {s, r});
                if (!values) return 1;
                std::fwrite(values->data(), sizeof(float), values->size(), stdout);
            } else {
                const auto bytes = folder->bytes({s, r}, scratch);
                if (!bytes) return 1;
                std::fwrite(bytes->data(), 1, bytes->size(), stdout);
            }
        }
    }
    return 0;
}
