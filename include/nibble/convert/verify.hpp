// SPDX-License-Identifier: Apache-2.0
#pragma once
// Is a folder of MLC weights whole, and is it the model that it was made from? Shards against the index, and every stored value
// against the source checkpoint, judged by bounds on both sides: an error that is too small is a fault too.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nibble/convert/produce.hpp"
#include "nibble/convert/stored.hpp"
#include "nibble/cpu/kernels.hpp"

namespace nibble::convert {

/// What a folder is compared with.
struct verify_options {
    std::string quantization;  ///< empty: the scheme whose records are those of the folder
    std::string model_type;    ///< empty: what config.json says
    bool exact = false;        ///< every byte must be what one of this version's encoders writes
    bool md5 = true;
    unsigned threads = 0;  ///< 0: as many as the machine has
    shard::reader_options folder;
    source::open_options source;
    std::function<void(std::uint64_t done, std::uint64_t total)> on_progress;  ///< bytes; called from worker threads, one at a time
};

/// Which encoder of this version writes the very bytes that are stored.
enum class written_by : std::uint8_t {
    unknown,      ///< none, or not asked for
    absmax,       ///< what mlc_llm writes now
    absmax_away,  ///< with ties rounded away from zero, as mlc_llm with older TVM
    mse
};
[[nodiscard]] constexpr std::string_view text(written_by w) {
    constexpr std::array<std::string_view, 4> names{"other", "absmax", "absmax, ties away", "mse"};
    return names[static_cast<std::size_t>(w)];
}

/// Sums over values, w of the source (cast to the model's type) and d of the folder, from which the named numbers follow.
struct error_sums {
    std::uint64_t n = 0;
    double w2 = 0;                ///< sum of w^2
    double d2 = 0;                ///< sum of d^2
    double wd = 0;                ///< sum of w d
    double e2 = 0;                ///< sum of (w - d)^2
    double absmax_e2 = 0;         ///< the same for the bytes that absmax would have given
    double max_error = 0;         ///< largest |w - d|
    double max_error_scales = 0;  ///< the same in units of the group's scale (quantized values only)

    void add(const error_sums& o) {
        n += o.n;
        w2 += o.w2;
        d2 += o.d2;
        wd += o.wd;
        e2 += o.e2;
        absmax_e2 += o.absmax_e2;
        max_error = std::max(max_error, o.max_error);
        max_error_scales = std::max(max_error_scales, o.max_error_scales);
    }
    [[nodiscard]] double rms() const { return n == 0 ? 0 : std::sqrt(e2 / static_cast<double>(n)); }
    [[nodiscard]] double relative_rms() const { return w2 == 0 ? (e2 == 0 ? 0 : std::numeric_limits<double>::infinity()) : std::sqrt(e2 / w2); }
    [[nodiscard]] double cosine() const { return w2 == 0 || d2 == 0 ? (w2 == d2 ? 1 : 0) : wd / (std::sqrt(w2) * std::sqrt(d2)); }
    /// How much lower the RMS error is than absmax's: 0.05 is 5 %.
    [[nodiscard]] double gain() const { return absmax_e2 == 0 ? 0 : 1 - std::sqrt(e2 / absmax_e2); }
};

/// What was found out about one parameter.
struct tensor_report {
    std::string name;
    shape dims;
    std::size_t codec = scheme::none;
    bool quantized = false;          ///< else it was cast only
    error_sums sums;                 ///< over the groups that hold finite values only
    std::uint64_t n_nonfinite = 0;   ///< NaN and infinities in the source, after the cast to the model's type
    std::uint64_t n_groups = 0;      ///< (of a cast: values)
    std::uint64_t groups_bad = 0;    ///< further from the source than the format's rounding explains
    std::uint64_t groups_other = 0;  ///< whose bytes are not absmax's
    written_by encoder = written_by::unknown;
    error_list problems;
};

/// A folder against its source.
struct source_report {
    std::string model_type;
    std::string quantization;
    bool recognised = false;             ///< the scheme was found by comparing records
    std::vector<tensor_report> tensors;  ///< in the order of writing
    error_sums quantized;                ///< over all quantized parameters
    std::uint64_t n_nonfinite = 0;
    std::vector<std::string> notes;
};

/// What was found in a folder.
struct verify_report {
    std::string folder;
    std::string index;
    bool partial = false;  ///< a conversion into it is at work or was interrupted
    std::size_t n_shards = 0;
    std::size_t n_records = 0;
    std::uint64_t n_bytes = 0;
    std::size_t n_md5 = 0;  ///< shards whose md5 was compared
    std::optional<source_report> source;
    error_list problems;
    error_list warnings;

