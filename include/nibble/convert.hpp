// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a checkpoint to MLC shards: make_plan() from headers, run() to carry it out; verify() and diff() of what came out, inspect()
// of anything. The one room that sees codecs and formats.

#include "nibble/convert/diff.hpp"
#include "nibble/convert/inspect.hpp"
#include "nibble/convert/run.hpp"
#include "nibble/convert/verify.hpp"
