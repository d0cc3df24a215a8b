// SPDX-License-Identifier: Apache-2.0
// A conversion's life: the same bytes for any number of threads, shares and joins, interruption and resumption, folders that are in
// the way, disks that are full, sources that change, values that are not finite.
#include "nibble/convert/run.hpp"

#include <csignal>
#include <cstring>
#include <limits>
#include <map>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/tiny_llama.hpp"

using namespace nibble;
namespace fs = std::filesystem;
using test::entries;
using test::read_text;
using test::write_text;

namespace {

/// A model in a folder of its own, and room beside it.
struct workshop {
    test::temp_folder folder;
    test::tiny_llama model{3};
    std::string source = folder / "model";
    workshop() { model.write(source); }

    [[nodiscard]] convert::plan plan(const std::string& quantization = "q4f16_1", std::uint64_t shard_bytes = 300,
                                     file_access access = file_access::map) const {
        convert::plan_options options;
        options.quantization = quantization;
        options.shard_bytes = shard_bytes;
        options.source.access = access;
        auto p = convert::make_plan(source, options);
        if (!p) FAIL(p.error().message());
        for (const auto& e : p->problems) FAIL_CHECK(e.message());
        return std::move(*p);
    }
    [[nodiscard]] std::string operator/(std::string_view name) const { return folder / name; }
};

/// Names and contents of the files of a folder.
std::map<std::string, std::string> contents(const std::string& folder) {
    std::map<std::string, std::string> files;
    for (const auto& name : entries(folder)) files[name] = fs::is_regular_file(fs::path(folder) / name) ? read_text(fs::path(folder) / name) : "a folder";
    return files;
}
convert::run_report done(const convert::plan& p, const std::string& output, const convert::run_options& options = {}) {
    auto report = convert::run(p, output, options);
    if (!report) FAIL(report.error().message());
    return std::move(*report);
}
template <class T>
error refused(const result<T>& got, errc code, const std::string& words, const std::string& remedy = {}) {
    REQUIRE(!got);
    INFO(got.error().message());
    CHECK(got.error().code == code);
    CHECK(got.error().rule.find(words) != std::string::npos);
    CHECK(got.error().remedy.find(remedy) != std::string::npos);
    return got.error();
}
using names = std::vector<std::string>;

/// Starts a run and stops it after its first stretch, which makes up to eight small shards.
void interrupt(const convert::plan& p, const std::string& output) {
    std::atomic<bool> stop{false};
    convert::run_options options{.threads = 1};
    options.cancelled = &stop;
    options.on_progress = [&](const auto&) { stop = true; };
    refused(convert::run(p, output, options), errc::interrupted, "interrupted", "`--resume` goes on");
}

}  // namespace

TEST_CASE("the same bytes come out for any number of threads and either access", "[convert]") {
    const workshop w;
    for (const std::string quantization : {"q4f16_1", "q4f32_1", "q3f16_0", "e4m3_e4m3_f16_max_calibrate", "q0f32"}) {
        for (const std::uint64_t shard_bytes : {std::uint64_t{1000}, std::uint64_t{5000}, shard::default_shard_bytes}) {
            CAPTURE(quantization, shard_bytes);
            std::map<std::string, std::string> first;
            for (const unsigned threads : {1U, 2U, 3U, 7U}) {
                for (const auto access : {file_access::map, file_access::read}) {
                    const auto out = w / ("out-" + std::to_string(threads));
                    const auto report = done(w.plan(quantization, shard_bytes, access), out, {.threads = threads, .overwrite = true});
                    const auto now = contents(out);
                    if (first.empty()) first = now;
                    REQUIRE(now == first);
                    REQUIRE(report.files.size() == first.size());
                }
            }
            REQUIRE(entries(w.folder.path()) == names{"model", "out-1", "out-2", "out-3", "out-7"});
        }
    }
}

