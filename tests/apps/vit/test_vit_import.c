/* SPDX-License-Identifier: MIT */
/* Imports: classic and netCDF-4, packed values, levels, either direction of latitudes, parts, statistics, mistakes. */
#include "apps/vit/vit_fields.h"

#include <math.h>
#include <netcdf.h>

#include "vit/import.h"

#define STEPS  8
#define NC_LAT 5
#define NC_LON 7

static void ok(int status)
{
    if (status != NC_NOERR)
        fail_msg("netCDF: %s", nc_strerror(status));
}

/* What is at a place of variable `which` (row 0 is the north): a multiple of 0.5. */
static double truth(int which, int64_t step, int64_t level, int64_t row, int64_t column)
{
    return which * 1000 + (double)step * 40 + (double)level * 300 + (double)row * 5 + (double)column * 0.5;
}

typedef struct made { /* how a file is made */
    const char *name, *unit, *calendar;
    int format;     /* of nc_create */
    int64_t levels; /* 0: none */
    bool southward, packed, record;
    int64_t first, steps; /* steps of truth */
} made;

static int dimension(int file, const char *name, size_t length, const char *unit, const double *values)
{
    int d, v;
    ok(nc_def_dim(file, name, length, &d));
    ok(nc_def_var(file, name, NC_DOUBLE, 1, &d, &v));
    if (unit)
        ok(nc_put_att_text(file, v, "units", strlen(unit), unit));
    ok(nc_enddef(file));
    if (values && length != NC_UNLIMITED)
        ok(nc_put_var_double(file, v, values));
    ok(nc_redef(file));
    return d;
}

/* `wind` (0) and, packed or not, `heat` (1). */
static void put_netcdf(const made *m)
{
    double latitude[NC_LAT], longitude[NC_LON], hours[STEPS];
    const double levels[] = {85000, 50000};
    int file, dims[4], id[2], n = 0;
    for (int j = 0; j < NC_LAT; j++)
        latitude[j] = m->southward ? 60 - 10 * j : 20 + 10 * j;
    for (int i = 0; i < NC_LON; i++)
        longitude[i] = -30 + 5 * i;
    for (int64_t t = 0; t < m->steps; t++)
        hours[t] = (double)(m->first + t) * 6;
    ok(nc_create(in_folder(m->name), m->format | NC_CLOBBER, &file));
    dims[n++] = dimension(file, "time", m->record ? NC_UNLIMITED : (size_t)m->steps, m->unit, hours);
    if (m->levels)
        dims[n++] = dimension(file, "plev", 2, "Pa", levels);
    dims[n++] = dimension(file, "lat", NC_LAT, "degrees_north", latitude);
    dims[n++] = dimension(file, "lon", NC_LON, NULL, longitude);
    if (m->calendar)
        ok(nc_put_att_text(file, 0, "calendar", strlen(m->calendar), m->calendar));
    ok(nc_def_var(file, "wind", NC_FLOAT, n, dims, &id[0]));
    ok(nc_put_att_text(file, id[0], "units", 3, "m/s"));
    ok(nc_def_var(file, "heat", m->packed ? NC_SHORT : NC_FLOAT, n, dims, &id[1]));
    if (m->packed) {
        ok(nc_put_att_double(file, id[1], "scale_factor", NC_DOUBLE, 1, (double[]){0.5}));
        ok(nc_put_att_double(file, id[1], "add_offset", NC_DOUBLE, 1, (double[]){1000}));
        ok(nc_put_att_short(file, id[1], "_FillValue", NC_SHORT, 1, (short[]){-9999}));
    } else {
        ok(nc_put_att_float(file, id[1], "missing_value", NC_FLOAT, 1, (float[]){-9999}));
    }
    ok(nc_enddef(file));
    if (m->record)
        ok(nc_put_vara_double(file, 0, (size_t[]){0}, (size_t[]){(size_t)m->steps}, hours));
    for (int v = 0; v < 2; v++)
        for (int64_t t = 0; t < m->steps; t++)
            for (int64_t k = 0; k < (m->levels ? 2 : 1); k++)
                for (int64_t j = 0; j < NC_LAT; j++)
                    for (int64_t i = 0; i < NC_LON; i++) {
                        double value = truth(v, m->first + t, k, m->southward ? j : NC_LAT - 1 - j, i);
                        size_t at[4] = {(size_t)t, (size_t)k, (size_t)j, (size_t)i};
                        if (!m->levels)
                            at[1] = at[2], at[2] = at[3];
                        if (v == 1 && m->packed)
                            value = (value - 1000) / 0.5;
                        if (v == 1 && t == 1 && j == 2 && i == 3)
                            value = -9999; /* missing, as stored */
                        ok(nc_put_var1_double(file, id[v], at, &value));
                    }
    ok(nc_close(file));
}