    [[nodiscard]] bool good() const { return problems.empty(); }
};

namespace detail {

/// What a shard keeps of a value: f32 becomes bf16.
template <class T>
[[nodiscard]] T as_stored(T value, std::size_t element_bytes) {
    if constexpr (std::is_same_v<T, float>) {
        if (element_bytes == 4) return value;
        return to_f32(f32_to_shard_bf16(value));
    }
    return value;
}
template <class C>
[[nodiscard]] typename C::block block_as_stored(typename C::block b, const stored_view<C>& view) {
    nibble::detail::for_each_plane<C>([&](auto p) {
        for (auto& e : std::get<p.value>(b)) e = as_stored(e, view.element_bytes(p.value));
    });
    return b;
}

/// Equal bit for bit.
template <class C>
[[nodiscard]] bool same_bytes(const typename C::block& a, const typename C::block& b) {
    bool same = true;
    nibble::detail::for_each_plane<C>(
        [&](auto p) { same = same && std::memcmp(&std::get<p.value>(a), &std::get<p.value>(b), sizeof(std::get<p.value>(a))) == 0; });
    return same;
}

/// The next stored scale above s, minus s.
template <class C>
[[nodiscard]] float scale_step(float s, std::size_t element_bytes) {
    if (!std::isfinite(s)) return 0;
    s = std::fabs(s);
    if (element_bytes == 4) return nibble::detail::neighbour(s, 1) - s;
    if constexpr (std::is_same_v<typename C::scale::type, f16>) {
        return to_f32(nibble::detail::neighbour(to_f16(s), 1)) - s;
    } else {
        return to_f32(nibble::detail::neighbour(to_bf16(s), 1)) - s;
    }
}

/// Compares one parameter. What is wrong with its values is in the report; an error is returned when bytes cannot be read.
template <any_codec C>
class tensor_check {
public:
    tensor_check(const plan& p, const planned_parameter& parameter, const shard::folder& f, const std::vector<shard::place>& where,
                 const verify_options& options)
        : plan_(p), parameter_(parameter), folder_(f), where_(where), options_(options) {}

    [[nodiscard]] result<tensor_report> run() {
        auto view = stored_view<C>::open(folder_, where_);
        if (!view) return pass(view);
        view_ = &*view;
        report_.name = parameter_.of.name;
        report_.dims = parameter_.of.dims;
        report_.codec = parameter_.codec;
        report_.quantized = formulaic<C> || C::planes[0].suffix == "q_weight";
        if constexpr (tensor_scaled<C>) {
            float top = C::lowest_magnitude;
            if (auto done = for_each_group([&](const float* w, std::size_t n, auto, auto) { top = C::max_abs(w, n, top); }); !done) return pass(done);
            expected_scale_ = C::tensor_scale(top);
            stored_scale_ = view_->tensor_scale();
        }
        if (auto done = for_each_group([&](const float* w, std::size_t n, std::uint64_t row, std::uint64_t g) { group(w, n, row, g); }); !done)
            return pass(done);
        if constexpr (formulaic<C>) {
            if (auto done = second_pass(); !done) return pass(done);
        } else {
            report_.encoder = report_.groups_other == 0 ? written_by::absmax : written_by::unknown;
        }
        judge();
        return std::move(report_);
    }

private:
    static constexpr double lowest_share = 0.5;  ///< of absmax's squared error; below it the best encoding is computed for comparison