TEST_CASE("records are packed as tvm packs them: a large one that does not fit is a shard at once", "[convert]") {
    const workshop w;
    struct piece {
        std::string name;
        std::uint64_t bytes;
    };
    std::vector<piece> all;  // in writing order: one shard holds them all
    const auto together = w.plan("q4f16_1", 1 << 30);
    REQUIRE(together.manifest.shards.size() == 1);
    for (const auto& r : together.manifest.shards[0].records) all.push_back({r.name, r.n_bytes});
    bool overtaken = false;
    for (std::uint64_t limit = 1; limit < 60000; limit += limit < 400 ? 1 : 97) {
        std::vector<names> expected;
        names pending;
        std::uint64_t size = 0;
        for (const auto& p : all) {
            if (size + p.bytes >= limit && 2 * p.bytes >= limit) {
                expected.push_back({p.name});
                overtaken = overtaken || !pending.empty();
                continue;
            }
            if (size + p.bytes >= limit) {
                if (size != 0) expected.push_back(pending);
                pending.clear();
                size = 0;
            }
            pending.push_back(p.name);
            size += p.bytes;
        }
        if (size != 0) expected.push_back(pending);
        const auto plan = w.plan("q4f16_1", limit);
        std::vector<names> got;
        bool offsets = true;
        for (const auto& s : plan.manifest.shards) {
            offsets = offsets && s.path == "params_shard_" + std::to_string(got.size()) + ".bin";
            auto& shard = got.emplace_back();
            std::uint64_t at = 0;
            for (const auto& r : s.records) {
                shard.push_back(r.name);
                offsets = offsets && r.offset == at;
                at += r.n_bytes;
            }
            offsets = offsets && s.n_bytes == at;
        }
        CAPTURE(limit);
        REQUIRE(got == expected);
        REQUIRE(offsets);
    }
    CHECK(overtaken);
}

TEST_CASE("shares made apart and in any order join to the same folder", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    const std::size_t n = plan.manifest.shards.size();
    REQUIRE(n >= 10);
    done(plan, w / "whole");
    const auto whole = contents(w / "whole");

    const auto share = [&](const std::string& out, std::size_t first, std::size_t last) {
        convert::run_options options{.threads = 1 + static_cast<unsigned>(first % 3)};
        options.only_shards = {first, last};
        const auto report = done(plan, out, options);
        CHECK(report.files.size() == last - first + 2);
        CHECK(!fs::exists(fs::path(out) / "tensor-cache.json"));
        CHECK(!fs::exists(fs::path(out) / ("nibble-work-" + std::to_string(first))));
    };
    share(w / "here", 4, n - 2);
    refused(convert::join(plan, w / "here"), errc::missing,
            " params_shard_0.bin params_shard_1.bin params_shard_2.bin params_shard_3.bin params_shard_" + std::to_string(n - 1),
            "make them with --only-shards");
    share(w / "here", 0, 1);
    share(w / "there", n - 1, n - 1);
    share(w / "there", 2, 3);
    for (const auto& name : entries(w / "there")) fs::rename(fs::path(w / "there") / name, fs::path(w / "here") / name);

    // A share that is missing, damaged, cut, or of another conversion keeps the index from being written.
    const auto victim = fs::path(w / "here") / "params_shard_5.bin";
    const auto good = read_text(victim);
    const auto before = entries(w / "here");
    const auto fails = [&] {
        const auto joined = convert::join(plan, w / "here");
        refused(joined, errc::missing, "noted them: params_shard_5.bin");
        CHECK(joined.error().rule.find("params_shard_4.bin") == std::string::npos);
        CHECK(!fs::exists(fs::path(w / "here") / "tensor-cache.json"));
        CHECK(!fs::exists(fs::path(w / "here") / ".nibble-work"));
    };
    auto bad = good;
    bad[bad.size() / 2] ^= 1;
    write_text(victim, bad);
    fails();
    write_text(victim, good.substr(1));
    fails();
    fs::remove(victim);
    fails();
    write_text(victim, good);
    REQUIRE(entries(w / "here") == before);
    refused(convert::join(w.plan("q3f16_1"), w / "here"), errc::missing, " params_shard_0.bin");
    refused(convert::join(plan, w / "nowhere"), errc::missing, " params_shard_0.bin");
    CHECK(!fs::exists(w / "nowhere"));

    const auto joined = convert::join(plan, w / "here");
    if (!joined) FAIL(joined.error().message());
    CHECK(contents(w / "here") == whole);
    refused(convert::join(plan, w / "here"), errc::refused, "already holds a finished conversion");
    CHECK(entries(w.folder.path()) == names{"here", "model", "there", "whole"});
    CHECK(entries(w / "there").empty());

    convert::run_options beyond;
    for (const auto& range : {std::pair<std::size_t, std::size_t>{0, n}, {n, n}, {2, 1}}) {
        beyond.only_shards = range;
        refused(convert::run(plan, w / "more", beyond), errc::refused, "the plan has shards 0-" + std::to_string(n - 1));
    }
    CHECK(!fs::exists(w / "more"));
}

