/* SPDX-License-Identifier: MIT */
/* Prediction files are read back with libnetcdf: dimensions, coordinates, units, times, physical values, gaps. */
#include "apps/vit/vit_fields.h"

#include <hdf5.h>
#include <netcdf.h>

#include "vit/prediction_file.h"

#define LEADS 3
#define PLANE (4 * 6)

static void ok(int status)
{
    if (status != NC_NOERR)
        fail_msg("netCDF: %s", nc_strerror(status));
}

static void has_text(int file, const char *variable, const char *name, const char *expected)
{
    char text[100] = "";
    int id = NC_GLOBAL;
    size_t length = 0;
    if (variable)
        ok(nc_inq_varid(file, variable, &id));
    ok(nc_inq_attlen(file, id, name, &length));
    assert_true(length < sizeof text);
    ok(nc_get_att_text(file, id, name, text));
    assert_string_equal(text, expected);
}

static void has_size(int file, const char *dimension, size_t expected)
{
    int id;
    size_t length;
    ok(nc_inq_dimid(file, dimension, &id));
    ok(nc_inq_dimlen(file, id, &length));
    assert_int_equal(length, expected);
}

static void read_all(int file, const char *name, void *to, bool real)
{
    int id;
    ok(nc_inq_varid(file, name, &id));
    ok(real ? nc_get_var_double(file, id, to) : nc_get_var_longlong(file, id, to));
}

static void forget_times(const char *path)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0 && H5Ldelete(file, "time", H5P_DEFAULT) >= 0);
    H5Fclose(file);
}

static void put_gap(const char *path, const hsize_t place[4])
{
    const float gap = NAN;
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), set = H5Dopen2(file, "fields", H5P_DEFAULT);
    hid_t space = H5Dget_space(set), one = H5Screate(H5S_SCALAR);
    H5Sselect_elements(space, H5S_SELECT_SET, 1, place);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, one, space, H5P_DEFAULT, &gap) >= 0);
    H5Sclose(one), H5Sclose(space), H5Dclose(set), H5Fclose(file);
}

static vit_dataset *open_data(const char *sub, int64_t dt)
{
    static char means[160], stds[160];
    vit_dataset *d;
    snprintf(means, sizeof means, "%s", in_folder("means.npy"));
    snprintf(stds, sizeof stds, "%s", in_folder("stds.npy"));
    must(statistics_write(means, CHANNELS, (double[]){10, 20, 30}));
    must(statistics_write(stds, CHANNELS, (double[]){2, 4, 0.5}));
    vit_data_options o = {.folder = in_folder(sub),
                          .channels = CHANNELS,
                          .latitudes = 4,
                          .longitudes = 6,
                          .dt = dt,
                          .means = means,
                          .stds = stds};
    must(vit_dataset_open(&d, &o));
    return d;
}

