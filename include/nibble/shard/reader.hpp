// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads an MLC weight folder strictly: tensor-cache.json or ndarray-cache.json and the shards they name. What a browser would
// stumble over is a problem here, with the file, the record, the offset, the rule and the remedy; all problems are collected.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "nibble/core/file.hpp"
#include "nibble/core/md5.hpp"
#include "nibble/shard/manifest.hpp"

namespace nibble::shard {

/// How a folder is read.
struct reader_options {
    file_access access = file_access::map;
    bool follow_links = false;  ///< allow symbolic links that leave the folder (a Hugging Face cache is allowed as it is)
};

/// The index names: which readers look for which. WebLLM reads one of them and never the other.
inline constexpr std::string_view index_name = "tensor-cache.json";          ///< mlc_llm since 2025-09, WebLLM from 0.2.80
inline constexpr std::string_view legacy_index_name = "ndarray-cache.json";  ///< before

/// Where a record is: manifest.shards[shard].records[record].
struct place {
    std::size_t shard = 0;
    std::size_t record = 0;
};

/// An MLC weight folder. The manifest holds only records that obey the rules, so that each has its bytes within its shard;
/// what was left out is told by `problems`.
struct folder {
    std::string path;
    std::string index;  ///< path of the index that was read
    shard::manifest manifest;
    std::vector<std::shared_ptr<const file>> files;  ///< one for each shard; null where it cannot be used
    std::unordered_map<std::string, place> by_name;
    error_list problems;   ///< what makes the folder unfit for use
    error_list warnings;   ///< what a careful user wants to know
    bool partial = false;  ///< there is a work folder of a conversion that has not come to its end

    [[nodiscard]] const record& at(place p) const { return manifest.shards[p.shard].records[p.record]; }
    [[nodiscard]] const record* find(const std::string& name) const {
        const auto found = by_name.find(name);
        return found == by_name.end() ? nullptr : &at(found->second);
    }

    /// A record's stored bytes, mapped or in `scratch`. Errors: missing (its shard cannot be used), truncated, io.
    [[nodiscard]] result<bytes_view> bytes(place p, std::vector<std::byte>& scratch) const {
        const auto& s = manifest.shards[p.shard];
        const auto& r = s.records[p.record];
        if (files[p.shard] == nullptr) return fail(error{errc::missing, "its shard cannot be used", path + "/" + s.path, r.name, {}, {}});
        auto view = files[p.shard]->bytes(r.offset, r.n_bytes, scratch);
        if (!view) return fail(std::move(view.error()).in_tensor(r.name));
        return view;
    }
};

/// The values of a record that is not quantized, widened to f32. Errors: unsupported (its type is not a float), those of bytes().
[[nodiscard]] result<std::vector<float>> values(const folder& f, place p);

/// Opens a folder, or one given index file in it. What keeps the index from being read at all is the returned error; everything else
/// is in folder::problems and folder::warnings. Shards' md5 sums are not looked at: see check_md5.
[[nodiscard]] result<folder> open_folder(const std::string& where, const reader_options& options = {});

/// How the codes and the scales of a quantized parameter lie.
enum class pair : std::uint8_t {
    none,       ///< the shapes do not go together
    rows,       ///< q_weight [.., N, 4 G], q_scale [.., N, G]
    transposed  ///< q_weight [4 G, N], q_scale [G, N]
};
[[nodiscard]] constexpr pair pair_layout(const shape& weight, const shape& scale) {
    if (weight.rank() != scale.rank() || weight.rank() == 0) return pair::none;
    shape rows = scale;
    auto& columns = rows[rows.rank() - 1];
    if (columns > (std::uint64_t{1} << 60)) return pair::none;
    columns *= 4;
    if (rows == weight) return pair::rows;
    shape turned = scale;
    if (turned.rank() != 2 || turned[0] > (std::uint64_t{1} << 60)) return pair::none;
    turned[0] *= 4;
    return turned == weight ? pair::transposed : pair::none;
}

namespace detail {

/// The JSON of an index turned into a manifest, with every broken rule noted.
class index_parser {
public:
    index_parser(std::string folder, std::string file, error_list& problems, error_list& warnings)
        : folder_(std::move(folder)), file_(std::move(file)), problems_(problems), warnings_(warnings) {}