TEST_CASE("a resumed run keeps the shards that hold and makes the others", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    done(plan, w / "whole");
    const auto whole = contents(w / "whole");
    const auto out = w / "out";
    const auto work = fs::path(out + ".nibble-work");
    const auto leaves_nothing_else = [&] { CHECK(entries(w.folder.path()) == names{"model", "out", "whole"}); };

    interrupt(plan, out);
    CHECK(!fs::exists(out));
    const auto made = entries(work);
    const auto n_made = static_cast<std::size_t>(std::count_if(made.begin(), made.end(), [](const auto& n) { return n.ends_with(".bin"); }));
    REQUIRE(n_made >= 5);
    REQUIRE(n_made < plan.manifest.shards.size());
    // One damaged, one cut, one gone, and a stranger.
    names shards;
    for (const auto& name : made) {
        if (name.ends_with(".bin")) shards.push_back(name);
    }
    auto bytes = read_text(work / shards[0]);
    bytes[0] ^= 1;
    write_text(work / shards[0], bytes);
    write_text(work / shards[1], read_text(work / shards[1]).substr(1));
    fs::remove(work / shards[2]);
    write_text(work / "stranger/file", "x");
    CHECK(done(plan, out, {.resume = true}).shards_kept == n_made - 3);
    CHECK(contents(out) == whole);
    leaves_nothing_else();

    // Without --resume, and with a journal of another plan, everything is made.
    for (const bool resume : {false, true}) {
        fs::remove_all(out);
        interrupt(resume ? w.plan("q3f16_1") : plan, out);
        CHECK(done(plan, out, {.resume = resume}).shards_kept == 0);
        CHECK(contents(out) == whole);
        leaves_nothing_else();
    }
    // A journal that is damaged is believed as far as the shards bear it out.
    const auto journal = [&](auto change) {
        fs::remove_all(out);
        interrupt(plan, out);
        auto text = read_text(work / "journal");
        change(text);
        write_text(work / "journal", text);
        const auto kept = done(plan, out, {.resume = true}).shards_kept;
        CHECK(contents(out) == whole);
        leaves_nothing_else();
        return kept;
    };
    CHECK(journal([](std::string& t) { t.clear(); }) == 0);
    CHECK(journal([](std::string& t) { t.pop_back(); }) == n_made - 1);
    CHECK(journal([](std::string& t) { t += "params_shard_1.bin\n../x 0\nparams_shard_99999.bin d41d8cd98f00b204e9800998ecf8427e\n"; }) == n_made);
    CHECK(journal([](std::string& t) { t[t.size() - 2] = t[t.size() - 2] == '0' ? '1' : '0'; }) == n_made - 1);
    CHECK(journal([](std::string& t) { t = std::string(1 << 16, '\n'); }) == 0);

    // The source has changed since: nothing is kept.
    fs::remove_all(out);
    interrupt(plan, out);
    test::tiny_llama(4).write(w.source);
    CHECK(done(w.plan(), out, {.resume = true}).shards_kept == 0);
    CHECK(contents(out) != whole);
    leaves_nothing_else();
}

TEST_CASE("work that began before the output folder was made is found, or cleared", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    done(plan, w / "whole");
    for (const bool resume : {false, true}) {
        interrupt(plan, w / "out");
        fs::create_directory(w / "out");
        const auto report = done(plan, w / "out", {.resume = resume});
        CHECK((report.shards_kept != 0) == resume);
        CHECK(contents(w / "out") == contents(w / "whole"));
        CHECK(entries(w.folder.path()) == names{"model", "out", "whole"});
        fs::remove_all(w / "out");
    }
}

