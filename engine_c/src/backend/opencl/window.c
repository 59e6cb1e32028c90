#include "backend/opencl/window.h"

bool we_opencl_window_of(const we_conv *c, we_opencl_window *out) {
    const we_window *w = &c->w;
    int64_t count = c->items * c->group * c->filters * c->positions;
    int64_t in = c->items * c->group * c->channels * w->in[0] * w->in[1];
    *out = (we_opencl_window){.count = (int32_t)count,
                              .groups = (int32_t)c->group,
                              .channels = (int32_t)c->channels,
                              .filters = (int32_t)c->filters,
                              .in_height = (int32_t)w->in[0],
                              .in_width = (int32_t)w->in[1],
                              .out_height = (int32_t)w->out[0],
                              .out_width = (int32_t)w->out[1],
                              .kernel_y = (int32_t)w->kernel[0],
                              .kernel_x = (int32_t)w->kernel[1],
                              .stride_y = (int32_t)w->stride[0],
                              .stride_x = (int32_t)w->stride[1],
                              .dilation_y = (int32_t)w->dilation[0],
                              .dilation_x = (int32_t)w->dilation[1],
                              .pad_y = (int32_t)w->pad_begin[0],
                              .pad_x = (int32_t)w->pad_begin[1]};
    bool fits = count < INT32_MAX / 2 && in < INT32_MAX / 2;
    for (int32_t i = 0; i < 2; i++)
        fits = fits && (w->kernel[i] - 1) * w->dilation[i] < INT16_MAX && w->stride[i] < INT16_MAX &&
               w->pad_begin[i] < INT16_MAX;
    return fits;
}

we_narrow we_opencl_narrows(const we_command *convolution) {
    (void)convolution;
    return (we_narrow){.in = true, .residual = true, .out = true};
}

double we_opencl_window_bytes(const we_conv *c) {
    double in = (double)(c->items * c->group * c->channels) * (double)(c->w.in[0] * c->w.in[1]);
    double weights = c->weights ? (double)(c->group * c->filters * c->channels * c->w.taps) : 0;
    return sizeof(float) * (in + weights + (double)(c->items * c->group * c->filters * c->positions));
}