    /// Errors: what makes the whole unreadable.
    [[nodiscard]] result<manifest> parse(bytes_view text) {
        auto root = parse_json(text, 8);
        if (!root) {
            return fail(std::move(root.error()).in_file(file_).advise("the file is cut short or damaged: download it, or convert, again"));
        }
        manifest m;
        const auto* shards = member(*root, "records");
        if (shards == nullptr || !shards->is_array())
            return fail(error{errc::malformed, "the index needs an array \"records\" of shards", file_, {}, {}, "is it an index of MLC weights?"});
        std::set<std::string> paths;
        for (std::size_t i = 0; i < shards->size(); ++i) {
            auto s = shard((*shards)[i], "records[" + std::to_string(i) + "]", paths);
            if (s) m.shards.push_back(std::move(*s));
        }
        metadata(*root, m);
        return m;
    }
    [[nodiscard]] const std::unordered_set<std::string>& names() const { return names_; }

private:
    static constexpr std::uint64_t largest_integer = std::uint64_t{1} << 53;  // a browser reads numbers as f64

    void problem(errc code, std::string rule, const std::string& tensor = {}, std::string remedy = {}) {
        problems_.push_back({code, std::move(rule), file_, tensor, {}, std::move(remedy)});
    }

    static const json* member(const json& object, const char* key) {
        if (!object.is_object()) return nullptr;
        const auto at = object.find(key);
        return at == object.end() ? nullptr : &*at;
    }
    static std::string shown(const json* v) { return v == nullptr ? "missing" : v->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 60); }

    std::optional<std::uint64_t> integer(const json& object, const char* key, const std::string& where, const std::string& tensor) {
        const auto* v = member(object, key);
        if (v != nullptr && v->is_number_unsigned() && v->get<std::uint64_t>() <= largest_integer) return v->get<std::uint64_t>();
        problem(errc::malformed, where + ": \"" + key + "\" is " + shown(v) + ", expected an integer from 0 to 2^53", tensor);
        return std::nullopt;
    }
    std::optional<std::string> text(const json& object, const char* key, const std::string& where, const std::string& tensor = {}) {
        const auto* v = member(object, key);
        if (v != nullptr && v->is_string()) return v->get<std::string>();
        problem(errc::malformed, where + ": \"" + key + "\" is " + shown(v) + ", expected a text", tensor);
        return std::nullopt;
    }

