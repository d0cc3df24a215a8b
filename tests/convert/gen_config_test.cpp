// SPDX-License-Identifier: Apache-2.0
// mlc-chat-config.json against md5 sums of what mlc_llm writes: "genuine" cases ran the whole of mlc_llm gen_config, "classes" ran
// its configuration classes without tvm, for every model type. Where it fails, so must we. An empty sum is such a case.

#include "nibble/convert/gen_config.hpp"

#include <filesystem>
#include <span>
#include <sstream>

#include "nibble/core/md5.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace nibble;

namespace gen_config_test {

namespace fs = std::filesystem;
const fs::path data = fs::path(NIBBLE_TEST_DATA) / "mlc";

json parsed(const std::string& text) {
    auto value = parse_json(std::as_bytes(std::span(text)));
    REQUIRE(value);
    return std::move(*value);
}

std::string md5_of(const std::string& text) {
    md5 sum;
    sum.update(std::as_bytes(std::span(text)));
    return sum.hex();
}

/// Options from mlc_llm's command line.
convert::gen_config_options options_of(const std::string& arguments) {
    convert::gen_config_options o;
    std::istringstream words(arguments);
    for (std::string flag, value; words >> flag >> value;) {
        const auto number = [&] { return std::int64_t{std::stoll(value)}; };
        if (flag == "--quantization")
            o.quantization = value;
        else if (flag == "--conv-template")
            o.conv_template = value;
        else if (flag == "--context-window-size")
            o.context_window_size = number();
        else if (flag == "--sliding-window-size")
            o.sliding_window_size = number();
        else if (flag == "--prefill-chunk-size")
            o.prefill_chunk_size = number();
        else if (flag == "--attention-sink-size")
            o.attention_sink_size = number();
        else if (flag == "--max-batch-size")
            o.max_batch_size = number();
        else if (flag == "--tensor-parallel-shards")
            o.tensor_parallel_shards = number();
        else if (flag == "--pipeline-parallel-stages")
            o.pipeline_parallel_stages = number();
        else if (flag == "--disaggregation")
            o.disaggregation = true;
        else
            FAIL("unknown flag " << flag);
    }
    return o;
}

/// The problems of a folder, or of not getting one, as one text.
std::string refusal(const result<convert::chat_folder>& folder) {
    if (!folder) return folder.error().message();
    std::string text;
    for (const auto& p : folder->problems) text += p.message() + "\n";
    return text;
}

/// A checkpoint of a few files.
struct checkpoint {
    test::temp_folder folder;
    checkpoint(std::initializer_list<std::pair<const char*, std::string>> files) {
        for (const auto& [name, text] : files) test::write_text(folder.path() / name, text);
    }
    [[nodiscard]] result<convert::chat_folder> made(const convert::gen_config_options& options = options_of("--quantization q4f16_1 --conv-template LM"),
                                                    const std::string& output = {}) const {
        return convert::make_chat_folder(folder.path().string(), output, options);
    }
};

const std::string llama =
    R"({"model_type":"llama","hidden_size":64,"intermediate_size":176,"num_attention_heads":4,"num_hidden_layers":2,"rms_norm_eps":1e-05,)"
    R"("vocab_size":96,"max_position_embeddings":512})";
const std::string bytes_tokenizer =
    R"({"added_tokens":[{"id":2,"content":"<s>"}],"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}})";

TEST_CASE("each case has the bytes of mlc_llm gen_config, or is refused where that fails", "[gen_config][golden]") {
    const auto cases = parsed(test::read_text(data / "gen_config.json"));
    test::temp_folder scratch;
    for (const auto& [name, config] : cases["configs"].items()) test::write_text(scratch.path() / name / "config.json", config.dump());
    std::size_t n_written = 0, n_refused = 0;
    for (const auto* origin : {"genuine", "classes"}) {
        for (const auto& c : cases[origin]) {
            const auto model = c[0].get<std::string>(), arguments = c[1].get<std::string>(), sum = c[2].get<std::string>();
            const auto folder = (model.starts_with("models") ? data / model : scratch.path() / model).string();
            INFO(origin << ": " << model << " " << arguments);
            const auto made = convert::make_chat_folder(folder, {}, options_of(arguments));
            if (sum.empty()) {
                CHECK_FALSE(refusal(made).empty());
                ++n_refused;
            } else {
                REQUIRE(refusal(made) == "");
                INFO(made->config_text());
                CHECK(md5_of(made->config_text()) == sum);
                ++n_written;
            }
        }
    }
    CHECK(n_written == 409);
    CHECK(n_refused == 42);
}