    /// Calls f(w, n, row, group) for all groups in order, w in the model's type widened to f32.
    template <class F>
    result<void> for_each_group(F&& f) {
        row_reader reader(plan_, parameter_);
        const std::uint64_t k = parameter_.columns();
        const std::uint64_t most = std::max<std::uint64_t>(1, (1 << 16) / std::max<std::uint64_t>(1, k));
        float w[C::group]{};
        for (std::uint64_t row = 0; row < parameter_.rows() && k != 0;) {
            auto run = reader.rows(row, std::min(most, parameter_.rows() - row));
            if (!run) return pass(run);
            visit_float(run->type, [&]<class T>() {
                for (std::uint64_t i = 0; i < run->n_rows; ++i) {
                    for (std::uint64_t g = 0; g < groups_of<C>(k); ++g) {
                        const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(C::group, k - g * C::group));
                        for (std::size_t j = 0; j < count; ++j)
                            w[j] = to_f32(number_cast<typename C::model_type>(load<T>(run->data + (i * k + g * C::group + j) * sizeof(T))));
                        f(w, count, row + i, g);
                    }
                }
            });
            row += run->n_rows;
        }
        return {};
    }

    [[nodiscard]] typename C::block stored(std::uint64_t row, std::uint64_t g) const {
        return view_->block(row, g, parameter_.rows(), groups_of<C>(parameter_.columns()));
    }
    [[nodiscard]] typename C::block encoded(const float* w, std::size_t n, encode_options options = {}) const {
        if constexpr (tensor_scaled<C>)
            return C::encode(w, n, expected_scale_);
        else
            return block_as_stored<C>(C::encode(w, n, options), *view_);
    }
    void decode(const typename C::block& b, float* out) const {
        if constexpr (tensor_scaled<C>)
            C::decode(b, stored_scale_, out);
        else
            C::decode(b, out);
    }

