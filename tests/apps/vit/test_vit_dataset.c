/* SPDX-License-Identifier: MIT */
/* The data set of ringx-vit: which moment a sample is, bands, statistics, order, read-ahead, dates, refused files. */
#include "apps/vit/vit_fields.h"

#include <hdf5.h>
#include <math.h>

#define OPTIONS(sub)                                                                                                   \
    {                                                                                                                  \
        .folder = in_folder(sub), .channels = CHANNELS, .latitudes = 4, .longitudes = 6, .dt = 1                       \
    }

/* ---- samples ---- */

/* The rule for n = 5 and 7 steps and dt = 1, 2, written out. */
static void samples_and_moments(void **state)
{
    static const int64_t one[] = {1, 1, 2, 3, 1, 1, 1, 2, 3, 4, 5, 1};
    static const int64_t two[] = {2, 3, 2, 3, 4, 2, 3};
    vit_dataset *d;
    (void)state;
    put_year("rule", 1990, 5, 90, 36);
    put_year("rule", 1991, 7, 90, 36);
    vit_data_options o = OPTIONS("rule");
    must(vit_dataset_open(&d, &o));
    assert_int_equal(vit_dataset_samples(d), 12);
    assert_int_equal(vit_dataset_years(d), 2);
    for (int64_t i = 0; i < 12; i++) {
        vit_moment m = vit_dataset_sample(d, i);
        assert_int_equal(m.year, i >= 5);
        assert_int_equal(m.step, one[i]);
        assert_true(m.step >= 1 && m.step + 1 < vit_dataset_steps(d, m.year));
    }
    vit_dataset_close(d);

    put_year("two", 1991, 7, 90, 36);
    vit_data_options p = OPTIONS("two");
    p.dt = 2, p.limit = 5;
    must(vit_dataset_open(&d, &p));
    assert_int_equal(vit_dataset_samples(d), 5);
    for (int64_t i = 0; i < 7; i++)
        assert_int_equal(vit_dataset_sample(d, i).step, two[i]);
    vit_dataset_close(d);
}

static void bands_and_statistics(void **state)
{
    const double mean[CHANNELS] = {10, 20, 30}, std[CHANNELS] = {2, 4, 0.5};
    vit_dataset *d;
    float *got = malloc(CHANNELS * 2 * 6 * sizeof *got);
    (void)state;
    put_year("bands", 1993, 4, 60, 5);
    must(statistics_write(in_folder("means.npy"), CHANNELS, mean));
    must(statistics_write(in_folder("stds.npy"), CHANNELS, std));
    vit_data_options o = OPTIONS("bands");
    o.means = in_folder("means.npy"), o.stds = in_folder("stds.npy");
    must(vit_dataset_open(&d, &o));
    memset(got, 0xff, CHANNELS * 2 * 6 * sizeof *got);
    must(vit_dataset_read(d, (vit_moment){0, 2}, (vit_band){1, 2}, got));
    for (int c = 0; c < CHANNELS; c++)
        for (int j = 0; j < 2; j++)
            for (int i = 0; i < 6; i++)
                assert_true(got[(c * 2 + j) * 6 + i] ==
                            (value_at(1993, 2, c, j + 1, i) - (float)mean[c]) / (float)std[c]);
    assert_true(vit_dataset_channels(d)[2].mean == 30 && vit_dataset_channels(d)[2].std == 0.5);
    assert_string_equal(vit_dataset_channels(d)[2].name, "t");
    assert_string_equal(vit_dataset_channels(d)[2].unit, "K");
    vit_dataset_close(d);
    free(got);
}

/* Weights sum to the rows; a globe's are the original's formula, a region's those of its own latitudes. */
static void latitude_weights(void **state)
{
    vit_dataset *d;
    double sum = 0, expected[ROWS], total = 0;
    (void)state;
    put_year("globe", 1990, 4, 90, 36);
    put_year("region", 1990, 4, 60, 5);
    vit_data_options o = OPTIONS("globe");
    o.latitudes = ROWS;
    must(vit_dataset_open(&d, &o));
    for (int j = 0; j < ROWS; j++)
        total += expected[j] = cos((90 - 180.0 * j / (ROWS - 1)) * 3.1416 / 180);
    for (int j = 0; j < ROWS; j++) {
        near(vit_dataset_weights(d)[j], fmax(0, expected[j]) * ROWS / total, 1e-5);
        sum += vit_dataset_weights(d)[j];
    }
    near(sum, ROWS, 1e-9);
    vit_dataset_close(d);
    o.folder = in_folder("region"), o.latitudes = 4;
    must(vit_dataset_open(&d, &o));
    near(vit_dataset_weights(d)[3] / vit_dataset_weights(d)[0], sqrt(2), 1e-5);
    assert_true(vit_dataset_latitudes(d)[3] == 45 && vit_dataset_longitudes(d)[5] == 225);
    vit_dataset_close(d);
}