/* Every value of channel c of the folder's file is that of variable `which`. */
static void check_file(const char *file, int64_t channel, int which, int64_t level, int64_t first, int64_t row,
                       int64_t column)
{
    fields *f;
    float *values;
    must(fields_open(&f, in_folder(file)));
    const fields_size *n = fields_sizes(f);
    int64_t plane = n->latitudes * n->longitudes, gaps = 0;
    values = malloc((size_t)(plane * n->channels) * sizeof *values);
    for (int64_t t = 0; t < n->steps; t++) {
        must(fields_read(f, t, (vit_band){0, n->latitudes}, n->longitudes, values));
        for (int64_t i = 0; i < plane; i++) {
            double expected = truth(which, first + t, level, i / n->longitudes + row, i % n->longitudes + column);
            float got = values[channel * plane + i];
            gaps += isnan(got);
            assert_true(isnan(got) || (double)got == expected);
        }
    }
    assert_in_range(gaps, 0, 1);
    free(values);
    fields_close(f);
}

static void classic_files_in_two_parts(void **state)
{
    const made a = {.name = "a.nc", .unit = "hours since 1990-12-31 00:00", .steps = 3, .record = true};
    const made b = {.name = "b.nc", .unit = "hours since 1990-12-31 00:00", .first = 3, .steps = 5, .southward = true};
    char one[200], two[200];
    import_result r;
    (void)state;
    put_netcdf(&a);
    put_netcdf(&b);
    snprintf(one, sizeof one, "%s", in_folder("a.nc"));
    snprintf(two, sizeof two, "%s", in_folder("b.nc"));
    import_options o = {.inputs = (char *[]){one, two}, .n_inputs = 2, .output = in_folder("out"), .last = {0, 3, 0}};
    must(import_fields(&o, &r));
    assert_int_equal(r.n_channels, 2);
    assert_int_equal(r.latitudes, NC_LAT);
    assert_int_equal(r.longitudes, NC_LON);
    /* steps 0-3 are of 1990, 4-7 of 1991; the last three are for validation */
    assert_int_equal(r.files[PART_TRAIN], 2);
    assert_int_equal(r.steps[PART_TRAIN], 5);
    assert_int_equal(r.files[PART_VALID], 1);
    assert_int_equal(r.steps[PART_VALID], 3);
    assert_int_equal(r.missing[0], 0);
    assert_int_equal(r.missing[1], 2);
    assert_string_equal(r.channels[0].name, "wind");
    assert_string_equal(r.channels[0].unit, "m/s");
    double sum = 0, squares = 0, n = 5 * NC_LAT * NC_LON;
    for (int64_t t = 0; t < 5; t++)
        for (int64_t i = 0; i < NC_LAT * NC_LON; i++) {
            double value = truth(0, t, 0, i / NC_LON, i % NC_LON);
            sum += value, squares += value * value;
        }
    near(r.channels[0].mean, sum / n, 1e-9);
    near(r.channels[0].std, sqrt(squares / n - sum * sum / n / n), 1e-9);
    check_file("out/train/1990.h5", 0, 0, 0, 0, 0, 0);
    check_file("out/train/1990.h5", 1, 1, 0, 0, 0, 0);
    check_file("out/train/1991.h5", 0, 0, 0, 4, 0, 0);
    check_file("out/valid/1991.h5", 1, 1, 0, 5, 0, 0);
    double means[2];
    must(statistics_read(in_folder("out/stats/global_means.npy"), 2, means));
    near(means[0], r.channels[0].mean, 1e-4);
    import_result_free(&r);

    vit_dataset *d;
    char date[VIT_NAME];
    vit_data_options data = {.folder = in_folder("out/valid"), .channels = 2, .latitudes = 5, .longitudes = 7, .dt = 1};
    must(vit_dataset_open(&d, &data));
    assert_string_equal(vit_dataset_date(d, (vit_moment){0, 0}, date), "1991-01-01 06:00");
    assert_true(vit_dataset_latitudes(d)[0] == 60 && vit_dataset_longitudes(d)[0] == -30);
    vit_dataset_close(d);
}

