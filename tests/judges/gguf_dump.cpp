// SPDX-License-Identifier: Apache-2.0
// Writes what open_gguf makes of a file: "# " lines with problems, notes and config.json, then for each tensor one line (name, shape,
// whether one was added, tab-separated) and its values as f32 in the model's row order. Read by gguf_equal.py.
#include <cstdio>
#include <string>
#include <vector>

#include "nibble/codec/ggml.hpp"
#include "nibble/source/gguf.hpp"

using namespace nibble;

namespace {
std::vector<float> decoded(const source::tensor& t, bytes_view bytes) {
    std::vector<float> values(t.dims.elements());
    if (is_ggml_block(t.type)) {
        ggml::decode_blocks(t.type, bytes.data(), values.size(), values.data());
        return values;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (t.type == encoding::f32) values[i] = load<float>(bytes.data() + 4 * i);
        if (t.type == encoding::f16) values[i] = to_f32(load<f16>(bytes.data() + 2 * i));
        if (t.type == encoding::bf16) values[i] = to_f32(load<bf16>(bytes.data() + 2 * i));
    }
    return values;
}
}  // namespace

int main(int n_arguments, char** arguments) {
    if (n_arguments < 2) return 2;
    source::open_options options;
    if (n_arguments > 2 && std::string(arguments[2]) == "read") options.access = file_access::read;
    const auto c = source::open_gguf(arguments[1], options);
    if (!c) {
        std::fprintf(stderr, "%s\n", c.error().message().c_str());
        return 1;
    }
    for (const auto& p : c->problems) std::printf("# problem %s\n", p.message().c_str());
    for (const auto& note : c->notes) std::printf("# note %s\n", note.c_str());
    std::printf("# config %s\n", c->config.dump().c_str());
    std::vector<std::byte> scratch;
    for (const auto& t : c->tensors) {
        const auto bytes = c->bytes(t, 0, t.n_bytes, scratch);
        if (!bytes) return 1;
        const bool usable = t.stored_type.empty() && (is_ggml_block(t.type) || t.type <= encoding::bf16);
        std::printf("%s\t%s\t%d\n", t.name.c_str(), t.dims.text().c_str(), usable ? int{t.plus_one_stored} : -1);
        if (!usable) continue;
        const auto values = decoded(t, *bytes);
        const std::uint64_t n_rows = t.dims.rank() == 1 ? t.dims[0] : t.dims.rows();
        const std::uint64_t k = values.size() / n_rows;
        for (std::uint64_t row = 0; row < n_rows; ++row) std::fwrite(values.data() + (t.row_order.empty() ? row : t.row_order[row]) * k, 4, k, stdout);
    }
    return c->problems.empty() ? 0 : 1;
}
