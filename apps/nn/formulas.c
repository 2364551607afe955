/* SPDX-License-Identifier: MIT */
/* RoPE's frequencies, clipping, LAMB's trust. */
#include "nn/formulas.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925;

static double scaled(double frequency, const nn_rope_scaling *s)
{
    double wavelength = two_pi / frequency;
    if (wavelength < s->original / s->high)
        return frequency;
    if (wavelength > s->original / s->low)
        return frequency / s->factor;
    double share = (s->original / wavelength - s->low) / (s->high - s->low);
    return (1 - share) * frequency / s->factor + share * frequency;
}

void nn_rope_frequencies(double theta, int64_t dim, const nn_rope_scaling *scaling, double *frequencies)
{
    for (int64_t i = 0; i < dim / 2; i++) {
        frequencies[i] = pow(theta, -2.0 * (double)i / (double)dim);
        if (scaling && scaling->factor > 0)
            frequencies[i] = scaled(frequencies[i], scaling);
    }
}

double nn_clip_factor(double norm, double clip)
{
    double ratio = clip > 0 ? (norm + 1e-6) / clip : 0;
    return ratio > 1 ? 1 / ratio : 1;
}

double nn_lamb_trust(double weight_squares, double update_squares, double low, double high)
{
    if (weight_squares <= 0 || update_squares <= 0)
        return 1;
    return fmin(fmax(sqrt(weight_squares / update_squares), low), high);
}