/* Two leads with truth, the third beyond the file's last step. */
static void a_file_by_the_conventions(void **state)
{
    float guess[CHANNELS * PLANE], truth[CHANNELS * PLANE];
    double got[LEADS * PLANE];
    long long numbers[LEADS];
    prediction_file *f;
    int file, variables;
    (void)state;
    put_year("data", 1996, 8, 60, 5);
    put_gap(in_folder("data/1996.h5"), (hsize_t[]){5, 1, 2, 3}); /* v of the first lead */
    vit_dataset *d = open_data("data", 2);
    prediction_about about = {.start = {0, 3}, .leads = LEADS, .truth = true, .source = "storm, epoch 3"};
    must(prediction_create(&f, in_folder("x.nc"), d, &about));
    assert_int_equal(access(in_folder("x.nc"), F_OK), -1);
    for (int64_t k = 0; k < LEADS; k++) {
        for (int i = 0; i < CHANNELS * PLANE; i++)
            guess[i] = (float)(i + 1000 * k), truth[i] = -guess[i];
        must(prediction_write(f, k, guess, k < 2 ? truth : NULL));
    }
    must(prediction_commit(f));

    ok(nc_open(in_folder("x.nc"), NC_NOWRITE, &file));
    has_size(file, "prediction_timedelta", LEADS);
    has_size(file, "latitude", 4);
    has_size(file, "longitude", 6);
    ok(nc_inq_nvars(file, &variables));
    assert_int_equal(variables, 2 * CHANNELS + 5);
    has_text(file, NULL, "Conventions", "CF-1.8");
    has_text(file, NULL, "source", "storm, epoch 3");
    has_text(file, "t", "units", "K");
    has_text(file, "u_truth", "units", "m/s");
    has_text(file, "v", "coordinates", "time valid_time");
    has_text(file, "latitude", "units", "degrees_north");
    has_text(file, "longitude", "units", "degrees_east");
    has_text(file, "prediction_timedelta", "units", "seconds");
    has_text(file, "time", "units", "seconds since 1970-01-01 00:00:00");
    read_all(file, "latitude", got, true);
    assert_true(got[0] == 60 && got[3] == 45);
    read_all(file, "time", numbers, false);
    assert_int_equal(numbers[0], date_seconds(1996, 1, 5) + 3 * 21600);
    read_all(file, "prediction_timedelta", numbers, false);
    for (int k = 0; k < LEADS; k++)
        assert_int_equal(numbers[k], (k + 1) * 2 * 21600);
    read_all(file, "valid_time", numbers, false);
    assert_int_equal(numbers[2], date_seconds(1996, 1, 5) + 9 * 21600);
    read_all(file, "t", got, true);
    for (int k = 0; k < LEADS; k++)
        for (int i = 0; i < PLANE; i++)
            assert_true(got[k * PLANE + i] == (double)(float)((2 * PLANE + i + 1000 * k) * 0.5 + 30));
    read_all(file, "v_truth", got, true);
    assert_true(got[PLANE + 5] == -(double)(PLANE + 5 + 1000) * 4 + 20);
    assert_true(isnan(got[2 * PLANE]));
    for (int i = 0; i < PLANE; i++)
        assert_true(isnan(got[i]) == (i == 2 * 6 + 3));
    ok(nc_close(file));
    vit_dataset_close(d);
}

/* Without times in the data: leads are counted in steps. */
static void data_without_times(void **state)
{
    float values[CHANNELS * PLANE] = {0};
    long long numbers[LEADS];
    prediction_file *f;
    int file, id;
    (void)state;
    put_year("plain", 1996, 8, 60, 5);
    vit_dataset *d = open_data("plain", 1);
    vit_dataset_close(d);
    forget_times(in_folder("plain/1996.h5"));
    d = open_data("plain", 1);
    prediction_about about = {.start = {0, 3}, .leads = 2};
    must(prediction_create(&f, in_folder("y.nc"), d, &about));
    must(prediction_write(f, 0, values, values)); /* truth was not announced: left out */
    must(prediction_commit(f));
    ok(nc_open(in_folder("y.nc"), NC_NOWRITE, &file));
    read_all(file, "prediction_timedelta", numbers, false);
    assert_true(numbers[0] == 1 && numbers[1] == 2);
    assert_int_equal(nc_inq_varid(file, "time", &id), NC_ENOTVAR);
    assert_int_equal(nc_inq_varid(file, "t_truth", &id), NC_ENOTVAR);
    ok(nc_close(file));
    vit_dataset_close(d);
}

static void files_that_cannot_be(void **state)
{
    prediction_file *f;
    (void)state;
    put_year("more", 1996, 8, 60, 5);
    vit_dataset *d = open_data("more", 1);
    prediction_about about = {.start = {0, 3}, .leads = 2};
    refuses(prediction_create(&f, "/nowhere/x.nc", d, &about), CODE_CANNOT_WRITE,
            "/nowhere/x.nc: its head cannot be written");
    must(prediction_create(&f, in_folder("gone.nc"), d, &about));
    prediction_abandon(f);
    assert_int_equal(access(in_folder("gone.nc"), F_OK), -1);
    vit_dataset_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_by_the_conventions),
        cmocka_unit_test(data_without_times),
        cmocka_unit_test(files_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
