// SPDX-License-Identifier: Apache-2.0
// expect: nibble: the formats are little-endian and are used in place; big-endian machines are not supported
#undef __BYTE_ORDER__  // tests/ports/run.sh big-endian has a compiler that says so itself
#define __BYTE_ORDER__ __ORDER_BIG_ENDIAN__
#include "nibble/nibble.hpp"
