#ifndef WE_BASE_CLOCK_H
#define WE_BASE_CLOCK_H

double we_clock_now_s(void); /* monotonic seconds from an arbitrary start */

#endif
