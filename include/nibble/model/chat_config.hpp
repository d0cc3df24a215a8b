// SPDX-License-Identifier: Apache-2.0
#pragma once
// "model_config" of mlc-chat-config.json: for each model type of mlc_llm its fields with their defaults, and how what config.json
// leaves out is derived. Facts of mlc_llm's dataclasses (mlc_llm/model/*/*_model.py, ConfigBase.from_dict and __post_init__) and of
// the overrides that run all of it a second time (ConfigOverrideBase.apply). A value is kept as it is written in config.json: an
// int stays an int, 10000.0 stays a float. Where mlc_llm raises, there is a problem.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "nibble/core/json.hpp"
#include "nibble/core/python_json.hpp"
#include "nibble/core/result.hpp"
#include "nibble/model/architectures.hpp"

namespace nibble::model {

class chat_fields;

/// The fields of one of mlc_llm's configuration classes. A field is "name" (config.json must have it) or "name=default", the
/// default as JSON; fields stand in the order in which they are written.
struct chat_schema {
    std::string_view fields;
    std::string_view more_fields;  ///< of a derived class
    void (*derive)(chat_fields&);
};

/// The values of such a class while they are derived: its own fields, and the keys of config.json that it does not know.
class chat_fields {
public:
    /// Takes from `source` what the schema has, then derives. Problems name `file`.
    chat_fields(const chat_schema& schema, const json& source, std::string file) : file_(std::move(file)) {
        for (const auto list : {schema.fields, schema.more_fields}) add_fields(list, source);
        for (const auto& [key, value] : source.items()) {
            if (key == "kwargs") problem("\"kwargs\" is a key that mlc_llm takes for its own");
            if (!own.contains(key)) rest[key] = value;
        }
        if (problems.empty() && schema.derive != nullptr) schema.derive(*this);
    }

    json own = json::object();   ///< in the schema's order
    json rest = json::object();  ///< in config.json's order
    error_list problems;

    [[nodiscard]] json& operator[](std::string_view name) { return own[std::string(name)]; }

    /// The fields as a class inside another one is written: with what it did not know.
    [[nodiscard]] json nested() const {
        json all = own;
        all["kwargs"] = rest;
        return all;
    }
    /// A configuration class inside this one, derived from `source` in which an earlier run may have left "kwargs".
    [[nodiscard]] chat_fields inner(const chat_schema& schema, std::string_view name, json source) {
        if (!source.is_object()) {
            problem(quoted(name) + " must be an object");
            source = json::object();
        }
        if (const auto left = source.find("kwargs"); left != source.end()) {
            const json unknown = *left;
            source.erase("kwargs");
            if (unknown.is_object()) source.update(unknown);
        }
        chat_fields fields(schema, source, file_);
        for (auto& p : fields.problems) problems.push_back(std::move(p));
        return fields;
    }

    void problem(std::string rule, std::string remedy = "mlc_llm gen_config fails here too: correct config.json or the options") {
        problems.push_back({errc::mismatch, std::move(rule), file_, {}, {}, std::move(remedy)});
    }

    // What Python's expressions say of a value: == 0 (false is), is None, truth.
    [[nodiscard]] bool zero(std::string_view name) { return is_zero((*this)[name]); }
    [[nodiscard]] bool null(std::string_view name) { return (*this)[name].is_null(); }
    [[nodiscard]] bool truth(std::string_view name) {
        const auto& v = (*this)[name];
        return !v.is_null() && !is_zero(v) && !(v.is_string() && v.get_ref<const std::string&>().empty()) && !(v.is_structured() && v.empty());
    }
    [[nodiscard]] bool equals(std::string_view name, std::int64_t n) { return (*this)[name].is_number() && (*this)[name] == n; }
    [[nodiscard]] bool is_text(std::string_view name, std::initializer_list<std::string_view> texts) {
        const auto& v = (*this)[name];
        return v.is_string() && std::find(texts.begin(), texts.end(), v.get_ref<const std::string&>()) != texts.end();
    }

    /// Moves the first of these keys that config.json has to the field; false if there is none.
    bool take(std::string_view name, std::initializer_list<std::string_view> keys) {
        for (const auto key : keys) {
            const auto at = rest.find(key);
            if (at == rest.end()) continue;
            (*this)[name] = *at;
            rest.erase(std::string(key));
            return true;
        }
        return false;
    }

    /// A number, or a problem and 0.
    [[nodiscard]] long double number(std::string_view name) { return number((*this)[name], name); }
    [[nodiscard]] long double number(const json& v, std::string_view name) {
        if (v.is_number_unsigned()) return static_cast<long double>(v.get<std::uint64_t>());
        if (v.is_number_integer()) return static_cast<long double>(v.get<std::int64_t>());
        if (v.is_number_float()) return static_cast<long double>(v.get<double>());
        if (v.is_boolean()) return v.get<bool>() ? 1 : 0;  // as in Python
        problem(quoted(name) + " is " + shown(v) + ", a number is needed");
        return 0;
    }

    /// name = a // b where name is 0.
    void default_quotient(std::string_view name, std::string_view a, std::string_view b) {
        if (!zero(name)) return;
        const auto over = number(a), under = number(b);
        if (problems.empty() && under == 0) problem(quoted(b) + " is 0");
        if (problems.empty()) (*this)[name] = made(std::floor(over / under), is_whole(a) && is_whole(b));
    }
    /// a * b must be c.
    void need_product(std::string_view a, std::string_view b, std::string_view c) {
        if (number(a) * number(b) != number(c) && problems.empty())
            problem(quoted(a) + " times " + quoted(b) + " is not " + quoted(c) + " (" + shown((*this)[a]) + ", " + shown((*this)[b]) + ", " +
                    shown((*this)[c]) + ")");
    }
    /// b must divide a.
    void need_multiple(std::string_view a, std::string_view b) {
        const auto over = number(a), under = number(b);
        if (problems.empty() && (under == 0 || std::fmod(over, under) != 0))
            problem(quoted(a) + " (" + shown((*this)[a]) + ") is not a multiple of " + quoted(b) + " (" + shown((*this)[b]) + ")");
    }
    /// name = 4 * of.
    void set_fourfold(std::string_view name, std::string_view of) { (*this)[name] = made(4 * number(of), is_whole(of)); }
    /// The smaller of a field and a number, the field if they are equal.
    [[nodiscard]] json least(std::string_view name, std::int64_t cap) { return number(name) <= static_cast<long double>(cap) ? (*this)[name] : json(cap); }