TEST_CASE("mlc_llm's model types are those that are converted, or known not to be", "[gen_config]") {
    for (const auto& row : model::chat_models) {
        INFO(row.model_type);
        const bool left_out =
            std::any_of(model::unmapped_types.begin(), model::unmapped_types.end(), [&](const auto& u) { return u.model_type == row.model_type; });
        CHECK((model::find_architecture(row.model_type) != nullptr) != left_out);
        CHECK(model::find_chat_model(row.model_type) == &row);
    }
    for (const auto& row : model::architectures) {
        INFO(row.model_type);
        CHECK((model::find_chat_model(row.model_type) != nullptr) == (row.model_type != "mistral3"));  // mlc_llm takes it as ministral3
    }
}

TEST_CASE("a refusal says what to do", "[gen_config]") {
    const auto with = [](std::string arguments) { return options_of("--quantization q4f16_1 --conv-template LM " + arguments); };
    const checkpoint plain{{"config.json", llama}};
    auto options = with("");
    CHECK(refusal(plain.made(options)) == "");
    options.conv_template.clear();
    CHECK_THAT(refusal(plain.made(options)), Catch::Contains("--conv-template") && Catch::Contains("llama-3_1"));
    options.conv_template = "llama_default";
    CHECK_THAT(refusal(plain.made(options)), Catch::Contains("llama_default") && Catch::Contains("llama-2"));
    options.conv_template = "nobody";
    CHECK_THAT(refusal(plain.made(options)), Catch::Contains("\"nobody\"") && Catch::Contains("chatml"));
    options = with("");
    options.quantization = "q5f16_1";
    CHECK_THAT(refusal(plain.made(options)), Catch::Contains("q5f16_1") && Catch::Contains("q4f16_1"));
    options.quantization = "q4f16_ft";  // mlc_llm writes its name
    const auto foreign = plain.made(options);
    REQUIRE(refusal(foreign) == "");
    REQUIRE(foreign->notes.size() == 1);
    CHECK_THAT(foreign->notes[0], Catch::Contains("must come from mlc_llm"));
    CHECK_THAT(refusal(plain.made(with("--pipeline-parallel-stages 3"))), Catch::Contains("pipeline_parallel_stages"));
    CHECK_THAT(refusal(checkpoint{{"config.json", R"({"model_type":"mistral3"})"}}.made()), Catch::Contains("--model-type ministral3"));
    CHECK_THAT(refusal(checkpoint{{"config.json", "{}"}}.made()), Catch::Contains("--model-type"));
    CHECK_THAT(refusal(checkpoint{{"config.json", "[]"}}.made()), Catch::Contains("object"));
    CHECK_THAT(refusal(checkpoint{{"other.json", "{}"}}.made()), Catch::Contains("config.json"));
    CHECK_THAT(refusal(checkpoint{{"config.json", R"({"model_type":"llama"})"}}.made()),
               Catch::Contains("\"hidden_size\" is missing") && Catch::Contains("\"vocab_size\" is missing"));  // all of them at once
    CHECK_THAT(refusal(checkpoint{{"config.json", llama}, {"generation_config.json", "[1]"}}.made()), Catch::Contains("generation_config.json"));
    CHECK_THAT(refusal(checkpoint{{"config.json", R"({"model_type":"llava","image_token_index":1,"vocab_size":9,"text_config":{"_name_or_path":"a/b"},)"
                                                  R"("vision_config":{"hidden_size":1,"image_size":1,"intermediate_size":1,"num_attention_heads":1,)"
                                                  R"("num_hidden_layers":1,"patch_size":1,"projection_dim":1,"vocab_size":1}})"}}
                           .made()),
               Catch::Contains("another repository"));
}

TEST_CASE("a template of one's own takes the place of a registered one", "[gen_config]") {
    auto options = options_of("--quantization q4f16_1");
    options.conversation = {.name = "custom", .roles = {.user = "U", .assistant = "A"}, .seps = {"|"}};
    const auto made = checkpoint{{"config.json", llama}}.made(options);
    REQUIRE(refusal(made) == "");
    CHECK(made->config["conv_template"]["name"] == "custom");
    CHECK(made->config["conv_template"]["role_templates"]["user"] == "{user_message}");
}

