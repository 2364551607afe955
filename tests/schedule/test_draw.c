/* SPDX-License-Identifier: MIT */
/* Drawings: well-formed, complete, escaped, written whole or not at all. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "schedule/schedules.h"

static char directory[] = "/tmp/ringx-draw-XXXXXX";

static char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static char *contents_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    char *text = malloc((size_t)bytes + 1);
    assert_int_equal(fread(text, 1, (size_t)bytes, file), (size_t)bytes);
    text[bytes] = 0;
    fclose(file);
    return text;
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

/* A forecast of a small world, as boxes. */
static ringx_panel panel_of(const char *preset, int ranks, bool backward, const char *title)
{
    size_t i, total = 0, at = 0;
    ringx_machine machine;
    ringx_forecast forecast;
    ringx_stamp *stamps[64];
    assert_int_equal(ringx_preset_find(preset, &i), RINGX_OK);
    assert_int_equal(ringx__machine_load(&machine, "h200x8"), RINGX_OK);
    world w = small_world(ringx_preset_at(i), ranks, 1000, backward);
    assert_int_equal(world_build(&w), RINGX_OK);
    for (int r = 0; r < ranks; r++) {
        stamps[r] = calloc(w.schedules[r].n_steps, sizeof *stamps[r]);
        total += w.schedules[r].n_steps;
    }
    assert_int_equal(ringx__forecast(w.list, ranks, &machine, &forecast, stamps), RINGX_OK);
    ringx_box *boxes = calloc(total, sizeof *boxes);
    for (int r = 0; r < ranks; r++) {
        ringx__boxes(&w.schedules[r], stamps[r], boxes + at);
        at += w.schedules[r].n_steps;
        free(stamps[r]);
    }
    world_free(&w);
    return (ringx_panel){.title = title, .boxes = boxes, .count = total, .ranks = ranks};
}

static void panel_free(const ringx_panel *p)
{
    free((void *)(uintptr_t)p->boxes);
}

/* Elements are closed in the order in which they were opened, text holds no loose '<' or '&'. */
static void assert_well_formed(const char *text)
{
    char open[16][32];
    int depth = 0;
    for (const char *at = strchr(text, '\n'); (at = strpbrk(at, "<&"));) {
        if (*at == '&') {
            assert_true(strncmp(at, "&amp;", 5) == 0 || strncmp(at, "&lt;", 4) == 0 || strncmp(at, "&gt;", 4) == 0 ||
                        strncmp(at, "&quot;", 6) == 0 || strncmp(at, "&#10;", 5) == 0);
            at++;
            continue;
        }
        const char *end = strchr(at, '>');
        assert_non_null(end);
        char name[32];
        assert_int_equal(sscanf(at + (at[1] == '/' ? 2 : 1), "%31[a-z]", name), 1);
        if (at[1] == '/') {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/') {
            assert_true(depth < 16);
            strcpy(open[depth++], name);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}

static void test_svg(void **state)
{
    (void)state;
    ringx_panel panels[2] = {panel_of("ringX4o", 4, false, "forward"), panel_of("ringX4o", 4, true, "backward")};
    assert_int_equal(ringx__draw(path_of("a.svg"), "a <title> & \"more\"\n", panels, 2), RINGX_OK);
    char *text = contents_of(path_of("a.svg"));
    assert_well_formed(text);
    assert_int_equal(count_of(text, "a &lt;title&gt; &amp; &quot;more&quot; "), 2);
    assert_int_equal(count_of(text, "a <title>"), 0);
    assert_int_equal(count_of(text, ">rank 3</text>"), 2);
    assert_int_equal(count_of(text, ">transfers</text>"), 8);
    assert_true(count_of(text, "rank 2, step 0: attend K,V of rank 2&#10;") == 1);
    assert_true(count_of(text, "<rect class=\"o") > 40);
    uint32_t ops = 0;
    for (int p = 0; p < 2; p++)
        for (size_t i = 0; i < panels[p].count; i++)
            ops |= 1u << panels[p].boxes[i].op;
    assert_int_equal(count_of(text, "class=\"legend\""), __builtin_popcount(ops));
    assert_true(strstr(text, "nan") == NULL && strstr(text, "inf\"") == NULL);
    free(text);
    panel_free(&panels[0]);
    panel_free(&panels[1]);
}

/* Sixteen ranks are shown, and the picture says that there are more. */
static void test_many_ranks(void **state)
{
    (void)state;
    ringx_panel panel = panel_of("ring", 20, false, "forward");
    assert_int_equal(ringx__draw(path_of("b.svg"), "ring", &panel, 1), RINGX_OK);
    char *text = contents_of(path_of("b.svg"));
    assert_well_formed(text);
    assert_int_equal(count_of(text, "ranks 0 … 15 of 20"), 1);
    assert_int_equal(count_of(text, ">rank 15</text>"), 1);
    assert_int_equal(count_of(text, ">rank 16</text>"), 0);
    assert_int_equal(count_of(text, "<title>rank 16,"), 0);
    free(text);
    panel_free(&panel);
}

/* Many boxes too thin to see are drawn once where they fall together. */
static void test_thin_boxes(void **state)
{
    (void)state;
    size_t count = 200000;
    ringx_box *boxes = calloc(count, sizeof *boxes);
    for (size_t i = 0; i < count; i++)
        boxes[i] = (ringx_box){.owner = -1, .slice = -1, .begin = (double)i, .end = (double)i + 1, .op = RINGX_ATTEND};
    ringx_panel panel = {.title = "thin", .boxes = boxes, .count = count, .ranks = 1};
    assert_int_equal(ringx__draw(path_of("c.svg"), "thin", &panel, 1), RINGX_OK);
    char *text = contents_of(path_of("c.svg"));
    size_t drawn = count_of(text, "<rect class=\"o");
    assert_true(drawn > 1000 && drawn < 4000);
    free(text);
    free(boxes);
}

static void test_empty_and_odd(void **state)
{
    (void)state;
    ringx_box odd[] = {{.rank = 7, .end = 1}, {.rank = -1, .end = 1}, {.begin = 2, .end = 1}, {.op = 99, .end = 1}};
    ringx_panel panels[2] = {{.title = "nothing", .ranks = 2}, {.title = "odd", .boxes = odd, .count = 4, .ranks = 2}};
    assert_int_equal(ringx__draw(path_of("d.svg"), "", panels, 2), RINGX_OK);
    char *text = contents_of(path_of("d.svg"));
    assert_well_formed(text);
    assert_int_equal(count_of(text, "<title>rank"), 0);
    assert_true(strstr(text, "nan") == NULL);
    free(text);
    assert_int_equal(ringx__draw(path_of("d.json"), "", panels, 1), RINGX_OK);
}

static void test_trace(void **state)
{
    (void)state;
    ringx_panel panels[2] = {panel_of("zigzag", 3, false, "forward"), panel_of("zigzag", 3, true, "back\"ward\\")};
    assert_int_equal(ringx__draw(path_of("e.json"), "quote \" slash \\ tab \t", panels, 2), RINGX_OK);
    json_error_t error;
    json_t *root = json_load_file(path_of("e.json"), 0, &error);
    if (!root)
        fail_msg("%s at line %d", error.text, error.line);
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "otherData"), "title")),
                        "quote \" slash \\ tab \t");
    size_t i, boxes = 0, names = 0;
    double forward_end = 0, backward_begin = 1e300;
    json_t *event;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        const char *phase = json_string_value(json_object_get(event, "ph"));
        names += strcmp(json_string_value(json_object_get(event, "name")), "thread_name") == 0;
        if (strcmp(phase, "X") != 0)
            continue;
        boxes++;
        double begin = json_number_value(json_object_get(event, "ts")),
               wide = json_number_value(json_object_get(event, "dur"));
        int64_t pid = json_integer_value(json_object_get(event, "pid"));
        assert_true(begin >= 0 && wide >= 0 && pid >= 0 && pid < 3);
        if (strcmp(json_string_value(json_object_get(event, "cat")), "forward") == 0)
            forward_end = begin + wide > forward_end ? begin + wide : forward_end;
        else
            backward_begin = begin < backward_begin ? begin : backward_begin;
    }
    assert_int_equal(boxes, panels[0].count + panels[1].count);
    assert_int_equal(names, 6);
    assert_true(backward_begin >= forward_end - 0.01); /* panels follow each other */
    json_decref(root);
    panel_free(&panels[0]);
    panel_free(&panels[1]);
}

