// SPDX-License-Identifier: Apache-2.0
// expect: nibble: float must be computed as float, or no two machines would write the same bytes; on 32-bit x86 that takes the flags -msse2 -mfpmath=sse
#undef __FLT_EVAL_METHOD__  // as of the x87
#define __FLT_EVAL_METHOD__ 2
#include "nibble/nibble.hpp"