static void tokens_and_rows(void **state)
{
    vit_config c = {.img_size = {8, 12}, .patch_size = 2}; /* 4 x 6 tokens */
    static const int64_t rows[][4] = {{0, 24, 0, 8}, {0, 6, 0, 2},  {5, 2, 0, 4},
                                      {6, 7, 2, 4},  {23, 1, 6, 2}, {9, 0, 2, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vit_band b = vit_band_of_tokens(&c, rows[i][0], rows[i][1]);
        assert_int_equal(b.first, rows[i][2]);
        assert_int_equal(b.count, rows[i][3]);
    }
}

static void dates(void **state)
{
    char text[VIT_NAME];
    vit_moment m;
    vit_dataset *d;
    date_units u;
    int64_t s;
    (void)state;
    assert_int_equal(date_seconds(1970, 1, 1), 0);
    assert_int_equal(date_seconds(2000, 3, 1), 951868800);
    assert_int_equal(date_seconds(1900, 1, 1), -2208988800);
    for (int64_t day = -700000; day < 800000; day += 997) {
        date_text(day * 86400 + 3661, text, sizeof text);
        assert_true(date_parse(text, &s));
        assert_int_equal(s, day * 86400 + 3661);
    }
    assert_true(date_parse("1996", &s) && s == date_seconds(1996, 1, 1));
    assert_true(date_parse("1996-02-29T06:30Z", &s) && s == date_seconds(1996, 2, 29) + 23400);
    assert_false(date_parse("1996-13-01", &s) || date_parse("1996-01-01 99:00", &s) || date_parse("soon", &s));
    assert_true(date_units_parse("hours since 1900-01-01 00:00:0.0", NULL, &u));
    assert_int_equal(date_of_value(&u, 613608), date_seconds(1970, 1, 1));
    assert_true(date_units_parse("months since 1982-01-15", "standard", &u));
    assert_int_equal(date_of_value(&u, 14), date_seconds(1983, 3, 15));
    assert_false(date_units_parse("days since 1990-01-01", "360_day", &u));
    assert_false(date_units_parse("parsecs since 1990-01-01", NULL, &u));

    put_year("dates", 1996, 5, 90, 36);
    vit_data_options o = OPTIONS("dates");
    must(vit_dataset_open(&d, &o));
    assert_string_equal(vit_dataset_date(d, (vit_moment){0, 3}, text), "1996-01-05 18:00");
    must(vit_dataset_find(d, "1996-01-05 18:00", &m));
    assert_int_equal(m.step, 3);
    must(vit_dataset_find(d, "1996, step 4", &m));
    assert_int_equal(m.step, 4);
    must(vit_dataset_find(d, "1996-01-06", &m));
    assert_int_equal(m.step, 4);
    must(vit_dataset_find(d, "1996", &m));
    assert_int_equal(m.step, 0);
    refuses(vit_dataset_find(d, "1996-01-05 19:00", &m), CODE_USAGE, "from 1996-01-05 00:00 to 1996-01-06 00:00");
    refuses(vit_dataset_find(d, "1996, step 5", &m), CODE_USAGE, "1996, step 5");
    int64_t c = -1;
    must(vit_dataset_channel(d, "v", &c));
    assert_int_equal(c, 1);
    must(vit_dataset_channel(d, "2", &c));
    assert_int_equal(c, 2);
    refuses(vit_dataset_channel(d, "3", &c), CODE_USAGE, "below 3 or one of u, v, t");
    vit_dataset_close(d);
}

/* ---- order ---- */

/* torch.randperm(48, generator of seed 0 and 1), PyTorch 2.15: the first twelve and Σ i·item. */
static void order_of_samples(void **state)
{
    static const int64_t seed0[] = {44, 22, 29, 18, 23, 20, 19, 41, 25, 39, 4, 2};
    static const int64_t seed1[] = {37, 12, 14, 26, 7, 11, 41, 40, 47, 18, 4, 44};
    int64_t got[64];
    (void)state;
    vit_sampler s = {.samples = 48, .ranks = 1, .rank = 0, .batch = 1, .shuffled = true};
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        int64_t sum = 0;
        must(vit_sampler_order(&s, epoch, got));
        assert_memory_equal(got, epoch ? seed1 : seed0, sizeof seed0);
        for (int64_t i = 0; i < 48; i++)
            sum += i * got[i];
        assert_int_equal(sum, epoch ? 26789 : 26461);
    }
    /* 10 samples over 4 ranks: 3 each, wrapped around; batches of 2: one whole one */
    for (int64_t rank = 0; rank < 4; rank++) {
        vit_sampler part = {.samples = 10, .ranks = 4, .rank = rank, .batch = 2};
        assert_int_equal(vit_sampler_batches(&part), 1);
        part.batch = 1;
        assert_int_equal(vit_sampler_batches(&part), 3);
        must(vit_sampler_order(&part, 5, got));
        for (int64_t i = 0; i < 3; i++)
            assert_int_equal(got[i], (rank + 4 * i) % 10);
    }
}

