// SPDX-License-Identifier: Apache-2.0
// `nibble check`: does a model library (.wasm) run this folder of weights?

#include "nibble/convert/library.hpp"

#include <filesystem>
#include <memory>

#include "commands.hpp"
#include "nibble/shard/reader.hpp"
#include "terminal.hpp"

namespace nibble::command {

void add_check(CLI::App& app, context& shared) {
    struct arguments {
        std::string folder;
        std::string library;
        std::string webllm;
        shard::reader_options options;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("check", "Compare a folder of MLC weights with the model library that is to run it");
    sub->add_option("folder", a->folder, "A folder of MLC weights")->required();
    sub->add_option("--lib", a->library, "The model library (.wasm)")->required();
    sub->add_option("--webllm", a->webllm, "The version of WebLLM that is to run it, as in 0.2.79");
    sub->add_flag("--follow-links", a->options.follow_links, "Allow symbolic links that lead out of the folder");
    shared.add_flags(*sub);
    sub->callback([a, &shared] {
        std::optional<model::webllm_version> version;
        if (!a->webllm.empty()) {
            version = model::parse_webllm_version(a->webllm);
            if (!version) {
                print_failure(shared, {errc::malformed, "\"" + a->webllm + "\" is no version of WebLLM", {}, {}, {}, "give one as in 0.2.79"},
                              {{"good", false}});
                shared.exit_code = exit_usage;
                return;
            }
        }
        auto library = convert::read_library(a->library);
        if (!library) return print_failure(shared, library.error(), {{"good", false}});
        auto folder = shard::open_folder(a->folder, a->options);
        if (!folder) return print_failure(shared, folder.error(), {{"good", false}});
        json config = nullptr;
        std::vector<std::string> notes;
        // Beside the index, or above it where the shards lie in params/.
        for (const char* name : {"/mlc-chat-config.json", "/../mlc-chat-config.json"}) {
            const auto path = folder->path + name;
            std::error_code ec;
            if (!config.is_null() || !std::filesystem::exists(path, ec)) continue;
            const auto bytes = read_file(path, 16u << 20);
            auto value = bytes ? parse_json(*bytes) : result<json>(fail(bytes.error()));
            if (!value) return print_failure(shared, std::move(value.error()).in_file(path), {{"good", false}});
            config = std::move(*value);
        }
        if (config.is_null()) notes.emplace_back("there is no mlc-chat-config.json: only parameters were compared");
        auto report = convert::compare_with_library(*library, folder->manifest, config, folder->path, version);
        // What is wrong with the folder itself comes first.
        report.problems.insert(report.problems.begin(), folder->problems.begin(), folder->problems.end());
        const bool good = report.problems.empty();
        using calls = convert::library_metadata::calls;
        const char* runs_in = library->interface == calls::packed ? "0.2.79 and older" : library->interface == calls::ffi ? "0.2.80 and newer" : "unknown";
        if (shared.json) {
            print_json({{"good", good},
                        {"library",
                         {{"path", library->path},
                          {"model_type", library->model_type},
                          {"quantization", library->quantization},
                          {"context_window_size", library->context_window_size},
                          {"sliding_window_size", library->sliding_window_size},
                          {"prefill_chunk_size", library->prefill_chunk_size},
                          {"parameters", library->parameters.size()},
                          {"webllm", runs_in}}},
                        {"matching", report.n_matching},
                        {"problems", to_json(report.problems)},
                        {"warnings", to_json(report.warnings)}});
        } else if (!shared.quiet) {
            std::printf("library: %s, %s, context %lld, prefill chunk %lld, for WebLLM %s\n", library->model_type.c_str(), library->quantization.c_str(),
                        static_cast<long long>(library->context_window_size), static_cast<long long>(library->prefill_chunk_size), runs_in);
            std::printf("%zu of its %zu parameters are in the folder as it wants them\n", report.n_matching, library->parameters.size());
            if (good)
                std::printf("Good: the library runs this folder.\n");
            else
                std::printf("NOT GOOD: %zu problem%s.\n", report.problems.size(), report.problems.size() == 1 ? "" : "s");
        }
        print_remarks(shared, notes, report.warnings, report.problems);
        if (!good) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
