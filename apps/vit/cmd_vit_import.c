/* SPDX-License-Identifier: MIT */
/* ringx-vit import: netCDF fields into yearly HDF5 files with statistics. */
#include <math.h>
#include <string.h>

#include "shared/table.h"
#include "vit/import.h"
#include "vit/vit_command.h"

typedef struct import_settings {
    given_arguments given;
    file_list inputs;
    const char *output, *time_units, *units;
    int64_t rows[2], columns[2], valid_years[2], test_years[2], valid_last, test_last, missing;
    bool rows_given, columns_given, valid_given, test_given;
} import_settings;

static const char *const missing_choices[] = {"keep", "refuse", "mean", NULL}; /* by import_missing */

static int print_channels(const import_result *r)
{
    static const table_column columns[] = {{"channel", "channel"}, {"unit", "unit"},       {"mean", "mean"},
                                           {"std", "deviation"},   {"missing", "missing"}, {"share", "missing %"}};
    table *t = table_create(columns, sizeof columns / sizeof *columns);
    if (!t)
        return CODE_NO_MEMORY;
    double all = 0;
    for (int p = 0; p < PARTS; p++)
        all += (double)(r->steps[p] * r->latitudes * r->longitudes);
    for (int64_t c = 0; c < r->n_channels; c++) {
        table_text(t, r->channels[c].name);
        table_text(t, r->channels[c].unit);
        table_real(t, r->channels[c].mean, 4);
        table_real(t, r->channels[c].std, 4);
        table_whole(t, r->missing[c]);
        table_real(t, 100 * (double)r->missing[c] / all, 2);
    }
    int code = table_print(t, stdout);
    table_destroy(t);
    return code;
}

static int print_result(const import_settings *s, const import_result *r)
{
    int code = print_channels(r);
    printf("\n%s: %lld latitudes, %lld longitudes\n", s->output, (long long)r->latitudes, (long long)r->longitudes);
    for (int p = 0; p < PARTS; p++)
        if (r->files[p])
            printf("  %s/%s: %lld files, %lld steps\n", s->output, import_parts[p], (long long)r->files[p],
                   (long long)r->steps[p]);
    printf("\nFor the configuration:\n"
           "  img_size: [%lld, %lld]\n  n_in_channels: %lld\n  n_out_channels: %lld\n",
           (long long)r->latitudes, (long long)r->longitudes, (long long)r->n_channels, (long long)r->n_channels);
    static const char *const keys[PARTS] = {"train_data_path", "valid_data_path", "inf_data_path"};
    for (int p = 0; p < PARTS; p++)
        if (r->files[p])
            printf("  %s: %s/%s\n", keys[p], s->output, import_parts[p]);
    printf("  global_means_path: %s/stats/global_means.npy\n  global_stds_path: %s/stats/global_stds.npy\n", s->output,
           s->output);
    return code;
}

static int run(void *settings)
{
    const import_settings *s = settings;
    import_options o = {.inputs = s->inputs.items,
                        .n_inputs = s->inputs.count,
                        .output = s->output,
                        .time_units = s->time_units,
                        .units = s->units,
                        .crop_rows = s->rows_given,
                        .crop_columns = s->columns_given,
                        .missing = (import_missing)s->missing};
    memcpy(o.rows, s->rows, sizeof o.rows);
    memcpy(o.columns, s->columns, sizeof o.columns);
    memcpy(o.years[PART_VALID], s->valid_years, sizeof s->valid_years);
    memcpy(o.years[PART_TEST], s->test_years, sizeof s->test_years);
    o.split_years[PART_VALID] = s->valid_given, o.split_years[PART_TEST] = s->test_given;
    o.last[PART_VALID] = s->valid_last, o.last[PART_TEST] = s->test_last;
    import_result r;
    int code = import_fields(&o, &r);
    if (!code) {
        code = print_result(s, &r);
        import_result_free(&r);
    }
    return code;
}

#define FIELD(name) offsetof(import_settings, name)
#define MANY        9e15

static const option file_rows[] = {
    {.name = "input",
     .value = "FILE[:VARIABLE[@LEVEL,…]][=NAME,…] …",
     .text =
         "netCDF files; without a variable all that are fields, without levels all. Files that give the same channel "
         "follow one another in time",
     .kind = OPTION_FILES,
     .field = FIELD(inputs)},
    {.name = "output",
     .value = "FOLDER",
     .text = "gets train/YEAR.h5, valid/YEAR.h5, test/YEAR.h5, stats/global_means.npy and global_stds.npy",
     .kind = OPTION_TEXT,
     .field = FIELD(output)},
    {0}};
static const option part_rows[] = {{.name = "rows",
                                    .value = "A-B",
                                    .text = "keep these latitudes only, 0 being the northernmost",
                                    .kind = OPTION_RANGE,
                                    .field = FIELD(rows),
                                    .set = FIELD(rows_given),
                                    .high = MANY},
                                   {.name = "columns",
                                    .value = "A-B",
                                    .text = "keep these longitudes only",
                                    .kind = OPTION_RANGE,
                                    .field = FIELD(columns),
                                    .set = FIELD(columns_given),
                                    .high = MANY},
                                   {.name = "valid-years",
                                    .value = "A-B",
                                    .text = "years of the validation part",
                                    .kind = OPTION_RANGE,
                                    .field = FIELD(valid_years),
                                    .set = FIELD(valid_given),
                                    .high = MANY},
                                   {.name = "test-years",
                                    .value = "A-B",
                                    .text = "years of the test part",
                                    .kind = OPTION_RANGE,
                                    .field = FIELD(test_years),
                                    .set = FIELD(test_given),
                                    .high = MANY},
                                   {.name = "valid-last",
                                    .value = "N",
                                    .text = "the last N steps (before the test part's) are for validation",
                                    .kind = OPTION_INTEGER,
                                    .field = FIELD(valid_last),
                                    .high = MANY},
                                   {.name = "test-last",
                                    .value = "N",
                                    .text = "the last N steps are for tests",
                                    .kind = OPTION_INTEGER,
                                    .field = FIELD(test_last),
                                    .high = MANY},
                                   {0}};
static const option value_rows[] = {
    {.name = "time-units",
     .value = "TEXT",
     .text = "what times mean in files that do not say it: \"hours since 1996-01-05 00:00\"",
     .kind = OPTION_TEXT,
     .field = FIELD(time_units)},
    {.name = "units",
     .value = "A,B,…",
     .text = "of the channels, in their order, where the files' own are missing or not wanted; it changes no value",
     .kind = OPTION_TEXT,
     .field = FIELD(units)},
    {.name = "missing",
     .value = "HOW",
     .text = "fill values and NaN: keep them as NaN (default; the key missing_values then says what training does), "
             "refuse, "
             "or replace them by the channel's mean",
     .kind = OPTION_CHOICE,
     .field = FIELD(missing),
     .choices = missing_choices},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {{"Files", file_rows}, {"Parts", part_rows}, {"Values", value_rows}, {0}};

const program_command vit_import_command = {
    .options = {.program = "ringx-vit",
                .name = "import",
                .text = "netCDF fields into yearly HDF5 files with statistics",
                .help =
                    "Packed values are unpacked, rows turned to run from north to south.  Statistics are those of the "
                    "training part.\n",
                .groups = groups,
                .run = run},
    .settings_bytes = sizeof(import_settings),
};