static void assert_no_parts(void)
{
    DIR *listing = opendir(directory);
    for (struct dirent *entry; (entry = readdir(listing));)
        assert_null(strstr(entry->d_name, ".part"));
    closedir(listing);
}

static void test_errors(void **state)
{
    (void)state;
    ringx_panel panel = {.title = "nothing", .ranks = 1};
    assert_int_equal(ringx__draw(path_of("a.png"), "", &panel, 1), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "a.png; it must end with .svg or .json"));
    assert_int_equal(ringx__draw(NULL, "", &panel, 1), RINGX_INVALID);
    assert_int_equal(ringx__draw(path_of("no/such/a.svg"), "", &panel, 1), RINGX_IO);
    assert_non_null(strstr(ringx_last_error(), "no/such/a.svg"));
    mkdir(path_of("f.svg"), 0777); /* the rename fails: nothing is left behind */
    assert_int_equal(ringx__draw(path_of("f.svg"), "", &panel, 1), RINGX_IO);
    rmdir(path_of("f.svg"));
    assert_no_parts();
}

/* Writing fails half way, as on a full disk: the old picture stays, nothing else is left. */
static void test_write_error(void **state)
{
    (void)state;
    ringx_panel panel = panel_of("ring", 4, false, "forward");
    assert_int_equal(ringx__draw(path_of("g.svg"), "old", &panel, 1), RINGX_OK);
    char *before = contents_of(path_of("g.svg"));
    struct rlimit old, small = {.rlim_cur = 2000};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    ringx_status status = ringx__draw(path_of("g.svg"), "new", &panel, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, RINGX_IO);
    assert_non_null(strstr(ringx_last_error(), "g.svg cannot be written: File too large"));
    char *after = contents_of(path_of("g.svg"));
    assert_string_equal(before, after);
    assert_no_parts();
    free(before);
    free(after);
    panel_free(&panel);
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    DIR *listing = opendir(directory);
    for (struct dirent *entry; (entry = readdir(listing));)
        if (entry->d_name[0] != '.')
            unlink(path_of(entry->d_name));
    closedir(listing);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_svg),           cmocka_unit_test(test_many_ranks), cmocka_unit_test(test_thin_boxes),
        cmocka_unit_test(test_empty_and_odd), cmocka_unit_test(test_trace),      cmocka_unit_test(test_errors),
        cmocka_unit_test(test_write_error),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