    static bool is_base_name(const std::string& name) {
        if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
        return std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        });
    }

    std::optional<shard_file> shard(const json& object, const std::string& where, std::set<std::string>& paths) {
        shard_file s;
        const auto path = text(object, "dataPath", where);
        const auto n_bytes = integer(object, "nbytes", where, {});
        if (!path) return std::nullopt;
        if (!is_base_name(*path)) {
            problem(errc::refused, where + ": dataPath " + shown(member(object, "dataPath")) + " is not a plain file name of letters, digits, '.', '_' and '-'",
                    {}, "an index may only name files in its own folder");
            return std::nullopt;
        }
        if (!paths.insert(*path).second) {
            problem(errc::malformed, where + ": dataPath \"" + *path + "\" is used twice");
            return std::nullopt;
        }
        const auto format = text(object, "format", where);
        if (format && *format != "raw-shard")
            problem(errc::unsupported, where + ": format " + shown(member(object, "format")) + " is unknown, expected \"raw-shard\"");
        s.path = *path;
        md5_field(object, s);
        const auto* records = member(object, "records");
        if (records == nullptr || !records->is_array()) {
            problem(errc::malformed, where + ": \"records\" is not an array");
            return std::nullopt;
        }
        if (!n_bytes) return std::nullopt;
        s.n_bytes = *n_bytes;
        bool all = true;
        for (std::size_t i = 0; i < records->size(); ++i) {
            auto r = record_of((*records)[i], s, where + ".records[" + std::to_string(i) + "]");
            if (r)
                s.records.push_back(std::move(*r));
            else
                all = false;
        }
        check_layout(s, all);
        return s;
    }

    void md5_field(const json& object, shard_file& s) {
        const auto* v = member(object, "md5sum");
        const auto path = folder_ + "/" + s.path;
        if (v == nullptr) {
            warnings_.push_back({errc::missing, "the index has no md5sum for it: its bytes cannot be checked", path, {}, {}, {}});
            return;
        }
        const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
        if (!v->is_string() || v->get_ref<const std::string&>().size() != 32 ||
            !std::all_of(v->get_ref<const std::string&>().begin(), v->get_ref<const std::string&>().end(), is_hex)) {
            problems_.push_back({errc::malformed, "its md5sum in the index is " + shown(v) + ", expected 32 hexadecimal digits", path, {}, {}, {}});
            return;
        }
        s.md5 = v->get<std::string>();
    }

    std::optional<record> record_of(const json& object, const shard_file& s, const std::string& where) {
        record r;
        const auto name = text(object, "name", where);
        if (!name) return std::nullopt;
        r.name = *name;
        if (name->empty() || std::any_of(name->begin(), name->end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
            problem(errc::malformed, where + ": the name " + shown(member(object, "name")) + " is empty or holds control characters");
            return std::nullopt;
        }
        const bool is_new = names_.insert(r.name).second;
        if (!is_new) problem(errc::malformed, where + ": the name stands twice in the index", r.name, "convert again");
        const auto place = s.path + " " + where;
        const auto n_bytes = integer(object, "nbytes", place, r.name);
        const auto offset = integer(object, "byteOffset", place, r.name);
        const auto dims = dims_of(object, place, r.name);
        const auto type = type_of(object, place, r);
        if (!is_new || !n_bytes || !offset || !dims || !type) return std::nullopt;
        r.n_bytes = *n_bytes;
        r.offset = *offset;
        r.dims = *dims;
        r.type = *type;
        const auto values = r.dims.checked_elements();
        const auto expected = values ? checked_mul(*values, stored_bytes(r)) : std::nullopt;
        const auto in_shard = [&](std::string rule, std::string remedy) {
            problems_.push_back({errc::mismatch, std::move(rule), folder_ + "/" + s.path, r.name, r.offset, std::move(remedy)});
        };
        if (!expected || *expected != r.n_bytes) {
            in_shard("shape " + r.dims.text() + " of " + std::string(dtype_text(r.type)) + " in format " + (r.raw ? "\"raw\"" : "\"f32-to-bf16\"") + " takes " +
                         (expected ? std::to_string(*expected) : "more than 2^64") + " bytes, the index says " + std::to_string(r.n_bytes),
                     "the index is not of these weights: convert again");
            return std::nullopt;
        }
        if (!in_range(r.offset, r.n_bytes, s.n_bytes)) {
            in_shard(std::to_string(r.n_bytes) + " bytes from byte " + std::to_string(r.offset) + " are beyond the shard's " + std::to_string(s.n_bytes),
                     "the index is not of these weights: convert again");
            return std::nullopt;
        }
        return r;
    }

    std::optional<shape> dims_of(const json& object, const std::string& where, const std::string& name) {
        const auto* v = member(object, "shape");
        shape dims;
        if (v == nullptr || !v->is_array() || v->size() > shape::max_rank) {
            problem(errc::malformed, where + ": \"shape\" is " + shown(v) + ", expected an array of up to 8 integers", name);
            return std::nullopt;
        }
        for (const auto& d : *v) {
            if (!d.is_number_unsigned() || d.get<std::uint64_t>() > largest_integer) {
                problem(errc::malformed, where + ": \"shape\" is " + shown(v) + ", expected an array of up to 8 integers", name);
                return std::nullopt;
            }
            dims.push_back(d.get<std::uint64_t>());
        }
        return dims;
    }

    std::optional<encoding> type_of(const json& object, const std::string& where, record& r) {
        const auto dtype = text(object, "dtype", where, r.name);
        const auto format = text(object, "format", where, r.name);
        if (!dtype || !format) return std::nullopt;
        r.raw = *format == "raw";
        if (!r.raw && *format != "f32-to-bf16") {
            problem(errc::unsupported, where + ": format " + shown(member(object, "format")) + " is unknown, expected \"f32-to-bf16\" or \"raw\"", r.name);
            return std::nullopt;
        }
        for (const auto& d : dtype_names) {
            if (d.name == *dtype) return d.type;
        }
        std::string known;
        for (const auto& d : dtype_names) known += (known.empty() ? "" : ", ") + std::string(d.name);
        problem(errc::unsupported, where + ": dtype " + shown(member(object, "dtype")) + " is unknown", r.name, "known are " + known);
        return std::nullopt;
    }

    /// Records must not overlap, and should leave no gaps (`all`: none of them was dropped, which would look like a gap).
    void check_layout(const shard_file& s, bool all) {
        std::vector<const record*> order;
        for (const auto& r : s.records) {
            if (r.n_bytes != 0) order.push_back(&r);
        }
        std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
        std::uint64_t end = 0;
        const record* last = nullptr;
        const auto path = folder_ + "/" + s.path;
        const auto gap = [&](std::uint64_t begin, const std::string& name) {
            if (all)
                warnings_.push_back(
                    {errc::malformed, "bytes " + std::to_string(end) + " to " + std::to_string(begin) + " belong to no record", path, name, end, {}});
        };
        for (const auto* r : order) {
            if (r->offset < end) {
                problems_.push_back({errc::malformed, "it overlaps with '" + last->name + "', which ends at byte " + std::to_string(end), path, r->name,
                                     r->offset, "convert again"});
            } else if (r->offset > end) {
                gap(r->offset, r->name);
            }
            if (r->offset + r->n_bytes > end) {
                end = r->offset + r->n_bytes;
                last = r;
            }
        }
        if (end < s.n_bytes) gap(s.n_bytes, {});
    }

    /// The totals are recomputed where they can be; what the index says is compared.
    void metadata(const json& root, manifest& m) {
        std::uint64_t count = 0;
        double bytes = 0;
        for (const auto& s : m.shards) {
            count += s.records.size();
            for (const auto& r : s.records) bytes += static_cast<double>(r.dims.elements()) * info(r.type).block_bytes;
        }
        m.n_parameters = count;
        m.parameter_bytes = bytes;
        const auto* object = member(root, "metadata");
        const auto warn = [&](const char* key, const std::string& right) {
            const auto* v = object == nullptr ? nullptr : member(*object, key);
            warnings_.push_back({errc::mismatch, "metadata: \"" + std::string(key) + "\" is " + shown(v) + ", " + right, file_, {}, {}, {}});
        };
        const auto number = [&](const char* key) -> std::optional<double> {
            const auto* v = object == nullptr ? nullptr : member(*object, key);
            if (v == nullptr || !v->is_number() || !std::isfinite(v->get<double>())) return std::nullopt;
            return v->get<double>();
        };
        const bool complete = count == names_.size();  // else the sums are not known
        if (const auto n = number("ParamSize"); complete && n != static_cast<double>(count))
            warn("ParamSize", "the index has " + std::to_string(count) + " records");
        if (const auto n = number("ParamBytes"); complete && n != bytes) warn("ParamBytes", "the records add up to " + python_float(bytes));
        const auto bits = number("BitsPerParam");
        const double values = bits && *bits > 0 ? bytes * 8 / *bits : 0;
        if (bits && *bits > 0 && std::fabs(values - std::round(values)) <= 1e-6 * values && *bits <= 64) {
            m.bits_per_parameter = *bits;
        } else if (complete && !(bytes == 0 && bits)) {
            warn("BitsPerParam", "which no number of parameters gives");
        }
    }

    std::string folder_;
    std::string file_;
    error_list& problems_;
    error_list& warnings_;
    std::unordered_set<std::string> names_;  ///< of all records, those that were dropped included
};

