// SPDX-License-Identifier: Apache-2.0
#pragma once
// Read-only files: mapped, or read on demand where a mapping is not wanted (a file that may shrink would raise SIGBUS).

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nibble/core/bytes.hpp"
#include "nibble/core/result.hpp"

namespace nibble {

/// How the bytes of a file are had.
enum class file_access : std::uint8_t {
    map,  ///< bytes come from a private read-only mapping; no copy
    read  ///< bytes are read into the caller's scratch; slower, safe with files that other programs change
};

/// An error for the errno of a system call: "open: No such file or directory".
[[nodiscard]] inline error system_error(std::string_view call, std::string path, int number = errno) {
    const errc code = number == ENOSPC || number == EDQUOT ? errc::no_space : number == ENOENT ? errc::missing : errc::io;
    return error{code, std::string(call) + ": " + std::strerror(number), std::move(path), {}, {}, {}};
}

/// A regular file opened for reading. Shared, because views of its bytes outlive the readers of its header.
class file {
public:
    /// Errors: missing, io; unsupported for directories, FIFOs and devices.
    [[nodiscard]] static result<std::shared_ptr<const file>> open(const std::string& path, file_access access = file_access::map) {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) return fail(system_error("open", path));
        std::shared_ptr<file> f(new file(path, fd));
        struct stat st {};
        if (::fstat(fd, &st) != 0) return fail(system_error("fstat", path));
        if (!S_ISREG(st.st_mode)) {
            return fail(error{errc::unsupported, "not a regular file", path, {}, {}, "give a file on disk, not a directory, pipe or device"});
        }
        f->size_ = static_cast<std::uint64_t>(st.st_size);
        f->modified_ = st.st_mtim;
        if (access == file_access::map && f->size_ != 0) {
            void* at = ::mmap(nullptr, f->size_, PROT_READ, MAP_PRIVATE, fd, 0);
            if (at == MAP_FAILED) return fail(system_error("mmap", path));
            f->map_ = static_cast<const std::byte*>(at);
        }
        return f;
    }

    ~file() {
        if (map_ != nullptr) ::munmap(const_cast<std::byte*>(map_), size_);
        ::close(fd_);
    }
    file(const file&) = delete;
    file& operator=(const file&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    /// Whether what a path names, by its stat, is the very file that was opened.
    [[nodiscard]] bool is_same(const struct stat& other) const {
        struct stat st {};
        return ::fstat(fd_, &st) == 0 && st.st_dev == other.st_dev && st.st_ino == other.st_ino;
    }
    [[nodiscard]] std::int64_t modified_ns() const { return std::int64_t{modified_.tv_sec} * 1000000000 + modified_.tv_nsec; }

    /// Bytes [offset, offset + n): a view of the mapping, or of `scratch`, which then holds them.
    /// Errors: truncated (the range is beyond the file), io.
    [[nodiscard]] result<bytes_view> bytes(std::uint64_t offset, std::uint64_t n, std::vector<std::byte>& scratch) const {
        if (!in_range(offset, n, size_)) {
            return fail(error{errc::truncated, std::to_string(n) + " bytes are needed, the file ends at byte " + std::to_string(size_), path_, {}, offset, {}});
        }
        if (map_ != nullptr) return bytes_view(map_ + offset, n);
        scratch.resize(n);
        for (std::uint64_t done = 0; done < n;) {
            const auto got = ::pread(fd_, scratch.data() + done, n - done, static_cast<off_t>(offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail(system_error("read", path_).at(offset + done));
            if (got == 0) return fail(error{errc::truncated, "the file became shorter while it was read", path_, {}, offset + done, {}});
            done += static_cast<std::uint64_t>(got);
        }
        return bytes_view(scratch.data(), n);
    }

    /// An error if the file's size or time has changed since it was opened. To be asked before a stretch of mapped reading:
    /// a mapping of a file that has shrunk raises SIGBUS.
    [[nodiscard]] result<void> check_unchanged() const {
        struct stat st {};
        if (::fstat(fd_, &st) != 0) return fail(system_error("fstat", path_));
        if (static_cast<std::uint64_t>(st.st_size) == size_ && st.st_mtim.tv_sec == modified_.tv_sec && st.st_mtim.tv_nsec == modified_.tv_nsec) return {};
        return fail(error{errc::mismatch,
                          "the file changed while it was in use (it had " + std::to_string(size_) + " bytes, it has " + std::to_string(st.st_size) + ")",
                          path_,
                          {},
                          {},
                          "wait until its download or copy is complete, then run again"});
    }

private:
    file(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

    std::string path_;
    int fd_;
    std::uint64_t size_ = 0;
    timespec modified_{};
    const std::byte* map_ = nullptr;
};

/// Whether `path`, links resolved, is in `folder`, or in the blobs of the Hugging Face cache that `folder` is a snapshot of.
[[nodiscard]] inline bool stays_inside(const std::filesystem::path& path, const std::filesystem::path& folder) {
    std::error_code ec;
    const auto real = std::filesystem::canonical(path, ec);
    if (ec) return false;
    const auto home = std::filesystem::canonical(folder, ec);
    if (ec) return false;
    const auto within = [&](const std::filesystem::path& root) {
        const auto [root_end, nothing] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
        return root_end == root.end();
    };
    if (within(home)) return true;
    return home.parent_path().filename() == "snapshots" && within(home.parent_path().parent_path() / "blobs");
}

/// A whole small file (a configuration, an index), refused beyond `limit` bytes.
[[nodiscard]] inline result<std::vector<std::byte>> read_file(const std::string& path, std::uint64_t limit) {
    auto f = file::open(path, file_access::read);
    if (!f) return pass(f);
    if ((*f)->size() > limit) {
        return fail(error{errc::malformed,
                          "the file has " + std::to_string((*f)->size()) + " bytes, more than the " + std::to_string(limit) + " that such a file may have",
                          path,
                          {},
                          {},
                          {}});
    }
    std::vector<std::byte> content;
    if (auto bytes = (*f)->bytes(0, (*f)->size(), content); !bytes) return pass(bytes);
    return content;
}

}  // namespace nibble
