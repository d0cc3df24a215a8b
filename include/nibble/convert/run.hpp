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
#include "nibble/cpu/kernels.hpp"
#include "nibble/shard/output.hpp"

namespace nibble::convert {

/// Shards that one thread works on at the same time, and the stretch of each that it holds.
inline constexpr std::size_t lanes_per_thread = 8;
inline constexpr std::size_t lane_bytes = 128 << 10;

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

enum class nonfinite_values_are : std::uint8_t {
    kept,    ///< stored as mlc_llm stores them, and reported
    refused  ///< an error, before anything is published
};

struct run_options {
    unsigned threads = 0;  ///< 0: as many as the machine has
    bool resume = false;   ///< keep the shards of an interrupted run whose md5 still holds
    bool overwrite = false;
    bool legacy_index = true;                                          ///< write ndarray-cache.json beside tensor-cache.json, for WebLLM up to 0.2.79
    std::optional<std::pair<std::size_t, std::size_t>> only_shards{};  ///< first and last, both included: no index is written
    std::function<void(const progress&)> on_progress{};                ///< called from worker threads, one at a time
    nonfinite_values_are nonfinite = nonfinite_values_are::kept;
    const std::atomic<bool>* cancelled = nullptr;  ///< asked now and then; once true, the run ends with errc::interrupted