/* Every batch of two and a half epochs, from a place in the middle too, with 0 to 3 threads. */
static void read_ahead(void **state)
{
    enum { SAMPLES = 12, BATCH = 2, IMAGE = CHANNELS * 2 * 6 };
    int64_t order[SAMPLES];
    vit_dataset *d;
    (void)state;
    put_year("ahead", 1990, 5, 90, 36);
    put_year("ahead", 1991, 7, 90, 36);
    vit_data_options o = OPTIONS("ahead");
    must(vit_dataset_open(&d, &o));
    vit_sampler s = {.samples = vit_dataset_samples(d), .ranks = 1, .batch = BATCH, .shuffled = true};
    for (int64_t threads = 0; threads < 4; threads++) {
        vit_loader *l;
        must(vit_loader_open(&l, d, &s, (vit_band){2, 2}, threads));
        for (int64_t n = 0; n < 16; n++) {
            int64_t place = n < 10 ? n : n - 10 + 8; /* goes back to batch 2 of epoch 1 */
            vit_batch b;
            if (n == 10)
                must(vit_loader_seek(l, 1, 2));
            must(vit_loader_next(l, &b));
            assert_int_equal(b.epoch, place / 6);
            assert_int_equal(b.number, place % 6);
            must(vit_sampler_order(&s, b.epoch, order));
            for (int64_t i = 0; i < BATCH; i++) {
                vit_moment m = vit_dataset_sample(d, b.samples[i]);
                assert_int_equal(b.samples[i], order[b.number * BATCH + i]);
                assert_true(b.input[i * IMAGE + 13] == value_at(1990 + m.year, m.step, 1, 2, 1));
                assert_true(b.target[i * IMAGE + IMAGE - 1] == value_at(1990 + m.year, m.step + 1, 2, 3, 5));
            }
        }
        vit_loader_close(l);
    }
    s.batch = 13;
    vit_loader *l;
    refuses(vit_loader_open(&l, d, &s, (vit_band){2, 2}, 1), CODE_CONFIGURATION, "give no whole batch of 13");
    vit_dataset_close(d);
}

/* ---- missing values ---- */