    /// rope_theta, or 10000, where config.json has no position_embedding_base.
    void derive_rope_base() {
        if (zero("position_embedding_base") && !take("position_embedding_base", {"rope_theta"})) (*this)["position_embedding_base"] = 10000;
    }
    /// The context from these keys where it is not given.
    void derive_context(std::initializer_list<std::string_view> keys = {"max_position_embeddings", "max_sequence_length"}) {
        if (!zero("context_window_size") || take("context_window_size", keys)) return;
        std::string names = "\"context_window_size\"";
        for (const auto key : keys) names += ", " + quoted(key);
        problem("the context length is not stated: there is none of " + names);
    }
    /// The prefill chunk, 0 or larger than the context, becomes the context up to `cap`.
    void derive_prefill(std::int64_t cap = 8192) {
        if (zero("prefill_chunk_size") || number("prefill_chunk_size") > number("context_window_size")) {
            (*this)["prefill_chunk_size"] = least("context_window_size", cap);
        }
    }
    void derive_kv_heads() {
        if (zero("num_key_value_heads")) (*this)["num_key_value_heads"] = (*this)["num_attention_heads"];
    }
    void derive_head_dim() { default_quotient("head_dim", "hidden_size", "num_attention_heads"); }
    void need_whole_heads() { need_product("head_dim", "num_attention_heads", "hidden_size"); }
    void need_grouped_heads() { need_multiple("num_attention_heads", "num_key_value_heads"); }
    void need_stages() {
        if (number("pipeline_parallel_stages") <= 0 || number("pipeline_parallel_stages") > number("num_hidden_layers"))
            problem("\"pipeline_parallel_stages\" is " + shown((*this)["pipeline_parallel_stages"]) + ", from 1 to the number of layers is possible");
    }

    [[nodiscard]] static std::string quoted(std::string_view name) { return '"' + std::string(name) + '"'; }
    [[nodiscard]] static std::string shown(const json& v) { return v.is_structured() ? v.type_name() : python_json(v, 0).substr(0, 60); }
    [[nodiscard]] const std::string& file() const { return file_; }

private:
    [[nodiscard]] static bool is_zero(const json& v) { return (v.is_number() && v == 0) || (v.is_boolean() && !v.get<bool>()); }
    [[nodiscard]] bool is_whole(std::string_view name) { return !(*this)[name].is_number_float(); }

    /// A number that was computed, as Python would hold it.
    [[nodiscard]] json made(long double x, bool whole) {
        if (!whole) return static_cast<double>(x);
        if (std::fabs(x) < 9.2e18L) return static_cast<std::int64_t>(x);
        problem("a number in it is too large to be meant");
        return 0;
    }

    void add_fields(std::string_view list, const json& source) {
        while (!list.empty()) {
            const auto end = std::min(list.find(' '), list.size());
            const auto item = list.substr(0, end);
            list.remove_prefix(std::min(end + 1, list.size()));
            const auto equal = item.find('=');
            const std::string name(item.substr(0, equal));
            if (const auto given = source.find(name); given != source.end())
                own[name] = *given;
            else if (equal != item.npos)
                own[name] = json::parse(item.substr(equal + 1));
            else
                problem(quoted(name) + " is missing");
        }
    }

