/* SPDX-License-Identifier: MIT */
/* exp in float, that compilers can vectorise: the operators spend much of their time in it. */
#ifndef NN_EXPONENTIAL_H
#define NN_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

/* Within 2e-7 relative for −87.3 … 88.3; below and above as there; NaN stays NaN.  exp x = 2^k·exp r, |r| ≤ ln 2/2, k
 * found by adding 1.5·2^23, which leaves it in the last bits; the polynomial is that of Cephes' expf. */
static inline float nn_exp(float x)
{
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    float shifted = x * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f, power;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    float r = x - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1) * power;
}

#endif