static void missing_values(void **state)
{
    static float image[CHANNELS * 4 * 6];
    vit_dataset *d;
    vit_scan scan;
    (void)state;
    put_year("missing", 1990, 5, 90, 36);
    hid_t file = H5Fopen(in_folder("missing/1990.h5"), H5F_ACC_RDWR, H5P_DEFAULT),
          set = H5Dopen2(file, "fields", H5P_DEFAULT);
    hid_t space = H5Dget_space(set), one = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(set, "_FillValue", H5T_IEEE_F32LE, one, H5P_DEFAULT, H5P_DEFAULT);
    const float bad[] = {NAN, -9999, INFINITY}, fill = -9999;
    const hsize_t places[3][4] = {{3, 1, 2, 4}, {3, 1, 3, 0}, {3, 2, 5, 7}}; /* the last is outside of the crop */
    assert_true(H5Awrite(attribute, H5T_NATIVE_FLOAT, &fill) >= 0);
    for (int i = 0; i < 3; i++) {
        H5Sselect_elements(space, H5S_SELECT_SET, 1, places[i]);
        assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, one, space, H5P_DEFAULT, &bad[i]) >= 0);
    }
    H5Aclose(attribute), H5Sclose(one), H5Sclose(space), H5Dclose(set), H5Fclose(file);

    vit_data_options o = OPTIONS("missing");
    must(vit_dataset_open(&d, &o));
    must(vit_dataset_read(d, (vit_moment){0, 2}, (vit_band){0, 4}, image));
    refuses(vit_dataset_read(d, (vit_moment){0, 3}, (vit_band){0, 4}, image), CODE_BAD_INPUT,
            "1990.h5: fields[3], channel 1 (v): 2 of 24 values are missing");
    assert_non_null(strstr(failure(), "the first at row 2, column 4"));
    must(vit_dataset_scan(d, 0, 2, 1 << 20, &scan)); /* steps 0, 2, 4 */
    assert_int_equal(scan.steps, 3);
    refuses(vit_dataset_scan(d, 1, 2, 1 << 20, &scan), CODE_BAD_INPUT, "fields[3]");
    vit_loader *l;
    vit_batch b;
    vit_sampler s = {.samples = 5, .ranks = 1, .batch = 5};
    for (int threads = 0; threads < 2; threads++) {
        must(vit_loader_open(&l, d, &s, (vit_band){0, 4}, threads));
        refuses(vit_loader_next(l, &b), CODE_BAD_INPUT, "2 of 24 values");
        vit_loader_close(l);
    }
    vit_dataset_close(d);

    o.missing = VIT_MISSING_MEAN;
    must(vit_dataset_open(&d, &o));
    must(vit_dataset_read(d, (vit_moment){0, 3}, (vit_band){2, 2}, image));
    assert_true(image[12 + 4] == 0 && image[12 + 6] == 0 && image[12 + 5] == value_at(1990, 3, 1, 2, 5));
    uint8_t gaps[CHANNELS * 2 * 6];
    int found = 0;
    must(vit_dataset_gaps(d, (vit_moment){0, 3}, (vit_band){2, 2}, gaps));
    for (size_t i = 0; i < sizeof gaps; i++)
        found += gaps[i];
    assert_true(found == 2 && gaps[12 + 4] && gaps[12 + 6]);
    must(vit_dataset_scan(d, 0, 1, 1 << 20, &scan));
    assert_true(scan.steps == 5 && scan.missing == 2);
    must(vit_dataset_scan(d, 0, 1, 2 * sizeof image, &scan)); /* room for two: steps 0 and 3 */
    assert_true(scan.steps == 2 && scan.missing == 2);
    vit_dataset_close(d);
}

/* ---- what is refused ---- */