/// What differs between two indexes of one folder; empty if nothing that matters does. `b16`: where one says float32, the other may
/// say bfloat16 in format raw.
inline std::string difference(const manifest& a, const manifest& b, bool b16) {
    if (a.shards.size() != b.shards.size()) return std::to_string(a.shards.size()) + " shards against " + std::to_string(b.shards.size());
    for (std::size_t i = 0; i < a.shards.size(); ++i) {
        const auto& s = a.shards[i];
        const auto& t = b.shards[i];
        if (s.path != t.path || s.n_bytes != t.n_bytes || s.md5 != t.md5 || s.records.size() != t.records.size()) return "shard " + s.path;
        for (std::size_t j = 0; j < s.records.size(); ++j) {
            const auto& r = s.records[j];
            const auto& q = t.records[j];
            const bool type = r.type == q.type && r.raw == q.raw;
            const bool as_b16 = b16 && r.type == encoding::f32 && !r.raw && q.type == encoding::bf16;
            if (r.name != q.name || r.dims != q.dims || r.offset != q.offset || r.n_bytes != q.n_bytes || !(type || as_b16))
                return "record '" + r.name + "' of " + s.path;
        }
    }
    return {};
}

/// Each q_weight needs its q_scale, of a shape that goes with it: four words for each scale, along the same axis.
inline void check_pairs(folder& f, const std::unordered_set<std::string>& names) {
    const auto add = [&](place p, const std::string& base, std::string rule) {
        f.problems.push_back({errc::mismatch, "the pair of q_weight and q_scale is broken: " + std::move(rule), f.path + "/" + f.manifest.shards[p.shard].path,
                              base, f.at(p).offset, "convert again"});
    };
    for (std::size_t s = 0; s < f.manifest.shards.size(); ++s) {
        const auto& records = f.manifest.shards[s].records;
        for (std::size_t i = 0; i < records.size(); ++i) {
            const auto& r = records[i];
            const place here{s, i};
            constexpr std::string_view weight = ".q_weight";
            constexpr std::string_view scale = ".q_scale";
            if (r.name.ends_with(scale)) {
                const auto base = r.name.substr(0, r.name.size() - scale.size());
                if (!names.contains(base + std::string(weight))) add(here, base, "there is no q_weight");
                continue;
            }
            if (!r.name.ends_with(weight)) continue;
            const auto base = r.name.substr(0, r.name.size() - weight.size());
            const auto* q = f.find(base + std::string(scale));
            if (r.type != encoding::u32) {
                const bool f8 = r.type == encoding::f8_e4m3 || r.type == encoding::f8_e5m2;
                if (!f8) add(here, base, "q_weight is " + std::string(dtype_text(r.type)) + ", expected uint32 or an 8-bit float");
                if (f8 && q != nullptr && q->dims.elements() != 1) add(here, base, "8-bit floats have one scale, the index gives q_scale " + q->dims.text());
                continue;
            }
            if (q == nullptr) {
                if (!names.contains(base + std::string(scale))) add(here, base, "there is no q_scale");
                continue;
            }
            if (q->type != encoding::f16 && q->type != encoding::f32 && q->type != encoding::bf16)
                add(here, base, "q_scale is " + std::string(dtype_text(q->type)) + ", expected a float type");
            if (pair_layout(r.dims, q->dims) == pair::none) {
                add(here, base,
                    "q_weight " + r.dims.text() + " (uint32) and q_scale " + q->dims.text() +
                        " do not go together, a scale has four words of codes along the last axis, "
                        "or along the first where it is transposed");
            }
        }
    }
}

}  // namespace detail

