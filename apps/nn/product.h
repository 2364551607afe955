/* SPDX-License-Identifier: MIT */
/* Matrix products of any dtypes, and linear layers as such. */
#ifndef NN_PRODUCT_H
#define NN_PRODUCT_H

#include "nn/operators.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c[i][j] = bias[j] + Σ_k a[i][k]·b[k][j], or += ; each of a and b may be stored transposed (a as [k][i], b as [j][k]).
 */
typedef struct nn_product {
    int64_t rows, columns, depth;
    nn_array a, b, c; /* strides must not be 0 */
    nn_array bias;    /* [columns]; data NULL: none */
    bool a_transposed, b_transposed, add;
} nn_product;

void nn_multiply(const nn_product *p); /* on CPUs */

typedef enum nn_linear_step {
    NN_LINEAR_FORWARD,
    NN_LINEAR_BACKWARD_INPUT,
    NN_LINEAR_BACKWARD_WEIGHT /* without dbias */
} nn_linear_step;
nn_product nn_linear_product(const nn_linear *l, nn_linear_step step);

#ifdef __cplusplus
}
#endif

#endif