TEST_CASE("tokens that only transformers knows are told", "[gen_config]") {
    const auto made = convert::make_chat_folder((data / "models_tok/qwen2_tok").string(), {}, options_of("--quantization q0f32 --conv-template qwen2"));
    REQUIRE(refusal(made) == "");
    CHECK(made->config["active_vocab_size"] == 28);
    REQUIRE(made->notes.size() == 1);
    CHECK_THAT(made->notes[0], Catch::Contains("tokenizer.json has 27 tokens"));
}

TEST_CASE("an option that a model type has no field for is said to do nothing", "[gen_config]") {
    const auto made = checkpoint{{"config.json", llama}}.made(options_of("--quantization q0f32 --conv-template LM --sliding-window-size 8"));
    REQUIRE(refusal(made) == "");
    REQUIRE(made->notes.size() == 1);
    CHECK_THAT(made->notes[0], Catch::Contains("sliding_window_size"));
    CHECK(made->config["sliding_window_size"] == -1);
}

TEST_CASE("the tokenizer's files are copied, then the config is written", "[gen_config]") {
    const checkpoint model{{"config.json", llama}, {"tokenizer.json", bytes_tokenizer}, {"merges.txt", "x"}, {"special_tokens_map.json", "{}"}};
    test::temp_folder out;
    const auto output = out / "new/deep";
    const auto made = model.made(options_of("--quantization q0f32 --conv-template LM"), output);
    REQUIRE(refusal(made) == "");
    CHECK(made->config["tokenizer_files"] == json{"tokenizer.json", "merges.txt"});
    CHECK(made->config["tokenizer_info"]["token_postproc_method"] == "byte_level");
    CHECK(made->config["active_vocab_size"] == 3);
    CHECK_FALSE(fs::exists(output));
    REQUIRE(convert::write_chat_folder(*made, output));
    CHECK(test::entries(output) == std::vector<std::string>{"merges.txt", "mlc-chat-config.json", "tokenizer.json"});
    CHECK(test::read_text(fs::path(output) / "tokenizer.json") == bytes_tokenizer);
    CHECK(test::read_text(fs::path(output) / "mlc-chat-config.json") == made->config_text());
    REQUIRE(convert::write_chat_folder(*made, output));  // again, in its place
    test::write_text(fs::path(output) / "file", "");
    CHECK_FALSE(convert::write_chat_folder(*made, output + "/file"));

    // Onto itself it cannot be copied; a folder without a tokenizer may get its config.
    CHECK_THAT(refusal(model.made(options_of("--quantization q0f32 --conv-template LM"), model.folder.path().string())), Catch::Contains("onto itself"));
    const checkpoint bare{{"config.json", llama}};
    CHECK(refusal(bare.made(options_of("--quantization q0f32 --conv-template LM"), bare.folder.path().string())) == "");
    // The tokenizer.json of an earlier run is looked at, as by mlc_llm, but is not named.
    const auto after = bare.made(options_of("--quantization q0f32 --conv-template LM"), output);
    REQUIRE(refusal(after) == "");
    CHECK(after->config["tokenizer_info"]["token_postproc_method"] == "byte_level");
    CHECK(after->config["tokenizer_files"].empty());
    CHECK(after->config["active_vocab_size"] == 96);
}

TEST_CASE("a tokenizer that mlc_llm would convert is named as not converted", "[gen_config]") {
    for (const auto* name : {"tokenizer.model", "qwen.tiktoken", "rwkv_vocab_v20230424.txt"}) {
        const auto made = checkpoint{{"config.json", llama}, {name, "x"}}.made();
        REQUIRE(refusal(made) == "");
        REQUIRE(made->notes.size() == 1);
        CHECK_THAT(made->notes[0], Catch::Contains("is not converted"));
    }
    CHECK(checkpoint{{"config.json", llama}, {"tokenizer.model", "x"}, {"tokenizer.json", bytes_tokenizer}}.made()->notes.empty());
}

TEST_CASE("a link that leads out of the checkpoint is not followed unless allowed", "[gen_config]") {
    const checkpoint model{{"config.json", llama}};
    const checkpoint other{{"vocab.json", "{}"}};
    fs::create_symlink(other.folder / "vocab.json", model.folder.path() / "vocab.json");
    CHECK_THAT(refusal(model.made()), Catch::Contains("--follow-links"));
    auto options = options_of("--quantization q4f16_1 --conv-template LM");
    options.source.follow_links = true;
    CHECK(refusal(model.made(options)) == "");
}

}  // namespace gen_config_test
