// SPDX-License-Identifier: Apache-2.0
#pragma once
// An output folder that never looks finished before it is: files are written in a work folder beside it, synced and renamed,
// the index last. One process at a time holds the work folder's lock.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <sys/file.h>
#include <sys/statvfs.h>

#include "nibble/core/file.hpp"
#include "nibble/shard/manifest.hpp"

namespace nibble::shard {

namespace detail {
namespace fs = std::filesystem;

class descriptor {
public:
    descriptor() = default;
    explicit descriptor(int fd) : fd_(fd) {}
    descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_ = -1;
};

inline result<void> sync_folder(const fs::path& folder) {
    const descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0 || (::fsync(fd.get()) != 0 && errno != EINVAL)) return fail(system_error("sync", folder.string()));
    return {};
}

inline result<void> rename_file(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) return fail(system_error("rename", to.string()));
    return {};
}

/// Adds what to do to the errors of writing.
inline error advised(error e) {
    if (e.code == errc::no_space) return std::move(e).advise("free some space, or give an output on another disk; `--resume` goes on with what is done");
    if (e.rule.ends_with(std::strerror(EFBIG)))
        return std::move(e).advise("allow larger files (`ulimit -f`), or take a smaller --shard-size; `--resume` goes on");
    return std::move(e).advise("give an output folder that you may write to");
}

}  // namespace detail