    void group(const float* w, std::size_t n, std::uint64_t row, std::uint64_t g) {
        ++report_.n_groups;
        const auto b = stored(row, g);
        const auto absmax = encoded(w, n);
        const bool same = same_bytes<C>(b, absmax);
        if (!same) {
            ++report_.groups_other;
            if constexpr (formulaic<C>) {
                if (options_.exact && may_be_away_) may_be_away_ = same_bytes<C>(b, encoded(w, n, {.rounding = rounding::half_away}));
            }
        } else if constexpr (formulaic<C>) {
            if (options_.exact && may_be_away_) may_be_away_ = same_bytes<C>(absmax, encoded(w, n, {.rounding = rounding::half_away}));
        }
        float d[C::group];
        float a[C::group];
        decode(b, d);
        decode(absmax, a);
        std::size_t not_finite = 0;
        for (std::size_t i = 0; i < n; ++i) not_finite += !std::isfinite(w[i]);
        report_.n_nonfinite += not_finite;
        if (not_finite != 0) {
            if (formulaic<C> || same) return;  // such a group means nothing; --exact compares its bytes all the same
            if (std::isnan(w[0]) && std::isnan(d[0]) && !options_.exact)
                --report_.groups_other;  // machines differ in NaN's payload
            else
                bad(row, g, "stored " + number(d[0]) + ", the source has " + number(w[0]));
            return;
        }
        double e2 = 0;
        double absmax_e2 = 0;
        double largest = 0;
        double top = 0;
        auto& s = report_.sums;
        for (std::size_t i = 0; i < n; ++i) {
            const double x = static_cast<double>(w[i]);
            const double y = static_cast<double>(d[i]);
            const double e = x - y;
            const double ea = x - static_cast<double>(a[i]);
            s.w2 += x * x;
            s.d2 += y * y;
            s.wd += x * y;
            e2 += e * e;
            absmax_e2 += ea * ea;
            largest = std::max(largest, std::fabs(e));
            top = std::max(top, std::fabs(x));
            if (!std::isfinite(y)) largest = std::numeric_limits<double>::infinity();
        }
        s.n += n;
        s.e2 += e2;
        s.absmax_e2 += absmax_e2;
        s.max_error = std::max(s.max_error, largest);
        if constexpr (formulaic<C>) {
            const double scale = std::fabs(static_cast<double>(C::scale_of(b)));
            if (scale > 0 && std::isfinite(scale)) s.max_error_scales = std::max(s.max_error_scales, largest / scale);
            if (same) return;
            if (e2 <= absmax_e2 * (1 + 1e-6)) return;  // a better fit than absmax
            const auto element_bytes = view_->element_bytes(1);
            const double right = static_cast<double>(C::scale_of(absmax));
            const double step = static_cast<double>(scale_step<C>(C::scale_of(absmax), element_bytes));
            if (scale == 0) {  // right for magnitudes whose scale underflows
                if (top <= step * C::zero_code) return;
            } else if (std::fabs(scale - right) <= 2 * step && largest <= scale * (0.5 + 1.0 / 128) + step * C::zero_code) {
                return;  // absmax on another machine, or with another rule for ties
            }
            bad(row, g,
                "off by " + number(largest) + (scale > 0 ? " or " + number(largest / scale) + " of its scale " : ", its scale is ") + number(scale) +
                    ", where rounding explains 0.5 of the scale " + number(right));
        } else if constexpr (std::is_same_v<C, plain<typename C::model_type>>) {
            if (!same) bad(row, g, "stored " + number(d[0]) + ", the source has " + number(w[0]));
        } else {  // 8-bit floats; what lies between zero and the least normal number differs between machines
            const bool wide = C::planes[0].type == encoding::f8_e4m3;
            double scale = 1;
            if constexpr (tensor_scaled<C>) scale = static_cast<double>(stored_scale_);
            if (!same && largest > top * (wide ? 1.0 / 15 : 1.0 / 7) + scale * std::ldexp(1.0, wide ? -6 : -14))
                bad(row, g, "stored " + number(d[0]) + ", the source has " + number(w[0]));
        }
    }

    static std::string number(double x) {
        char text[40];
        std::snprintf(text, sizeof text, "%.4g", x);
        return text;
    }

    /// The first fault of a tensor is told with its place; all are counted.
    void bad(std::uint64_t row, std::uint64_t g, std::string what) {
        if (++report_.groups_bad != 1) return;
        const auto& home = folder_.at(where_[0]);
        std::string group_text;
        if (C::group > 1) group_text = "the " + std::to_string(C::group) + " values ";
        first_bad_ = error{errc::mismatch,
                           group_text + "from row " + std::to_string(row) + ", column " + std::to_string(g * C::group) + ": " + std::move(what),
                           folder_.path + "/" + folder_.manifest.shards[where_[0].shard].path,
                           report_.name,
                           home.offset + view_->offset(0, row, g, parameter_.rows(), groups_of<C>(parameter_.columns())),
                           "the folder is damaged, of another model, or of another revision of it: convert again"};
    }

    /// The best that the format can do is computed only where it tells something: whether an error is too good to be true, and
    /// whether the bytes are those of the mse fit.
    result<void> second_pass() {
        auto& s = report_.sums;
        if (report_.groups_other == 0)
            report_.encoder = written_by::absmax;
        else if (options_.exact && may_be_away_)
            report_.encoder = written_by::absmax_away;
        const bool suspicious = report_.groups_other != 0 && s.e2 < lowest_share * s.absmax_e2;
        if (!suspicious && !(options_.exact && report_.encoder == written_by::unknown && report_.groups_bad == 0)) return {};
        bool same = true;
        best_e2_ = 0;
        auto done = for_each_group([&](const float* w, std::size_t n, std::uint64_t row, std::uint64_t g) {
            const auto best = encoded(w, n, {.fit = fit::mse});
            same = same && same_bytes<C>(best, stored(row, g));
            if (std::all_of(w, w + n, [](float x) { return std::isfinite(x); })) *best_e2_ += nibble::detail::squared_error<C>(w, n, best);
        });
        if (same) report_.encoder = written_by::mse;
        return done;
    }