    std::string file_;
};

/// The fields of mlc_llm's configuration classes, in the order of their declaration.
namespace chat_field_lists {

inline constexpr std::string_view llama =
    "hidden_size intermediate_size num_attention_heads num_hidden_layers rms_norm_eps vocab_size tie_word_embeddings=false "
    "position_embedding_base=0 rope_scaling=null context_window_size=0 prefill_chunk_size=0 num_key_value_heads=0 head_dim=0 "
    "tensor_parallel_shards=1 pipeline_parallel_stages=1 max_batch_size=1 disaggregation=false";
inline constexpr std::string_view llama4 =
    "text_config tensor_parallel_shards=1 context_window_size=0 pipeline_parallel_stages=1 prefill_chunk_size=0 max_batch_size=1 "
    "disaggregation=false vocab_size=202048";
inline constexpr std::string_view mistral =
    "hidden_size intermediate_size num_attention_heads num_hidden_layers rms_norm_eps vocab_size position_embedding_base=0 "
    "num_key_value_heads=0 head_dim=0 context_window_size=0 sliding_window_size=0 prefill_chunk_size=0 attention_sink_size=4 "
    "tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view ministral3 =
    "hidden_size intermediate_size num_attention_heads num_hidden_layers rms_norm_eps vocab_size attention_sink_size=0 context_window_size=0 "
    R"(dtype="float32" head_dim=0 hidden_act="silu" max_batch_size=1 num_key_value_heads=0 position_embedding_base=0 prefill_chunk_size=0 )"
    "rope_parameters=null sliding_window_size=0 tensor_parallel_shards=1 tie_word_embeddings=false weight_block_size=null "
    "modules_to_not_convert=[]";
inline constexpr std::string_view gemma =
    "hidden_size intermediate_size attention_bias num_attention_heads num_key_value_heads head_dim num_hidden_layers rms_norm_eps vocab_size "
    "hidden_activation=null position_embedding_base=0 context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view gemma3 =
    "text_config=null vocab_size=262208 tensor_parallel_shards=1 max_batch_size=1 context_window_size=-1 sliding_window_size=-1 "
    "prefill_chunk_size=-1 is_text_model=false";
inline constexpr std::string_view gpt2 =
    "vocab_size n_embd n_layer n_head layer_norm_epsilon n_inner=-1 context_window_size=0 prefill_chunk_size=0 "
    "scale_attn_by_inverse_layer_idx=false tensor_parallel_shards=1 head_dim=0 max_batch_size=1";
inline constexpr std::string_view gpt_neox =
    "use_parallel_residual hidden_size intermediate_size num_attention_heads num_hidden_layers layer_norm_eps vocab_size rotary_pct "
    R"(position_embedding_base=0 context_window_size=0 head_dim=0 prefill_chunk_size=0 tensor_parallel_shards=1 ffn_out_dtype="float32" )"
    "max_batch_size=1";
inline constexpr std::string_view gpt_bigcode =
    "n_embd n_inner n_head n_layer n_positions layer_norm_epsilon vocab_size context_window_size=0 prefill_chunk_size=0 "
    "tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view phi_msft =
    "model_type vocab_size=51200 n_positions=2048 n_embd=2560 n_layer=32 n_inner=0 n_head=32 rotary_dim=32 position_embedding_base=0 "
    "layer_norm_epsilon=1e-05 context_window_size=0 prefill_chunk_size=0 n_head_kv=0 head_dim=0 tensor_parallel_shards=1";
inline constexpr std::string_view phi =
    "vocab_size=51200 hidden_size=2048 intermediate_size=8192 num_hidden_layers=24 num_attention_heads=32 layer_norm_eps=1e-05 "
    "position_embedding_base=0 partial_rotary_factor=0.5 num_key_value_heads=0 context_window_size=0 prefill_chunk_size=0 head_dim=0 "
    "tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view phi3 =
    "model_type hidden_size vocab_size num_hidden_layers num_attention_heads intermediate_size rms_norm_eps num_key_value_heads "
    "max_position_embeddings position_embedding_base=0 rope_scaling=null original_max_position_embeddings=0 context_window_size=0 "
    "prefill_chunk_size=0 head_dim=0 tensor_parallel_shards=1 max_batch_size=1 tie_word_embeddings=false partial_rotary_factor=1.0";
inline constexpr std::string_view phi3_v =
    "model_type hidden_size vocab_size num_hidden_layers num_attention_heads intermediate_size rms_norm_eps num_key_value_heads "
    "max_position_embeddings vision_config=null img_processor=null position_embedding_base=0 rope_scaling=null "
    "original_max_position_embeddings=0 context_window_size=0 prefill_chunk_size=0 head_dim=0 tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view qwen =
    "vocab_size hidden_size num_hidden_layers num_attention_heads layer_norm_epsilon scale_attn_weights kv_channels rotary_emb_base "
    "intermediate_size context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 head_dim=0";
inline constexpr std::string_view qwen2 =
    "hidden_act hidden_size intermediate_size num_attention_heads num_hidden_layers num_key_value_heads rms_norm_eps rope_theta vocab_size "
    R"(tie_word_embeddings=false context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 head_dim=0 dtype="float32" max_batch_size=1)";
inline constexpr std::string_view qwen3 =
    "hidden_act hidden_size intermediate_size attention_bias num_attention_heads num_hidden_layers num_key_value_heads rms_norm_eps rope_theta "
    R"(vocab_size tie_word_embeddings=false context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 head_dim=0 dtype="float32" )"
    "max_batch_size=1 weight_block_size=null";
inline constexpr std::string_view qwen3_5 =
    "hidden_size=0 intermediate_size=0 num_attention_heads=0 num_hidden_layers=0 num_key_value_heads=0 rms_norm_eps=1e-06 vocab_size=0 "
    R"(rope_theta=10000000 head_dim=256 hidden_act="silu" attention_bias=false tie_word_embeddings=false linear_key_head_dim=128 )"
    "linear_value_head_dim=128 linear_num_key_heads=16 linear_num_value_heads=16 linear_conv_kernel_dim=4 full_attention_interval=4 "
    R"(partial_rotary_factor=0.25 context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 dtype="float32" max_batch_size=1)";
inline constexpr std::string_view deepseek_v2 =
    "vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads num_key_value_heads n_shared_experts "
    "n_routed_experts num_experts_per_tok norm_topk_prob first_k_dense_replace moe_layer_freq routed_scaling_factor scoring_func topk_method "
    "n_group topk_group attention_bias kv_lora_rank qk_rope_head_dim v_head_dim qk_nope_head_dim rms_norm_eps rope_theta q_lora_rank=null "
    R"(rope_scaling=null context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 dtype="float32" max_batch_size=1 )"
    "weight_block_size=null";
inline constexpr std::string_view stablelm =
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads layer_norm_eps partial_rotary_factor rope_theta "
    "intermediate_size use_qkv_bias=false head_dim=0 context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view baichuan =
    "vocab_size hidden_size num_hidden_layers num_attention_heads initializer_range intermediate_size rms_norm_eps use_cache pad_token_id "
    "bos_token_id eos_token_id tie_word_embeddings context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 "
    "head_dim=0";
inline constexpr std::string_view internlm =
    "vocab_size hidden_size num_hidden_layers num_attention_heads rms_norm_eps intermediate_size bias use_cache pad_token_id bos_token_id "
    "eos_token_id context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 head_dim=0";
inline constexpr std::string_view internlm2 =
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads rms_norm_eps intermediate_size bias use_cache rope_theta "
    "pad_token_id bos_token_id eos_token_id context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 head_dim=0";
inline constexpr std::string_view rwkv5 =
    "hidden_size intermediate_size num_hidden_layers vocab_size model_version tensor_parallel_shards=1 rescale_every=0 head_size=64 "
    "layer_norm_epsilon=1e-05 context_window_size=-1 prefill_chunk_size=4096 num_heads=0 max_batch_size=1";
inline constexpr std::string_view orion =
    "hidden_size intermediate_size num_attention_heads num_hidden_layers rms_norm_eps vocab_size position_embedding_base=0 "
    "context_window_size=0 prefill_chunk_size=0 num_key_value_heads=0 head_dim=0 tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view llava =
    "image_token_index text_config vision_config vocab_size context_window_size=-1 sliding_window_size=-1 prefill_chunk_size=-1 "
    R"(tensor_parallel_shards=1 max_batch_size=1 text_architecture="LlamaForCausalLM")";
inline constexpr std::string_view rwkv6 =
    R"(hidden_size intermediate_size num_hidden_layers vocab_size model_version="6_0" tensor_parallel_shards=1 rescale_every=0 head_size=64 )"
    "layer_norm_epsilon=1e-05 context_window_size=-1 prefill_chunk_size=4096 num_heads=0 max_batch_size=1";
inline constexpr std::string_view chatglm =
    "hidden_size num_layers kv_channels num_attention_heads ffn_hidden_size layernorm_epsilon post_layer_norm rmsnorm add_bias_linear "
    "add_qkv_bias apply_query_key_layer_scaling multi_query_attention multi_query_group_num vocab_size=0 context_window_size=0 "
    "prefill_chunk_size=0 tensor_parallel_shards=1 head_dim=0 max_batch_size=1";
inline constexpr std::string_view bert =
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act layer_norm_eps context_window_size=0 "
    "prefill_chunk_size=0 tensor_parallel_shards=1 type_vocab_size=2 pad_token_id=0 position_offset=0 head_dim=0 max_batch_size=1";
inline constexpr std::string_view medusa =
    "medusa_num_heads medusa_num_layers hidden_size vocab_size max_batch_size=1 tensor_parallel_shards=1 prefill_chunk_size=-1 "
    "context_window_size=-1";
inline constexpr std::string_view starcoder2 =
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act norm_epsilon intermediate_size rope_theta "
    "use_bias use_cache bos_token_id eos_token_id context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 "
    "head_dim=0";
inline constexpr std::string_view cohere =
    "model_type hidden_size vocab_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size layer_norm_eps "
    "position_embedding_base=0 context_window_size=0 prefill_chunk_size=0 head_dim=0 tensor_parallel_shards=1 max_batch_size=1";
inline constexpr std::string_view minicpm =
    "vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act rms_norm_eps intermediate_size scale_emb "
    "scale_depth dim_model_base use_cache bos_token_id eos_token_id tie_word_embeddings=false rope_theta=10000 context_window_size=0 "
    "prefill_chunk_size=0 tensor_parallel_shards=1 head_dim=0 max_batch_size=1 num_experts_per_tok=0 num_experts=0";
inline constexpr std::string_view deepseek =
    "vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads num_key_value_heads n_shared_experts "
    "n_routed_experts moe_layer_freq first_k_dense_replace hidden_act norm_topk_prob attention_bias rms_norm_eps use_cache bos_token_id "
    "eos_token_id tie_word_embeddings=false rope_theta=10000 context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 head_dim=0 "
    "max_batch_size=1 num_experts_per_tok=0";
inline constexpr std::string_view gptj =
    "vocab_size n_embd n_layer n_head layer_norm_epsilon rotary_dim activation_function n_inner=-1 rope_scaling=null context_window_size=0 "
    "prefill_chunk_size=0 tensor_parallel_shards=1 max_batch_size=1 head_dim=0";
inline constexpr std::string_view olmo =
    "vocab_size=null hidden_size=null num_attention_heads=null num_key_value_heads=0 head_dim=0 position_embedding_base=0 rope_scaling=null "
    "intermediate_size=null hidden_act=null num_hidden_layers=null tie_word_embeddings=false context_window_size=0 prefill_chunk_size=0 "
    "tensor_parallel_shards=1 pipeline_parallel_stages=1 max_batch_size=1 clip_qkv=null";
inline constexpr std::string_view olmo2 =
    "vocab_size=null hidden_size=null num_attention_heads=null num_key_value_heads=0 head_dim=0 position_embedding_base=0 rope_scaling=null "
    "intermediate_size=null hidden_act=null num_hidden_layers=null rms_norm_eps=1e-05 tie_word_embeddings=false context_window_size=0 "
    "prefill_chunk_size=0 tensor_parallel_shards=1 pipeline_parallel_stages=1 max_batch_size=1";
inline constexpr std::string_view nemotron =
    "vocab_size max_position_embeddings hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
    "rope_theta=10000 partial_rotary_factor=0.5 rope_scaling=null norm_eps=1e-05 head_dim=0 tie_word_embeddings=false mlp_bias=false "
    "context_window_size=0 prefill_chunk_size=0 tensor_parallel_shards=1 pipeline_parallel_stages=1 max_batch_size=1 disaggregation=false";

// Classes inside others.
inline constexpr std::string_view llama4_text =
    "hidden_size intermediate_size num_attention_heads num_hidden_layers rms_norm_eps rope_theta use_qk_norm interleave_moe_layer_step "
    "num_experts_per_tok num_local_experts hidden_act tie_word_embeddings=false position_embedding_base=0 rope_scaling=null num_key_value_heads=0 "
    "head_dim=0 attn_scale=0.1 floor_scale=8192 vocab_size=202048 attention_bias=false attn_temperature_tuning=true no_rope_layers=null "
    "no_rope_layer_interval=4 moe_layers=null";
inline constexpr std::string_view gemma3_text =
    "hidden_size intermediate_size num_hidden_layers attention_bias=false num_attention_heads=8 num_key_value_heads=4 head_dim=256 "
    R"(rms_norm_eps=1e-06 hidden_activation="gelu_pytorch_tanh" position_embedding_base=1000000 rope_scaling=0 context_window_size=131072 )"
    "prefill_chunk_size=0 query_pre_attn_scalar=256 sliding_window_size=null";
inline constexpr std::string_view clip_vision =
    "hidden_size image_size intermediate_size num_attention_heads num_hidden_layers patch_size projection_dim vocab_size num_channels=3 "
    "layer_norm_eps=1e-06";

}  // namespace chat_field_lists

/// What the classes derive when they are made, one function a class that differs.
namespace derive {

inline void nothing(chat_fields&) {}

/// Most classes: the context, the size of a head, which must fill the hidden size, the prefill chunk.
inline void usual(chat_fields& f) {
    f.derive_context();
    f.derive_head_dim();
    f.need_whole_heads();
    f.derive_prefill();
}

/// rope_scaling of Llama's kind: what does not state its "rope_type" is dropped.
inline void llama3_rope(chat_fields& f) {
    auto& scaling = f["rope_scaling"];
    if (scaling.is_null()) return;
    if (!scaling.is_object()) return f.problem("\"rope_scaling\" must be an object");
    const auto type = scaling.find("rope_type");
    if (type == scaling.end())
        scaling = nullptr;
    else if (*type != "llama3")
        f.problem("RoPE scaling of type " + chat_fields::shown(*type) + " is not supported for this model type, only \"llama3\"");
}

inline void llama(chat_fields& f) {
    f.derive_rope_base();
    llama3_rope(f);
    f.derive_context();
    f.need_stages();
    f.derive_kv_heads();
    f.derive_head_dim();
    f.need_grouped_heads();
    f.derive_prefill();
}

inline void llama4_text(chat_fields& f) {
    f.derive_rope_base();
    llama3_rope(f);
    const auto layers = f.number("num_hidden_layers"), interval = f.number("no_rope_layer_interval"), step = f.number("interleave_moe_layer_step");
    if (layers > config::max_layers) f.problem("\"num_hidden_layers\" is more than " + std::to_string(config::max_layers));
    if (interval == 0 || step == 0) f.problem("\"no_rope_layer_interval\" and \"interleave_moe_layer_step\" must not be 0");
    if (!f.problems.empty()) return;
    const auto n = static_cast<std::int64_t>(layers);
    if (!f.truth("no_rope_layers")) {
        f["no_rope_layers"] = json::array();
        for (std::int64_t i = 0; i < n; ++i) f["no_rope_layers"].push_back((i + 1) % static_cast<std::int64_t>(interval) != 0 ? 1 : 0);
    }
    if (f.null("moe_layers")) {
        f["moe_layers"] = json::array();
        const auto every = static_cast<std::int64_t>(step);
        for (std::int64_t i = every - 1; every > 0 && i < n; i += every) f["moe_layers"].push_back(i);
    }
}

inline void llama4(chat_fields& f) {
    auto text = f.inner({chat_field_lists::llama4_text, {}, llama4_text}, "text_config", f["text_config"]);
    if (f.zero("context_window_size")) f["context_window_size"] = 131072;
    if (!f.problems.empty()) return;
    text.derive_kv_heads();
    text.derive_head_dim();
    text.need_grouped_heads();
    for (auto& p : text.problems) f.problems.push_back(std::move(p));
    f["text_config"] = text.nested();
    f.derive_prefill();
}

/// Mistral's windows: a sliding window takes the place of the context where that is not given.
inline void mistral_windows(chat_fields& f) {
    if (f.zero("sliding_window_size") && !f.take("sliding_window_size", {"sliding_window"})) f["sliding_window_size"] = -1;
    if (f.null("sliding_window_size")) f["sliding_window_size"] = -1;
    if (f.zero("context_window_size") && !f.equals("sliding_window_size", -1))
        f["context_window_size"] = -1;
    else
        f.derive_context();
    f.derive_kv_heads();
    f.derive_head_dim();
    f.need_grouped_heads();
    if (f.number("attention_sink_size") < 0) f.problem("\"attention_sink_size\" must not be negative");
    if (!f.zero("prefill_chunk_size")) return;
    if (f.equals("sliding_window_size", -1) && f.equals("context_window_size", -1))
        return f.problem("neither a context nor a sliding window is set, and so no prefill chunk size follows");
    for (const auto* window : {"sliding_window_size", "context_window_size"}) {
        if (f.equals(window, -1)) continue;
        const auto& least_so_far = f["prefill_chunk_size"];
        if (f.zero("prefill_chunk_size") || f.number(window) < f.number(least_so_far, window)) f["prefill_chunk_size"] = f.least(window, 8192);
    }
}

inline void mistral(chat_fields& f) {
    f.derive_rope_base();
    mistral_windows(f);
}

/// A block size of fp8 scales must be a pair.
inline void take_block_size(chat_fields& f, const json& size) {
    if (!size.is_array() || size.size() != 2) return f.problem("quantization_config: \"weight_block_size\" must be a list of two integers");
    f["weight_block_size"] = size;
}

inline bool has_text(const json& object, const char* key, std::string_view text) {
    const auto at = object.find(key);
    return at != object.end() && at->is_string() && at->get_ref<const std::string&>() == text;
}

inline void ministral3(chat_fields& f) {
    if (const auto at = f.rest.find("quantization_config"); at != f.rest.end()) {
        const json q = *at;
        f.rest.erase("quantization_config");
        if (!q.is_object() || !has_text(q, "quant_method", "fp8") || !has_text(q, "activation_scheme", "static"))
            return f.problem("quantization_config: of Ministral 3 only static fp8 is supported");
        if (q.contains("modules_to_not_convert") && q["modules_to_not_convert"].is_array())
            f["modules_to_not_convert"] = q["modules_to_not_convert"];
        else if (!q.contains("modules_to_not_convert"))
            f["modules_to_not_convert"] = json::array();
        take_block_size(f, q.value("weight_block_size", json()).is_null() ? json{128, 128} : q["weight_block_size"]);
    }
    auto& rope = f["rope_parameters"];
    if (f.zero("position_embedding_base") && rope.is_object() && rope.contains("rope_theta")) {
        f["position_embedding_base"] = rope["rope_theta"];
        f["rope_parameters"].erase("rope_theta");
    } else {
        f.derive_rope_base();
    }
    mistral_windows(f);
}

/// What Gemma 1 to 3 say of their activation and biases.
inline void gemma_limits(chat_fields& f) {
    if (f.null("hidden_activation") && f.rest.contains("hidden_act")) f["hidden_activation"] = f.rest["hidden_act"];
    if (!f.is_text("hidden_activation", {"gelu", "gelu_pytorch_tanh"})) f.problem("\"hidden_activation\" of a Gemma must be gelu or gelu_pytorch_tanh");
    if (f.truth("attention_bias")) f.problem("\"attention_bias\" of a Gemma must be false");
}

inline void gemma(chat_fields& f) {
    gemma_limits(f);
    f.derive_rope_base();
    f.derive_context();
    f.need_grouped_heads();
    f.derive_prefill();
}

inline void gemma2(chat_fields& f) {
    gemma(f);
    f["context_window_size"] = f["sliding_window"];  // always, so that a context given by option acts on the prefill chunk alone
}

inline void gemma3_text(chat_fields& f) {
    gemma_limits(f);
    if (f.null("sliding_window_size") && f.rest.contains("sliding_window")) f["sliding_window_size"] = f.rest["sliding_window"];
    if (f.equals("position_embedding_base", 1000000)) f.take("position_embedding_base", {"rope_theta"});
    f.derive_context();
    f.need_grouped_heads();
    f.derive_prefill();
    f["context_window_size"] = f.number("sliding_window_size") >= 8192 ? f["sliding_window_size"] : json(8192);
}

inline void gemma3(chat_fields& f) {
    const chat_schema schema{chat_field_lists::gemma3_text, {}, gemma3_text};
    json source = f["text_config"];
    if (source.is_null()) {
        f["is_text_model"] = true;
        source = f.inner(schema, "text_config", f.rest).nested();
        if (!f.problems.empty()) return;
    }
    auto text = f.inner(schema, "text_config", std::move(source));
    f["text_config"] = text.nested();
    for (const auto* name : {"context_window_size", "prefill_chunk_size", "sliding_window_size"}) {
        if (f.number(name) <= 0) f[name] = text[name];
    }
}

inline void gpt2(chat_fields& f) {
    if (f.null("n_inner") || f.equals("n_inner", -1)) f.set_fourfold("n_inner", "n_embd");
    f.derive_context({"n_positions", "max_sequence_length"});
    f.default_quotient("head_dim", "n_embd", "n_head");
    f.need_product("head_dim", "n_head", "n_embd");
    f.derive_prefill();
}

inline void gptj(chat_fields& f) {
    f.derive_context({"max_position_embeddings", "n_positions"});
    f.default_quotient("head_dim", "n_embd", "n_head");
    f.need_product("head_dim", "n_head", "n_embd");
    f.derive_prefill();
}

inline void gpt_neox(chat_fields& f) {
    f.derive_rope_base();
    usual(f);
}

inline void gpt_bigcode(chat_fields& f) {
    if (f.zero("context_window_size")) {
        if (f.number("n_positions") <= 0) f.problem("the context length is not stated: \"n_positions\" must be positive");
        f["context_window_size"] = f["n_positions"];
    }
    f.derive_prefill();
}

inline void phi_msft(chat_fields& f) {
    f.derive_rope_base();
    if (f.zero("context_window_size") && !f.take("context_window_size", {"max_position_embeddings", "max_sequence_length"}))
        f["context_window_size"] = f["n_positions"];
    if (f.zero("prefill_chunk_size") || f.number("prefill_chunk_size") > f.number("context_window_size")) f["prefill_chunk_size"] = f["context_window_size"];
    if (f.zero("n_head_kv") || f.null("n_head_kv")) f["n_head_kv"] = f["n_head"];
    if (f.zero("n_inner") || f.null("n_inner")) f.set_fourfold("n_inner", "n_embd");
    f.default_quotient("head_dim", "n_embd", "n_head");
    f.need_product("head_dim", "n_head", "n_embd");
    f.need_multiple("n_head", "n_head_kv");
}

inline void phi(chat_fields& f) {
    f.derive_rope_base();
    f.derive_context();
    f.derive_prefill();
    if (f.null("num_key_value_heads")) f["num_key_value_heads"] = 0;
    f.derive_kv_heads();
    if (f.zero("intermediate_size") || f.null("intermediate_size")) f.set_fourfold("intermediate_size", "hidden_size");
    f.derive_head_dim();
    f.need_whole_heads();
    f.need_grouped_heads();
}

inline void phi3(chat_fields& f) {
    f.derive_rope_base();
    if (auto& scaling = f["rope_scaling"]; !scaling.is_null()) {
        if (!scaling.is_object()) return f.problem("\"rope_scaling\" must be an object");
        if (!scaling.contains("type")) {
            scaling = nullptr;
        } else {
            if (scaling["type"] == "su") scaling["type"] = "longrope";
            if (scaling["type"] != "longrope") return f.problem("RoPE scaling of type " + chat_fields::shown(scaling["type"]) + " is not supported for Phi-3");
            scaling["rope_type"] = "longrope";
            for (const auto* name : {"max_position_embeddings", "original_max_position_embeddings"}) f["rope_scaling"][name] = json(f[name]);
        }
    }
    if (f.zero("context_window_size")) f["context_window_size"] = f["max_position_embeddings"];
    f.derive_prefill();
    if (f.null("num_key_value_heads")) f["num_key_value_heads"] = 0;
    f.derive_kv_heads();
    f.derive_head_dim();
    f.need_whole_heads();
    f.need_grouped_heads();
}

/// The vision tower is written as these values whatever config.json says of it.
inline void phi3_v(chat_fields& f) {
    json clip{{"hidden_size", 1024}, {"image_size", 336},     {"intermediate_size", 4096}, {"num_attention_heads", 16}, {"num_hidden_layers", 24},
              {"patch_size", 14},    {"projection_dim", 768}, {"layer_norm_eps", 1e-05},   {"vocab_size", nullptr}};
    f["vision_config"] = f.inner({chat_field_lists::clip_vision, {}, nothing}, "vision_config", std::move(clip)).nested();
    phi3(f);
}

inline void qwen(chat_fields& f) { usual(f); }
inline void qwen2(chat_fields& f) { usual(f); }
inline void stablelm(chat_fields& f) { usual(f); }
inline void baichuan(chat_fields& f) { usual(f); }
inline void internlm(chat_fields& f) { usual(f); }
inline void starcoder2(chat_fields& f) { usual(f); }
inline void minicpm(chat_fields& f) { usual(f); }
inline void deepseek(chat_fields& f) { usual(f); }

inline void internlm2(chat_fields& f) {
    f.derive_context();
    f.derive_head_dim();
    f.need_whole_heads();
    f.derive_prefill(2048);
}

/// Weights that come as fp8 with scales of blocks: only this way of them is known.
inline void fp8_blocks(chat_fields& f) {
    const auto at = f.rest.find("quantization_config");
    if (at == f.rest.end()) return;
    const bool known = at->is_object() && has_text(*at, "activation_scheme", "dynamic") && has_text(*at, "fmt", "e4m3") &&
                       has_text(*at, "quant_method", "fp8") && at->contains("weight_block_size");
    if (!known) return f.problem("quantization_config: only dynamic fp8 in e4m3 with a weight_block_size is supported");
    take_block_size(f, (*at)["weight_block_size"]);
}

inline void qwen3(chat_fields& f) {
    fp8_blocks(f);
    f.derive_context();
    f.derive_prefill(2048);
}

inline void qwen3_5(chat_fields& f) {
    const auto take_rope = [&](const json& rope) {
        for (const auto* name : {"rope_theta", "partial_rotary_factor"}) {
            if (rope.is_object() && rope.contains(name)) f[name] = rope[name];
        }
    };
    if (const auto at = f.rest.find("text_config"); at != f.rest.end()) {
        const json text = *at;
        f.rest.erase("text_config");
        if (text.is_object()) {
            for (const auto& [key, value] : text.items()) (f.own.contains(key) ? f.own : f.rest)[key] = value;
            if (text.contains("rope_parameters")) take_rope(text["rope_parameters"]);
        }
    }
    if (const auto at = f.rest.find("rope_parameters"); at != f.rest.end()) {
        take_rope(*at);
        f.rest.erase("rope_parameters");
    }
    f.derive_context();
    f.derive_prefill(2048);
}

inline void deepseek_v2(chat_fields& f) {
    fp8_blocks(f);
    f.derive_context();
    f.need_grouped_heads();
    f.derive_prefill(2048);
}

inline void rwkv(chat_fields& f, std::string_view version) {
    if (!f.is_text("model_version", {version})) f.problem("\"model_version\" must be \"" + std::string(version) + "\"");
    if (!f.truth("intermediate_size")) {
        const auto wide = std::trunc(f.number("hidden_size") * 3.5L);
        f["intermediate_size"] = static_cast<std::int64_t>(std::floor(std::min(wide, 1e18L) / 32)) * 32;
    }
    f.default_quotient("num_heads", "hidden_size", "head_size");
    f.need_product("num_heads", "head_size", "hidden_size");
    if (!f.equals("tensor_parallel_shards", 1)) f.problem("RWKV runs on one device: \"tensor_parallel_shards\" must be 1");
}
inline void rwkv5(chat_fields& f) { rwkv(f, "5_2"); }
inline void rwkv6(chat_fields& f) { rwkv(f, "6_0"); }

inline void orion(chat_fields& f) {
    f.derive_rope_base();
    f.derive_kv_heads();
    f.need_grouped_heads();
    usual(f);
}

inline void chatglm(chat_fields& f) {
    if (f.zero("vocab_size")) f.take("vocab_size", {"padded_vocab_size"});
    f.derive_context({"max_position_embeddings", "seq_length"});
    f.derive_head_dim();
    f.need_whole_heads();
    f.derive_prefill();
}

inline void bert(chat_fields& f) {
    if (f.null("intermediate_size") || f.equals("intermediate_size", -1)) f.set_fourfold("intermediate_size", "hidden_size");
    f.derive_context();
    f.derive_head_dim();
    f.need_whole_heads();
    f.derive_prefill(std::numeric_limits<std::int64_t>::max());
}

inline void medusa(chat_fields&) {}

/// All of it hangs on position_embedding_base being absent, and so nothing is derived anew when options override.
inline void cohere(chat_fields& f) {
    if (!f.zero("position_embedding_base")) return;
    f["position_embedding_base"] = f.rest.contains("rope_theta") ? f.rest["rope_theta"] : json(10000);
    if (f.zero("context_window_size")) f.take("context_window_size", {"max_position_embeddings", "max_sequence_length"});
    f.derive_prefill();
    if (f.null("num_key_value_heads")) f["num_key_value_heads"] = 0;
    f.derive_kv_heads();
    f.derive_head_dim();
    f.need_whole_heads();
    f.need_grouped_heads();
}

inline void olmo2(chat_fields& f) {
    f.derive_kv_heads();
    f.derive_head_dim();
    f.need_grouped_heads();
    f.derive_rope_base();
    f.derive_context();
    f.derive_prefill();
    f.need_stages();
}

inline void olmo(chat_fields& f) {
    olmo2(f);
    if (!f.null("clip_qkv") && f.number("clip_qkv") <= 0) f.problem("\"clip_qkv\" must be positive");
}

inline void nemotron(chat_fields& f) {
    if (f.zero("context_window_size")) f["context_window_size"] = f["max_position_embeddings"];
    f.derive_head_dim();
    f.need_whole_heads();
    (void)f.number("partial_rotary_factor");
    f.derive_prefill();
}

inline void llava(chat_fields& f) {
    f["vision_config"] = f.inner({chat_field_lists::clip_vision, {}, nothing}, "vision_config", f["vision_config"]).nested();
    if (f["text_config"].is_object() && f["text_config"].contains("_name_or_path"))
        return f.problem("text_config refers to another repository (\"_name_or_path\"), which mlc_llm fetches and nibble does not",
                         "put the config.json of that model in its place");
    const bool is_mistral = f.is_text("text_architecture", {"MistralForCausalLM"});
    if (!is_mistral && !f.is_text("text_architecture", {"LlamaForCausalLM"})) return f.problem("\"text_architecture\" is not one that is known for LLaVA");
    auto text = f.inner(is_mistral ? chat_schema{chat_field_lists::mistral, {}, mistral} : chat_schema{chat_field_lists::llama, {}, llama}, "text_config",
                        f["text_config"]);
    f["text_config"] = text.nested();
    for (const auto* name : {"context_window_size", "sliding_window_size", "prefill_chunk_size"}) {
        if (f.number(name) <= 0 && text.own.contains(name)) f[name] = text[name];
    }
}

}  // namespace derive

/// One model type of mlc_llm's registry.
struct chat_model {
    std::string_view model_type;
    chat_schema schema;
    std::string_view embedding_type{};     ///< of an embedding model: "encoder" or "decoder"
    std::string_view embedding_pooling{};  ///< and "cls" or "last"
};

inline constexpr std::array chat_models{
    chat_model{"llama", {chat_field_lists::llama, {}, derive::llama}},
    chat_model{"llama4", {chat_field_lists::llama4, {}, derive::llama4}},
    chat_model{"mistral", {chat_field_lists::mistral, {}, derive::mistral}},
    chat_model{"ministral3", {chat_field_lists::ministral3, {}, derive::ministral3}},
    chat_model{"gemma", {chat_field_lists::gemma, {}, derive::gemma}},
    chat_model{
        "gemma2",
        {chat_field_lists::gemma, "attn_logit_softcapping=null final_logit_softcapping=null query_pre_attn_scalar=null sliding_window=null", derive::gemma2}},
    chat_model{"gemma3", {chat_field_lists::gemma3, {}, derive::gemma3}},
    chat_model{"gemma3_text", {chat_field_lists::gemma3, {}, derive::gemma3}},
    chat_model{"gpt2", {chat_field_lists::gpt2, {}, derive::gpt2}},
    chat_model{"mixtral", {chat_field_lists::llama, "num_local_experts=0 num_experts_per_tok=0", derive::llama}},
    chat_model{"gpt_neox", {chat_field_lists::gpt_neox, {}, derive::gpt_neox}},
    chat_model{"gpt_bigcode", {chat_field_lists::gpt_bigcode, {}, derive::gpt_bigcode}},
    chat_model{"phi-msft", {chat_field_lists::phi_msft, {}, derive::phi_msft}},
    chat_model{"phi", {chat_field_lists::phi, {}, derive::phi}},
    chat_model{"phi3", {chat_field_lists::phi3, {}, derive::phi3}},
    chat_model{"phi3_v", {chat_field_lists::phi3_v, {}, derive::phi3_v}},
    chat_model{"qwen", {chat_field_lists::qwen, {}, derive::qwen}},
    chat_model{"qwen2", {chat_field_lists::qwen2, {}, derive::qwen2}},
    chat_model{"qwen2_moe",
               {chat_field_lists::qwen2,
                "moe_intermediate_size=0 shared_expert_intermediate_size=0 num_experts_per_tok=0 num_experts=0 decoder_sparse_step=0 norm_topk_prob=false",
                derive::qwen2}},
    chat_model{"qwen3", {chat_field_lists::qwen3, {}, derive::qwen3}},
    chat_model{"qwen3-embedding", {chat_field_lists::qwen3, {}, derive::qwen3}, "decoder", "last"},
    chat_model{"qwen3_5", {chat_field_lists::qwen3_5, {}, derive::qwen3_5}},
    chat_model{"qwen3_5_text", {chat_field_lists::qwen3_5, {}, derive::qwen3_5}},
    chat_model{
        "qwen3_moe",
        {chat_field_lists::qwen3, "moe_intermediate_size=0 num_experts_per_tok=0 num_experts=0 decoder_sparse_step=0 norm_topk_prob=false", derive::qwen3}},
    chat_model{"deepseek_v2", {chat_field_lists::deepseek_v2, {}, derive::deepseek_v2}},
    chat_model{"deepseek_v3", {chat_field_lists::deepseek_v2, {}, derive::deepseek_v2}},
    chat_model{"stablelm", {chat_field_lists::stablelm, {}, derive::stablelm}},
    chat_model{"baichuan", {chat_field_lists::baichuan, {}, derive::baichuan}},
    chat_model{"internlm", {chat_field_lists::internlm, {}, derive::internlm}},
    chat_model{"internlm2", {chat_field_lists::internlm2, {}, derive::internlm2}},
    chat_model{"rwkv5", {chat_field_lists::rwkv5, {}, derive::rwkv5}},
    chat_model{"orion", {chat_field_lists::orion, {}, derive::orion}},
    chat_model{"llava", {chat_field_lists::llava, {}, derive::llava}},
    chat_model{"rwkv6", {chat_field_lists::rwkv6, {}, derive::rwkv6}},
    chat_model{"chatglm", {chat_field_lists::chatglm, {}, derive::chatglm}},
    chat_model{"eagle", {chat_field_lists::llama, "bias=true", derive::llama}},
    chat_model{"bert", {chat_field_lists::bert, {}, derive::bert}, "encoder", "cls"},
    chat_model{"medusa", {chat_field_lists::medusa, {}, derive::medusa}},
    chat_model{"starcoder2", {chat_field_lists::starcoder2, {}, derive::starcoder2}},
    chat_model{"cohere", {chat_field_lists::cohere, {}, derive::cohere}},
    chat_model{"minicpm", {chat_field_lists::minicpm, {}, derive::minicpm}},
    chat_model{"deepseek", {chat_field_lists::deepseek, {}, derive::deepseek}},
    chat_model{"gptj", {chat_field_lists::gptj, {}, derive::gptj}},
    chat_model{"olmo", {chat_field_lists::olmo, {}, derive::olmo}},
    chat_model{"olmo2", {chat_field_lists::olmo2, {}, derive::olmo2}},
    chat_model{"nemotron", {chat_field_lists::nemotron, {}, derive::nemotron}},
    chat_model{"bert-bge", {chat_field_lists::bert, {}, derive::bert}, "encoder", "cls"},
};

/// The row of a model type as config.json states it, or nothing.
[[nodiscard]] inline const chat_model* find_chat_model(std::string_view model_type) {
    if (model_type == "mixformer-sequential") model_type = "phi-msft";
    for (const auto& row : chat_models)
        if (row.model_type == model_type) return &row;
    return nullptr;
}

/// The derived fields for a config.json, with `overrides` (name: value) put in after a first derivation and all derived again, as
/// mlc_llm does. An override whose field the model type does not have is left out.
[[nodiscard]] inline chat_fields derive_chat_fields(const chat_model& row, json source, const json& overrides, const std::string& file) {
    const bool layered = row.schema.derive == derive::ministral3 && source.contains("text_config") && source["text_config"].is_object();
    if (layered) {  // the text model's keys win, but for two
        json merged = source;
        merged.erase("text_config");
        merged.update(source["text_config"]);
        for (const auto* name : {"tie_word_embeddings", "dtype"}) {
            if (source.contains(name)) merged[name] = source[name];
        }
        source = std::move(merged);
    }
    chat_fields first(row.schema, source, file);
    if (!first.problems.empty()) return first;
    for (const auto& [name, value] : overrides.items()) {
        if (first.own.contains(name)) first[name] = value;
    }
    return {row.schema, first.own, file};
}

}  // namespace nibble::model
