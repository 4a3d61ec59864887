/* The safetensors format: 8 bytes little-endian header length, a JSON header that gives each tensor's type, shape and
 * byte range, then the data without holes. docs/format/safetensors.md has what Strata adds and refuses. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "io/atomic.h"
#include "io/json.h"
#include "io/map.h"
#include "io/utf8.h"

typedef struct record {
    const char *name;
    const char *type; /* as the file spells it */
    int32_t dtype;    /* 0: a type Strata does not read */
    int32_t ndim;
    int64_t shape[STRATA_MAX_DIMS]; /* filled when ndim fits */
    size_t begin, end;              /* bytes from the start of the data */
    const void *data;
    void *copy; /* owned: the tensor, when the file has it at an odd address */
} record;

struct strata_file {
    strata_context *ctx;
    sti_map map;
    sti_json *json;
    const sti_json_node *meta; /* NULL: no metadata */
    record *entry;
    record **by_name;
    int32_t count;
};

/* Every type of the format, so that sizes are checked for those that cannot be read too. */
static const struct dtype {
    const char *name;
    int32_t bits;
    int32_t dtype;
} dtypes[] = {
    { "F32", 32, STRATA_F32 },
    { "F64", 64, STRATA_F64 },
    { "BF16", 16, STRATA_BF16 },
    { "I32", 32, STRATA_I32 },
    { "I64", 64, STRATA_I64 },
    { "U8", 8, STRATA_U8 },
    { "BOOL", 8, 0 },
    { "I8", 8, 0 },
    { "I16", 16, 0 },
    { "U16", 16, 0 },
    { "F16", 16, 0 },
    { "U32", 32, 0 },
    { "U64", 64, 0 },
    { "C64", 64, 0 },
    { "F8_E4M3", 8, 0 },
    { "F8_E5M2", 8, 0 },
};

/* ---- reading ------------------------------------------------------------------------------------------------ */

static strata_status read_entry(const sti_json *j, const sti_json_node *n, record *e)
{
    e->name = n->key;
    if (strlen(n->key) != n->key_len) return sti_fail(STRATA_E_FORMAT, "tensor name \"%s\" holds a NUL", n->key);
    if (n->type != STI_JSON_OBJECT) return sti_fail(STRATA_E_FORMAT, "tensor %s is not described by an object", n->key);
    const sti_json_node *type = sti_json_get(j, n, "dtype"), *shape = sti_json_get(j, n, "shape"),
                        *range = sti_json_get(j, n, "data_offsets");
    e->type = type ? sti_json_string(type) : NULL;
    if (!e->type) return sti_fail(STRATA_E_FORMAT, "tensor %s has no dtype", e->name);
    if (!shape || shape->type != STI_JSON_ARRAY) return sti_fail(STRATA_E_FORMAT, "tensor %s has no shape", e->name);
    if (!range || range->type != STI_JSON_ARRAY || range->count != 2)
        return sti_fail(STRATA_E_FORMAT, "tensor %s has no data_offsets", e->name);

    const sti_json_node *begin = sti_json_first(j, range), *end = sti_json_next(j, begin);
    if (!begin->is_int || !end->is_int || begin->i < 0 || end->i < begin->i)
        return sti_fail(STRATA_E_FORMAT, "tensor %s has data_offsets [%.40s, %.40s]", e->name,
                        begin->text ? begin->text : "", end->text ? end->text : "");
    e->begin = (size_t)begin->i;
    e->end = (size_t)end->i;

    int64_t count = 1;
    e->ndim = shape->count;
    int32_t i = 0;
    for (const sti_json_node *d = sti_json_first(j, shape); d; d = sti_json_next(j, d), i++) {
        if (!d->is_int || !sti_mul_i64(count, d->i, &count))
            return sti_fail(STRATA_E_FORMAT, "tensor %s: dimension %d (%.40s) is not a size", e->name, (int)i,
                            d->text ? d->text : "not a number");
        if (i < STRATA_MAX_DIMS) e->shape[i] = d->i;
    }
    for (size_t t = 0; t < STI_COUNT(dtypes); t++) {
        int64_t bits;
        if (strcmp(dtypes[t].name, e->type) != 0) continue;
        e->dtype = dtypes[t].dtype;
        if (!sti_mul_i64(count, dtypes[t].bits, &bits) || bits / 8 != end->i - begin->i)
            return sti_fail(STRATA_E_FORMAT, "tensor %s: %lld elements of %s do not fill bytes %lld to %lld", e->name,
                            (long long)count, e->type, (long long)begin->i, (long long)end->i);
    }
    return STRATA_OK;
}

