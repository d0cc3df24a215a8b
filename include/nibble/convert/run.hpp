// SPDX-License-Identifier: Apache-2.0
#pragma once
// Carrying out a plan: every shard is a task of its own, several at a time on each thread so that their md5 sums share SIMD lanes.
// The same bytes come out for any number of threads.

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <numeric>
#include <thread>

#include "nibble/convert/produce.hpp"
#include "nibble/core/md5.hpp"
#include "nibble/core/sha256.hpp"
#include "nibble/cpu/kernels.hpp"
#include "nibble/shard/output.hpp"

namespace nibble::convert {

/// Shards that one thread works on at the same time, and the stretch of each that it holds.
inline constexpr std::size_t lanes_per_thread = 8;
inline constexpr std::size_t lane_bytes = 128 << 10;

/// How far a conversion has come.
struct progress {
    std::uint64_t bytes_done = 0;  ///< of the output, those of shards that were already there included
    std::uint64_t bytes_total = 0;
    std::size_t shards_done = 0;
    std::size_t shards_total = 0;
};

/// Values that are not finite in the model's type (NaN, infinity, or beyond its range), of one source tensor.
struct nonfinite_values {
    std::string tensor;
    std::uint64_t count = 0;
};

/// "3 values of 2 tensors are not finite ...: a (2), b (1)", with at most eight tensors named.
[[nodiscard]] inline std::string nonfinite_text(const std::vector<nonfinite_values>& found) {
    std::uint64_t n = 0;
    for (const auto& f : found) n += f.count;
    std::string text =
        std::to_string(n) + " values of " + std::to_string(found.size()) + " tensors are not finite (NaN, infinity, or too large for the model's type):";
    for (std::size_t i = 0; i < found.size() && i < 8; ++i) text += (i != 0 ? ", " : " ") + found[i].tensor + " (" + std::to_string(found[i].count) + ")";
    if (found.size() > 8) text += ", ...";
    return text;
}

/// What becomes of values that are infinite or no numbers.
enum class nonfinite_values_are : std::uint8_t {
    kept,    ///< stored as mlc_llm stores them, and reported
    refused  ///< an error, before anything is published
};

/// How a plan is carried out.
struct run_options {
    unsigned threads = 0;  ///< 0: as many as the machine has
    bool resume = false;   ///< keep the shards of an interrupted run whose md5 still holds
    bool overwrite = false;
    bool legacy_index = true;                                          ///< write ndarray-cache.json beside tensor-cache.json, for WebLLM up to 0.2.79
    std::optional<std::pair<std::size_t, std::size_t>> only_shards{};  ///< first and last, both included: no index is written
    std::function<void(const progress&)> on_progress{};                ///< called from worker threads, one at a time
    nonfinite_values_are nonfinite = nonfinite_values_are::kept;
    bool sha256 = false;                           ///< sum up each shard for a manifest
    const std::atomic<bool>* cancelled = nullptr;  ///< asked now and then; once true, the run ends with errc::interrupted