inline result<folder> open_folder(const std::string& where, const reader_options& options) {
    namespace fs = std::filesystem;
    std::error_code ec;
    folder f;
    fs::path home = where;
    std::string chosen;
    if (fs::is_regular_file(home, ec)) {
        chosen = home.filename().string();
        home = home.parent_path();
        if (home.empty()) home = ".";
    } else if (!fs::is_directory(home, ec)) {
        return fail(error{errc::missing, "no such file or folder", where, {}, {}, "give the folder with tensor-cache.json in it"});
    }
    // A package may keep its shards and their index one or two folders below.
    for (const auto* below : {"params", "resolve/main"}) {
        const auto has_index = [&](const fs::path& folder) { return fs::exists(folder / index_name, ec) || fs::exists(folder / legacy_index_name, ec); };
        if (chosen.empty() && !has_index(home) && has_index(home / below)) home /= below;
    }
    f.path = home.string();
    if (f.path.size() > 1 && f.path.ends_with('/')) f.path.pop_back();
    const bool work_beside = fs::is_directory(f.path + ".nibble-work", ec);
    bool work_inside = false;
    bool shares = false;
    for (fs::directory_iterator entry(home, ec), end; !ec && entry != end; entry.increment(ec)) {
        const auto name = entry->path().filename().string();
        work_inside = work_inside || name.starts_with(".nibble-work");
        shares = shares || name.starts_with("nibble-part-");
    }
    f.partial = work_beside || work_inside;
    const bool has_new = fs::exists(home / index_name, ec);
    const bool has_old = fs::exists(home / legacy_index_name, ec);
    if (chosen.empty() && !has_new && !has_old) {
        error e{errc::missing, "neither tensor-cache.json nor ndarray-cache.json is in the folder", f.path, {}, {}, "give a folder of MLC weights"};
        if (f.partial) {
            e.rule = "a conversion into this folder has not come to its end (there is a .nibble-work, and no index)";
            e.remedy = "run the same conversion again with --resume";
        } else if (shares) {
            e.rule = "the folder holds shares of a conversion that have not been joined (nibble-part files, and no index)";
            e.remedy = "bring all shares together, then convert with --join";
        }
        return fail(std::move(e));
    }
    if (chosen.empty()) chosen = has_new ? index_name : legacy_index_name;
    if (f.partial) {
        f.warnings.push_back({errc::busy,
                              "a conversion into this folder is at work or was interrupted (there is a .nibble-work)",
                              f.path,
                              {},
                              {},
                              "what is described here is the folder as its index has it"});
    }

    constexpr std::uint64_t index_limit = 64 << 20;
    f.index = (home / chosen).string();
    auto text = read_file(f.index, index_limit);
    if (!text) return pass(text);
    detail::index_parser parser(f.path, f.index, f.problems, f.warnings);
    auto m = parser.parse(*text);
    if (!m) return pass(m);
    f.manifest = std::move(*m);
    for (std::size_t s = 0; s < f.manifest.shards.size(); ++s) {
        const auto& records = f.manifest.shards[s].records;
        for (std::size_t i = 0; i < records.size(); ++i) f.by_name.emplace(records[i].name, place{s, i});
    }
    detail::check_pairs(f, parser.names());

    // The other index files of the folder must say the same.
    const auto compare = [&](std::string_view other, bool b16) {
        if (other == chosen || !fs::exists(home / other, ec)) return;
        const auto path = (home / other).string();
        auto content = read_file(path, index_limit);
        if (content && *content == *text) return;
        error_list problems;
        error_list warnings;
        detail::index_parser second(f.path, path, problems, warnings);
        auto n = content ? second.parse(*content) : result<manifest>(pass(content));
        const auto what = !n ? n.error().message() : !problems.empty() ? problems.front().message() : detail::difference(f.manifest, *n, b16);
        if (what.empty()) return;
        const std::string remedy =
            b16 ? "no WebLLM reads the -b16 file: remove it, or convert again"
                : "WebLLM up to 0.2.79 reads ndarray-cache.json, from 0.2.80 on tensor-cache.json: remove the wrong one, or convert again";
        f.problems.push_back({errc::mismatch, "it disagrees with " + chosen + ": " + what, path, {}, {}, remedy});
    };
    if (chosen == index_name) compare(legacy_index_name, false);
    if (chosen == legacy_index_name) compare(index_name, false);
    if (chosen == index_name || chosen == legacy_index_name) {
        compare("tensor-cache-b16.json", true);
        compare("ndarray-cache-b16.json", true);
    }

    std::unordered_set<std::string_view> used;
    for (const auto& s : f.manifest.shards) {
        used.insert(s.path);
        f.files.emplace_back();
        const auto path = home / s.path;
        if (!fs::exists(path, ec)) {
            f.problems.push_back({errc::missing, "the shard is not there", path.string(), {}, {}, "download it, or convert again"});
            continue;
        }
        if (!options.follow_links && !stays_inside(path, home)) {
            f.problems.push_back(
                {errc::refused, "the shard is a link that leads out of the folder", path.string(), {}, {}, "copy the file, or allow it with --follow-links"});
            continue;
        }
        auto opened = file::open(path.string(), options.access);
        if (!opened) {
            f.problems.push_back(std::move(opened.error()));
            continue;
        }
        const auto size = (*opened)->size();
        if (size != s.n_bytes) {
            f.problems.push_back({size < s.n_bytes ? errc::truncated : errc::mismatch,
                                  "the shard has " + std::to_string(size) + " bytes, the index says " + std::to_string(s.n_bytes) +
                                      (size < s.n_bytes ? ": it is cut short" : ": something follows its data"),
                                  path.string(),
                                  {},
                                  std::min(size, s.n_bytes),
                                  "download it, or convert, again"});
        }
        f.files.back() = std::move(*opened);
    }
    for (fs::directory_iterator entry(home, ec), end; !ec && entry != end; entry.increment(ec)) {
        const auto name = entry->path().filename().string();
        if (name.starts_with("params_shard_") && !used.contains(name))
            f.warnings.push_back(
                {errc::mismatch, "the index does not name it", entry->path().string(), {}, {}, "it may be left of another conversion: remove it"});
    }
    return f;
}