    void judge() {
        const auto& s = report_.sums;
        const auto shard_path = folder_.path + "/" + folder_.manifest.shards[where_[0].shard].path;
        if (report_.groups_bad != 0) {
            if (report_.groups_bad > 1) {
                first_bad_.rule += " (the first of " + std::to_string(report_.groups_bad) + (C::group > 1 ? " groups" : " values") + ", out of " +
                                   std::to_string(report_.n_groups) + ")";
            }
            report_.problems.push_back(std::move(first_bad_));
        }
        if (best_e2_ && s.e2 < *best_e2_ * (1 - 1e-6)) {
            report_.problems.push_back({errc::mismatch,
                                        "too good: its RMS error " + number(s.rms()) + " is below " + number(std::sqrt(*best_e2_ / static_cast<double>(s.n))) +
                                            ", the least that any encoder reaches in this format",
                                        shard_path,
                                        report_.name,
                                        {},
                                        "the source that was given is not what the folder was made from, or holds values taken from it"});
        }
        if constexpr (tensor_scaled<C>) {
            const double right = static_cast<double>(as_stored(expected_scale_, view_->element_bytes(1)));
            const double found = static_cast<double>(stored_scale_);
            if (!(std::fabs(found - right) <= right / 64)) {
                report_.problems.push_back(
                    {errc::mismatch, "its scale is " + number(found) + ", the source gives " + number(right), shard_path, report_.name, {}, "convert again"});
            }
        }
        if (options_.exact && report_.encoder == written_by::unknown && report_.problems.empty()) {
            report_.problems.push_back({errc::mismatch,
                                        std::to_string(report_.groups_other) + " of " + std::to_string(report_.n_groups) +
                                            (C::group > 1 ? " groups" : " values") +
                                            " are not the bytes that this version writes, though as near to the source",
                                        shard_path,
                                        report_.name,
                                        {},
                                        "another machine or version may have made them; without --exact they are accepted"});
        }
    }

