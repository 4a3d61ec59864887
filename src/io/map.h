#ifndef STI_MAP_H
#define STI_MAP_H
/* A whole file, read-only in memory. A file that another process shortens while it is mapped raises SIGBUS on access;
 * Strata itself only ever replaces files by rename, which leaves existing mappings intact. */

#include "core/base.h"

typedef struct sti_map {
    const uint8_t *data; /* never NULL while open */
    size_t bytes;
} sti_map;

/* E_IO (with path and reason) for anything that is not a readable regular file. */
strata_status sti_map_open(const char *path, sti_map *out);
void sti_map_close(sti_map *m); /* also on a zeroed or closed map */

#endif