/* FOLDER/1990.h5 with `fields` of a shape and type, made with the properties. */
static void put_raw(const char *sub, int rank, const hsize_t *shape, hid_t type, hid_t properties)
{
    char name[64];
    mkdir(in_folder(sub), 0777);
    snprintf(name, sizeof name, "%s/1990.h5", sub);
    hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t set = H5Dcreate2(file, "fields", type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(file >= 0 && set >= 0);
    H5Dclose(set), H5Sclose(space), H5Fclose(file);
}

static void check_refused(const char *sub, int code, const char *part)
{
    vit_dataset *d;
    vit_data_options o = OPTIONS(sub);
    refuses(vit_dataset_open(&d, &o), code, part);
    assert_null(d);
}

static void shapes_that_are_refused(void **state)
{
    const hsize_t good[] = {5, CHANNELS, ROWS, COLUMNS}, empty[] = {0, CHANNELS, ROWS, COLUMNS};
    vit_dataset *d;
    (void)state;
    put_raw("rank", 3, good, H5T_IEEE_F32LE, H5P_DEFAULT);
    check_refused("rank", CODE_BAD_INPUT, "has 3 dimensions; it must have 4");
    put_raw("empty", 4, empty, H5T_IEEE_F32LE, H5P_DEFAULT);
    check_refused("empty", CODE_BAD_INPUT, "is empty");
    put_raw("type", 4, good, H5T_STD_I32LE, H5P_DEFAULT);
    check_refused("type", CODE_BAD_INPUT, "floating-point");
    check_refused("nowhere", CODE_MISSING, "cannot be read");
    mkdir(in_folder("none"), 0777);
    check_refused("none", CODE_MISSING, "holds no yearly file");
    mkdir(in_folder("none/1990.h5"), 0777);
    check_refused("none", CODE_BAD_INPUT, "must be a regular file");
    put_raw("good", 4, good, H5T_IEEE_F64BE, H5P_DEFAULT); /* doubles, big-endian: converted */
    vit_data_options o = OPTIONS("good");
    must(vit_dataset_open(&d, &o));
    vit_dataset_close(d);
    o.channels = o.latitudes = o.longitudes = 0;
    must(vit_dataset_open(&d, &o));
    int64_t channels, rows, columns;
    vit_dataset_shape(d, &channels, &rows, &columns);
    assert_true(channels == CHANNELS && rows == ROWS && columns == COLUMNS);
    vit_dataset_close(d);
    o.latitudes = 4, o.longitudes = 6;
    o.channels = 2;
    refuses(vit_dataset_open(&d, &o), CODE_BAD_INPUT, "fields has 3 channels; the configuration's n_in_channels is 2");
    o.channels = CHANNELS, o.longitudes = 9;
    refuses(vit_dataset_open(&d, &o), CODE_BAD_INPUT, "6 latitudes and 8 longitudes; img_size needs at least 4 and 9");
    o.longitudes = 6, o.dt = 2;
    refuses(vit_dataset_open(&d, &o), CODE_BAD_INPUT, "5 time steps; with dt 2 it needs at least 6");
    FILE *f = fopen(in_folder("good/1991.h5"), "w");
    fputs("no HDF5", f);
    fclose(f);
    o.dt = 1;
    refuses(vit_dataset_open(&d, &o), CODE_BAD_INPUT, "1991.h5: is not an HDF5 file");
    put_year("upside", 1990, 5, -90, -36);
    check_refused("upside", CODE_BAD_INPUT, "latitudes must fall from north to south");
}

/* Made before the class of external links is switched off for the process. */
static int make_link(void **state)
{
    int code = make_folder(state);
    mkdir(in_folder("link"), 0777);
    hid_t file = H5Fcreate(in_folder("link/1990.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external(in_folder("whole/1990.h5"), "fields", file, "fields", H5P_DEFAULT, H5P_DEFAULT);
    return H5Fclose(file) < 0 ? -1 : code;
}

static void doors_that_are_closed(void **state)
{
    const hsize_t good[] = {5, CHANNELS, ROWS, COLUMNS};
    (void)state;
    put_year("whole", 1990, 5, 90, 36);
    hid_t external = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(external, "/etc/passwd", 0, 5 * CHANNELS * ROWS * COLUMNS * 4);
    put_raw("raw", 4, good, H5T_IEEE_F32LE, external);
    H5Pclose(external);
    check_refused("raw", CODE_BAD_INPUT, "has its values in external files");

    hid_t virtual = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(4, good, NULL);
    H5Pset_virtual(virtual, space, in_folder("whole/1990.h5"), "fields", space);
    put_raw("virtual", 4, good, H5T_IEEE_F32LE, virtual);
    H5Pclose(virtual), H5Sclose(space);
    check_refused("virtual", CODE_BAD_INPUT, "is a virtual dataset");

    check_refused("link", CODE_BAD_INPUT, "'fields' is a link to elsewhere");

    mkdir(in_folder("soft"), 0777);
    hid_t file = H5Fcreate(in_folder("soft/1990.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/other", file, "fields", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    check_refused("soft", CODE_BAD_INPUT, "'fields' is a link to elsewhere");

    hid_t packed = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(packed, 4, good);
    H5Pset_filter(packed, 32001, H5Z_FLAG_OPTIONAL, 0, NULL);
    put_raw("filter", 4, good, H5T_IEEE_F32LE, packed);
    H5Pclose(packed);
    check_refused("filter", CODE_BAD_INPUT, "packed with a filter");

    hid_t zipped = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(zipped, 4, (hsize_t[]){1, 1, ROWS, COLUMNS});
    H5Pset_shuffle(zipped), H5Pset_deflate(zipped, 4);
    put_raw("zipped", 4, good, H5T_IEEE_F32LE, zipped);
    H5Pclose(zipped);
    vit_dataset *d;
    vit_data_options o = OPTIONS("zipped");
    must(vit_dataset_open(&d, &o));
    vit_dataset_close(d);
}

/* ---- .npy ---- */

static void put_npy(const char *start, size_t bytes, const char *dict, const void *data, size_t data_bytes)
{
    FILE *f = fopen(in_folder("x.npy"), "w");
    size_t length = strlen(dict);
    fwrite(start, 1, bytes, f);
    fputc((int)(length & 255), f), fputc((int)(length >> 8), f);
    if (bytes > 6 && start[6] > 1)
        fputc(0, f), fputc(0, f);
    fwrite(dict, 1, length, f);
    fwrite(data, 1, data_bytes, f);
    fclose(f);
}

#define V1 "\x93NUMPY\1", 8
#define V2 "\x93NUMPY\2", 8
#define F4 "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 1, 1), }\n"

static void npy_files(void **state)
{
    const float three[] = {1.5f, -2, 3e10f};
    const double big = 2.5;
    double got[3];
    char swapped[8];
    struct stat status;
    (void)state;
    for (int i = 0; i < 8; i++)
        swapped[i] = ((const char *)&big)[7 - i];
    put_npy(V1, F4, three, sizeof three);
    must(statistics_read(in_folder("x.npy"), 3, got));
    assert_true(got[0] == 1.5 && got[1] == -2 && got[2] == (double)3e10f);
    put_npy(V2, F4, three, sizeof three);
    must(statistics_read(in_folder("x.npy"), 3, got));
    put_npy(V1, "{'shape': (1, 1, 1, 1), 'fortran_order': False, 'descr': '>f8'}", swapped, 8);
    must(statistics_read(in_folder("x.npy"), 3, got));
    assert_true(got[0] == 2.5 && got[2] == 2.5);
    char path[160];
    snprintf(path, sizeof path, "%s", in_folder("x.npy"));
    put_npy(V1, F4, three, 8);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "ends in its data");
    refuses(statistics_read(path, 2, got), CODE_BAD_INPUT, "has shape [1, 3, 1, 1] for 2 channels");
    put_npy(V1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", three, sizeof three);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "has shape [3] for 3 channels");
    put_npy(V1, "{'descr': '|O', 'fortran_order': False, 'shape': (1, 3, 1, 1), }", three, sizeof three);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "numbers of type '|O'");
    put_npy(V1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3, 1, 1), }", three, sizeof three);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "Fortran's order");
    put_npy("\x93NUMPX\1", 8, F4, three, sizeof three);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "does not begin as one");
    put_npy(V1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 1, ", three, 0);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "shape");
    put_npy(V1, F4, (float[]){1, NAN, 1}, 12);
    refuses(statistics_read(path, 3, got), CODE_BAD_INPUT, "channel 1 is nan");
    refuses(statistics_read("/nowhere.npy", 3, got), CODE_MISSING, "cannot be read");
    must(statistics_write(path, 3, (double[]){1, 2, 3}));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 128 + 12);
    must(statistics_read(path, 3, got));
    assert_true(got[1] == 2);

    put_year("npy", 1990, 5, 90, 36);
    vit_dataset *d;
    vit_data_options o = OPTIONS("npy");
    must(statistics_write(path, 3, (double[]){1, 0, 3}));
    o.means = o.stds = path;
    refuses(vit_dataset_open(&d, &o), CODE_BAD_INPUT,
            "the standard deviation of channel 1 (v) is 0; it must be positive");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_and_moments),
        cmocka_unit_test(bands_and_statistics),
        cmocka_unit_test(latitude_weights),
        cmocka_unit_test(tokens_and_rows),
        cmocka_unit_test(dates),
        cmocka_unit_test(order_of_samples),
        cmocka_unit_test(read_ahead),
        cmocka_unit_test(missing_values),
        cmocka_unit_test(shapes_that_are_refused),
        cmocka_unit_test(doors_that_are_closed),
        cmocka_unit_test(npy_files),
    };
    return cmocka_run_group_tests(tests, make_link, remove_folder);
}
