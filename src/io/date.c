/* Dates as text. */

#include "io/date.h"

#include <stdio.h>

enum { DAY = 86400 };

/* Counted in years that begin in March, so that the day that leap years add is the last one. */
int64_t sti_date_days(int64_t year, int32_t month, int32_t day)
{
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t era = (y >= 0 ? y : y - 399) / 400, in_era = y - era * 400;
    const int64_t in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

void sti_date_civil(int64_t days, int64_t *year, int32_t *month, int32_t *day)
{
    const int64_t d = days + 719468, era = (d >= 0 ? d : d - 146096) / 146097, in_era = d - era * 146097;
    const int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    const int64_t in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;
    *day = (int32_t)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int32_t)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

int32_t sti_date_month_length(int64_t year, int32_t month)
{
    const int64_t next = month == 12 ? sti_date_days(year + 1, 1, 1) : sti_date_days(year, month + 1, 1);
    return (int32_t)(next - sti_date_days(year, month, 1));
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
typedef struct cursor {
    const char *s, *end;
} cursor;

/* A number of at most `most` digits; the digits read, 0: none. */
static int digits(cursor *c, int most, int64_t *out)
{
    int n = 0;
    *out = 0;
    for (; n < most && c->s < c->end && *c->s >= '0' && *c->s <= '9'; n++) *out = *out * 10 + (*c->s++ - '0');
    return n;
}

static bool take(cursor *c, char ch)
{
    if (c->s == c->end || *c->s != ch) return false;
    c->s++;
    return true;
}

/* Three numbers and what is between them; a year has four digits. */
static bool read_day(cursor *c, sti_date_order want, int64_t ymd[3], sti_date_form *f)
{
    int64_t a, b = 1, d = 1;
    const int na = digits(c, 8, &a);
    if (na == 8) {
        *f = (sti_date_form){ .order = STI_DATE_COMPACT };
        ymd[0] = a / 10000, ymd[1] = a / 100 % 100, ymd[2] = a % 100;
        return true;
    }
    const char between = c->s < c->end ? *c->s : 0;
    if (between != '-' && between != '/' && between != '.') return false;
    c->s++;
    const int nb = digits(c, 2, &b);
    if (nb == 0) return false;
    *f = (sti_date_form){ .between = between };
    if (na == 4) {
        const bool more = take(c, between);
        f->order = more ? STI_DATE_YMD : STI_DATE_MONTH;
        if ((more && digits(c, 2, &d) == 0) || (!more && between == '.')) return false;
        ymd[0] = a, ymd[1] = b, ymd[2] = d;
        return true;
    }
    if (na == 0 || na > 2 || !take(c, between) || digits(c, 4, &d) != 4) return false;
    f->order = between == '.' || (between == '-' && want == STI_DATE_NONE) || want == STI_DATE_DMY ? STI_DATE_DMY
                                                                                                   : STI_DATE_MDY;
    ymd[0] = d;
    ymd[1] = f->order == STI_DATE_DMY ? b : a;
    ymd[2] = f->order == STI_DATE_DMY ? a : b;
    return true;
}

/* 3:00, 03:00:00.25, 03-00-00, with a zone or without */
static bool read_clock(cursor *c, int64_t *seconds, sti_date_form *f)
{
    int64_t h, m, s = 0, zh, zm = 0;
    if (digits(c, 2, &h) == 0 || c->s == c->end) return false;
    const char colon = *c->s == '-' ? '-' : ':';
    if (!take(c, colon) || digits(c, 2, &m) != 2) return false;
    if (take(c, colon)) {
        f->seconds = true;
        if (digits(c, 2, &s) != 2) return false;
        if (take(c, '.'))
            while (c->s < c->end && *c->s >= '0' && *c->s <= '9') c->s++;
    }
    if (h > 23 || m > 59 || s > 60) return false;
    *seconds = h * 3600 + m * 60 + s;
    if (c->s == c->end) return true;
    f->zone = true;
    if (take(c, 'Z')) return true;
    const bool west = take(c, '-');
    if ((!west && !take(c, '+')) || digits(c, 2, &zh) != 2) return false;
    (void)take(c, ':');
    if (c->s < c->end && digits(c, 2, &zm) != 2) return false;
    if (zh > 23 || zm > 59) return false;
    *seconds -= (west ? -1 : 1) * (zh * 3600 + zm * 60);
    return true;
}

bool sti_date_read(const char *s, size_t n, sti_date_order want, int64_t *time, sti_date_form *form)
{
    cursor c = { s, s + n };
    sti_date_form f = { 0 };
    int64_t ymd[3], seconds = 0;
    if (!read_day(&c, want, ymd, &f)) return false;
    if (ymd[0] < 1 || ymd[1] < 1 || ymd[1] > 12 || ymd[2] < 1 ||
        ymd[2] > sti_date_month_length(ymd[0], (int32_t)ymd[1]))
        return false;
    if (c.s < c.end && f.order != STI_DATE_MONTH && (*c.s == ' ' || *c.s == 'T')) {
        f.clock = *c.s++;
        if (!read_clock(&c, &seconds, &f)) return false;
    }
    if (c.s != c.end) return false;
    *time = sti_date_days(ymd[0], (int32_t)ymd[1], (int32_t)ymd[2]) * DAY + seconds;
    *form = f;
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

const char *sti_date_write(int64_t time, const sti_date_form *f, char *buf)
{
    int64_t year;
    int32_t month, day;
    const int64_t days = floor_div(time, DAY), s = time - days * DAY;
    sti_date_civil(days, &year, &month, &day);
    const long long y = (long long)year;
    int n = 0;
    switch (f->order) {
    case STI_DATE_NUMBER: n = snprintf(buf, STI_DATE_TEXT, "%lld", (long long)time); return buf;
    case STI_DATE_COMPACT: n = snprintf(buf, STI_DATE_TEXT, "%04lld%02d%02d", y, month, day); break;
    case STI_DATE_MONTH: n = snprintf(buf, STI_DATE_TEXT, "%04lld%c%02d", y, f->between, month); break;
    case STI_DATE_DMY:
        n = snprintf(buf, STI_DATE_TEXT, "%02d%c%02d%c%04lld", day, f->between, month, f->between, y);
        break;
    case STI_DATE_MDY:
        n = snprintf(buf, STI_DATE_TEXT, "%02d%c%02d%c%04lld", month, f->between, day, f->between, y);
        break;
    default: {
        const char between = f->between ? f->between : '-';
        n = snprintf(buf, STI_DATE_TEXT, "%04lld%c%02d%c%02d", y, between, month, between, day);
    }
    }
    if (f->clock && n > 0 && n < STI_DATE_TEXT)
        n += snprintf(buf + n, (size_t)(STI_DATE_TEXT - n), "%c%02d:%02d", f->clock, (int)(s / 3600),
                      (int)(s / 60 % 60));
    if (f->clock && f->seconds && n > 0 && n < STI_DATE_TEXT)
        n += snprintf(buf + n, (size_t)(STI_DATE_TEXT - n), ":%02d", (int)(s % 60));
    if (f->clock && f->zone && n > 0 && n < STI_DATE_TEXT) (void)snprintf(buf + n, (size_t)(STI_DATE_TEXT - n), "Z");
    return buf;
}

int64_t sti_date_add(int64_t time, sti_step step, int64_t k, bool month_end)
{
    if (step.unit != STI_STEP_MONTHS) return time + k * step.n;
    int64_t year;
    int32_t month, day;
    const int64_t days = floor_div(time, DAY);
    sti_date_civil(days, &year, &month, &day);
    const int64_t m = year * 12 + (month - 1) + k * step.n;
    const int64_t y = floor_div(m, 12);
    const int32_t to = (int32_t)(m - y * 12) + 1, last = sti_date_month_length(y, to);
    return sti_date_days(y, to, month_end ? last : STI_MIN(day, last)) * DAY + (time - days * DAY);
}
