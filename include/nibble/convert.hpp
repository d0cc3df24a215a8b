// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a checkpoint to MLC shards: make_plan() from headers, run() to carry it out. The one room that sees codecs and formats.

#include "nibble/convert/run.hpp"
