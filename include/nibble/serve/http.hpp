// SPDX-License-Identifier: Apache-2.0
#pragma once
// The door to cpp-httplib (0.11 or newer): serve/server.hpp takes its listening and its accepting, serve/client.hpp its client. Used by
// the nibble command only; what includes this links httplib, as cmake/dependencies.cmake finds it.

// Older versions parse headers with regular expressions and keep no count of them: requests are parsed in serve/message.hpp.
#include <httplib.h>