TEST_CASE("a finished conversion is replaced only when that is allowed, and as a whole", "[convert]") {
    const workshop w;
    const auto out = w / "out";
    done(w.plan("q4f32_1", 1000), out);
    const auto first = contents(out);
    REQUIRE(first.contains("tensor-cache-b16.json"));
    REQUIRE(first.size() > 12);
    refused(convert::run(w.plan(), out), errc::refused, "already holds a finished conversion (tensor-cache.json)", "--overwrite");
    fs::remove(fs::path(out) / "tensor-cache.json");
    refused(convert::run(w.plan(), out), errc::refused, "already holds a finished conversion (ndarray-cache.json)", "--overwrite");
    CHECK(contents(out).size() == first.size() - 1);

    write_text(out + "/mlc-chat-config.json", "mine");
    write_text(out + "/tokenizer.json", "mine too");
    write_text(out + "/params_shard_notes.txt", "mine as well");
    write_text(out + "/deeper/file", "x");
    const auto plan = w.plan("q4f16_1", 20000);
    done(plan, w / "fresh");
    done(plan, out, {.overwrite = true});
    auto now = contents(out);
    CHECK(now.extract("mlc-chat-config.json").mapped() == "mine");
    CHECK(now.extract("tokenizer.json").mapped() == "mine too");
    CHECK(now.extract("params_shard_notes.txt").mapped() == "mine as well");
    CHECK(now.extract("deeper").mapped() == "a folder");
    CHECK(now == contents(w / "fresh"));  // no stale shard, no index of the old kind

    // Other files alone do not make a folder finished; shards without an index are nobody's.
    write_text(w / "other/config.json", "mine");
    write_text(w / "other/params_shard_777.bin", "stale");
    done(plan, w / "other");
    now = contents(w / "other");
    CHECK(now.extract("config.json").mapped() == "mine");
    CHECK(now == contents(w / "fresh"));

    // A replacement that does not come to its end leaves the old one as it was.
    interrupt(w.plan("q3f16_1", 1000), w / "elsewhere");
    std::atomic<bool> stop{true};
    convert::run_options options{.overwrite = true};
    options.cancelled = &stop;
    refused(convert::run(w.plan("q3f16_1", 1000), w / "fresh", options), errc::interrupted, "interrupted");
    auto kept = contents(w / "fresh");
    kept.erase(".nibble-work");
    CHECK(kept == now);
}

TEST_CASE("a run that was killed while it published its index is finished by the next one", "[convert]") {
    const workshop w;
    const auto plan = w.plan("q4f32_1");
    const auto out = w / "out";
    done(plan, out);
    const auto whole = contents(out);
    const names index{"tensor-cache.json", "ndarray-cache.json", "tensor-cache-b16.json", "ndarray-cache-b16.json"};
    for (std::size_t moved = 0; moved < index.size(); ++moved) {
        fs::create_directory(out + "/.nibble-work");
        for (std::size_t i = moved; i < index.size(); ++i) fs::rename(out + "/" + index[i], out + "/.nibble-work/" + index[i]);
        done(plan, out, {.resume = moved % 2 == 0});
        CHECK(contents(out) == whole);
    }
    // All was moved out, but the work folder is still there.
    fs::create_directories(out + "/.nibble-work/params");
    refused(convert::run(plan, out), errc::refused, "already holds a finished conversion");
    CHECK(contents(out) == whole);
    // What an interrupted replacement leaves is another thing.
    fs::create_directory(out + "/.nibble-work");
    write_text(out + "/.nibble-work/params_shard_0.bin", "x");
    refused(convert::run(plan, out), errc::refused, "already holds a finished conversion");
}