    [[nodiscard]] bool is_cancelled() const { return cancelled != nullptr && cancelled->load(std::memory_order_relaxed); }
};

/// What a conversion has written.
struct run_report {
    std::string output;
    std::vector<std::string> files;  ///< written, in the output folder
    std::uint64_t bytes = 0;
    std::size_t shards_kept = 0;  ///< taken over by `resume`
    double seconds = 0;
    std::vector<nonfinite_values> nonfinite;  ///< in the order of the checkpoint
};

/// One of the conversions that are carried out together.
struct run_part {
    const plan* of = nullptr;
    std::string folder;  ///< where its shards lie in the output: "" or "params/"
};

/// What has become of a part, in the work folder.
struct made_part {
    shard::manifest manifest;         ///< complete
    std::vector<std::string> sha256;  ///< of each shard, where run_options::sha256 wanted them
    std::vector<nonfinite_values> nonfinite;
};
/// The shards that one machine has made of a shared conversion.
struct made_shards {
    std::vector<made_part> parts;
    std::vector<std::string> files;  ///< names in the work folder
    std::uint64_t bytes = 0;
    std::size_t shards_kept = 0;
};

namespace detail {

inline constexpr std::string_view journal_name = "journal";

/// What a work folder belongs to: the same plan, options and source files give the same text; `here` adds what holds on this
/// machine only, the files' paths and times.
inline std::string fingerprint(const plan& p, bool here) {
    md5 sum;
    const auto add = [&](const std::string& text) { sum.update(std::as_bytes(std::span(text))); };
    // The manifest alone is not enough: q3f16_1 and q4f16_1 may have planes of the same shapes, and a config.json may change what
    // is in them, the order of rows for one.
    add(shard::to_json(p.manifest));
    add(std::string(p.quantization->name) + " " + p.model_type + " " + p.model.config.dump(-1, ' ', true, json::error_handler_t::replace));
    add(std::to_string(static_cast<int>(p.options.encode.rounding)) + " " + std::to_string(static_cast<int>(p.options.encode.fit)));
    for (const auto& f : p.model.files) {
        add(std::to_string(f->size()) + "\n");
        if (here) add(f->path() + " " + std::to_string(f->modified_ns()) + "\n");
    }
    return sum.hex();
}

/// The same for parts that are made together.
inline std::string fingerprint(const std::vector<run_part>& parts) {
    if (parts.size() == 1 && parts[0].folder.empty()) return fingerprint(*parts[0].of, true);
    md5 sum;
    for (const auto& p : parts) {
        const auto text = fingerprint(*p.of, true) + " " + p.folder + "\n";
        sum.update(std::as_bytes(std::span(text)));
    }
    return sum.hex();
}

/// md5 of a file, read in stretches; empty if it cannot be read or has another size. `strong` takes the same bytes.
inline std::string md5_of_file(const std::filesystem::path& path, std::uint64_t n_bytes, sha256* strong = nullptr) {
    auto f = file::open(path.string(), file_access::read);
    if (!f || (*f)->size() != n_bytes) return {};
    md5 sum;
    std::vector<std::byte> scratch;
    for (std::uint64_t at = 0; at < n_bytes; at += 1 << 20) {
        const auto bytes = (*f)->bytes(at, std::min<std::uint64_t>(1 << 20, n_bytes - at), scratch);
        if (!bytes) return {};
        sum.update(*bytes);
        if (strong != nullptr) strong->update(*bytes);
    }
    return sum.hex();
}

/// The journal: the plan's fingerprint, then "name md5" for each finished shard. Appended to and synced as shards are finished.
class journal {
public:
    /// The shards that an earlier run of the same plan finished, by name, with their md5.
    static std::unordered_map<std::string, std::string> read(const std::filesystem::path& path, const std::string& print) {
        std::unordered_map<std::string, std::string> done;
        auto text = read_file(path.string(), 64 << 20);
        if (!text) return done;
        std::string_view rest{reinterpret_cast<const char*>(text->data()), text->size()};
        bool first = true;
        for (auto end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
            const auto line = rest.substr(0, end);
            rest.remove_prefix(end + 1);
            if (first && line != print) return {};
            const auto space = line.find(' ');
            if (!first && space != line.npos) done.emplace(line.substr(0, space), line.substr(space + 1));
            first = false;
        }
        return done;
    }