/// A file that comes into being under its name only when it is complete.
class output_file {
public:
    /// Creates `folder/name.part`. `n_bytes`, if known, are reserved at once, so that a full disk is met before the work.
    [[nodiscard]] static result<output_file> create(const std::filesystem::path& folder, const std::string& name, std::uint64_t n_bytes = 0) {
        output_file f;
        f.part_ = folder / (name + ".part");
        f.final_ = folder / name;
        f.fd_ = detail::descriptor(::open(f.part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
        if (f.fd_.get() < 0) return fail(detail::advised(system_error("create", f.part_.string())));
#ifdef __linux__
        int number = 0;
        do {
            number = n_bytes == 0 || ::fallocate(f.fd_.get(), 0, 0, static_cast<off_t>(n_bytes)) == 0 ? 0 : errno;
        } while (number == EINTR);
        if (number != 0 && number != EOPNOTSUPP && number != ENOSYS) {
            ::unlink(f.part_.c_str());
            return fail(detail::advised(system_error("reserve " + std::to_string(n_bytes) + " bytes", f.final_.string(), number)));
        }
#else
        (void)n_bytes;
#endif
        return f;
    }

    [[nodiscard]] result<void> write(bytes_view bytes) {
        while (!bytes.empty()) {
            const auto n = ::write(fd_.get(), bytes.data(), bytes.size());
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return fail(detail::advised(system_error("write", final_.string())));
            bytes = bytes.subspan(static_cast<std::size_t>(n));
        }
        return {};
    }

    /// Syncs the content and gives the file its name.
    [[nodiscard]] result<void> finish() {
        if (::fsync(fd_.get()) != 0) return fail(detail::advised(system_error("sync", final_.string())));
        fd_ = {};
        return detail::rename_file(part_, final_);
    }

private:
    detail::descriptor fd_;
    std::filesystem::path part_;
    std::filesystem::path final_;
};

/// The output folder and its work folder (`OUT.nibble-work`, or `OUT/.nibble-work` where OUT exists), locked for this process.
class output_folder {
public:
    static constexpr std::array<std::string_view, 4> index_names{"tensor-cache.json", "ndarray-cache.json", "tensor-cache-b16.json", "ndarray-cache-b16.json"};
    static constexpr std::string_view manifest_name = "nibble-manifest.json";  ///< of a package: describes shards, as an index does

    /// `part` names one of several shares of an output that are worked on at the same time, each in a work folder of its own.
    /// `places`: where in the output an index and shards may lie, as "" or "params/".
    /// Errors: refused (the output holds a finished conversion and overwriting is not allowed), busy (another process works on
    /// it), io, no_space.
    [[nodiscard]] static result<output_folder> open(const std::string& where, bool overwrite, const std::string& part = {},
                                                    std::vector<std::string> places = {""}) {
        namespace fs = std::filesystem;
        output_folder o;
        std::error_code ec;
        if (where.empty()) return fail(error{errc::refused, "the output folder has no name", {}, {}, {}, "give one with -o"});
        o.final_ = fs::absolute(where, ec).lexically_normal();
        if (!o.final_.has_filename()) o.final_ = o.final_.parent_path();
        const fs::path beside = fs::path(o.final_) += ".nibble-work";
        o.part_ = part;
        o.places_ = std::move(places);
        if (fs::exists(o.final_, ec) && !fs::is_directory(o.final_, ec)) {
            return fail(error{errc::refused, "the output is a file, a folder is needed", where, {}, {}, "give another -o"});
        }
        // A run that was killed while it moved its index files out had been allowed to; another may finish it.
        for (const auto& name : o.all_index_names()) o.half_published_ = o.half_published_ || fs::exists(o.final_ / ".nibble-work" / name, ec);
        for (const auto& name : o.all_index_names()) {
            if (fs::exists(o.final_ / name, ec) && !overwrite && !o.half_published_) {
                remove_if_done(o.final_ / ".nibble-work");
                return fail(error{errc::refused,
                                  "the output folder already holds a finished conversion (" + name + ")",
                                  where,
                                  {},
                                  {},
                                  "give another -o, or allow it with --overwrite"});
            }
        }
        if (fs::is_symlink(fs::symlink_status(o.final_, ec)) && !fs::exists(o.final_, ec)) {
            return fail(error{errc::refused, "the output is a link to a folder that is not there", where, {}, {}, "make that folder, or give another -o"});
        }
        if (auto writable = o.check_writable(); !writable) return pass(writable);
        if (!part.empty()) fs::create_directories(o.final_, ec);
        // Inside, where the folder exists, because it may be a mount point.
        o.work_ = fs::is_directory(o.final_, ec) ? o.final_ / (".nibble-work" + (part.empty() ? "" : "-" + part)) : beside;
        // An earlier run may have begun when the output folder did not exist yet: it is waited for, or its work is taken over.
        if (o.work_ != beside && fs::is_directory(beside, ec)) {
            const detail::descriptor earlier(::open(beside.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            if (earlier.get() >= 0 && ::flock(earlier.get(), LOCK_EX | LOCK_NB) != 0) return fail(in_use(where));
            if (part.empty() && ::rename(beside.c_str(), o.work_.c_str()) != 0) fs::remove_all(beside, ec);
        }
        for (int attempt = 0; attempt < 8; ++attempt) {
            fs::create_directories(o.final_.parent_path(), ec);
            if (::mkdir(o.work_.c_str(), 0777) != 0 && errno != EEXIST) return fail(detail::advised(system_error("create folder", o.work_.string())));
            o.lock_ = detail::descriptor(::open(o.work_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            if (o.lock_.get() < 0) {
                if (errno == ENOENT) continue;  // another process finished in between
                return fail(detail::advised(system_error("open folder", o.work_.string())));
            }
            if (::flock(o.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
                return fail(in_use(where));
            }
            struct stat held {};
            struct stat there {};
            if (::fstat(o.lock_.get(), &held) == 0 && ::stat(o.work_.c_str(), &there) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev)
                return o;
        }
        return fail(in_use(where));
    }

    [[nodiscard]] const std::filesystem::path& work() const { return work_; }
    [[nodiscard]] const std::filesystem::path& final_path() const { return final_; }
    /// Whether an earlier run, which had been allowed to, was killed while it moved its files out.
    [[nodiscard]] bool half_published() const { return half_published_; }

    /// Removes what an earlier run left in the work folder, except the files named, as "x" or "folder/x".
    [[nodiscard]] result<void> clear_work(const std::vector<std::string>& keep = {}) {
        std::error_code ec;
        clear(work_, "", {keep.begin(), keep.end()}, ec);
        if (ec) return fail(error{errc::io, "cannot clear the work folder: " + ec.message(), work_.string(), {}, {}, {}});
        return {};
    }

    /// Makes a folder in the work folder, as "params/".
    [[nodiscard]] result<void> make_folder(const std::string& name) {
        std::error_code ec;
        std::filesystem::create_directories(work_ / name, ec);
        if (ec) return fail(detail::advised(system_error("create folder", (work_ / name).string(), ec.value())));
        return {};
    }

    /// Free bytes for this user where the output will lie.
    [[nodiscard]] static std::uint64_t free_bytes(const std::string& where) {
        namespace fs = std::filesystem;
        std::error_code ec;
        fs::path at = fs::absolute(where, ec);
        while (!fs::exists(at, ec) && at.has_parent_path() && at != at.parent_path()) at = at.parent_path();
        struct statvfs st {};
        if (::statvfs(at.c_str(), &st) != 0) return ~std::uint64_t{0};
        return std::uint64_t{st.f_bavail} * st.f_frsize;
    }

    /// Writes a small file into the work folder, complete or not at all.
    [[nodiscard]] result<void> write_file(const std::string& name, std::string_view text) {
        auto f = output_file::create(work_, name);
        if (!f) return pass(f);
        if (auto w = f->write(std::as_bytes(std::span(text))); !w) return w;
        return f->finish();
    }

    /// Moves the finished files out, the index files last. Where the output folder does not exist yet this is one rename; else
    /// old index files go first, so that at no time an index stands beside shards that it does not describe. `stale`: files of the
    /// output folder that go with what is replaced.
    [[nodiscard]] result<void> publish(const std::vector<std::string>& files, const std::vector<std::string>& index_files,
                                       const std::vector<std::string>& stale = {}) {
        namespace fs = std::filesystem;
        std::error_code ec;
        std::vector<std::string> all = files;
        all.insert(all.end(), index_files.begin(), index_files.end());
        if (auto cleared = clear_work(all); !cleared) return cleared;
        if (auto synced = sync_places(work_); !synced) return synced;
        if (!fs::exists(final_, ec)) {
            if (auto renamed = detail::rename_file(work_, final_); !renamed) return renamed;
            return detail::sync_folder(final_.parent_path());
        }
        if (part_.empty()) {
            if (auto removed = remove_index(); !removed) return removed;
            remove_shards();
            for (const auto& name : stale) fs::remove(final_ / name, ec);
        }
        for (const auto* list : {&files, &index_files}) {
            for (const auto& name : *list) {
                if (name.find('/') != name.npos) fs::create_directories((final_ / name).parent_path(), ec);
            }
        }
        for (const auto& name : files) {
            if (auto moved = detail::rename_file(work_ / name, final_ / name); !moved) return moved;
        }
        return publish_beside(index_files);
    }

    /// Moves index files out to shards that are in the output folder already, and removes the work folder.
    [[nodiscard]] result<void> publish_beside(const std::vector<std::string>& index_files) {
        if (auto synced = sync_places(final_); !synced) return synced;
        for (const auto& name : index_files) {
            if (auto moved = detail::rename_file(work_ / name, final_ / name); !moved) return moved;
        }
        if (auto synced = sync_places(final_); !synced) return synced;
        abandon();
        return {};
    }

    /// Removes an index, and a manifest, from the output folder, so that shards may be changed.
    [[nodiscard]] result<void> remove_index() {
        std::error_code ec;
        for (const auto& name : all_index_names()) std::filesystem::remove(final_ / name, ec);
        for (const auto& place : places_) std::filesystem::remove(final_ / (place + std::string(manifest_name)), ec);
        return sync_places(final_);
    }

    /// Removes shards and the notes of shares from the output folder, but those named.
    void remove_shards(const std::vector<std::string>& keep = {}) {
        namespace fs = std::filesystem;
        std::error_code ec;
        std::vector<fs::path> stale;
        for (const auto& place : places_) {
            for (const auto& entry : fs::directory_iterator(final_ / place, ec)) {
                const auto name = entry.path().filename().string();
                const bool shard = (name.starts_with("params_shard_") && name.ends_with(".bin")) || name.starts_with("nibble-part-");
                if (shard && std::find(keep.begin(), keep.end(), place + name) == keep.end()) stale.push_back(entry.path());
            }
        }
        for (const auto& path : stale) fs::remove(path, ec);
    }

    /// Leaves nothing behind of a run that wrote nothing worth keeping.
    void abandon() {
        std::error_code ec;
        std::filesystem::remove_all(work_, ec);
    }

private:
    /// A work folder out of which everything was moved belongs to a run that was killed as its last deed.
    static void remove_if_done(const std::filesystem::path& work) {
        std::error_code ec;
        const detail::descriptor fd(::open(work.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (fd.get() < 0 || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return;
        for (std::filesystem::recursive_directory_iterator at(work, ec), end; !ec && at != end; at.increment(ec)) {
            if (!at->is_directory(ec)) return;
        }
        if (!ec) std::filesystem::remove_all(work, ec);
    }

    [[nodiscard]] std::vector<std::string> all_index_names() const {
        std::vector<std::string> names;
        for (const auto& place : places_) {
            for (const auto index : index_names) names.push_back(place + std::string(index));
        }
        return names;
    }

    result<void> sync_places(const std::filesystem::path& home) const {
        std::error_code ec;
        for (const auto& place : places_) {
            if (place.empty() || !std::filesystem::is_directory(home / place, ec)) continue;
            if (auto synced = detail::sync_folder(home / place); !synced) return synced;
        }
        return detail::sync_folder(home);
    }

    static void clear(const std::filesystem::path& folder, const std::string& prefix, const std::set<std::string>& keep, std::error_code& ec) {
        for (const auto& entry : std::filesystem::directory_iterator(folder, ec)) {
            const auto name = prefix + entry.path().filename().string();
            const auto below = keep.lower_bound(name + "/");
            if (below != keep.end() && below->starts_with(name + "/"))
                clear(entry.path(), name + "/", keep, ec);
            else if (!keep.contains(name))
                std::filesystem::remove_all(entry.path(), ec);
        }
    }

    result<void> check_writable() const {
        namespace fs = std::filesystem;
        std::error_code ec;
        fs::path at = final_;
        while (!fs::exists(at, ec) && at != at.parent_path()) at = at.parent_path();
        if (::access(at.c_str(), W_OK) != 0) return fail(detail::advised(system_error("write to folder", at.string())));
        return {};
    }

    static error in_use(const std::string& where) {
        return {errc::busy, "another nibble is writing to this output", where, {}, {}, "wait until it is done, or give another -o"};
    }

    std::filesystem::path final_;
    std::filesystem::path work_;
    std::string part_;
    std::vector<std::string> places_;
    bool half_published_ = false;
    detail::descriptor lock_;
};

}  // namespace nibble::shard