TEST_CASE("outputs that cannot be are refused before any work", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    fs::create_directory_symlink(w.source, w / "link");
    const auto before = contents(w.source);
    for (const auto& same : {w.source, w.source + "/", w.source + "/.", w.source + "/../model", w / "link", w / "link/"})
        refused(convert::run(plan, same), errc::refused, "the output is the model's own folder", "another -o");
    CHECK(contents(w.source) == before);

    // The same where the model is named from within.
    const auto here = fs::current_path();
    fs::current_path(w.source);
    convert::plan_options options;
    auto relative = convert::make_plan("model.safetensors", options);
    const bool planned = relative.has_value();
    const auto within = planned ? convert::run(*relative, ".") : fail(errc::io, "no plan");
    fs::current_path(here);
    REQUIRE(planned);
    refused(within, errc::refused, "the output is the model's own folder");
    CHECK(contents(w.source) == before);

    write_text(w / "file", "x");
    refused(convert::run(plan, w / "file"), errc::refused, "the output is a file, a folder is needed");
    CHECK(!convert::run(plan, w / "file/out"));
    CHECK(!convert::run(plan, w / "file/deeper/out"));
    CHECK(read_text(w / "file") == "x");
    refused(convert::run(plan, ""), errc::refused, "the output folder has no name", "-o");
    fs::create_symlink("nothing", w / "dangling");
    refused(convert::run(plan, w / "dangling"), errc::refused, "a link to a folder that is not there");
    CHECK(!convert::run(plan, w / std::string(300, 'n')));
    CHECK(entries(w.folder.path()) == names{"dangling", "file", "link", "model"});

    auto bad = w.plan();
    bad.problems.push_back({errc::mismatch, "something", {}, {}, {}, {}});
    refused(convert::run(bad, w / "out"), errc::mismatch, "something");
    refused(convert::join(bad, w / "out"), errc::mismatch, "something");
    CHECK(!fs::exists(w / "out"));

    // A folder is made with the folders above it; one with an odd name is a folder like others.
    done(plan, w / "a/b/c d'\"é");
    CHECK(entries(w / "a/b") == names{"c d'\"é"});
}

TEST_CASE("a folder that may not be written to is said so", "[convert]") {
    const workshop w;
    fs::permissions(w.folder.path(), fs::perms(0755));
    fs::create_directory(w / "locked");
    fs::permissions(w / "locked", fs::perms(0555));
    const auto plan = w.plan();
    const auto check = [&] {
        for (const auto& out : {w / "locked", w / "locked/out", w / "locked/deeper/out"}) {
            const auto got = convert::run(plan, out);
            if (got || got.error().code != errc::io ||
                got.error().message().find("Permission denied; give an output folder that you may write to") == std::string::npos)
                return 1;
        }
        return 0;
    };
    if (::geteuid() != 0) {
        CHECK(check() == 0);
    } else {  // nothing is read-only to root
        const auto child = ::fork();
        if (child == 0) ::_exit(::setgid(65534) != 0 || ::setuid(65534) != 0 ? 2 : check());
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(WEXITSTATUS(status) == 0);
    }
    CHECK(entries(w / "locked").empty());
}

TEST_CASE("one run at a time writes to an output", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    const auto busy = [&](const std::string& lock) {
        const shard::detail::descriptor held(::open(lock.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(held.get() >= 0);
        REQUIRE(::flock(held.get(), LOCK_EX | LOCK_NB) == 0);
        const auto start = std::chrono::steady_clock::now();
        for (const bool flag : {false, true})
            refused(convert::run(plan, w / "out", {.resume = flag, .overwrite = flag}), errc::busy, "another nibble is writing to this output",
                    "wait until it is done");
        refused(convert::join(plan, w / "out"), errc::busy, "another nibble is writing");
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
        CHECK(fs::exists(lock));
    };
    fs::create_directory(w / "out.nibble-work");
    busy(w / "out.nibble-work");
    CHECK(!fs::exists(w / "out"));
    fs::create_directory(w / "out");
    busy(w / "out.nibble-work");  // the run began before the folder was there
    fs::remove(w / "out.nibble-work");
    fs::create_directory(w / "out/.nibble-work");
    busy(w / "out/.nibble-work");
    fs::remove_all(w / "out");

    // Several at once: some may find it busy or finished, and what is there in the end is whole.
    done(plan, w / "whole");
    for (int round = 0; round < 5; ++round) {
        std::atomic<int> succeeded{0};
        std::atomic<int> odd{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                const auto got = convert::run(plan, w / "out", {.threads = 2});
                if (got) ++succeeded;
                if (!got && got.error().code != errc::busy && got.error().code != errc::refused) ++odd;
            });
        }
        for (auto& t : threads) t.join();
        CHECK(succeeded >= 1);
        CHECK(odd == 0);
        CHECK(contents(w / "out") == contents(w / "whole"));
        CHECK(entries(w.folder.path()) == names{"model", "out", "whole"});
        fs::remove_all(w / "out");
    }
}

