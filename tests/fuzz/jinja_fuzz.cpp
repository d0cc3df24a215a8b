// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template, rendered on a small conversation: an error that names a rule, or text within the limits.
#include <cstdlib>

#include "nibble/chat/jinja.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    static const nibble::json variables{{"messages",
                                         {{{"role", "system"}, {"content", " s "}},
                                          {{"role", "user"}, {"content", "h\u00e9 <think>x</think>"}},
                                          {{"role", "assistant"}, {"content", nullptr}}}},
                                        {"add_generation_prompt", true},
                                        {"bos_token", "<s>"},
                                        {"tools", {{{"name", "f"}, {"n", 1.5}, {"deep", {1, -2, true}}}}}};
    static const std::optional<std::tm> now = std::tm{};
    const nibble::chat::jinja_limits limits{.source_bytes = 1 << 16, .nesting = 250, .steps = 20'000, .work_bytes = 1 << 20, .output_bytes = 1 << 16};
    const auto parsed = nibble::chat::jinja_template::parse({reinterpret_cast<const char*>(data), n}, limits);
    if (!parsed) return parsed.error().rule.empty() ? std::abort(), 0 : 0;
    const auto text = parsed->render(variables, now);
    if (!text) return text.error().rule.empty() ? std::abort(), 0 : 0;
    if (text->size() > limits.output_bytes || !nibble::chat::detail::utf8_valid(*text)) std::abort();
    const auto again = parsed->render(variables, now);
    if (!again || *again != *text) std::abort();
    return 0;
}