inline result<std::vector<float>> values(const folder& f, place p) {
    const auto& r = f.at(p);
    if (!is_float(r.type))
        return fail(error{errc::unsupported, "values of type " + std::string(dtype_text(r.type)) + " are not numbers of a model", f.path, r.name, {}, {}});
    std::vector<std::byte> scratch;
    auto bytes = f.bytes(p, scratch);
    if (!bytes) return pass(bytes);
    std::vector<float> out(r.dims.elements());
    const auto size = stored_bytes(r);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const auto* at = bytes->data() + i * size;
        switch (r.type) {
            case encoding::f16:
                out[i] = to_f32(load<f16>(at));
                break;
            case encoding::f8_e4m3:
                out[i] = to_f32(load<f8_e4m3>(at));
                break;
            case encoding::f8_e5m2:
                out[i] = to_f32(load<f8_e5m2>(at));
                break;
            default:  // bf16, and f32 as stored
                out[i] = size == 4 ? load<float>(at) : to_f32(load<bf16>(at));
        }
    }
    return out;
}

/// Sums of one md5 at a time, for check_md5.
struct one_lane {
    void operator()(md5* const* sums, const std::byte* const* data, const std::size_t* n_bytes, std::size_t lanes) const {
        for (std::size_t i = 0; i < lanes; ++i) sums[i]->update({data[i], n_bytes[i]});
    }
};

