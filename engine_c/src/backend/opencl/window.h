/* Windows over images, [N, C, rows, columns], as the kernels of window.cl have them. */
#ifndef WE_BACKEND_OPENCL_WINDOW_H
#define WE_BACKEND_OPENCL_WINDOW_H

#include "backend/cpu/conv.h"
#include "backend/opencl/opencl.h"

typedef struct we_opencl_window {
    int32_t count, groups, channels, filters;
    int32_t in_height, in_width, out_height, out_width;
    int32_t kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x, pad_y, pad_x;
} we_opencl_window;

/* Do its indices fit? */
bool we_opencl_window_of(const we_conv *conv, we_opencl_window *out);
we_narrow we_opencl_narrows(const we_command *convolution); /* each of its tensors, for itself */
double we_opencl_window_bytes(const we_conv *conv);         /* read and written */

#endif
