// SPDX-License-Identifier: Apache-2.0
// What docs/convert.md shows of conversions in C++: a plan, its execution, and the folder read again.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <vector>

#include <unistd.h>

// [include]
#include "nibble/convert.hpp"
#include "nibble/shard/reader.hpp"
// [/include]

namespace {

// [convert]
nibble::result<void> convert(const std::string& model, const std::string& out) {
    const auto plan = nibble::convert::make_plan(model, {.quantization = "q4f16_1"});  // reads headers only
    if (!plan) return nibble::fail(plan.error());
    for (const auto& problem : plan->problems) std::puts(problem.message().c_str());  // all of them at once; run() refuses such a plan
    const auto report = nibble::convert::run(*plan, out);                             // `out` appears whole or not at all
    if (!report) return nibble::fail(report.error());
    std::printf("%zu files, %llu bytes\n", report->files.size(), static_cast<unsigned long long>(report->bytes));
    return {};
}
// [/convert]

// [read]
/// Row `row` of a parameter in q4f16_1.
nibble::result<std::vector<float>> row_of(const nibble::shard::folder& folder, const std::string& name, std::uint64_t row) {
    const auto codes = folder.by_name.find(name + ".q_weight"), scales = folder.by_name.find(name + ".q_scale");
    if (codes == folder.by_name.end() || scales == folder.by_name.end()) return nibble::fail(nibble::errc::missing, name + " is not there");
    std::vector<std::byte> scratch[2];  // not used where the shards are mapped
    const auto words = folder.bytes(codes->second, scratch[0]), halves = folder.bytes(scales->second, scratch[1]);
    if (!words) return nibble::fail(words.error());
    if (!halves) return nibble::fail(halves.error());
    const auto& dims = folder.at(scales->second).dims;  // [N, G]
    std::vector<float> values(dims[1] * nibble::q4f16_1::group);
    nibble::decode_row<nibble::q4f16_1>({words->data(), halves->data()}, row, dims[0], values.size(), values.data());
    return values;
}
// [/read]

}  // namespace

int main() {
    const auto out = std::filesystem::temp_directory_path() / ("nibble_docs_convert_" + std::to_string(::getpid()));
    const auto done = convert(NIBBLE_EXAMPLE_DATA "/storyteller/storyteller-0.5m", out.string());
    if (!done) return std::puts(done.error().message().c_str()), 1;
    const auto folder = nibble::shard::open_folder(out.string());
    bool right = folder && folder->problems.empty();
    if (right) {
        const auto values = row_of(*folder, "model.embed_tokens", 3);
        double squares = 0;
        for (const float v : values.value()) squares += static_cast<double>(v) * static_cast<double>(v);
        right = std::isfinite(squares) && squares > 0 && !row_of(*folder, "model.nothing", 0);
    }
    std::filesystem::remove_all(out);
    if (!right) std::puts("the folder is not as the page says");
    return right ? 0 : 1;
}
