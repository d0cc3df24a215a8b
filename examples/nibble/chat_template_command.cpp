// SPDX-License-Identifier: Apache-2.0
// `nibble chat-template`: the prompt that a checkpoint's chat_template makes, and which conversation template of mlc_llm it is.

#include "nibble/chat/detect.hpp"

#include <memory>

#include "commands.hpp"
#include "nibble/convert/conversation.hpp"
#include "terminal.hpp"

namespace nibble::command {

void add_chat_template(CLI::App& app, context& shared) {
    struct arguments {
        std::string model;
        std::string system;
        std::vector<std::string> users, answers;
        bool custom = false;
        source::open_options source;
    };
    auto a = std::make_shared<arguments>();
    auto* sub = app.add_subcommand("chat-template", "Show the prompt that a checkpoint makes of a conversation, and its conversation template");
    sub->add_option("model", a->model, "A Hugging Face folder, or a .gguf file")->required();
    auto* system = sub->add_option("--system", a->system, "The system message; without it, what the checkpoint does without one");
    sub->add_option("--user", a->users, "What the user says; repeat it for more turns")->take_all()->allow_extra_args(false);
    sub->add_option("--assistant", a->answers, "What the assistant answered, before the next --user")->take_all()->allow_extra_args(false);
    sub->add_flag("--custom", a->custom, "Also show the conversation template derived from the checkpoint");
    sub->add_flag("--follow-links", a->source.follow_links, "Read files that are links out of the model's folder");
    shared.add_flags(*sub);
    sub->callback([a, system, &shared] {
        if (a->users.empty()) a->users.emplace_back("Hello!");
        chat::conversation messages;
        if (system->count() != 0) messages.push_back({"system", a->system});
        for (std::size_t i = 0; i < a->users.size(); ++i) {
            messages.push_back({"user", a->users[i]});
            if (i + 1 < a->users.size()) messages.push_back({"assistant", i < a->answers.size() ? a->answers[i] : "..."});
        }
        auto files = convert::read_chat_files(a->model, a->source);
        if (!files) return print_failure(shared, files.error());
        auto checkpoint = chat::checkpoint_template::from(files->tokenizer_config, std::move(files->facts));
        if (!checkpoint) return print_failure(shared, std::move(checkpoint.error()).in_file(a->model));
        const auto seconds = std::time(nullptr);
        std::optional<std::tm> now;
        if (const auto* local = std::localtime(&seconds)) now = *local;
        const auto prompt = checkpoint->render(messages, true, now);
        if (!prompt) return print_failure(shared, error(prompt.error()).in_file(a->model));
        auto found = chat::detect_template(*checkpoint);
        if (!found) return print_failure(shared, std::move(found.error()).in_file(a->model));

        // No match is an answer here, not a failure: gen-config is where it stops.
        const auto match = found->match();
        if (shared.json) {
            json document{{"prompt", *prompt}, {"matched", found->matched}, {"conv_template", found->name}, {"notes", found->notes}};
            if (!match) document["difference"] = to_json(match.error());
            document["custom"] = found->custom ? model::to_json(*found->custom) : json();
            document["custom_notes"] = found->custom_notes;
            if (!found->custom) document["custom_problem"] = found->custom_problem;
            document["problems"] = json::array();
            print_json(document);
        } else if (!shared.quiet) {
            std::printf("%s\n", prompt->c_str());
            std::printf("\nconversation template: %s\n", found->matched ? found->name.c_str() : "none of the registered ones");
            if (a->custom && found->custom) std::printf("%s\n", model::to_json(*found->custom).dump(2).c_str());
        }
        auto notes = found->notes;
        if (!match) notes.push_back(match.error().message());
        if (a->custom) notes.insert(notes.end(), found->custom_notes.begin(), found->custom_notes.end());
        if (a->custom && !found->custom) notes.push_back(found->derived().error().message());
        print_remarks(shared, notes, {}, {});
    });
}

}  // namespace nibble::command
