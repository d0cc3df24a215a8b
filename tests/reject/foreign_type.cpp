// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this type is not a storage type of a tensor
#include "nibble/core/tensor.hpp"

struct stranger {};
constexpr auto e = nibble::encoding_of<stranger>;
