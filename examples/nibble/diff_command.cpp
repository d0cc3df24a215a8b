// SPDX-License-Identifier: Apache-2.0
// `nibble diff`: how two folders of MLC weights differ.

#include "nibble/convert/diff.hpp"

#include <memory>

#include "commands.hpp"
#include "terminal.hpp"

namespace nibble::command {

namespace {

json to_json(const convert::diff_report& r) {
    json changed = json::array();
    for (const auto& c : r.changed) changed.push_back({{"name", c.name}, {"first", c.first}, {"second", c.second}});
    json differing = json::array();
    for (const auto& d : r.differing) {
        differing.push_back({{"name", d.name},
                             {"codec", convert::codec_label(d.codec)},
                             {"values", d.n_values},
                             {"bytes_differing", d.bytes_differing},
                             {"codes_differing", d.codes_differing},
                             {"scales_differing", d.scales_differing},
                             {"values_differing", d.values_differing},
                             {"max_difference", d.max_difference},
                             {"rms_difference", d.rms_difference},
                             {"relative_rms", d.relative_rms}});
    }
    return {{"same", r.same_values()},      {"same_packing", r.same_packing}, {"equal_parameters", r.n_equal},     {"only_first", r.only_first},
            {"only_second", r.only_second}, {"changed", std::move(changed)},  {"differing", std::move(differing)}, {"problems", command::to_json(r.problems)}};
}

void print(const convert::diff_report& r) {
    for (const auto& name : r.only_first) std::printf("- %s\n", name.c_str());
    for (const auto& name : r.only_second) std::printf("+ %s\n", name.c_str());
    for (const auto& c : r.changed) std::printf("! %s: %s, %s\n", c.name.c_str(), c.first.c_str(), c.second.c_str());
    if (!r.differing.empty()) {
        table rows({"parameter", "codec", "codes", "scales", "values", "max", "rms", "rms %"});
        for (const auto& d : r.differing) {
            const bool quantized = d.codes_differing + d.scales_differing != 0;
            rows.row({d.name, convert::codec_label(d.codec), quantized ? count_text(d.codes_differing) : "", quantized ? count_text(d.scales_differing) : "",
                      count_text(d.values_differing) + " of " + count_text(d.n_values), number_text("%.3g", d.max_difference),
                      number_text("%.3g", d.rms_difference), number_text("%.3f", 100 * d.relative_rms)});
        }
        rows.print();
        std::printf("\n");
    }
    if (r.same_values()) {
        std::printf("The same: all %zu parameters are equal byte for byte%s.\n", r.n_equal, r.same_packing ? "" : ", packed in other shards");
        return;
    }
    std::printf("%zu parameters are equal, %zu differ in value, %zu records in shape or type; %zu are only in the first, %zu only in the second.\n", r.n_equal,
                r.differing.size(), r.changed.size(), r.only_first.size(), r.only_second.size());
}

}  // namespace

void add_diff(CLI::App& app, context& shared) {
    struct arguments {
        std::string first;
        std::string second;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("diff", "Compare two folders of MLC weights; exit code 0 if they are the same, 1 if not");
    sub->add_option("first", a->first, "A folder of MLC weights")->required();
    sub->add_option("second", a->second, "Another one")->required();
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        auto report = convert::diff(a->first, a->second);
        if (!report) return print_failure(shared, report.error());
        if (shared.json)
            print_json(to_json(*report));
        else if (!shared.quiet)
            print(*report);
        print_remarks(shared, {}, {}, report->problems);
        if (!report->same_values()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
