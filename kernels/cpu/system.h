/* What the operating system is asked for: threads, locks, memory, a clock. */
#ifndef FCNN_SYSTEM_H
#define FCNN_SYSTEM_H

#include <stdint.h>

#if defined(_WIN32)
#include "system_windows.h"
#else
#include "system_posix.h"
#endif

#endif