    [[nodiscard]] bool is_cancelled() const { return cancelled != nullptr && cancelled->load(std::memory_order_relaxed); }
};

struct run_report {
    std::string output;
    std::vector<std::string> files;  ///< written, in the output folder
    std::uint64_t bytes = 0;
    std::size_t shards_kept = 0;  ///< taken over by `resume`
    double seconds = 0;
    std::vector<nonfinite_values> nonfinite;  ///< in the order of the checkpoint
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

/// md5 of a file, read in stretches; empty if it cannot be read or has another size.
inline std::string md5_of_file(const std::filesystem::path& path, std::uint64_t n_bytes) {
    auto f = file::open(path.string(), file_access::read);
    if (!f || (*f)->size() != n_bytes) return {};
    md5 sum;
    std::vector<std::byte> scratch;
    for (std::uint64_t at = 0; at < n_bytes; at += 1 << 20) {
        const auto bytes = (*f)->bytes(at, std::min<std::uint64_t>(1 << 20, n_bytes - at), scratch);
        if (!bytes) return {};
        sum.update(*bytes);
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

/// One shard under work.
struct lane {
    std::size_t shard;
    shard_stream stream;
    shard::output_file out;
    md5 sum;
    std::vector<std::byte> buffer;
    std::size_t filled = 0;
};

/// The state that worker threads share.
struct work {
    const plan& of;
    shard::manifest& manifest;
    shard::output_folder& folder;
    journal& log;
    const run_options& options;
    std::vector<std::size_t> queue;  ///< shards to make, the largest first
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    progress state;
    std::optional<error> failed;
    std::unordered_map<const source::tensor*, std::uint64_t> nonfinite;

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
        const auto& s = manifest.shards[shard];
        auto out = shard::output_file::create(folder.work(), s.path, s.n_bytes);
        if (!out) return pass(out);
        lanes.push_back(std::make_unique<lane>(lane{shard, shard_stream(of, shard), std::move(*out), {}, std::vector<std::byte>(lane_bytes), 0}));
        return {};
    }

    /// One stretch of every lane; lanes that are complete are finished and leave.
    result<void> step(std::vector<std::unique_ptr<lane>>& lanes) {
        if (auto same = check_sources(of); !same) return same;
        std::array<md5*, lanes_per_thread> sums{};
        std::array<const std::byte*, lanes_per_thread> data{};
        std::array<std::size_t, lanes_per_thread> sizes{};
        for (std::size_t i = 0; i < lanes.size(); ++i) {
            auto& l = *lanes[i];
            if (options.is_cancelled()) return fail(interrupted());
            auto n = l.stream.fill(l.buffer);
            if (!n) return pass(n);
            l.filled = *n;
            sums[i] = &l.sum;
            data[i] = l.buffer.data();
            sizes[i] = *n;
        }
        cpu::md5_update_lanes(sums.data(), data.data(), sizes.data(), lanes.size());
        std::uint64_t bytes = 0;
        for (auto& l : lanes) {
            if (auto written = l->out.write(bytes_view(l->buffer.data(), l->filled)); !written) return written;
            bytes += l->filled;
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
        auto& s = manifest.shards[l.shard];
        if (auto done = l.out.finish(); !done) return done;
        const auto md5 = l.sum.hex();
        const std::lock_guard hold(mutex);
        s.md5 = md5;
        for (const auto& [tensor, count] : l.stream.nonfinite()) nonfinite[tensor] += count;
        // Such a shard is not noted, so that a resumed run meets its values again and reports them too.
        if (!l.stream.nonfinite().empty()) return {};
        return log.append(s.path + " " + md5 + "\n");
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
    std::vector<std::string> names{"tensor-cache.json"};
    if (legacy) names.emplace_back("ndarray-cache.json");
    if (shard::has_f32(m)) {
        names.emplace_back("tensor-cache-b16.json");
        if (legacy) names.emplace_back("ndarray-cache-b16.json");
    }
    for (const auto& name : names) {
        if (auto w = folder.write_file(name, shard::to_json(m, name.find("-b16") != name.npos)); !w) return pass(w);
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

/// Carries out a plan without problems. Errors: as output_folder::open; no_space; mismatch, when a source file changes meanwhile.
/// After an error the finished shards stay in the work folder for `resume`.
[[nodiscard]] inline result<run_report> run(const plan& p, const std::string& output, const run_options& options = {}) {
    const auto start = std::chrono::steady_clock::now();
    if (!p.problems.empty()) return fail(p.problems.front());
    std::error_code ec;
    for (const auto& f : p.model.files) {
        if (std::filesystem::equivalent(std::filesystem::absolute(f->path(), ec).parent_path(), output, ec)) {
            return fail(error{errc::refused, "the output is the model's own folder", output, {}, {}, "give another -o"});
        }
    }

    auto manifest = p.manifest;
    std::pair<std::size_t, std::size_t> range{0, manifest.shards.empty() ? 0 : manifest.shards.size() - 1};
    if (options.only_shards) range = *options.only_shards;
    if (range.first > range.second || (range.second >= manifest.shards.size() && !manifest.shards.empty())) {
        return fail(errc::refused, "there are no shards " + std::to_string(range.first) + "-" + std::to_string(range.second) + ": the plan has shards 0-" +
                                       std::to_string(manifest.shards.size() - 1));
    }

    const std::string share = options.only_shards ? std::to_string(range.first) + "-" + std::to_string(range.second) : "";
    auto folder = shard::output_folder::open(output, options.overwrite, share);
    if (!folder) return pass(folder);

    const auto print = detail::fingerprint(p, true);
    std::unordered_map<std::string, std::string> kept;
    if (options.resume) {
        for (const auto& done : detail::journal::read(folder->work() / detail::journal_name, print)) {
            const std::string& name = done.first;  // clang 14 cannot capture a structured binding
            const std::string& md5 = done.second;
            const auto at = std::find_if(manifest.shards.begin(), manifest.shards.end(), [&](const auto& s) { return s.path == name; });
            if (options.is_cancelled()) return fail(detail::interrupted());
            if (at == manifest.shards.end() || detail::md5_of_file(folder->work() / name, at->n_bytes) != md5) continue;
            at->md5 = md5;
            kept.emplace(name, md5);
        }
    }
    std::vector<std::string> keep;
    for (const auto& [name, md5] : kept) keep.push_back(name);
    if (auto cleared = folder->clear_work(keep); !cleared) return pass(cleared);
    std::uint64_t to_write = 0;
    for (std::size_t i = range.first; i <= range.second && i < manifest.shards.size(); ++i)
        to_write += manifest.shards[i].md5.empty() ? manifest.shards[i].n_bytes : 0;
    if (auto room = check_space(to_write, output); !room) {
        if (kept.empty()) folder->abandon();
        return pass(room);
    }
    detail::journal log;
    if (auto opened = log.open(folder->work(), print, kept); !opened) return pass(opened);

    detail::work work{p, manifest, *folder, log, options, {}, {}, {}, {}, {}, {}};
    for (std::size_t i = range.first; i <= range.second && i < manifest.shards.size(); ++i) {
        work.state.bytes_total += manifest.shards[i].n_bytes;
        ++work.state.shards_total;
        if (manifest.shards[i].md5.empty()) {
            work.queue.push_back(i);
        } else {
            work.state.bytes_done += manifest.shards[i].n_bytes;
            ++work.state.shards_done;
        }
    }
    std::stable_sort(work.queue.begin(), work.queue.end(),
                     [&](std::size_t a, std::size_t b) { return manifest.shards[a].n_bytes > manifest.shards[b].n_bytes; });
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
    if (auto same = detail::check_sources(p); !same) return pass(same);

    run_report report;
    for (const auto& t : p.model.tensors) {
        if (const auto at = work.nonfinite.find(&t); at != work.nonfinite.end()) report.nonfinite.push_back({t.name, at->second});
    }
    if (!report.nonfinite.empty() && options.nonfinite == nonfinite_values_are::refused) {
        return fail(error{errc::refused, nonfinite_text(report.nonfinite), {}, {}, {}, "correct the checkpoint, or allow them with --nonfinite keep"});
    }
    report.output = output;
    report.shards_kept = kept.size();
    std::vector<std::string> index;
    if (options.only_shards) {
        std::string part;
        for (std::size_t i = range.first; i <= range.second; ++i) part += manifest.shards[i].path + " " + manifest.shards[i].md5 + "\n";
        const std::string name = "nibble-part-" + share + ".txt";
        if (auto w = folder->write_file(name, detail::fingerprint(p, false) + "\n" + part); !w) return pass(w);
        index.push_back(name);
    } else {
        auto names = detail::write_index(*folder, manifest, options.legacy_index);
        if (!names) return pass(names);
        index = std::move(*names);
    }
    for (std::size_t i = range.first; i <= range.second && i < manifest.shards.size(); ++i) {
        report.files.push_back(manifest.shards[i].path);
        report.bytes += manifest.shards[i].n_bytes;
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
