// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which conversation template of mlc_llm is a checkpoint's chat_template? Both render the same probe conversations, and the texts are
// compared byte for byte. Three things are looked at apart, because a conversation template cannot say them or says them elsewhere:
// - BOS. transformers writes it into the text (bos_token), mlc_llm puts system_prefix_token_ids before the tokens, and some of its
//   templates write it too. One BOS at the beginning of either text is left out of the comparison; where the two sides disagree
//   about it, a note says so.
// - The default system message. Where the checkpoint renders no system part unless a system message is given, a template that renders
//   all given system messages as the checkpoint does is a match, with a note; a checkpoint with another default text is none.
// - White space around texts, which many chat templates trim and no conversation template can: a note. Reasoning left out of earlier
//   answers: a note too, where no matching template does it.
// Templates that render alike are told apart in this order: the same default system message; reasoning treated alike; stop tokens
// that are the checkpoint's; the model type; the same BOS; at last the order of model/conv_templates.hpp, so that gpt2 stands for
// gpt_bigcode, LM (with BOS) for codellama_completion, chatml for its family, gemma3_instruction for gemma_instruction, and so on.

#include "nibble/chat/derive.hpp"

namespace nibble::chat {

/// Finds the conversation template of a checkpoint by rendering, and derives one of its own. `tokenizer_config` is the parsed
/// tokenizer_config.json. Errors: missing (no chat_template), and what the interpreter says of a template that it cannot render; that no
/// template matches is no error here but in detection::match().
[[nodiscard]] inline result<detection> detect_template(const checkpoint_template& checkpoint) {
    detail::detector d(checkpoint);
    if (auto ready = d.prepare(); !ready) return fail(std::move(ready.error()));
    return d.run();
}
[[nodiscard]] inline result<detection> detect_template(const json& tokenizer_config, checkpoint_facts facts = {}) {
    const auto checkpoint = checkpoint_template::from(tokenizer_config, std::move(facts));
    if (!checkpoint) return fail(checkpoint.error());
    return detect_template(*checkpoint);
}

/// Compares one conversation template with a checkpoint's, in the same way. Errors: as detect_template.
[[nodiscard]] inline result<template_comparison> compare_template(const checkpoint_template& checkpoint, const model::conversation_template& t) {
    detail::detector d(checkpoint);
    if (auto ready = d.prepare(); !ready) return fail(std::move(ready.error()));
    return d.judge(t);
}

}  // namespace nibble::chat
