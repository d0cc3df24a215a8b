// SPDX-License-Identifier: Apache-2.0
// The checkpoint format of docs/add.md: one tensor of f32 rows in a file.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

// [format]
#include "nibble/source/open.hpp"

namespace nibble::source {

/// "rows": u64 n, u64 k, then n * k floats. All little-endian.
inline result<checkpoint> open_rows(const std::string& where, const open_options& options = {}) {
    auto opened = file::open(where, options.access);
    if (!opened) return pass(opened);
    std::vector<std::byte> scratch;
    const auto head = (*opened)->bytes(0, 16, scratch);
    if (!head) return fail(head.error());  // "x.rows: at byte 0: 16 bytes are needed, the file ends at byte 3"
    const shape dims{load<std::uint64_t>(head->data()), load<std::uint64_t>(head->data() + 8)};
    const auto n_bytes = checked_bytes(dims, encoding::f32);
    if (!n_bytes || *n_bytes != (*opened)->size() - 16) {
        return fail(error{errc::malformed, "its head says " + dims.text() + " numbers, which are not in it", where, {}, 0, "write the file again"});
    }
    checkpoint c;
    c.format = "rows";
    c.config = json{{"model_type", "rows"}};
    c.config_file = where;
    c.files.push_back(std::move(*opened));
    c.tensors.push_back({.name = "rows.weight", .type = encoding::f32, .dims = dims, .file = 0, .offset = 16, .n_bytes = *n_bytes});
    return c;
}

/// The row for `formats`: what it is called, whether it takes a path, and how it is opened.
inline constexpr format rows_format{"rows", [](const std::string& where) { return where.ends_with(".rows"); }, open_rows};

}  // namespace nibble::source
// [/format]

int main() {
    using namespace nibble;
    const auto path = (std::filesystem::temp_directory_path() / "nibble_docs_example.rows").string();
    const auto write = [&](std::uint64_t n, std::uint64_t k, std::size_t count) {
        const std::vector<float> values(count, 0.5F);
        std::ofstream out(path, std::ios::binary);
        out.write(reinterpret_cast<const char*>(&n), 8).write(reinterpret_cast<const char*>(&k), 8);
        out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(count * 4));
    };
    const auto& format = source::rows_format;
    write(3, 5, 15);
    const auto good = format.open(path, {});
    std::vector<std::byte> scratch;
    const auto bytes = good ? good->bytes(good->tensors[0], 0, 60, scratch) : result<bytes_view>(fail(errc::io, ""));
    bool right = format.claims(path) && good && good->tensors[0].dims == shape{3, 5} && bytes && load<float>(bytes->data() + 56) == 0.5F;
    write(3, 5, 14);
    right = right && !format.open(path, {}) && format.open(path, {}).error().code == errc::malformed;
    write(~std::uint64_t{0}, 5, 15);
    right = right && !format.open(path, {});
    std::ofstream(path, std::ios::binary) << "abc";
    right = right && !format.open(path, {}) && format.open(path, {}).error().message() == path + ": at byte 0: 16 bytes are needed, the file ends at byte 3";
    std::filesystem::remove(path);
    if (!right) std::puts("the format is not read as the page says");
    return right ? 0 : 1;
}