static void packed_netcdf4_with_levels(void **state)
{
    const made a = {.name = "p.nc",
                    .format = NC_NETCDF4,
                    .unit = "hours since 1990-01-01",
                    .steps = STEPS,
                    .levels = 2,
                    .packed = true,
                    .record = true,
                    .calendar = "proleptic_gregorian"};
    char input[2][200];
    import_result r;
    (void)state;
    put_netcdf(&a);
    snprintf(input[0], sizeof input[0], "%s:heat@500,850=high,low", in_folder("p.nc"));
    snprintf(input[1], sizeof input[1], "%s:wind@85000", in_folder("p.nc"));
    import_options o = {.inputs = (char *[]){input[0], input[1]},
                        .n_inputs = 2,
                        .output = in_folder("packed"),
                        .crop_rows = true,
                        .rows = {1, 3},
                        .crop_columns = true,
                        .columns = {2, 6}};
    must(import_fields(&o, &r));
    assert_int_equal(r.n_channels, 3);
    assert_string_equal(r.channels[0].name, "high");
    assert_string_equal(r.channels[2].name, "wind850");
    assert_int_equal(r.missing[0], 1);
    import_result_free(&r);
    check_file("packed/train/1990.h5", 0, 1, 1, 0, 1, 2);
    check_file("packed/train/1990.h5", 1, 1, 0, 0, 1, 2);
    check_file("packed/train/1990.h5", 2, 0, 0, 0, 1, 2);

    /* all variables and levels; missing values become the channel's mean */
    snprintf(input[0], sizeof input[0], "%s", in_folder("p.nc"));
    o = (import_options){.inputs = (char *[]){input[0]},
                         .n_inputs = 1,
                         .output = in_folder("all"),
                         .missing = IMPORT_MEAN,
                         .units = "a,b,c,d"};
    must(import_fields(&o, &r));
    assert_int_equal(r.n_channels, 4);
    assert_string_equal(r.channels[3].name, "heat500");
    assert_string_equal(r.channels[3].unit, "d");
    fields *f;
    float values[4 * NC_LAT * NC_LON];
    must(fields_open(&f, in_folder("all/train/1990.h5")));
    must(fields_read(f, 1, (vit_band){0, NC_LAT}, NC_LON, values));
    assert_true(values[2 * 35 + 2 * NC_LON + 3] == (float)r.channels[2].mean);
    fields_close(f);
    import_result_free(&r);
}

static void import_refuses(const char *input, const char *more, import_options o, int code, const char *part)
{
    import_result r;
    char first[200], second[200];
    snprintf(first, sizeof first, "%s/%s", folder, input);
    snprintf(second, sizeof second, "%s/%s", folder, more ? more : "");
    o.inputs = (char *[]){first, second};
    o.n_inputs = more ? 2 : 1;
    o.output = in_folder("refused");
    refuses(import_fields(&o, &r), code, part);
}