static int by_offset(const void *pa, const void *pb)
{
    const record *a = pa, *b = pb;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb)
{
    const record *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

static strata_status read_meta(strata_file *f, const sti_json_node *meta)
{
    if (meta->type != STI_JSON_OBJECT) return sti_fail(STRATA_E_FORMAT, "__metadata__ is not an object");
    for (const sti_json_node *n = sti_json_first(f->json, meta); n; n = sti_json_next(f->json, n))
        if (!sti_json_string(n) || strlen(n->key) != n->key_len)
            return sti_fail(STRATA_E_FORMAT, "metadata %s is not a string", n->key);
    f->meta = meta;
    return STRATA_OK;
}

/* The ranges must cover the data from first to last byte, each beginning where the one before ends. */
static strata_status check_ranges(const strata_file *f, size_t bytes)
{
    size_t at = 0;
    for (int32_t i = 0; i < f->count; i++) {
        const record *e = &f->entry[i];
        if (e->end > bytes)
            return sti_fail(STRATA_E_FORMAT, "tensor %s ends at byte %zu but there are %zu bytes of data", e->name,
                            e->end, bytes);
        if (e->begin != at)
            return sti_fail(STRATA_E_FORMAT, "tensor %s begins at byte %zu, the tensor before it ends at %zu", e->name,
                            e->begin, at);
        at = e->end;
    }
    if (at != bytes) return sti_fail(STRATA_E_FORMAT, "the tensors have %zu bytes but the file has %zu", at, bytes);
    return STRATA_OK;
}

/* Point every tensor at its bytes; those that C could not read in place are copied. */
static strata_status place(strata_file *f, const uint8_t *data)
{
    for (int32_t i = 0; i < f->count; i++) {
        record *e = &f->entry[i];
        size_t size = strata_dtype_size(e->dtype), n = e->end - e->begin;
        e->data = data + e->begin;
        if (size == 0 || (uintptr_t)e->data % size == 0) continue;
        e->copy = strata_alloc(f->ctx, n ? n : 1);
        if (!e->copy) return sti_fail(STRATA_E_MEMORY, "out of memory for tensor %s (%zu bytes)", e->name, n);
        memcpy(e->copy, e->data, n);
        e->data = e->copy;
    }
    return STRATA_OK;
}

static strata_status read_header(strata_file *f, const uint8_t *data, size_t bytes)
{
    if (bytes < 8) return sti_fail(STRATA_E_FORMAT, "%zu bytes are too few for a safetensors file", bytes);
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n |= (uint64_t)data[i] << 8 * i;
    if (n > STI_SAFETENSORS_MAX_HEADER)
        return sti_fail(STRATA_E_FORMAT, "not a safetensors file (a header of %llu bytes; the limit is %d)",
                        (unsigned long long)n, STI_SAFETENSORS_MAX_HEADER);
    if (n > bytes - 8)
        return sti_fail(STRATA_E_FORMAT, "the header has %llu bytes but only %zu are there", (unsigned long long)n,
                        bytes - 8);
    strata_status s = sti_json_parse((const char *)data + 8, (size_t)n, &f->json);
    if (s != STRATA_OK) return sti_fail_prefix(s, "header");
    const sti_json_node *root = sti_json_root(f->json);
    if (root->type != STI_JSON_OBJECT) return sti_fail(STRATA_E_FORMAT, "the header is not an object");

    STI_TRY(sti_calloc(f->ctx, STI_MAX(root->count, 1), sizeof *f->entry, (void **)&f->entry));
    for (const sti_json_node *c = sti_json_first(f->json, root); c; c = sti_json_next(f->json, c)) {
        if (strcmp(c->key, "__metadata__") == 0)
            STI_TRY(read_meta(f, c));
        else
            STI_TRY(read_entry(f->json, c, &f->entry[f->count++]));
    }
    qsort(f->entry, (size_t)f->count, sizeof *f->entry, by_offset);
    STI_TRY(check_ranges(f, bytes - 8 - (size_t)n));
    STI_TRY(sti_calloc(f->ctx, STI_MAX(f->count, 1), sizeof *f->by_name, (void **)&f->by_name));
    for (int32_t i = 0; i < f->count; i++) f->by_name[i] = &f->entry[i];
    qsort(f->by_name, (size_t)f->count, sizeof *f->by_name, by_name);
    return place(f, data + 8 + n);
}

strata_status sti_file_parse(const strata_context *ctx, const uint8_t *data, size_t bytes, strata_file **out)
{
    *out = NULL;
    strata_file *f = NULL;
    STI_TRY(sti_calloc(ctx, 1, sizeof *f, (void **)&f));
    f->ctx = sti_context_ref(ctx);
    strata_status s = read_header(f, data, bytes);
    if (s != STRATA_OK) {
        strata_file_close(f);
        return s;
    }
    *out = f;
    return STRATA_OK;
}

strata_status strata_file_open(const strata_context *ctx, const char *path, strata_file **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_file_open: out is NULL");
    *out = NULL;
    if (!ctx || !path) return sti_fail(STRATA_E_INVALID, "strata_file_open: no context or path");
    sti_map map;
    STI_TRY(sti_map_open(path, &map));
    strata_status s = sti_file_parse(ctx, map.data, map.bytes, out);
    if (s != STRATA_OK) {
        sti_map_close(&map);
        return sti_fail_prefix(s, "%s", path);
    }
    (*out)->map = map;
    return STRATA_OK;
}

void strata_file_close(strata_file *f)
{
    if (!f) return;
    strata_context *ctx = f->ctx;
    for (int32_t i = 0; i < f->count; i++) strata_free(ctx, f->entry[i].copy);
    strata_free(ctx, f->entry);
    strata_free(ctx, f->by_name);
    sti_json_free(f->json);
    sti_map_close(&f->map);
    strata_free(ctx, f);
    strata_context_destroy(ctx);
}

int32_t strata_file_count(const strata_file *f)
{
    return f ? f->count : 0;
}

static strata_status view(const record *e, strata_tensor *t)
{
    if (!e->dtype)
        return sti_fail(STRATA_E_FORMAT, "tensor %s has dtype %s, which Strata does not read", e->name, e->type);
    if (e->ndim > STRATA_MAX_DIMS)
        return sti_fail(STRATA_E_FORMAT, "tensor %s has %d dimensions, the limit is %d", e->name, (int)e->ndim,
                        STRATA_MAX_DIMS);
    *t = strata_view((void *)(uintptr_t)e->data, e->dtype, e->ndim, e->shape);
    return STRATA_OK;
}

strata_status strata_file_at(const strata_file *f, int32_t i, const char **name, strata_tensor *t)
{
    if (!f || !name || !t) return sti_fail(STRATA_E_INVALID, "strata_file_at: a pointer is NULL");
    if (i < 0 || i >= f->count)
        return sti_fail(STRATA_E_INVALID, "tensor %d of a file that has %d", (int)i, (int)f->count);
    STI_TRY(view(&f->entry[i], t));
    *name = f->entry[i].name;
    return STRATA_OK;
}

strata_status strata_file_get(const strata_file *f, const char *name, strata_tensor *t)
{
    if (!f || !name || !t) return sti_fail(STRATA_E_INVALID, "strata_file_get: a pointer is NULL");
    record key = { .name = name };
    const record *k = &key;
    record **e = f->count ? bsearch(&k, f->by_name, (size_t)f->count, sizeof *f->by_name, by_name) : NULL;
    if (!e) return sti_fail(STRATA_E_NOTFOUND, "the file has no tensor %s", name);
    return view(*e, t);
}

const char *strata_file_meta(const strata_file *f, const char *key)
{
    const sti_json_node *n = f && key && f->meta ? sti_json_get(f->json, f->meta, key) : NULL;
    return n ? sti_json_string(n) : NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static const char *file_dtype(int32_t dtype)
{
    for (size_t t = 0; t < STI_COUNT(dtypes); t++)
        if (dtypes[t].dtype == dtype && dtype) return dtypes[t].name;
    return NULL;
}

static int compare_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Names must be UTF-8 and differ. n names, every `step` bytes from the first. */
static strata_status check_names(const strata_context *ctx, const char *what, const void *first, size_t step, int32_t n)
{
    const char **names = NULL;
    STI_TRY(sti_calloc(ctx, STI_MAX(n, 1), sizeof *names, (void **)&names));
    strata_status s = STRATA_OK;
    for (int32_t i = 0; i < n && s == STRATA_OK; i++) {
        memcpy(&names[i], (const char *)first + step * (size_t)i, sizeof *names);
        if (!names[i])
            s = sti_fail(STRATA_E_INVALID, "%s %d has no name", what, (int)i);
        else if (!sti_utf8_valid(names[i], strlen(names[i])))
            s = sti_fail(STRATA_E_INVALID, "the name of %s %d is not UTF-8", what, (int)i);
        else if (strcmp(names[i], "__metadata__") == 0)
            s = sti_fail(STRATA_E_INVALID, "no %s may be named __metadata__", what);
    }
    if (s == STRATA_OK) qsort(names, (size_t)n, sizeof *names, compare_text);
    for (int32_t i = 1; i < n && s == STRATA_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0) s = sti_fail(STRATA_E_INVALID, "two of %s %s", what, names[i]);
    strata_free(ctx, names);
    return s;
}

static strata_status check_tensor(const strata_file_entry *e)
{
    const strata_tensor *t = &e->tensor;
    if (!file_dtype(t->dtype))
        return sti_fail(STRATA_E_INVALID, "tensor %s: dtype %d cannot be written", e->name, (int)t->dtype);
    if (t->device != STRATA_CPU) return sti_fail(STRATA_E_INVALID, "tensor %s is not in main memory", e->name);
    if (t->ndim < 0 || t->ndim > STRATA_MAX_DIMS)
        return sti_fail(STRATA_E_INVALID, "tensor %s has %d dimensions", e->name, (int)t->ndim);
    int64_t bytes = (int64_t)strata_dtype_size(t->dtype);
    for (int32_t d = 0; d < t->ndim; d++)
        if (!sti_mul_i64(bytes, t->shape[d], &bytes))
            return sti_fail(STRATA_E_INVALID, "tensor %s: dimension %d is %lld", e->name, (int)d,
                            (long long)t->shape[d]);
    if (bytes > 0 && !t->data) return sti_fail(STRATA_E_INVALID, "tensor %s has no data", e->name);
    return STRATA_OK;
}

static strata_status check_input(const strata_context *ctx, const strata_file_entry *entry, int32_t count,
                                 const strata_file_pair *meta, int32_t nmeta)
{
    if (!ctx || count < 0 || nmeta < 0 || (count > 0 && !entry) || (nmeta > 0 && !meta))
        return sti_fail(STRATA_E_INVALID, "strata_file_write: no context, or a count without its array");
    if (count > 0) STI_TRY(check_names(ctx, "tensor", &entry->name, sizeof *entry, count));
    if (nmeta > 0) STI_TRY(check_names(ctx, "metadata key", &meta->key, sizeof *meta, nmeta));
    for (int32_t i = 0; i < nmeta; i++)
        if (!meta[i].value || !sti_utf8_valid(meta[i].value, strlen(meta[i].value)))
            return sti_fail(STRATA_E_INVALID, "the value of metadata key %s is not UTF-8 text", meta[i].key);
    for (int32_t i = 0; i < count; i++) STI_TRY(check_tensor(&entry[i]));
    return STRATA_OK;
}

static strata_status make_header(const strata_file_entry *const *order, int32_t count, const strata_file_pair *meta,
                                 int32_t nmeta, sti_text *t)
{
    int64_t at = 0;
    sti_text_add(t, "{");
    for (int32_t i = 0; i < nmeta; i++) {
        sti_text_add(t, i ? "," : "\"__metadata__\":{");
        sti_json_put_string(t, meta[i].key, strlen(meta[i].key));
        sti_text_add(t, ":");
        sti_json_put_string(t, meta[i].value, strlen(meta[i].value));
    }
    if (nmeta > 0) sti_text_add(t, count > 0 ? "}," : "}");
    for (int32_t i = 0; i < count; i++) {
        const strata_tensor *x = &order[i]->tensor;
        int64_t bytes = strata_tensor_count(x) * (int64_t)strata_dtype_size(x->dtype), end;
        if (!sti_add_i64(at, bytes, &end)) return sti_fail(STRATA_E_INVALID, "the tensors exceed 2^63 bytes");
        sti_json_put_string(t, order[i]->name, strlen(order[i]->name));
        sti_text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", file_dtype(x->dtype));
        for (int32_t d = 0; d < x->ndim; d++) sti_text_add(t, d ? ",%lld" : "%lld", (long long)x->shape[d]);
        sti_text_add(t, "],\"data_offsets\":[%lld,%lld]}%s", (long long)at, (long long)end, i + 1 < count ? "," : "");
        at = end;
    }
    sti_text_add(t, "}");
    /* blanks up to a multiple of 64 bytes from the start of the file, so that a mapping has aligned data */
    if (!t->failed) sti_text_add(t, "%*s", (int)(sti_round_up(t->len + 8, 64) - t->len - 8), "");
    if (t->failed) return sti_fail(STRATA_E_MEMORY, "out of memory for the header");
    if (t->len > STI_SAFETENSORS_MAX_HEADER)
        return sti_fail(STRATA_E_INVALID, "a header of %zu bytes; the limit is %d", t->len, STI_SAFETENSORS_MAX_HEADER);
    return STRATA_OK;
}

/* The elements in row-major order, whatever the strides. */
static void write_data(sti_atomic *out, const strata_tensor *t)
{
    size_t size = strata_dtype_size(t->dtype);
    int64_t count = strata_tensor_count(t), index[STRATA_MAX_DIMS] = { 0 };
    const char *p = t->data;
    if (strata_tensor_contiguous(t)) {
        if (count > 0) sti_atomic_write(out, p, (size_t)count * size);
        return;
    }
    for (int64_t k = 0; k < count; k++) {
        sti_atomic_write(out, p, size);
        for (int32_t d = t->ndim - 1; d >= 0; d--) {
            p += t->stride[d] * (int64_t)size;
            if (++index[d] < t->shape[d]) break;
            p -= t->stride[d] * (int64_t)size * index[d];
            index[d] = 0;
        }
    }
}

strata_status strata_file_write(const strata_context *ctx, const char *path, const strata_file_entry *entry,
                                int32_t count, const strata_file_pair *meta, int32_t nmeta)
{
    STI_TRY(check_input(ctx, entry, count, meta, nmeta));
    strata_status s = STRATA_OK;
    sti_text header = { 0 };
    sti_atomic *out = NULL;
    const strata_file_entry **order = NULL;
    STI_TRY(sti_calloc(ctx, STI_MAX(count, 1), sizeof *order, (void **)&order));
    /* the widest types first keep every tensor aligned without holes, which the format forbids */
    int32_t n = 0;
    for (size_t size = 8; size > 0; size /= 2)
        for (int32_t i = 0; i < count; i++)
            if (strata_dtype_size(entry[i].tensor.dtype) == size) order[n++] = &entry[i];

    s = make_header(order, count, meta, nmeta, &header);
    if (s == STRATA_OK) s = sti_atomic_begin(path, &out);
    if (s != STRATA_OK) goto done;
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.len >> 8 * i);
    sti_atomic_write(out, length, sizeof length);
    sti_atomic_write(out, header.s, header.len);
    for (int32_t i = 0; i < count; i++) write_data(out, &order[i]->tensor);
    s = sti_atomic_commit(out);
done:
    sti_text_free(&header);
    strata_free(ctx, order);
    return s;
}
