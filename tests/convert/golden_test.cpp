// SPDX-License-Identifier: Apache-2.0
// Whole conversions against what the genuine mlc_llm wrote: the index to the byte, and through its md5 fields every shard.
#include "nibble/convert.hpp"

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;
using test::read_text;

namespace {

struct expectation {
    std::string model, quantization, index, b16_index;
};

std::vector<expectation> expectations() {
    std::vector<expectation> rows;
    std::istringstream lines(read_text(NIBBLE_TEST_DATA "/mlc/expected.tsv"));
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream cells(line);
        expectation e;
        cells >> e.model >> e.quantization >> e.index >> e.b16_index;
        rows.push_back(e);
    }
    return rows;
}

std::string model_path(const std::string& name) {
    if (name == "storyteller-0.5m") return NIBBLE_EXAMPLE_DATA "/storyteller/storyteller-0.5m";
    return NIBBLE_TEST_DATA "/mlc/models/" + name;
}

std::string md5_text(const std::string& text) {
    md5 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}

}  // namespace

TEST_CASE("every golden conversion of mlc_llm comes out byte for byte", "[convert]") {
    std::size_t equal = 0;
    std::size_t refused = 0;
    unsigned threads = 0;
    for (const auto& e : expectations()) {
        if (e.model == "llama_big_f16") continue;  // 80 MB: see shards_test.cpp
        INFO(e.model << " " << e.quantization);
        const test::temp_folder folder;
        convert::plan_options options;
        options.quantization = e.quantization;
        options.source.access = threads % 2 == 0 ? file_access::map : file_access::read;
        auto plan = convert::make_plan(model_path(e.model), options);
        if (e.index == "refused") {
            const bool with_reason = plan ? !plan->problems.empty() && !plan->problems[0].rule.empty() : !plan.error().rule.empty();
            REQUIRE(with_reason);
            ++refused;
            continue;
        }
        REQUIRE(plan);
        for (const auto& p : plan->problems) FAIL_CHECK(p.message());
        const auto report = convert::run(*plan, folder / "out", {.threads = 1 + threads++ % 3});
        if (!report) FAIL(report.error().message());
        REQUIRE(md5_text(read_text(folder / "out/tensor-cache.json")) == e.index);
        REQUIRE(read_text(folder / "out/ndarray-cache.json") == read_text(folder / "out/tensor-cache.json"));
        REQUIRE(std::filesystem::exists(folder / "out/tensor-cache-b16.json") == (e.b16_index != "-"));
        if (e.b16_index != "-") REQUIRE(md5_text(read_text(folder / "out/tensor-cache-b16.json")) == e.b16_index);
        REQUIRE(test::entries(folder.path()) == std::vector<std::string>{"out"});
        ++equal;
    }
    CHECK(equal == 355);
    CHECK(refused == 121);
}