    const plan& plan_;
    const planned_parameter& parameter_;
    const shard::folder& folder_;
    const std::vector<shard::place>& where_;
    const verify_options& options_;
    const stored_view<C>* view_ = nullptr;
    tensor_report report_;
    error first_bad_;
    std::optional<double> best_e2_;
    bool may_be_away_ = true;
    float expected_scale_ = 0;
    float stored_scale_ = 0;
};

/// Whether a record is what a plan wants. A "-b16" index declares f32 records as the bf16 in which they are stored, in format raw.
[[nodiscard]] inline bool fits(const shard::record& found, const shard::record& planned) {
    const bool as_b16 = planned.type == encoding::f32 && found.type == encoding::bf16 && found.raw;
    return (found.type == planned.type || as_b16) && found.dims == planned.dims;
}

/// How the records of a folder differ from those that a plan writes; order and shards do not matter.
[[nodiscard]] inline error_list record_differences(const plan& p, const shard::folder& f) {
    error_list found;
    std::unordered_set<std::string_view> planned;
    for (const auto& s : p.manifest.shards) {
        for (const auto& r : s.records) {
            planned.insert(r.name);
            const auto* q = f.find(r.name);
            if (q != nullptr && fits(*q, r)) continue;
            const auto expected = std::string(shard::dtype_text(r.type)) + " " + r.dims.text();
            found.push_back({q == nullptr ? errc::missing : errc::mismatch,
                             q == nullptr ? "the folder has no such record, the model needs it as " + expected
                                          : "it is " + std::string(shard::dtype_text(q->type)) + " " + q->dims.text() + ", the model needs " + expected,
                             f.path,
                             r.name,
                             {},
                             "the folder is of another model or another quantization"});
        }
    }
    for (const auto& s : f.manifest.shards) {
        for (const auto& r : s.records) {
            if (!planned.contains(r.name))
                found.push_back(
                    {errc::mismatch, "the model has no such parameter", f.path, r.name, {}, "the folder is of another model or another quantization"});
        }
    }
    return found;
}

/// The plan of the source that makes these records. Where no scheme makes them, the nearest, with the differences in `differences`.
[[nodiscard]] inline result<plan> find_plan(const shard::folder& f, const std::string& source, const verify_options& options, error_list& differences) {
    auto checkpoint = source::open_checkpoint(source, options.source);
    if (!checkpoint) return pass(checkpoint);
    // Where rows are short, 3-bit and 4-bit schemes make records of the same shapes: those of the folder's width go first.
    const bool three_bits = has_three_bit_codes(f);
    const auto fits_codes = [&](const scheme& s) {
        return visit_codec(s.linear, [&]<class C>() {
            if constexpr (formulaic<C>)
                return (C::packing::bits == 3) == three_bits;
            else
                return true;
        });
    };
    std::vector<const scheme*> candidates;
    for (const auto& s : schemes) {
        if (options.quantization.empty() || options.quantization == s.name) candidates.push_back(&s);
    }
    std::stable_partition(candidates.begin(), candidates.end(), [&](const scheme* s) { return fits_codes(*s); });
    std::optional<plan> best;
    for (const auto* s : candidates) {
        plan_options wanted;
        wanted.quantization = std::string(s->name);
        wanted.model_type = options.model_type;
        wanted.allow_unexpected = true;  // what was dropped knowingly is none of this check's business
        wanted.source = options.source;
        auto p = make_plan(*checkpoint, wanted);
        if (!p) return pass(p);
        if (!p->problems.empty()) {
            if (!best) best = std::move(*p);
            continue;
        }
        auto d = record_differences(*p, f);
        if (!best || !best->problems.empty() || d.size() < differences.size()) {
            best = std::move(*p);
            differences = std::move(d);
        }
        if (differences.empty()) break;
    }
    if (!best) return fail(unknown_scheme(options.quantization));
    return std::move(*best);
}

/// mlc-chat-config.json, where there is one: what of it a browser would stumble over.
inline void check_chat_config(const shard::folder& f, error_list& problems, error_list& warnings) {
    namespace fs = std::filesystem;
    std::error_code ec;
    const auto path = f.path + "/mlc-chat-config.json";
    if (!fs::exists(path, ec)) {
        warnings.push_back({errc::missing, "the file is not there: a browser needs it beside the weights", path, {}, {}, "make it with mlc_llm gen_config"});
        return;
    }
    const auto add = [&](std::string rule, std::string remedy) { problems.push_back({errc::mismatch, std::move(rule), path, {}, {}, std::move(remedy)}); };
    auto text = read_file(path, 64 << 20);
    auto config = text ? parse_json(*text) : result<json>(pass(text));
    if (!config) {
        problems.push_back(std::move(config.error()).in_file(path));
        return;
    }
    if (!config->is_object()) return add("the file must be a JSON object", "make it again");
    const auto number = [&](const char* key) -> std::int64_t {
        const auto at = config->find(key);
        return at != config->end() && at->is_number_integer() ? at->get<std::int64_t>() : -1;
    };
    if (const auto at = config->find("tokenizer_files"); at != config->end()) {
        if (!at->is_array()) add("\"tokenizer_files\" is not an array of file names", "make it again");
        for (const auto& name : *at) {
            if (!name.is_string() || !source::is_plain_file_name(name.get_ref<const std::string&>())) {
                add("tokenizer_files names " + name.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80) + ", which is not a plain file name",
                    "name files of this folder only");
            } else if (!fs::exists(f.path + "/" + name.get<std::string>(), ec)) {
                add("tokenizer_files names " + name.get<std::string>() + ", which is not there", "copy it from the model's folder");
            }
        }
    }
    if (number("context_window_size") > 0 && number("sliding_window_size") > 0)
        add("context_window_size and sliding_window_size are both set", "set the one that the model library was not built for to -1");
    if (const auto at = config->find("conv_template"); at != config->end() && !at->is_object())
        add("\"conv_template\" is " + std::string(at->type_name()) + ", a browser needs the template itself, an object",
            "make it with a current mlc_llm gen_config");
    for (const auto& [name, where] : f.by_name) {
        for (const std::string_view table : {"embed_tokens", "transformer.embd", "transformer.wte", "embed_in", "word_embeddings"}) {
            const auto dot = name.rfind('.');
            const auto& r = f.at(where);
            if (dot == name.npos || !std::string_view(name).substr(0, dot).ends_with(table) || r.dims.rank() != 2 || number("vocab_size") < 0) continue;
            if (r.dims[0] != static_cast<std::uint64_t>(number("vocab_size")) && !name.ends_with(".q_scale"))
                add("vocab_size is " + std::to_string(number("vocab_size")) + ", the embedding " + name + " has " + std::to_string(r.dims[0]) + " rows",
                    "the config is of another model, or tokens were added after it was made");
        }
    }
}

}  // namespace detail

