// SPDX-License-Identifier: Apache-2.0
#pragma once
// result<T>: a value, or the error that stands in its place.

#include <string>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "nibble/core/error.hpp"

namespace nibble {

/// A value or an error.
template <class T>
using result = tl::expected<T, error>;

/// Makes the unexpected side of any result<T>: `return fail(errc::malformed, "header is 3 bytes, at least 8 are needed");`
[[nodiscard]] inline tl::unexpected<error> fail(error e) { return tl::unexpected<error>(std::move(e)); }
[[nodiscard]] inline tl::unexpected<error> fail(errc code, std::string rule) { return tl::unexpected<error>(error{code, std::move(rule), {}, {}, {}, {}}); }

/// Passes on the error of another result.
template <class T>
[[nodiscard]] tl::unexpected<error> pass(result<T>& r) {
    return tl::unexpected<error>(std::move(r.error()));
}
template <class T>
[[nodiscard]] tl::unexpected<error> pass(result<T>&& r) {
    return tl::unexpected<error>(std::move(r.error()));
}

/// Everything that a check found, so that a user can mend all of it at once.
using error_list = std::vector<error>;

}  // namespace nibble
