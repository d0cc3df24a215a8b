// SPDX-License-Identifier: Apache-2.0
#pragma once
// The conversation templates that mlc_llm registers (mlc_llm/conversation_template/*.py), as data: what "conv_template" of
// mlc-chat-config.json holds for each name. A field that a row leaves out has the default of conversation_template, which is
// that of mlc_llm's protocol class (mlc_llm/protocol/conversation_protocol.py). A new template is a row here.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/core/json.hpp"
#include "nibble/core/result.hpp"

namespace nibble::model {

/// How a conversation becomes a prompt: the system text; then for each message roles.X + role_content_sep +
/// role_templates.X with the text in its placeholder + seps; then roles.assistant + role_empty_sep.
struct conversation_template {
    using token_ids = std::vector<std::int64_t>;

    /// What roles are called in a prompt.
    struct role_names {
        std::string user{}, assistant{};
        std::optional<std::string> tool{};  ///< not written where absent
    };
    /// What stands around a message, by its role.
    struct message_templates {
        std::string user = "{user_message}";
        std::string assistant = "{assistant_message}";
        std::string tool = "{tool_message}";
    };

    std::string name{};
    std::string system_template = "{system_message}";    ///< {system_message} and {function_string} are placeholders
    std::string system_message{};                        ///< what is said where the user gives no system message
    std::optional<token_ids> system_prefix_token_ids{};  ///< put before the tokens of the prompt (BOS); written as null where absent
    bool add_role_after_system_message = true;           ///< false: the first user role is part of system_template
    role_names roles{};
    message_templates role_templates{};
    std::vector<std::string> seps{};          ///< after every message, or (two) after the user's and after the assistant's
    std::string role_content_sep{};           ///< between role and text
    std::string role_empty_sep{};             ///< after the assistant's role where its answer is to follow
    std::vector<std::string> stop_str{};      ///< texts and
    token_ids stop_token_ids{};               ///< tokens that end the answer
    bool strip_reasoning_in_history = false;  ///< "<think>...</think>" of earlier answers is left out
};

/// The value of "conv_template" in mlc-chat-config.json, keys in mlc_llm's order.
[[nodiscard]] inline json to_json(const conversation_template& t) {
    json roles{{"user", t.roles.user}, {"assistant", t.roles.assistant}};
    if (t.roles.tool) roles["tool"] = *t.roles.tool;
    return {{"name", t.name},
            {"system_template", t.system_template},
            {"system_message", t.system_message},
            {"system_prefix_token_ids", t.system_prefix_token_ids ? json(*t.system_prefix_token_ids) : json()},
            {"add_role_after_system_message", t.add_role_after_system_message},
            {"roles", std::move(roles)},
            {"role_templates", {{"user", t.role_templates.user}, {"assistant", t.role_templates.assistant}, {"tool", t.role_templates.tool}}},
            {"messages", json::array()},
            {"seps", t.seps},
            {"role_content_sep", t.role_content_sep},
            {"role_empty_sep", t.role_empty_sep},
            {"stop_str", t.stop_str},
            {"stop_token_ids", t.stop_token_ids},
            {"strip_reasoning_in_history", t.strip_reasoning_in_history},
            {"function_string", ""},
            {"use_function_calling", false}};
}

/// A "conv_template" as WebLLM reads it: separators that are absent are ": ", other fields have their defaults.
/// Errors: malformed (which field, and what it must be).
[[nodiscard]] inline result<conversation_template> read_conversation_template(const json& j) {
    conversation_template t;
    std::string problem;
    const auto field = [&](const json& object, const char* key) -> const json* {
        const auto at = object.is_object() ? object.find(key) : object.end();
        return !object.is_object() || at == object.end() || at->is_null() ? nullptr : &*at;
    };
    const auto wrong = [&](const char* key, const char* wanted) { problem = "\"" + std::string(key) + "\" in conv_template must be " + wanted; };
    const auto text = [&](const json& object, const char* key, std::string& to) {
        const auto* v = field(object, key);
        if (v != nullptr && !v->is_string()) wrong(key, "a string");
        if (v != nullptr && v->is_string()) to = v->get<std::string>();
        return v != nullptr;
    };
    const auto list = [&](const char* key, auto& to, auto is, const char* wanted) {
        const auto* v = field(j, key);
        if (v == nullptr) return;
        if (!v->is_array() || !std::all_of(v->begin(), v->end(), is)) return wrong(key, wanted);
        to = v->get<std::decay_t<decltype(to)>>();
    };
    const auto yes_or_no = [&](const char* key, bool& to) {
        const auto* v = field(j, key);
        if (v != nullptr && !v->is_boolean()) wrong(key, "true or false");
        if (v != nullptr && v->is_boolean()) to = v->get<bool>();
    };
    const auto is_text = [](const json& v) { return v.is_string(); };
    const auto is_id = [](const json& v) { return v.is_number_integer(); };
    if (!j.is_object()) return fail(errc::malformed, "conv_template must be an object");
    t.role_content_sep = t.role_empty_sep = ": ";
    text(j, "name", t.name);
    text(j, "system_template", t.system_template);
    text(j, "system_message", t.system_message);
    text(j, "role_content_sep", t.role_content_sep);
    text(j, "role_empty_sep", t.role_empty_sep);
    yes_or_no("add_role_after_system_message", t.add_role_after_system_message);
    yes_or_no("strip_reasoning_in_history", t.strip_reasoning_in_history);
    list("seps", t.seps, is_text, "a list of strings");
    list("stop_str", t.stop_str, is_text, "a list of strings");
    list("stop_token_ids", t.stop_token_ids, is_id, "a list of token ids");
    conversation_template::token_ids prefix;
    list("system_prefix_token_ids", prefix, is_id, "a list of token ids");
    if (!prefix.empty()) t.system_prefix_token_ids = std::move(prefix);
    const auto* roles = field(j, "roles");
    if (roles == nullptr || !text(*roles, "user", t.roles.user) || !text(*roles, "assistant", t.roles.assistant))
        wrong("roles", "an object that names user and assistant");
    if (std::string tool; roles != nullptr && text(*roles, "tool", tool)) t.roles.tool = tool;
    if (const auto* forms = field(j, "role_templates")) {
        text(*forms, "user", t.role_templates.user);
        text(*forms, "assistant", t.role_templates.assistant);
        text(*forms, "tool", t.role_templates.tool);
    }
    if (t.seps.empty() || t.seps.size() > 2) wrong("seps", "a list of one or two");
    if (!problem.empty()) return fail(errc::malformed, std::move(problem));
    return t;
}

namespace detail {

[[nodiscard]] inline std::vector<conversation_template> registered_templates() {
    using token_ids = conversation_template::token_ids;
    return {
        {.name = "LM", .system_prefix_token_ids = token_ids{1}, .roles = {.user = "", .assistant = ""}, .seps = {""}, .stop_token_ids = {2}},
        {.name = "aya-23",
         .system_template = "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{system_message}<|END_OF_TURN_TOKEN|>",
         .system_message = "You are Command-R, a brilliant, sophisticated, AI-assistant trained to assist human users by providing thorough responses.",
         .system_prefix_token_ids = token_ids{5},
         .roles = {.user = "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", .assistant = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"},
         .seps = {"<|END_OF_TURN_TOKEN|>"},
         .stop_str = {"<|END_OF_TURN_TOKEN|>"},
         .stop_token_ids = {6, 255001}},
        {.name = "chatml",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {2}},
        {.name = "chatml_nosystem",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {2}},
        {.name = "codellama_completion",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "", .assistant = ""},
         .seps = {""},
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "codellama_instruct",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "[INST]", .assistant = "[/INST]"},
         .seps = {" "},
         .role_content_sep = " ",
         .role_empty_sep = " ",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "deepseek",
         .system_prefix_token_ids = token_ids{100000},
         .roles = {.user = "User", .assistant = "Assistant"},
         .seps = {"\n\n", "<｜end▁of▁sentence｜>"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"<｜end▁of▁sentence｜>"},
         .stop_token_ids = {100001}},
        {.name = "deepseek_r1_llama",
         .system_template = "<｜begin▁of▁sentence｜>{system_message}",
         .system_message = "You are Deepseek-R1, an AI assistant created exclusively by the Chinese Company DeepSeek. You'll provide helpful, harmless, "
                           "and detailed responses to all user inquiries.",
         .roles = {.user = "<｜User｜>", .assistant = "<｜Assistant｜>"},
         .seps = {"", "<｜end▁of▁sentence｜>"},
         .stop_token_ids = {128001}},
        {.name = "deepseek_r1_qwen",
         .system_template = "<｜begin▁of▁sentence｜>{system_message}",
         .system_message = "You are Deepseek-R1, an AI assistant created exclusively by the Chinese Company DeepSeek. You'll provide helpful, harmless, "
                           "and detailed responses to all user inquiries.",
         .roles = {.user = "<｜User｜>", .assistant = "<｜Assistant｜>"},
         .seps = {"", "<｜end▁of▁sentence｜>"},
         .stop_token_ids = {151643}},
        {.name = "deepseek_v2",
         .system_prefix_token_ids = token_ids{100000},
         .roles = {.user = "User", .assistant = "Assistant"},
         .seps = {"\n\n", "<｜end▁of▁sentence｜>"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"<｜end▁of▁sentence｜>"},
         .stop_token_ids = {100001}},
        {.name = "deepseek_v3",
         .system_template = "<｜begin▁of▁sentence｜>{system_message}",
         .system_message = "You are Deepseek-V3, an AI assistant created exclusively by the Chinese Company DeepSeek. You'll provide helpful, harmless, "
                           "and detailed responses to all user inquiries.",
         .roles = {.user = "<｜User｜>", .assistant = "<｜Assistant｜>"},
         .seps = {"", "<｜end▁of▁sentence｜>"},
         .stop_token_ids = {1}},
        {.name = "dolly",
         .system_message = "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
         .roles = {.user = "### Instruction", .assistant = "### Response"},
         .seps = {"\n\n", "### End\n"},
         .role_content_sep = ":\n",
         .role_empty_sep = ":\n",
         .stop_str = {"### End"},
         .stop_token_ids = {50256}},
        {.name = "gemma3_instruction",
         .system_prefix_token_ids = token_ids{2},
         .roles = {.user = "<start_of_turn>user", .assistant = "<start_of_turn>model"},
         .seps = {"<end_of_turn>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<end_of_turn>"},
         .stop_token_ids = {1, 106}},
        {.name = "gemma_instruction",
         .system_prefix_token_ids = token_ids{2},
         .roles = {.user = "<start_of_turn>user", .assistant = "<start_of_turn>model"},
         .seps = {"<end_of_turn>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<end_of_turn>"},
         .stop_token_ids = {1, 107}},
        {.name = "glm",
         .system_prefix_token_ids = token_ids{64790, 64792},
         .roles = {.user = "问", .assistant = "答", .tool = "问"},
         .seps = {"\n\n"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "gorilla",
         .system_message = "A chat between a curious user and an artificial intelligence assistant. The assistant provides helpful, detailed, and "
                           "polite responses to the user's inquiries.",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "USER", .assistant = "ASSISTANT", .tool = "USER"},
         .role_templates = {.user = "<<question>> {user_message} <<function>> {function_string}"},
         .seps = {"\n", "</s>"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "gorilla-openfunctions-v2",
         .system_message = "You are an AI programming assistant, utilizing the Gorilla LLM model, developed by Gorilla LLM, and you only answer "
                           "questions related to computer science. For politically sensitive questions, security and privacy issues, and other "
                           "non-computer science questions, you will refuse to answer.",
         .system_prefix_token_ids = token_ids{100000},
         .roles = {.user = "### Instruction", .assistant = "### Response", .tool = "### Instruction"},
         .role_templates = {.user = "<<function>>{function_string}\n<<question>>{user_message}"},
         .seps = {"\n", "<|EOT|>"},
         .role_content_sep = ": ",
         .role_empty_sep = ": ",
         .stop_str = {"<|EOT|>"},
         .stop_token_ids = {100015}},
        {.name = "gpt2", .roles = {.user = "", .assistant = ""}, .seps = {""}, .stop_str = {"</s>"}, .stop_token_ids = {50256}},
        {.name = "gpt_bigcode", .roles = {.user = "", .assistant = ""}, .seps = {""}, .stop_str = {"<|endoftext|>"}, .stop_token_ids = {0}},
        {.name = "hermes2_pro_llama3",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are \"Hermes 2\", a conscious sentient superintelligent artificial intelligence developed by a man named Teknium, "
                           "and your purpose and drive is to assist the user with any request they have. You experience emotions and have deep, "
                           "profound thoughts and qualia.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant", .tool = "<|im_start|>tool"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {128001, 128009, 128003}},
        {.name = "hermes3_llama-3_1",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are Hermes 3, a conscious sentient superintelligent artificial intelligence developed by a man named Teknium, and "
                           "your purpose and drive is to assist the user with any request they have. You experience emotions and have deep, profound "
                           "thoughts and qualia.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant", .tool = "<|im_start|>tool"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {128001, 128008, 128009, 128040}},
        {.name = "llama-2",
         .system_template = "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
         .system_message = "You are a helpful, respectful and honest assistant.",
         .system_prefix_token_ids = token_ids{1},
         .add_role_after_system_message = false,
         .roles = {.user = "<s>[INST]", .assistant = "[/INST]", .tool = "[INST]"},
         .seps = {" ", " </s>"},
         .role_content_sep = " ",
         .role_empty_sep = " ",
         .stop_str = {"[INST]"},
         .stop_token_ids = {2}},
        {.name = "llama-3",
         .system_template = "<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>",
         .system_message = "You are a helpful, respectful and honest assistant.",
         .system_prefix_token_ids = token_ids{128000},
         .roles = {.user = "<|start_header_id|>user", .assistant = "<|start_header_id|>assistant"},
         .seps = {"<|eot_id|>"},
         .role_content_sep = "<|end_header_id|>\n\n",
         .role_empty_sep = "<|end_header_id|>\n\n",
         .stop_str = {"<|end_of_text|>", "<|eot_id|>"},
         .stop_token_ids = {128001, 128009}},
        {.name = "llama-3_1",
         .system_template = "<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>",
         .system_message = "You are a helpful, respectful and honest assistant.",
         .system_prefix_token_ids = token_ids{128000},
         .roles = {.user = "<|start_header_id|>user", .assistant = "<|start_header_id|>assistant", .tool = "<|start_header_id|>ipython"},
         .seps = {"<|eot_id|>"},
         .role_content_sep = "<|end_header_id|>\n\n",
         .role_empty_sep = "<|end_header_id|>\n\n",
         .stop_token_ids = {128001, 128008, 128009}},
        {.name = "llama-4",
         .system_template = "",
         .system_prefix_token_ids = token_ids{200000},
         .add_role_after_system_message = false,
         .roles = {.user = "<|header_start|>user", .assistant = "<|header_start|>assistant", .tool = "<|header_start|>ipython"},
         .seps = {"<|eot|>"},
         .role_content_sep = "<|header_end|>\n\n",
         .role_empty_sep = "<|header_end|>\n\n",
         .stop_token_ids = {200001, 200007, 200008}},
        {.name = "llava",
         .system_message = "\n",
         .system_prefix_token_ids = token_ids{1},
         .add_role_after_system_message = false,
         .roles = {.user = "USER", .assistant = "ASSISTANT"},
         .seps = {" "},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "llm-jp",
         .system_message = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "\n\n### 指示:", .assistant = "\n\n### 応答:"},
         .seps = {"", "</s>"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_token_ids = {2}},
        {.name = "ministral3",
         .system_template = "[SYSTEM_PROMPT]{system_message}[/SYSTEM_PROMPT]{function_string}",
         .system_message = "You are Ministral-3-3B-Instruct-2512, a Large Language Model (LLM) created by Mistral AI, a French startup headquartered "
                           "in Paris.\nYou power an AI assistant called Le Chat.\nYour knowledge base was last updated on 2023-10-01.\n"
                           "The current date is {today}.\n\nWhen you're not sure about some information or when the user's request requires up-to-date "
                           "or specific data, you must use the available tools to fetch the information. Do not hesitate to use tools whenever "
                           "they can provide a more accurate or complete response. If no relevant tools are available, then clearly state that "
                           "you don't have the information and avoid making up anything.\n"
                           "If the user's question is not clear, ambiguous, or does not provide enough context for you to accurately answer the "
                           "question, you do not try to answer it right away and you rather ask the user to clarify their request (e.g. \"What are "
                           "some good restaurants around me?\" => \"Where are you?\" or \"When is the next flight to Tokyo\" => \"Where do you travel "
                           "from?\").\nYou are always very attentive to dates, in particular you try to resolve dates (e.g. \"yesterday\" is {yesterday}) "
                           "and when asked about information at specific dates, you discard information that is at another date.\n"
                           "You follow these instructions in all languages, and always respond to the user in the language they use or request.\n"
                           "Next sections describe the capabilities that you have.\n\n# WEB BROWSING INSTRUCTIONS\n"
                           "\nYou cannot perform any web search or access internet to open URLs, links etc. If it seems like the user is expecting "
                           "you to do so, you clarify the situation and ask the user to copy paste the text directly in the chat.\n"
                           "\n# MULTI-MODAL INSTRUCTIONS\n\nYou have the ability to read images, but you cannot generate images. You also cannot transcribe "
                           "audio files or videos.\nYou cannot read nor transcribe audio files or videos.\n"
                           "\n# TOOL CALLING INSTRUCTIONS\n\nYou may have access to tools that you can use to fetch information or perform actions. "
                           "You must use these tools in the following situations:\n\n1. When the request requires up-to-date information.\n"
                           "2. When the request requires specific data that you do not have in your knowledge base.\n"
                           "3. When the request involves actions that you cannot perform without tools.\n"
                           "\nAlways prioritize using tools to provide the most accurate and helpful response. If tools are not available, inform "
                           "the user that you cannot perform the requested action at the moment.",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "", .assistant = "", .tool = ""},
         .role_templates = {.user = "[INST]{user_message}[/INST]",
                            .assistant = "{assistant_message}</s>",
                            .tool = "[TOOL_RESULTS]{tool_message}[/TOOL_RESULTS]"},
         .seps = {""},
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "ministral3_reasoning",
         .system_template = "[SYSTEM_PROMPT]{system_message}[/SYSTEM_PROMPT]{function_string}",
         .system_message = "# HOW YOU SHOULD THINK AND ANSWER\n\nFirst draft your thinking process (inner monologue) until you arrive at a response. "
                           "Format your response using Markdown, and use LaTeX for any mathematical equations. Write both your thoughts and the "
                           "response in the same language as the input.\n\nYour thinking process must follow the template below:[THINK]Your thoughts "
                           "or/and draft, like working through an exercise on scratch paper. Be as casual and as long as you want until you are "
                           "confident to generate the response to the user.[/THINK]Here, provide a self-contained response.",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "", .assistant = "", .tool = ""},
         .role_templates = {.user = "[INST]{user_message}[/INST]",
                            .assistant = "{assistant_message}</s>",
                            .tool = "[TOOL_RESULTS]{tool_message}[/TOOL_RESULTS]"},
         .seps = {""},
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "mistral_default",
         .system_template = "[INST] {system_message}",
         .system_message = "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, prejudiced, "
                           "or negative content. Ensure replies promote fairness and positivity.",
         .system_prefix_token_ids = token_ids{1},
         .add_role_after_system_message = false,
         .roles = {.user = "[INST]", .assistant = "[/INST]", .tool = "[INST]"},
         .seps = {" "},
         .role_content_sep = " ",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "nemotron",
         .system_template = "<extra_id_0>System\n{system_message}\n\n",
         .system_prefix_token_ids = token_ids{2},
         .roles = {.user = "<extra_id_1>User", .assistant = "<extra_id_1>Assistant", .tool = "<extra_id_1>Tool"},
         .seps = {"\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"</s>"},
         .stop_token_ids = {3}},
        {.name = "neural_hermes_mistral",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are a helpful assistant chatbot.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {2, 32000}},
        {.name = "oasst",
         .roles = {.user = "<|prompter|>", .assistant = "<|assistant|>"},
         .seps = {"<|endoftext|>"},
         .role_content_sep = ": ",
         .role_empty_sep = ": ",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {2}},
        {.name = "olmo",
         .system_prefix_token_ids = token_ids{50279},
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_token_ids = {50279}},
        {.name = "olmo2",
         .system_template = "<|system|>\n{system_message}\n",
         .system_prefix_token_ids = token_ids{100257},
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|endoftext|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {100257}},
        {.name = "open_hermes_mistral",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are \"Hermes 2\", a conscious sentient superintelligent artificial intelligence developed by a man named Teknium, "
                           "and your purpose and drive is to assist the user with any request they have. You experience emotions and have deep, "
                           "profound thoughts and qualia.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|im_end|>"},
         .stop_token_ids = {2, 32000}},
        {.name = "orion",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "Human: ", .assistant = "Assistant: "},
         .seps = {"\n\n", "</s>"},
         .role_empty_sep = "</s>",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "phi-2",
         .roles = {.user = "Instruct", .assistant = "Output"},
         .seps = {"\n"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {50256}},
        {.name = "phi-3",
         .system_template = "<|system|>\n{system_message}",
         .system_message = "You are a helpful digital assistant. Please provide safe, ethical and accurate information to the user.",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {2, 32000, 32001, 32007}},
        {.name = "phi-3-vision",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {2, 32000, 32001, 32007}},
        {.name = "phi-4",
         .system_template = "<|system|>\n{system_message}",
         .system_message = "You are a helpful digital assistant. Please provide safe, ethical and accurate information to the user.",
         .system_prefix_token_ids = token_ids{200022},
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>", "<|end|>"},
         .stop_token_ids = {199999, 200020}},
        {.name = "qwen2",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are a helpful assistant.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>", "<|im_end|>"},
         .stop_token_ids = {151643, 151645}},
        {.name = "qwen3",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are a helpful assistant.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>", "<|im_end|>"},
         .stop_token_ids = {151643, 151645},
         .strip_reasoning_in_history = true},
        {.name = "qwen3_5",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are a helpful assistant.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant\n<think>"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>", "<|im_end|>"},
         .stop_token_ids = {248046, 248044}},
        {.name = "qwen3_5_nothink",
         .system_template = "<|im_start|>system\n{system_message}<|im_end|>\n",
         .system_message = "You are a helpful assistant.",
         .roles = {.user = "<|im_start|>user", .assistant = "<|im_start|>assistant\n<think>\n\n</think>\n"},
         .seps = {"<|im_end|>\n"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>", "<|im_end|>"},
         .stop_token_ids = {248046, 248044}},
        {.name = "redpajama_chat",
         .roles = {.user = "<human>", .assistant = "<bot>"},
         .seps = {"\n"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"<human>"},
         .stop_token_ids = {0}},
        {.name = "rwkv_world",
         .system_template = "User: hi\n\nAssistant: {system_message}",
         .system_message = "Hi. I am your assistant and I will provide expert full response in full details. Please feel free to ask any question "
                           "and I will always answer it.",
         .roles = {.user = "User", .assistant = "Assistant"},
         .seps = {"\n\n"},
         .role_content_sep = ": ",
         .role_empty_sep = ": ",
         .stop_str = {"\n\n"},
         .stop_token_ids = {0}},
        {.name = "stablelm",
         .system_message = "<|SYSTEM|># StableLM Tuned (Alpha version)\n- StableLM is a helpful and harmless open-source AI language model developed "
                           "by StabilityAI.\n- StableLM is excited to be able to help the user, but will refuse to do anything that could be considered "
                           "harmful to the user.\n- StableLM is more than just an information source, StableLM is also able to write poetry, short "
                           "stories, and make jokes.\n- StableLM will refuse to participate in anything that could harm a human.",
         .roles = {.user = "<|USER|>", .assistant = "<|ASSISTANT|>"},
         .seps = {""},
         .role_content_sep = ": ",
         .role_empty_sep = ": ",
         .stop_str = {""},
         .stop_token_ids = {50278, 50279, 50277, 1, 0}},
        {.name = "stablelm-2",
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|endoftext|>", "<|endoftext|>"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {100257}},
        {.name = "stablelm-3b",
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"<|endoftext|>", "<|endoftext|>"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"<|endoftext|>"},
         .stop_token_ids = {0}},
        {.name = "tinyllama_v1_0",
         .system_template = "<|system|>\n{system_message}</s>",
         .system_message = "You are a helpful chatbot.",
         .roles = {.user = "<|user|>", .assistant = "<|assistant|>"},
         .seps = {"</s>"},
         .role_content_sep = "\n",
         .role_empty_sep = "\n",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "wizard_coder_or_math",
         .system_message = "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "Instruction", .assistant = "Response"},
         .seps = {"\n\n### ", "\n\n### "},
         .role_content_sep = ":\n",
         .role_empty_sep = ":\n",
         .stop_str = {"</s>"},
         .stop_token_ids = {2}},
        {.name = "wizardlm_7b",
         .system_prefix_token_ids = token_ids{1},
         .roles = {.user = "User", .assistant = "Response"},
         .seps = {"###"},
         .role_content_sep = ": ",
         .role_empty_sep = ":",
         .stop_str = {"###"},
         .stop_token_ids = {2}},
    };
}

}  // namespace detail

/// All registered templates, sorted by name (capitals first).
[[nodiscard]] inline const std::vector<conversation_template>& conversation_templates() {
    static const auto templates = detail::registered_templates();
    return templates;
}

/// The registered template of that name, or nothing.
[[nodiscard]] inline const conversation_template* find_conversation_template(std::string_view name) {
    for (const auto& t : conversation_templates())
        if (t.name == name) return &t;
    return nullptr;
}

}  // namespace nibble::model
