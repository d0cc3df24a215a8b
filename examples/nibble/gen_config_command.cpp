// SPDX-License-Identifier: Apache-2.0
// `nibble gen-config`: mlc-chat-config.json and the tokenizer beside it. Flags are those of mlc_llm gen_config.

#include "nibble/convert/gen_config.hpp"

#include <memory>

#include "commands.hpp"
#include "options.hpp"
#include "terminal.hpp"

namespace nibble::command {

void add_gen_config(CLI::App& app, context& shared) {
    struct arguments {
        std::string model, output;
        chat_options chat;
    };
    auto a = std::make_shared<arguments>();
    auto& o = a->chat.config;
    auto& c = *app.add_subcommand("gen-config", "Write mlc-chat-config.json and copy the tokenizer, byte for byte as mlc_llm gen_config does");
    c.add_option("model", a->model, "Folder of a Hugging Face checkpoint, its config.json, or a .gguf file")->required();
    c.add_option("-q,--quantization", o.quantization, "The weights' scheme: one of " + scheme_names() + ", or one that only mlc_llm makes")->required();
    a->chat.add(c);
    c.add_option("-o,--output", a->output, "Folder to write")->required();
    c.add_option("--model-type", o.model_type, "Architecture, where config.json does not say it or says it wrongly")->default_str("auto");
    c.add_flag("--follow-links", o.source.follow_links, "Read files that are links out of the model's folder");
    shared.add_flags(c);
    c.callback([a, &c, &shared] {
        auto& options = a->chat.config;
        if (options.model_type == "auto") options.model_type.clear();
        a->chat.settle(c);
        auto folder = convert::make_chat_folder(a->model, a->output, options);
        if (!folder) return print_failure(shared, folder.error(), {{"done", false}});
        if (folder->problems.empty()) {
            if (auto written = convert::write_chat_folder(*folder, a->output); !written) folder->problems.push_back(std::move(written.error()));
        }
        if (shared.json) {
            json files = json::array();
            for (const auto& f : folder->files) files.push_back(f.name);
            files.push_back(convert::chat_config_name);
            print_json({{"done", folder->problems.empty()},
                        {"output", a->output},
                        {"files", std::move(files)},
                        {"config", folder->config},
                        {"notes", folder->notes},
                        {"problems", to_json(folder->problems)}});
        } else if (!shared.quiet && folder->problems.empty()) {
            std::printf("%s: %s and %zu tokenizer files\n", a->output.c_str(), std::string(convert::chat_config_name).c_str(), folder->files.size());
        }
        print_remarks(shared, folder->notes, {}, folder->problems);
        if (!folder->problems.empty()) shared.exit_code = exit_refused;
    });
}

}  // namespace nibble::command