/// Checks that a folder is whole: the index, the shards' sizes and md5, the chat configuration; and, with a source, that it is the
/// model of that checkpoint. Errors: what keeps the index or the source's headers from being read.
[[nodiscard]] inline result<verify_report> verify(const std::string& output, const std::string& source = {}, const verify_options& options = {}) {
    auto folder = shard::open_folder(output, options.folder);
    if (!folder) return pass(folder);
    auto& f = *folder;
    verify_report report;
    report.folder = f.path;
    report.index = f.index;
    report.partial = f.partial;
    report.n_shards = f.manifest.shards.size();
    report.n_records = f.by_name.size();
    report.problems = std::move(f.problems);
    report.warnings = std::move(f.warnings);
    for (const auto& s : f.manifest.shards) {
        report.n_bytes += s.n_bytes;
        report.n_md5 += options.md5 && !s.md5.empty();
    }
    const std::uint64_t total = (options.md5 ? report.n_bytes : 0) + (source.empty() ? 0 : report.n_bytes);
    std::uint64_t done = 0;
    std::mutex mutex;
    const auto advance = [&](std::uint64_t bytes) {
        done += bytes;
        if (options.on_progress) options.on_progress(done, total);
    };
    detail::check_chat_config(f, report.problems, report.warnings);
    if (options.md5) {
        auto wrong = shard::check_md5(
            f, options.threads,
            [](md5* const* sums, const std::byte* const* data, const std::size_t* n, std::size_t lanes) { cpu::md5_update_lanes(sums, data, n, lanes); },
            advance);
        report.problems.insert(report.problems.end(), std::make_move_iterator(wrong.begin()), std::make_move_iterator(wrong.end()));
    }
    if (source.empty()) return report;

    error_list differences;
    auto found = detail::find_plan(f, source, options, differences);
    if (!found) return pass(found);
    const auto& p = *found;
    auto& against = report.source.emplace();
    against.model_type = p.model_type;
    against.quantization = p.options.quantization;
    against.recognised = options.quantization.empty() && differences.empty();
    against.notes = p.notes;
    report.problems.insert(report.problems.end(), p.problems.begin(), p.problems.end());
    if (!p.problems.empty()) return report;
    if (!differences.empty()) {
        constexpr std::size_t shown = 12;
        const auto n = differences.size();
        error head{errc::mismatch,
                   "the folder is not model type \"" + p.model_type + "\" in " + p.options.quantization + ": " + std::to_string(n) + " records differ",
                   f.path,
                   {},
                   {},
                   "check the source, --quantization and --model-type"};
        if (options.quantization.empty())
            head.rule = "the folder is model type \"" + p.model_type + "\" in no known scheme; " + p.options.quantization + " is nearest, " +
                        std::to_string(n) + " records differ";
        report.problems.push_back(std::move(head));
        for (std::size_t i = 0; i < n && i < shown; ++i) report.problems.push_back(std::move(differences[i]));
    }
    if (const auto bits = f.manifest.bits_per_parameter; differences.empty() && std::fabs(bits - p.manifest.bits_per_parameter) > 1e-9 * bits) {
        report.warnings.push_back(
            {errc::mismatch,
             "metadata: \"BitsPerParam\" is " + python_float(bits) + ", mlc_llm writes " + python_float(p.manifest.bits_per_parameter) + " for this source",
             f.index,
             {},
             {},
             {}});
    }
    if (options.exact && differences.empty()) {
        auto layout = p.manifest;
        for (std::size_t i = 0; i < layout.shards.size() && i < f.manifest.shards.size(); ++i) layout.shards[i].md5 = f.manifest.shards[i].md5;
        if (const auto what = shard::detail::difference(layout, f.manifest, true); !what.empty())
            report.warnings.push_back(
                {errc::mismatch, "records are packed in another order or other shards than this version's: " + what, f.index, {}, {}, {}});
    }

    // The parameters whose records are there as they should be, the largest first.
    std::vector<std::vector<shard::place>> where(p.parameters.size());
    std::vector<bool> usable(p.parameters.size(), true);
    for (std::size_t s = 0; s < p.contents.size(); ++s) {
        for (std::size_t i = 0; i < p.contents[s].size(); ++i) {
            const auto& r = p.manifest.shards[s].records[i];
            const auto [parameter, plane] = p.contents[s][i];
            const auto at = f.by_name.find(r.name);
            const bool found_here = at != f.by_name.end() && detail::fits(f.at(at->second), r);
            if (!found_here) usable[parameter] = false;
            auto& planes = where[parameter];
            planes.resize(std::max(planes.size(), plane + 1));
            if (found_here) planes[plane] = at->second;
        }
    }
    std::vector<std::size_t> queue;
    for (std::size_t i = 0; i < p.parameters.size(); ++i) {
        if (usable[i]) queue.push_back(i);
    }
    std::stable_sort(queue.begin(), queue.end(),
                     [&](std::size_t a, std::size_t b) { return p.parameters[a].of.dims.elements() > p.parameters[b].of.dims.elements(); });
    std::vector<std::optional<tensor_report>> tensors(p.parameters.size());
    std::vector<std::optional<error>> failed(p.parameters.size());
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (auto q = next.fetch_add(1); q < queue.size(); q = next.fetch_add(1)) {
            const auto i = queue[q];
            const auto& parameter = p.parameters[i];
            auto checked = visit_codec(parameter.codec, [&]<class C>() { return detail::tensor_check<C>(p, parameter, f, where[i], options).run(); });
            if (checked)
                tensors[i] = std::move(*checked);
            else
                failed[i] = std::move(checked.error());
            std::uint64_t bytes = 0;
            for (const auto& at : where[i]) bytes += f.at(at).n_bytes;
            const std::lock_guard hold(mutex);
            advance(bytes);
        }
    };
    const unsigned wanted = options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::thread> others;
    for (unsigned i = 1; i < std::min<std::size_t>(wanted, std::max<std::size_t>(1, queue.size())); ++i) others.emplace_back(work);
    work();
    for (auto& t : others) t.join();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        if (failed[i]) report.problems.push_back(std::move(*failed[i]));
        if (!tensors[i]) continue;
        auto& t = *tensors[i];
        for (auto& e : t.problems) report.problems.push_back(e);
        against.n_nonfinite += t.n_nonfinite;
        if (t.quantized) against.quantized.add(t.sums);
        against.tensors.push_back(std::move(t));
    }
    const auto& q = against.quantized;
    if (q.n != 0 && q.w2 != 0 && q.e2 == 0 && q.absmax_e2 == 0) {
        report.warnings.push_back(
            {errc::mismatch,
             "every quantized value is exactly the source's: the source holds only values of this format, so that these numbers say nothing of what was "
             "lost before",
             p.model.config_file,
             {},
             {},
             "compare with the original model"});
    }
    return report;
}

}  // namespace nibble::convert