TEST_CASE("a full disk is met by an error, and the work goes on when there is room", "[convert]") {
    const workshop w;
    const auto plan = w.plan();
    done(plan, w / "whole");
    const auto disk = w / "disk";
    fs::create_directory(disk);
    const auto room = plan.output_bytes() + (1 << 20) + (16 << 10);  // little more than what is asked for
    if (::mount("none", disk.c_str(), "tmpfs", 0, ("size=" + std::to_string(room)).c_str()) != 0) {
        WARN("skipped: no small disk can be mounted here (" << std::strerror(errno) << ")");
        return;
    }
    struct unmounting {
        const std::string& at;
        ~unmounting() { ::umount2(at.c_str(), MNT_DETACH); }
    } const unmount{disk};
    const auto out = disk + "/out";
    const auto filler = disk + "/filler";
    const auto fill = [&] {
        std::ofstream file(filler, std::ios::binary);
        const std::string block(4096, 'x');
        while (file.write(block.data(), 4096).flush()) {
        }
    };

    fill();
    const auto before = refused(convert::run(plan, out), errc::no_space, " bytes are needed, 0 are free", "free some space");
    CHECK(before.file == out);
    CHECK(entries(disk) == names{"filler"});
    fs::remove(filler);

    convert::run_options options{.threads = 1};
    options.on_progress = [&](const auto&) {
        if (!fs::exists(filler)) fill();
    };
    const auto during = convert::run(plan, out, options);
    refused(during, errc::no_space, "No space left on device", "`--resume` goes on");
    CHECK(during.error().file.find("params_shard_") != std::string::npos);
    CHECK(!fs::exists(out));
    fs::remove(filler);

    // There is room for what is missing, but not for everything once more.
    REQUIRE(shard::output_folder::free_bytes(out) < plan.output_bytes() + (1 << 20));
    CHECK(done(plan, out, {.resume = true}).shards_kept >= 8);
    CHECK(contents(out) == contents(w / "whole"));
    CHECK(entries(disk) == names{"out"});

    // Leftovers of an abandoned run do not count against a new one.
    fs::remove_all(out);
    interrupt(plan, out);
    REQUIRE(shard::output_folder::free_bytes(out) < plan.output_bytes() + (1 << 20));
    done(plan, out);
    CHECK(contents(out) == contents(w / "whole"));
}

TEST_CASE("a limit on the size of files is met by an error that names it", "[convert]") {
    const workshop w;
    const auto plan = w.plan("q0f16", 12000);
    done(plan, w / "whole");
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit small = old;
    small.rlim_cur = 10000;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const auto got = convert::run(plan, w / "out");
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
    std::signal(SIGXFSZ, handler);
    refused(got, errc::io, "File too large", "ulimit -f");
    CHECK(!fs::exists(w / "out"));
    done(plan, w / "out", {.resume = true});
    CHECK(contents(w / "out") == contents(w / "whole"));
    CHECK(entries(w.folder.path()) == names{"model", "out", "whole"});
}

TEST_CASE("a source that changes during the run is noticed before anything is published", "[convert]") {
    const workshop w;
    const auto weights = w.source + "/model.safetensors";
    const auto original = read_text(weights);
    const std::vector<std::pair<std::string, std::function<void()>>> changes{
        {"shrinks", [&] { fs::resize_file(weights, original.size() / 2); }},
        {"grows", [&] { fs::resize_file(weights, original.size() + 1); }},
        {"is emptied", [&] { fs::resize_file(weights, 0); }},
        {"is rewritten", [&] { fs::last_write_time(weights, fs::last_write_time(weights) + std::chrono::seconds(1)); }},
    };
    for (const auto access : {file_access::map, file_access::read}) {
        for (const std::uint64_t shard_bytes : {std::uint64_t{2000}, shard::default_shard_bytes}) {  // in the middle; after the last stretch
            for (const auto& row : changes) {
                const auto& change = row.second;
                CAPTURE(row.first, shard_bytes);
                write_text(weights, original);
                const auto plan = w.plan("q4f16_1", shard_bytes, access);
                bool first = true;
                convert::run_options options{.threads = 1};
                options.on_progress = [&](const auto&) {
                    if (first) change();
                    first = false;
                };
                const auto got = convert::run(plan, w / "out", options);
                const auto e = refused(got, errc::mismatch, "the file changed while it was in use", "wait until its download or copy is complete");
                CHECK(e.file == weights);
                CHECK(!fs::exists(w / "out"));
            }
        }
    }
    // Replaced by another file under the same name: what was opened is what is converted.
    write_text(weights, original);
    done(w.plan(), w / "whole");
    const auto plan = w.plan();
    convert::run_options options{.threads = 1};
    options.on_progress = [&](const auto&) {
        if (fs::exists(w / "next")) fs::rename(w / "next", weights);
    };
    write_text(w / "next", "another file");
    done(plan, w / "out", options);
    CHECK(contents(w / "out") == contents(w / "whole"));
}

