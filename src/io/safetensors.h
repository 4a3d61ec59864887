#ifndef STI_SAFETENSORS_H
#define STI_SAFETENSORS_H

#include <strata/file.h>

#include "core/base.h"

enum { STI_SAFETENSORS_MAX_HEADER = 100 * 1000 * 1000 };

/* strata_file_open on bytes in memory, borrowed until close. Errors do not name a file. */
strata_status sti_file_parse(const strata_context *ctx, const uint8_t *data, size_t bytes, strata_file **out);

#endif