    result<void> open(const std::filesystem::path& folder, const std::string& print, const std::unordered_map<std::string, std::string>& kept) {
        std::string text = print + "\n";
        for (const auto& [name, md5] : kept) text += name + " " + md5 + "\n";
        fd_ = shard::detail::descriptor(::open((folder / journal_name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
        if (fd_.get() < 0) return fail(shard::detail::advised(system_error("create", (folder / journal_name).string())));
        return append(text);
    }
    result<void> append(std::string_view text) {
        if (::write(fd_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
            return fail(shard::detail::advised(system_error("write", std::string(journal_name))));
        return {};
    }

private:
    shard::detail::descriptor fd_;
};

inline error interrupted() { return {errc::interrupted, "interrupted", {}, {}, {}, "`--resume` goes on"}; }

/// An error if any source file is not what it was when the plan was made.
inline result<void> check_sources(const plan& p) {
    for (const auto& f : p.model.files) {
        if (auto same = f->check_unchanged(); !same) return same;
    }
    return {};
}

/// One shard under work, in all the parts.
struct lane {
    struct product {
        shard::output_file out;
        md5 sum;
        sha256 strong;
        std::vector<std::byte> buffer;
    };
    std::size_t shard;
    shard_stream stream;
    std::vector<product> products;
    std::size_t filled = 0;
};

/// The state that worker threads share.
struct work {
    const std::vector<run_part>& parts;
    std::vector<made_part>& made;
    shard::output_folder& folder;
    journal& log;
    const run_options& options;
    std::vector<std::size_t> queue{};  ///< shards to make, the largest first
    std::atomic<std::size_t> next{0};
    std::mutex mutex{};
    progress state{};
    std::optional<error> failed{};
    std::vector<std::unordered_map<const source::tensor*, std::uint64_t>> nonfinite =
        std::vector<std::unordered_map<const source::tensor*, std::uint64_t>>(parts.size());

    [[nodiscard]] bool stopped() {
        if (options.is_cancelled()) stop(interrupted());
        const std::lock_guard hold(mutex);
        return failed.has_value();
    }
    void stop(error e) {
        const std::lock_guard hold(mutex);
        if (!failed) failed = std::move(e);
    }
    void advance(std::uint64_t bytes, std::size_t shards) {
        const std::lock_guard hold(mutex);
        state.bytes_done += bytes;
        state.shards_done += shards;
        if (options.on_progress) options.on_progress(state);
    }

    result<void> begin(std::vector<std::unique_ptr<lane>>& lanes, std::size_t shard) {
        std::vector<const plan*> plans;
        std::vector<lane::product> products;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const auto& s = made[i].manifest.shards[shard];
            auto out = shard::output_file::create(folder.work(), parts[i].folder + s.path, s.n_bytes);
            if (!out) return pass(out);
            plans.push_back(parts[i].of);
            products.push_back({std::move(*out), {}, {}, std::vector<std::byte>(lane_bytes)});
        }
        lanes.push_back(std::make_unique<lane>(lane{shard, shard_stream(plans, shard), std::move(products)}));
        return {};
    }

    /// One stretch of every lane; lanes that are complete are finished and leave.
    result<void> step(std::vector<std::unique_ptr<lane>>& lanes) {
        if (auto same = check_sources(*parts[0].of); !same) return same;
        for (auto& l : lanes) {
            if (options.is_cancelled()) return fail(interrupted());
            std::vector<std::span<std::byte>> out;
            for (auto& p : l->products) out.emplace_back(p.buffer);
            auto n = l->stream.fill(out);
            if (!n) return pass(n);
            l->filled = *n;
        }
        for (std::size_t k = 0; k < parts.size(); ++k) {
            std::array<md5*, lanes_per_thread> sums{};
            std::array<const std::byte*, lanes_per_thread> data{};
            std::array<std::size_t, lanes_per_thread> sizes{};
            for (std::size_t i = 0; i < lanes.size(); ++i) {
                sums[i] = &lanes[i]->products[k].sum;
                data[i] = lanes[i]->products[k].buffer.data();
                sizes[i] = lanes[i]->filled;
            }
            cpu::md5_update_lanes(sums.data(), data.data(), sizes.data(), lanes.size());
        }
        std::uint64_t bytes = 0;
        for (auto& l : lanes) {
            for (auto& p : l->products) {
                const auto filled = bytes_view(p.buffer.data(), l->filled);
                if (options.sha256) p.strong.update(filled);
                if (auto written = p.out.write(filled); !written) return written;
                bytes += l->filled;
            }
        }
        std::size_t finished = 0;
        for (std::size_t i = lanes.size(); i-- > 0;) {
            if (lanes[i]->filled == lane_bytes) continue;
            if (auto done = finish(*lanes[i]); !done) return done;
            lanes.erase(lanes.begin() + static_cast<std::ptrdiff_t>(i));
            ++finished;
        }
        advance(bytes, finished);
        return {};
    }

    result<void> finish(lane& l) {
        for (auto& p : l.products) {
            if (auto done = p.out.finish(); !done) return done;
        }
        const std::lock_guard hold(mutex);
        std::string lines;
        bool all_finite = true;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            auto& s = made[i].manifest.shards[l.shard];
            s.md5 = l.products[i].sum.hex();
            if (options.sha256) made[i].sha256[l.shard] = l.products[i].strong.hex();
            for (const auto& [tensor, count] : l.stream.nonfinite(i)) nonfinite[i][tensor] += count;
            all_finite = all_finite && l.stream.nonfinite(i).empty();
            lines += parts[i].folder + s.path + " " + s.md5 + "\n";
        }
        // Such a shard is not noted, so that a resumed run meets its values again and reports them too.
        if (!all_finite) return {};
        return log.append(lines);
    }

    void run() {
        try {
            make_shards();
        } catch (const std::exception& e) {  // no memory, most likely
            stop(error{errc::io, e.what(), folder.final_path().string(), {}, {}, "take fewer --threads; `--resume` goes on with what is done"});
        }
    }

    void make_shards() {
        std::vector<std::unique_ptr<lane>> lanes;
        for (;;) {
            while (lanes.size() < lanes_per_thread) {
                const auto i = next.fetch_add(1);
                if (i >= queue.size()) break;
                if (auto begun = begin(lanes, queue[i]); !begun) return stop(std::move(begun.error()));
            }
            if (lanes.empty() || stopped()) return;
            if (auto stepped = step(lanes); !stepped) return stop(std::move(stepped.error()));
        }
    }
};

/// Index files of a complete folder, in the work folder.
inline result<std::vector<std::string>> write_index(shard::output_folder& folder, const shard::manifest& m, bool legacy) {
    std::vector<std::string> names;
    for (const auto& [name, text] : shard::index_files(m, legacy)) {
        if (auto w = folder.write_file(name, text); !w) return pass(w);
        names.push_back(name);
    }
    return names;
}

}  // namespace detail

/// Whether there is room for `n_bytes` of shards and their index; an error that says how much is missing.
[[nodiscard]] inline result<void> check_space(std::uint64_t n_bytes, const std::string& output) {
    const auto free = shard::output_folder::free_bytes(output);
    const auto needed = n_bytes + (1 << 20);
    if (free >= needed) return {};
    return fail(error{errc::no_space,
                      std::to_string(needed) + " bytes are needed, " + std::to_string(free) + " are free",
                      output,
                      {},
                      {},
                      "free some space, or give an output on another disk"});
}

/// Whether the output may be where it is. Errors: the plan's problems; refused, if it is the model's own folder.
[[nodiscard]] inline result<void> check_output(const plan& p, const std::string& output) {
    if (!p.problems.empty()) return fail(p.problems.front());
    std::error_code ec;
    for (const auto& f : p.model.files) {
        if (std::filesystem::equivalent(std::filesystem::absolute(f->path(), ec).parent_path(), output, ec)) {
            return fail(error{errc::refused, "the output is the model's own folder", output, {}, {}, "give another -o"});
        }
    }
    return {};
}

/// Makes the shards of parts that can be made together, in the work folder of an output. Errors: no_space; mismatch, when a source
/// file changes meanwhile; refused, for values that are not finite. After an error the finished shards stay there for `resume`.
[[nodiscard]] inline result<made_shards> make_shards(const std::vector<run_part>& parts, shard::output_folder& folder, const std::string& output,
                                                     const run_options& options) {
    made_shards out;
    for (const auto& p : parts) {
        out.parts.push_back({p.of->manifest, std::vector<std::string>(p.of->manifest.shards.size()), {}});
        if (auto made = folder.make_folder(p.folder); !made) return pass(made);
    }
    const auto n_shards = parts[0].of->manifest.shards.size();
    auto range = options.only_shards.value_or(std::pair<std::size_t, std::size_t>{0, n_shards - 1});
    if (n_shards == 0) range = {1, 0};

    const auto print = detail::fingerprint(parts);
    std::unordered_map<std::string, std::string> kept;
    std::vector<bool> there(n_shards);
    if (options.resume) {
        const auto done = detail::journal::read(folder.work() / detail::journal_name, print);
        for (std::size_t i = 0; i < n_shards; ++i) {
            if (options.is_cancelled()) return fail(detail::interrupted());
            bool all = true;
            for (std::size_t k = 0; k < parts.size() && all; ++k) {
                auto& s = out.parts[k].manifest.shards[i];
                const auto at = done.find(parts[k].folder + s.path);
                sha256 strong;
                all = at != done.end() && detail::md5_of_file(folder.work() / at->first, s.n_bytes, options.sha256 ? &strong : nullptr) == at->second;
                if (all) s.md5 = at->second;
                if (all && options.sha256) out.parts[k].sha256[i] = strong.hex();
            }
            there[i] = all;
            for (std::size_t k = 0; k < parts.size(); ++k) {
                auto& s = out.parts[k].manifest.shards[i];
                if (all)
                    kept.emplace(parts[k].folder + s.path, s.md5);
                else
                    s.md5.clear();
            }
            out.shards_kept += all ? 1 : 0;
        }
    }
    std::vector<std::string> keep;
    for (const auto& [name, md5] : kept) keep.push_back(name);
    if (auto cleared = folder.clear_work(keep); !cleared) return pass(cleared);
    for (const auto& p : parts) {
        if (auto made = folder.make_folder(p.folder); !made) return pass(made);
    }
    const auto bytes_of = [&](std::size_t i) { return parts.size() * parts[0].of->manifest.shards[i].n_bytes; };
    std::uint64_t to_write = 0;
    for (std::size_t i = range.first; i <= range.second; ++i) to_write += there[i] ? 0 : bytes_of(i);
    if (auto room = check_space(to_write, output); !room) {
        if (kept.empty()) folder.abandon();
        return pass(room);
    }
    detail::journal log;
    if (auto opened = log.open(folder.work(), print, kept); !opened) return pass(opened);

    detail::work work{parts, out.parts, folder, log, options};
    for (std::size_t i = range.first; i <= range.second; ++i) {
        work.state.bytes_total += bytes_of(i);
        ++work.state.shards_total;
        if (!there[i]) {
            work.queue.push_back(i);
        } else {
            work.state.bytes_done += bytes_of(i);
            ++work.state.shards_done;
        }
    }
    std::stable_sort(work.queue.begin(), work.queue.end(), [&](std::size_t a, std::size_t b) { return bytes_of(a) > bytes_of(b); });
    const unsigned wanted = options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
    const auto n_threads = static_cast<unsigned>(std::min<std::size_t>(wanted, std::max<std::size_t>(1, work.queue.size())));
    {
        std::vector<std::thread> threads;
        for (unsigned i = 1; i < n_threads; ++i) threads.emplace_back([&work] { work.run(); });
        work.run();
        for (auto& t : threads) t.join();
    }
    if (work.failed) return fail(std::move(*work.failed));
    // What was read after the last look may have been another file's bytes.
    if (auto same = detail::check_sources(*parts[0].of); !same) return pass(same);

    for (std::size_t k = 0; k < parts.size(); ++k) {
        auto& found = out.parts[k].nonfinite;
        for (const auto& t : parts[0].of->model.tensors) {
            if (const auto at = work.nonfinite[k].find(&t); at != work.nonfinite[k].end()) found.push_back({t.name, at->second});
        }
        if (!found.empty() && options.nonfinite == nonfinite_values_are::refused)
            return fail(error{errc::refused, nonfinite_text(found), {}, {}, {}, "correct the checkpoint, or allow them with --nonfinite keep"});
        for (std::size_t i = range.first; i <= range.second; ++i) out.files.push_back(parts[k].folder + out.parts[k].manifest.shards[i].path);
    }
    out.bytes = work.state.bytes_total;
    return out;
}

/// Carries out a plan without problems. Errors: as output_folder::open and make_shards.
[[nodiscard]] inline result<run_report> run(const plan& p, const std::string& output, const run_options& options = {}) {
    const auto start = std::chrono::steady_clock::now();
    if (auto good = check_output(p, output); !good) return pass(good);
    std::string share;
    if (options.only_shards) {
        const auto [first, last] = *options.only_shards;
        if (first > last || last >= p.manifest.shards.size()) {
            return fail(errc::refused, "there are no shards " + std::to_string(first) + "-" + std::to_string(last) + ": the plan has shards 0-" +
                                           std::to_string(p.manifest.shards.size() - 1));
        }
        share = std::to_string(first) + "-" + std::to_string(last);
    }
    auto folder = shard::output_folder::open(output, options.overwrite, share);
    if (!folder) return pass(folder);
    auto made = make_shards({{&p, ""}}, *folder, output, options);
    if (!made) return pass(made);

    run_report report;
    report.output = output;
    report.nonfinite = std::move(made->parts[0].nonfinite);
    report.shards_kept = made->shards_kept;
    report.files = std::move(made->files);
    report.bytes = made->bytes;
    const auto& manifest = made->parts[0].manifest;
    std::vector<std::string> index;
    if (options.only_shards) {
        std::string part;
        for (std::size_t i = options.only_shards->first; i <= options.only_shards->second; ++i)
            part += manifest.shards[i].path + " " + manifest.shards[i].md5 + "\n";
        const std::string name = "nibble-part-" + share + ".txt";
        if (auto w = folder->write_file(name, detail::fingerprint(p, false) + "\n" + part); !w) return pass(w);
        index.push_back(name);
    } else {
        auto names = detail::write_index(*folder, manifest, options.legacy_index);
        if (!names) return pass(names);
        index = std::move(*names);
    }
    if (auto done = folder->publish(report.files, index); !done) return pass(done);
    report.files.insert(report.files.end(), index.begin(), index.end());
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
}

/// Completes an output whose shards were made in shares (run_options::only_shards), here or on other machines: checks that every
/// shard of the plan is there with the md5 that its share noted, and writes the index. Errors: missing, listing what is not there.
[[nodiscard]] inline result<run_report> join(const plan& p, const std::string& output, const run_options& options = {}) {
    namespace fs = std::filesystem;
    const auto start = std::chrono::steady_clock::now();
    if (!p.problems.empty()) return fail(p.problems.front());
    auto folder = shard::output_folder::open(output, options.overwrite);
    if (!folder) return pass(folder);
    const auto print = detail::fingerprint(p, false);
    std::unordered_map<std::string, std::string> noted;
    std::error_code ec;
    for (const auto& entry : fs::directory_iterator(output, ec)) {
        if (entry.path().filename().string().starts_with("nibble-part-")) noted.merge(detail::journal::read(entry.path(), print));
    }
    auto manifest = p.manifest;
    std::string lacking;
    run_report report;
    for (auto& s : manifest.shards) {
        const auto at = noted.find(s.path);
        if (at != noted.end() && detail::md5_of_file(fs::path(output) / s.path, s.n_bytes) == at->second)
            s.md5 = at->second;
        else
            lacking += " " + s.path;
        report.files.push_back(s.path);
        report.bytes += s.n_bytes;
    }
    if (!lacking.empty()) {
        folder->abandon();
        return fail(error{errc::missing,
                          "these shards are not there, or not as their share of the same conversion noted them:" + lacking,
                          output,
                          {},
                          {},
                          "make them with --only-shards and copy shards and nibble-part files here"});
    }
    auto names = detail::write_index(*folder, manifest, options.legacy_index);
    if (!names) return pass(names);
    // The notes of the shares go last: without them an interrupted join could not be repeated.
    if (auto removed = folder->remove_index(); !removed) return pass(removed);
    if (auto done = folder->publish_beside(*names); !done) return pass(done);
    folder->remove_shards(report.files);
    report.output = output;
    report.shards_kept = manifest.shards.size();
    report.files.insert(report.files.end(), names->begin(), names->end());
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
}

}  // namespace nibble::convert
