/* What lies in the images of a kernel, where nothing else is said: float32. Include simd/<isa>.h before. */
#ifndef WE_KERNELS_SIMD_IMAGE_H
#define WE_KERNELS_SIMD_IMAGE_H

#ifndef ELEMENT
#define ELEMENT float
#define V_LOAD_IMAGE(p, count) V_LOAD_UP_TO(p, count)
#define V_STORE_IMAGE(p, count, v) V_STORE_UP_TO(p, count, v)
#endif

#endif