TEST_CASE("A10: values that are not finite are counted, by the type that the codec casts to", "[convert]") {
    const auto naive = []<class To, class From, class Bits>(std::type_identity<To>, std::type_identity<From>, const std::vector<Bits>& all) {
        std::uint64_t n = 0;
        for (const auto b : all) n += std::isfinite(to_f32(number_cast<To>(std::bit_cast<From>(b)))) ? 0U : 1U;
        return n;
    };
    const auto check = [&]<class To, class From, class Bits>(std::type_identity<To> to, std::type_identity<From> from, const std::vector<Bits>& all) {
        const auto* bytes = reinterpret_cast<const std::byte*>(all.data());
        CHECK(convert::count_nonfinite<To, From>(bytes, all.size()) == naive(to, from, all));
        for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{63}, all.size() / 2 + 1}) {
            const std::vector<Bits> end(all.end() - static_cast<std::ptrdiff_t>(n), all.end());
            CHECK(convert::count_nonfinite<To, From>(bytes + (all.size() - n) * sizeof(Bits), n) == naive(to, from, end));
        }
    };
    const auto all_types = [&]<class From, class Bits>(std::type_identity<From> from, const std::vector<Bits>& all) {
        check(std::type_identity<f16>{}, from, all);
        check(std::type_identity<bf16>{}, from, all);
        check(std::type_identity<float>{}, from, all);
    };
    std::vector<std::uint8_t> bytes(256);
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
    all_types(std::type_identity<f8_e4m3>{}, bytes);
    all_types(std::type_identity<f8_e5m2>{}, bytes);
    std::vector<std::uint16_t> halves(65536);
    std::iota(halves.begin(), halves.end(), std::uint16_t{0});
    all_types(std::type_identity<f16>{}, halves);
    all_types(std::type_identity<bf16>{}, halves);
    std::vector<std::uint32_t> words;
    for (const float at : {65504.0F, 65519.996F, 65520.0F, 70000.0F, 3.3895e38F, 3.3961775e38F, std::numeric_limits<float>::infinity()}) {
        const auto u = std::bit_cast<std::uint32_t>(at);
        for (std::uint32_t d = 0; d < 200; ++d)
            for (const std::uint32_t sign : {0U, 0x80000000U}) words.push_back((u + d - 100) ^ sign);
    }
    all_types(std::type_identity<float>{}, words);
}