/// Compares the md5 of each shard with the index. `update` adds to up to eight sums at once, as cpu::md5_update_lanes does;
/// `on_progress(bytes)` is called from the threads, one at a time. Returns what is wrong, in the order of the shards; shards of a wrong size are told
/// by open_folder and not read here.
template <class UpdateLanes = one_lane, class OnProgress = void (*)(std::uint64_t)>
[[nodiscard]] error_list check_md5(
    const folder& f, unsigned threads = 0, UpdateLanes update = {}, OnProgress on_progress = [](std::uint64_t) {}) {
    constexpr std::size_t lanes_at_most = 8;
    constexpr std::uint64_t stretch = 256 << 10;
    std::vector<std::size_t> queue;
    for (std::size_t i = 0; i < f.files.size(); ++i) {
        const auto& s = f.manifest.shards[i];
        if (f.files[i] != nullptr && f.files[i]->size() == s.n_bytes && !s.md5.empty()) queue.push_back(i);
    }
    std::vector<std::optional<error>> found(f.files.size());
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    struct lane {
        std::size_t shard;
        std::uint64_t at = 0;
        md5 sum{};
        std::vector<std::byte> scratch{};
    };
    const auto work = [&] {
        std::vector<std::unique_ptr<lane>> lanes;
        for (;;) {
            while (lanes.size() < lanes_at_most) {
                const auto i = next.fetch_add(1);
                if (i >= queue.size()) break;
                lanes.push_back(std::make_unique<lane>(lane{queue[i]}));
            }
            if (lanes.empty()) return;
            std::array<md5*, lanes_at_most> sums{};
            std::array<const std::byte*, lanes_at_most> data{};
            std::array<std::size_t, lanes_at_most> sizes{};
            std::uint64_t bytes = 0;
            for (std::size_t i = 0; i < lanes.size();) {
                auto& l = *lanes[i];
                const auto& file = *f.files[l.shard];
                auto same = file.check_unchanged();
                auto view = same ? file.bytes(l.at, std::min(stretch, file.size() - l.at), l.scratch) : result<bytes_view>(pass(same));
                if (!view) {
                    found[l.shard] = std::move(view.error());
                    lanes.erase(lanes.begin() + static_cast<std::ptrdiff_t>(i));
                    continue;
                }
                sums[i] = &l.sum;
                data[i] = view->data();
                sizes[i] = view->size();
                l.at += view->size();
                bytes += view->size();
                ++i;
            }
            update(sums.data(), data.data(), sizes.data(), lanes.size());
            {
                const std::lock_guard hold(mutex);
                on_progress(bytes);
            }
            for (std::size_t i = lanes.size(); i-- > 0;) {
                auto& l = *lanes[i];
                const auto& s = f.manifest.shards[l.shard];
                if (l.at != s.n_bytes) continue;
                if (const auto sum = l.sum.hex(); sum != s.md5) {
                    found[l.shard] = error{errc::mismatch,
                                           "its md5 is " + sum + ", the index says " + s.md5,
                                           f.path + "/" + s.path,
                                           {},
                                           {},
                                           "the shard is damaged, or of another conversion: download it, or convert, again"};
                }
                lanes.erase(lanes.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    };
    const unsigned wanted = threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
    const auto n_threads = static_cast<unsigned>(std::min<std::size_t>(wanted, std::max<std::size_t>(1, queue.size())));
    std::vector<std::thread> others;
    for (unsigned i = 1; i < n_threads; ++i) others.emplace_back(work);
    work();
    for (auto& t : others) t.join();
    error_list problems;
    for (auto& e : found) {
        if (e) problems.push_back(std::move(*e));
    }
    return problems;
}

}  // namespace nibble::shard
