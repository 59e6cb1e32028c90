/* Loops whose body is one copy or one binary function between views. Behind these lines the host writes the struct types,
 * `load_index` of each side, and the kernel (loop.c). Definitions: TYPE, SIGNED, FLOATING as in elementwise.cl. */
#define HELPER static __attribute__((always_inline))

/* Note what is wrong; the first one to do so wins. */
HELPER void complain(global char *work, int command, long value, long extent) {
    global long *check = (global long *)work;
    if (atomic_cmpxchg((volatile global int *)work, 0, command + 1) == 0) {
        check[1] = value;
        check[2] = extent;
    }
}