static void mistakes(void **state)
{
    const char *unit = "hours since 1990-01-01";
    const import_options none = {.n_inputs = 0};
    (void)state;
    put_netcdf(&(made){.name = "m.nc", .unit = unit, .steps = 4});
    put_netcdf(&(made){.name = "l.nc", .unit = unit, .steps = 4, .levels = 2, .record = true});
    put_netcdf(&(made){.name = "undated.nc", .steps = 4});
    put_netcdf(&(made){.name = "days360.nc", .unit = unit, .calendar = "360_day", .steps = 4});
    put_netcdf(&(made){.name = "short.nc", .unit = unit, .steps = 3});
    put_netcdf(&(made){.name = "later.nc", .unit = "hours since 1990-01-02", .steps = 4});
    import_refuses("nowhere.nc", NULL, none, CODE_MISSING, "cannot be read");
    import_refuses("m.nc:wynd", NULL, none, CODE_BAD_INPUT, "Variable not found");
    import_refuses("m.nc:lat", NULL, none, CODE_BAD_INPUT, "must be numbers over (time, latitude, longitude)");
    import_refuses("m.nc:wind@850", NULL, none, CODE_USAGE, "has no levels");
    import_refuses("l.nc:wind@700", NULL, none, CODE_USAGE, "has no level '700'");
    import_refuses("m.nc=x", NULL, none, CODE_USAGE, "has 2 variables");
    import_refuses("undated.nc", NULL, none, CODE_BAD_INPUT, "--time-units");
    import_refuses("days360.nc", NULL, none, CODE_BAD_INPUT, "the calendar '360_day'");
    import_refuses("m.nc:wind", "short.nc:heat", none, CODE_BAD_INPUT, "'heat' has 3 steps, but 'wind' has 4");
    import_refuses("m.nc:wind", "later.nc:heat", none, CODE_BAD_INPUT,
                   "is of 1990-01-02 00:00, but of 1990-01-01 00:00");
    import_refuses("later.nc:wind", "m.nc:wind", none, CODE_BAD_INPUT, "which is not after the step before it");
    import_refuses("m.nc", NULL, (import_options){.missing = IMPORT_REFUSE}, CODE_BAD_INPUT,
                   "channel 'heat' of 1990-01-01 06:00 has a missing value at row 2 from the north, column 3");
    import_refuses("m.nc", NULL, (import_options){.crop_rows = true, .rows = {2, 5}}, CODE_USAGE, "rows is 2-5");
    import_refuses("m.nc", NULL, (import_options){.units = "m/s"}, CODE_USAGE, "it must be 2 short texts");
    import_refuses("m.nc", NULL, (import_options){.units = "m/s,K,K"}, CODE_USAGE, "it must be 2 short texts");
    import_refuses("m.nc", NULL, (import_options){.time_units = "fortnights since 1990"}, CODE_USAGE, "time-units is");
    import_refuses("m.nc", NULL, (import_options){.last = {0, 4, 0}}, CODE_BAD_INPUT, "0 values in the training part");
    FILE *f = fopen(in_folder("text.nc"), "w");
    fputs("CDX not a file of fields", f);
    fclose(f);
    import_refuses("text.nc", NULL, none, CODE_BAD_INPUT, "cannot be opened as netCDF");

    import_result r;
    char input[200];
    snprintf(input, sizeof input, "%s", in_folder("undated.nc"));
    import_options o = {.inputs = (char *[]){input},
                        .n_inputs = 1,
                        .output = in_folder("dated"),
                        .time_units = "hours since 2001-05-06",
                        .split_years = {false, false, true},
                        .years = {{0}, {0}, {1999, 2000}}};
    ok(rename(in_folder("undated.nc"), in_folder("other.nc")) ? NC_EINVAL : NC_NOERR);
    snprintf(input, sizeof input, "%s", in_folder("other.nc"));
    must(import_fields(&o, &r));
    assert_int_equal(r.files[PART_TRAIN], 1);
    assert_int_equal(access(in_folder("dated/train/2001.h5"), R_OK), 0);
    import_result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classic_files_in_two_parts),
        cmocka_unit_test(packed_netcdf4_with_levels),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