TEST_CASE("A10: tensors with values that are not finite are named, or refused", "[convert]") {
    workshop w;
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    constexpr float infinity = std::numeric_limits<float>::infinity();
    auto& k = w.model.values("model.layers.0.self_attn.k_proj.weight");
    k[5] = nan;  // in the middle of a group: the scale stays finite, so that nothing but a count tells
    k[6] = infinity;
    k[2000] = -infinity;
    auto& down = w.model.values("model.layers.0.mlp.down_proj.weight");
    down[1] = 70000.0F;
    down[2] = -70000.0F;
    down[3] = 65504.0F;
    down[4] = -0.0F;
    down[5] = 1e-42F;
    w.model.values("model.norm.weight")[63] = nan;
    w.model.values("lm_head.weight")[0] = nan;
    w.model.write(w.source);
    const std::vector<std::string> quantizations{"q4f16_1",      "q4f16_0", "q4f32_1", "q4bf16_1", "q3f16_1", "q0f16", "q0f32", "e4m3_e4m3_f16_max_calibrate",
                                                 "e5m2_e5m2_f16"};
    for (const auto& quantization : quantizations) {
        for (const std::uint64_t shard_bytes : {std::uint64_t{100}, std::uint64_t{5000}, shard::default_shard_bytes}) {
            CAPTURE(quantization, shard_bytes);
            const auto plan = w.plan(quantization, shard_bytes);
            const auto report = done(plan, w / "out", {.threads = 2});
            std::map<std::string, std::uint64_t> found;
            for (const auto& f : report.nonfinite) found[f.tensor] = f.count;
            std::map<std::string, std::uint64_t> expected{{"model.layers.0.self_attn.k_proj.weight", 3}, {"model.norm.weight", 1}, {"lm_head.weight", 1}};
            const bool f16_model = plan.quantization->model_type == encoding::f16;
            if (f16_model) expected["model.layers.0.mlp.down_proj.weight"] = 2;
            CHECK(found == expected);

            convert::run_options strict{.threads = 2};
            strict.nonfinite = convert::nonfinite_values_are::refused;
            refused(convert::run(plan, w / "strict", strict), errc::refused,
                    std::to_string(f16_model ? 7 : 5) + " values of " + (f16_model ? "4" : "3") + " tensors are not finite", "--nonfinite keep");
            CHECK(!fs::exists(w / "strict"));
            // Going on from there does not forget them.
            strict.resume = true;
            refused(convert::run(plan, w / "strict", strict), errc::refused, "k_proj.weight (3)");
            strict.nonfinite = convert::nonfinite_values_are::kept;
            CHECK(done(plan, w / "strict", strict).nonfinite.size() == expected.size());
            CHECK(contents(w / "strict") == contents(w / "out"));
            fs::remove_all(w / "out");
            fs::remove_all(w / "strict");
        }
    }
    const workshop clean;
    convert::run_options strict;
    strict.nonfinite = convert::nonfinite_values_are::refused;
    CHECK(done(clean.plan(), clean / "out", strict).nonfinite.empty());

    std::vector<convert::nonfinite_values> many;
    for (int i = 0; i < 9; ++i) many.push_back({"t" + std::to_string(i), 1});
    const auto text = convert::nonfinite_text(many);
    CHECK(text.find("t7 (1), ...") != std::string::npos);
    CHECK(text.find("t8") == std::string::npos);
}

TEST_CASE("A8: a conversion of unaligned data gives the same bytes", "[convert]") {
    const workshop w;
    done(w.plan(), w / "whole");
    const auto weights = w.source + "/model.safetensors";
    const auto original = read_text(weights);
    const auto n = load<std::uint64_t>(reinterpret_cast<const std::byte*>(original.data()));
    for (std::size_t pad = 1; pad < 8; ++pad) {
        write_text(weights, test::safetensors_bytes(original.substr(8, n) + std::string(pad, ' '), original.substr(8 + n)));
        for (const auto access : {file_access::map, file_access::read}) {
            done(w.plan("q4f16_1", 300, access), w / "out", {.overwrite = true});
            CHECK(contents(w / "out") == contents(w / "whole"));
        }
    }
}

TEST_CASE("A7: types that no weight is made of are refused by name, all at once", "[convert]") {
    const workshop w;
    test::safetensors_maker maker;
    const std::array types{"I64", "F64", "F4", "BOOL", "F8_E8M0", "U8"};
    std::size_t i = 0;
    for (const auto& t : w.model.tensors) {
        const std::string type = types[i++ % types.size()];
        const std::size_t size = type == "I64" || type == "F64" ? 8 : 1;
        maker.add(t.name, type, t.dims, std::vector<char>(t.values.size() * size));
    }
    write_text(w.source + "/model.safetensors", maker.bytes());
    const auto plan = convert::make_plan(w.source, {});
    REQUIRE(plan);
    CHECK(plan->problems.size() == w.model.tensors.size());
    for (const auto& p : plan->problems) {
        CHECK(p.code == errc::unsupported);
        CHECK(p.rule.find("no weight can be made of type ") == 0);
        CHECK(p.file == w.source + "/model.safetensors");
        CHECK(!p.tensor.empty());
        CHECK(p.offset.has_value());
        CHECK(p.remedy == "weights may be F32, F16, BF16, F8_E4M3 or F8_E5M2");
    }
    CHECK(plan->problems[0].message().find("no weight can be made of type ") != std::string::npos);
}
